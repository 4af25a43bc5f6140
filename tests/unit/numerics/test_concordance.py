from __future__ import annotations

import math

import numpy as np

from tunewright.numerics.concordance import interval, kendall, score


def test_pairs_are_counted() -> None:
    assert score([1, 2, 3, 4], [1, 2, 3, 4]) == (6, 6)
    assert score([1, 2, 3, 4], [4, 3, 2, 1]) == (-6, 6)
    assert score([1, 2, 3], [1, 3, 2]) == (1, 3)


def test_ties_and_infinities() -> None:
    assert score([1, 1, 2], [5, 6, 7]) == (2, 2), "a tied pair says nothing"
    assert score([math.inf, math.inf, 0.0], [1, 2, 0]) == (2, 2)
    assert kendall([1, 1, 1], [1, 2, 3]) == 0.0
    assert kendall([], []) == 0.0
    assert kendall([1.0], [1.0]) == 0.0


def test_the_interval_holds_the_correlation_and_narrows() -> None:
    assert interval(0.3, 5) == (-1.0, 1.0)
    widths = []
    for n in (6, 12, 50, 500):
        low, high = interval(0.3, n)
        assert -1.0 < low < 0.3 < high < 1.0
        widths.append(high - low)
    assert widths == sorted(widths, reverse=True)
    assert interval(-1.0, 10)[1] < 0.0
    assert all(map(math.isfinite, interval(1.0, 10)))


def test_the_interval_covers() -> None:
    # Independent orders of 15 things: the truth is 0. 400 draws at 95 %: 18 to 42 misses would be 2 standard errors
    # off either way of 5 %; the interval is an approximation, so that 2 % to 9 % are accepted.
    rng = np.random.default_rng(0)
    missed = 0
    for _ in range(400):
        low, high = interval(kendall(rng.normal(size=15), rng.normal(size=15)), 15)
        missed += not low <= 0.0 <= high
    assert 8 <= missed <= 36
