"""PASHA's soft ranking and its estimate of noise, against cases worked out by hand from its paper."""

from __future__ import annotations

import numpy as np
import pytest

from tunewright.schedulers.pasha import agrees, swaps_back


def groups_agree(below, above, epsilon):
    """Section 4.1 word by word: for each place of the lower ranking the set of trials within epsilon of the one there;
    the upper ranking must have one of them at that place."""
    lower = sorted(range(len(below)), key=lambda t: below[t])
    upper = sorted(range(len(above)), key=lambda t: above[t])
    sets = [{t for t in lower if abs(below[t] - below[here]) <= epsilon} for here in lower]
    return all(trial in group for trial, group in zip(upper, sets, strict=True))


@pytest.mark.parametrize("seed", range(40))
def test_soft_ranking_as_the_paper_words_it(seed):
    rng = np.random.default_rng(seed)
    below = rng.random(6)
    above = below + 0.3 * rng.random(6)
    for epsilon in (0.0, 0.05, 0.2, 1.0):
        assert agrees(below, above, epsilon) is groups_agree(below, above, epsilon)


@pytest.mark.parametrize(
    ("below", "above", "epsilon", "expected"),
    [
        ([1, 2, 3], [10, 20, 30], 0.0, True),
        ([1, 2, 3], [20, 10, 30], 0.0, False),
        ([1, 2, 3], [20, 10, 30], 1.0, True),
        ([1, 2, 3], [30, 20, 10], 1.0, False),  # the first and the last are 2 apart
        ([1, 2, 3], [30, 20, 10], 2.0, True),
        ([5], [7], 0.0, True),
    ],
)
def test_soft_ranking_by_hand(below, above, epsilon, expected):
    assert agrees(np.array(below, dtype=float), np.array(above, dtype=float), epsilon) is expected


@pytest.mark.parametrize(
    ("mine", "other", "expected"),
    [
        ([1, 1, 1], [2, 2, 2], None),  # never cross
        ([3, 1, 1], [2, 2, 2], None),  # cross once
        ([1, 3, 1], [2, 2, 4], 3.0),  # cross and cross back: 4 - 1 at the end
        ([3, 1, 3, 1], [2, 2, 2, 2], 1.0),  # cross thrice
        ([3, 3, 1, 3], [2, 2, 2, 2.5], 0.5),
    ],
)
def test_criss_crossing_by_hand(mine, other, expected):
    a, b = ({step + 1: float(v) for step, v in enumerate(curve)} for curve in (mine, other))
    assert swaps_back(a, b) == expected
    assert swaps_back(b, a) == expected


def test_curves_are_compared_at_common_steps_only():
    assert swaps_back({1: 1.0, 2: 9.0, 3: 1.0}, {1: 2.0, 3: 2.0}) is None
    assert swaps_back({1: 1.0}, {2: 1.0}) is None
