"""Binary tournaments against their closed form."""

from __future__ import annotations

import numpy as np
import pytest

from tunewright.samplers.nsga2 import _winner


@pytest.mark.parametrize("n", [3, 20])
def test_the_chance_to_win_falls_evenly_with_the_rank(n):
    # Goldberg and Deb 1991 (FOGA), section on tournaments: of two drawn with replacement, rank i of n (from 0) wins
    # with a probability of the difference of (n - i)^2 and (n - i - 1)^2, over n^2.
    rng = np.random.default_rng(n)
    wins = np.bincount([_winner(n, rng) for _ in range(20_000)], minlength=n) / 20_000
    left = n - np.arange(n)
    assert wins == pytest.approx((left**2 - (left - 1) ** 2) / n**2, abs=0.012)
