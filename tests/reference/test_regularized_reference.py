"""Takeover time of tournament selection, against its closed form."""

from __future__ import annotations

import numpy as np
import pytest

from tunewright.core.algorithm import generator
from tunewright.core.domains import Choice, Float
from tunewright.core.events import Ended, Started
from tunewright.core.problem import Problem
from tunewright.core.space import Space
from tunewright.samplers.regularized import Regularized


@pytest.mark.parametrize("sample", [1, 3, 5])
def test_the_rank_of_the_winner_follows_the_hypergeometric_law(sample):
    # Goldberg and Deb 1991: without replacement, the best of s out of n has an expected rank of (n + 1) / (s + 1).
    n = 9
    space = Space(c=Choice(list(range(n))), x=Float(0, 1))
    method = Regularized(size=n, sample=sample)
    state = method.init(Problem(space))
    for i in range(n):
        end = Ended(i, 0, "completed", {"loss": float(i)})
        state = method.tell(state, [Started(i, {"c": i, "x": i / 10}), end])
    ranks = []
    for seed in range(1500):
        config = method.ask(state, 1, generator(seed, 0))[0].config
        parent = [i for i in range(n) if config["x"] == i / 10]
        if parent:
            ranks.append(parent[0] + 1)
        elif config["c"] in range(n):
            ranks.append(config["c"] + 1)
    assert np.mean(ranks) == pytest.approx((n + 1) / (sample + 1), abs=0.25)
