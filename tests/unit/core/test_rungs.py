from __future__ import annotations

import numpy as np
import pytest

from tunewright.core.rungs import Rung, checked_count, checked_eta, levels, ranked_by_then, share
from tunewright.errors import ConfigError
from tunewright.numerics.ranking import best_first


def test_share_is_safe_against_rounding() -> None:
    assert [share(n, 3) for n in (0, 2, 3, 9, 81)] == [0, 0, 1, 3, 27]
    assert share(6, 1.2) == 5
    assert share(7, 0.7 + 0.7) == 5


@pytest.mark.parametrize("seed", range(5))
def test_top_agrees_with_sorting(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rung = Rung(1)
    losses = rng.integers(0, 8, 60).astype(float)
    waiting: dict[int, float] = {}
    for trial, loss in enumerate(losses.tolist()):
        stays = bool(rng.random() < 0.7)
        rung.add((0.0, loss, trial), stays)
        if stays:
            waiting[trial] = loss
        if waiting and rng.random() < 0.2:
            gone = int(rng.choice(list(waiting)))
            rung.release((0.0, waiting.pop(gone), gone))
        seen = losses[: trial + 1]
        for k in (0, 1, 3, (trial + 1) // 3, 1000):
            best = np.lexsort((np.arange(trial + 1), seen))[:k].tolist()
            assert list(rung.top(k)) == [t for t in best if t in waiting]
        assert rung.rank((0.0, loss, trial)) == int((seen < loss).sum())


def test_top_follows_fronts_for_several_objectives() -> None:
    rung = Rung(1, best_first)
    points = [(3.0, 3.0), (1.0, 2.0), (2.0, 1.0), (4.0, 4.0), (0.0, 0.0)]
    for trial, (a, b) in enumerate(points):
        rung.add((0.0, a, b, trial), waiting=trial != 4)
    assert set(rung.top(3)) == {1, 2}
    assert list(rung.top(5))[-1] == 3
    assert rung.rank((0.0, 0.0, 0.0, 4)) == 0


def test_order_puts_limits_first_and_the_unknown_last() -> None:
    losses = np.array([[0.0, 0.0], [5.0, 5.0], [np.inf, np.inf], [1.0, 1.0], [4.0, 6.0]])
    violation = np.array([2.0, 0.0, 0.0, 1.0, 0.0])
    order = best_first(losses, violation).tolist()
    assert set(order[:2]) == {1, 4}
    assert order[2:] == [3, 0, 2]


def test_levels_are_distinct_and_within_bounds() -> None:
    for low, high, eta in [(1, 10, 1.1), (1, 2, 3), (3, 1000, 4), (7, 7, 2)]:
        steps = levels(low, high, eta)
        assert list(steps) == sorted(set(steps))
        assert low <= steps[0] <= steps[-1] == high


def test_checks_name_the_method_and_the_setting() -> None:
    with pytest.raises(ConfigError, match="Thing needs a finite eta > 1; got eta=1"):
        checked_eta("Thing", 1)
    with pytest.raises(ConfigError, match="Thing needs a whole number size >= 2; got 1"):
        checked_count("Thing", "size", 1, 2)


def test_few_are_ranked_at_once_and_many_after_a_small_part_more() -> None:
    assert [ranked_by_then(n) for n in (0, 1, 63, 64, 65, 131, 1000)] == [0, 1, 63, 64, 64, 128, 992]
    assert all(n - ranked_by_then(n) <= n / 32 for n in range(5000))


def test_a_lagging_top_leaves_out_those_that_came_since() -> None:
    rung = Rung(1, best_first)
    for trial in range(64):
        rung.add((0.0, float(trial), float(trial), trial), waiting=True)
    rung.add((0.0, -1.0, -1.0, 64), waiting=True)
    assert list(rung.top(2)) == [64, 0]
    assert list(rung.top(2, lagging=True)) == [0, 1]
    rung.add((0.0, 99.0, 99.0, 65), waiting=True)
    assert list(rung.top(2, lagging=True)) == [64, 0]


@pytest.mark.parametrize(("m", "within"), [(2, 0.05), (3, 0.15)])
def test_a_newcomer_is_placed_about_where_a_full_ranking_has_it(m: int, within: float) -> None:
    rng = np.random.default_rng(m)
    rung = Rung(1, best_first)
    points = np.column_stack([np.maximum(0.0, rng.normal(-1.0, 1.0, 700)), rng.random((700, m))])
    off = []
    for trial, point in enumerate(points.tolist()):
        entry = (*point, trial)
        rung.add(entry, waiting=False)
        if trial >= 500 and ranked_by_then(rung.n) < rung.n:
            seen = points[: trial + 1]
            exact = best_first(seen[:, 1:], seen[:, 0]).tolist().index(trial)
            off.append((rung.rank(entry) - exact) / rung.n)
    assert abs(np.mean(off)) < 0.02, "neither lenient nor strict"
    assert np.percentile(np.abs(off), 95) < within, "about a front, within which the order hardly matters"


def test_newcomers_to_one_wide_front_are_spread_over_it() -> None:
    rng = np.random.default_rng(0)
    rung = Rung(1, best_first)
    for trial, a in enumerate(rng.random(400).tolist()):
        rung.add((0.0, a, 1.0 - a, trial), waiting=False)
    places = []
    for trial, a in enumerate(rng.random(40).tolist(), 400):
        rung.add((0.0, a, 1.0 - a, trial), waiting=False)
        places.append(rung.rank((0.0, a, 1.0 - a, trial)) / rung.n)
    assert 0.3 < np.mean(places) < 0.7
    assert 5 < np.sum(np.array(places) < 1 / 3) < 25, "about a third is among the best third"
