"""Successive halving by stopping against the number of record-like survivors in a random order, in closed form."""

from __future__ import annotations

import numpy as np
import pytest

from tunewright.core.algorithm import generator
from tunewright.core.domains import Float
from tunewright.core.events import Reported, Signalled, Started
from tunewright.core.problem import Fidelity, Problem
from tunewright.core.space import Space
from tunewright.samplers.random import Random
from tunewright.schedulers.halting import Halting


def survivors(eta: int, losses: np.ndarray) -> int:
    """How many of some trials go on, each told of at its first rung, one after the other."""
    method = Halting(Random(), eta=eta)
    state = method.init(Problem(Space(x=Float(0, 1)), fidelity=Fidelity(eta**2)))
    left = 0
    for i, loss in enumerate(losses):
        state = method.tell(state, [Started(i, {"x": 0.5}), Reported(i, 0, 1, {"loss": float(loss)})])
        stops = method.ask(state, 0, generator(0, i))
        left += not stops
        state = method.tell(state, [Signalled(a.trial, "stop") for a in stops])
    return left


@pytest.mark.parametrize("eta", [2, 3, 4])
def test_as_many_go_on_as_ranks_in_a_random_order_say(eta):
    # Renyi 1962: in a random order the rank of the n-th among the first n is uniform and independent of those before. It is
    # among the best n / eta, and the best of fewer than eta, with chance p = max(1, floor(n / eta)) / n; the number that goes
    # on has mean sum p and variance sum p (1 - p).
    n, runs = 30, 200
    p = np.array([max(1, i // eta) / i for i in range(1, n + 1)])
    rng = np.random.default_rng(eta)
    found = [survivors(eta, rng.permutation(n)) for _ in range(runs)]
    assert np.mean(found) == pytest.approx(p.sum(), abs=3.5 * np.sqrt((p * (1 - p)).sum() / runs))
    assert np.var(found) == pytest.approx((p * (1 - p)).sum(), rel=0.4)


@pytest.mark.parametrize(("order", "count"), [(range(30), 1), (range(29, -1, -1), 30)])
def test_the_extreme_orders(order, count):
    # Each worse than the last: only the first is ever the best. Each better: all are. With eta = 30, by definition.
    assert survivors(30, np.array(order)) == count
