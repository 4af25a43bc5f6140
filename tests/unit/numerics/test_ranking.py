from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from tunewright.errors import ConfigError
from tunewright.numerics.pareto import fronts
from tunewright.numerics.ranking import best_first, ranked_by, spread_first

ORDERS = (best_first, spread_first)


@pytest.mark.parametrize("order", ORDERS)
def test_fronts_then_excess_then_what_is_missing(order: Callable[..., np.ndarray]) -> None:
    losses = np.array(
        [[9.0, 9.0], [np.nan, 0.0], [1.0, 2.0], [0.0, 0.0], [0.0, 0.0], [2.0, 1.0], [np.inf, 1.0]]
    )
    violation = np.array([0.0, 0.0, 0.0, 0.5, 0.1, 0.0, 0.0])
    assert order(losses, violation).tolist()[2:] == [0, 4, 3, 1, 6]
    assert set(order(losses, violation).tolist()[:2]) == {2, 5}


@pytest.mark.parametrize("order", ORDERS)
def test_it_is_a_permutation_in_order_of_the_fronts(order: Callable[..., np.ndarray]) -> None:
    rng = np.random.default_rng(0)
    for m in (2, 3):
        losses = rng.normal(size=(60, m))
        found = order(losses, np.zeros(60))
        assert sorted(found.tolist()) == list(range(60))
        assert (np.diff(fronts(losses)[found]) >= 0).all()


def test_each_next_point_of_a_front_is_the_farthest() -> None:
    x = np.linspace(0, 1, 9)
    losses = np.column_stack([x, 1 - x])
    assert spread_first(losses, np.zeros(9)).tolist()[:5] == [0, 8, 4, 2, 6]
    rng = np.random.default_rng(1)
    angle = rng.uniform(0, np.pi / 2, 30)
    circle = 1 - np.column_stack([np.cos(angle), np.sin(angle)])
    scaled = circle / np.ptp(circle, axis=0)
    taken = spread_first(circle, np.zeros(30)).tolist()
    for n in range(1, 30):
        gaps = np.linalg.norm(scaled[:, None] - scaled[taken[:n]][None], axis=2).min(axis=1)
        assert gaps[taken[n]] == pytest.approx(gaps.max())


def test_the_first_few_cover_the_front_better_than_the_least_crowded() -> None:
    # A front with a dense and a thin half: covering radius of the first quarter, in scaled units.
    x = np.concatenate([np.linspace(0, 0.2, 60), np.linspace(0.25, 1, 10)])
    losses = np.column_stack([x, (1 - np.sqrt(x)) * 1e6])
    scaled = losses / np.ptp(losses, axis=0)

    def radius(order: np.ndarray) -> float:
        few = scaled[order[:17]]
        return float(np.linalg.norm(scaled[:, None] - few[None], axis=2).min(axis=1).max())

    assert radius(spread_first(losses, np.zeros(70))) < 0.8 * radius(best_first(losses, np.zeros(70)))


@pytest.mark.parametrize("scale", [1e300, 1e-300, 0.0])
def test_extreme_and_equal_losses_are_survived(scale: float) -> None:
    losses = scale * np.array([[-1.0, 1.0], [0.0, 0.0], [1.0, -1.0], [1.0, -1.0]])
    assert sorted(spread_first(losses, np.zeros(4)).tolist()) == [0, 1, 2, 3]
    assert spread_first(losses, np.zeros(4)).tolist()[0] == 0
    assert spread_first(np.empty((0, 2)), np.empty(0)).tolist() == []


def test_orders_have_names() -> None:
    assert ranked_by("Asha", "fronts") is best_first
    assert ranked_by("Asha", "epsilon_net") is spread_first
    with pytest.raises(ConfigError, match="Asha needs ranking='fronts' or 'epsilon_net'; got 'crowding'"):
        ranked_by("Asha", "crowding")
