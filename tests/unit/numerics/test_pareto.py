"""Fronts, crowding and volumes: definitions and edges."""

import numpy as np
import pytest

from tunewright.numerics.pareto import (
    crowding_distance,
    fronts,
    hypervolume,
    hypervolume_contributions,
    nondominated,
)


def dominates(a, b):
    return bool((a <= b).all() and (a < b).any())


@pytest.mark.parametrize("m", [1, 2, 3, 4])
@pytest.mark.parametrize("levels", [4, 1000])
def test_fronts_follow_the_definition(m, levels):
    points = np.random.default_rng(m * levels).integers(0, levels, (60, m)).astype(float)
    number = fronts(points)
    for i, point in enumerate(points):
        above = [number[j] for j, other in enumerate(points) if dominates(other, point)]
        assert number[i] == (max(above) + 1 if above else 0)
    np.testing.assert_array_equal(nondominated(points), number == 0)
    np.testing.assert_array_equal(fronts(points, 2), np.minimum(number, 2))


@pytest.mark.parametrize("m", [2, 3])
def test_enough_points_end_the_count(m):
    points = np.random.default_rng(m).random((80, m))
    full, part = fronts(points), fronts(points, enough=20)
    last = int(np.flatnonzero(np.cumsum(np.bincount(full)) >= 20)[0])
    np.testing.assert_array_equal(part[full <= last], full[full <= last])
    assert part[full > last].min() > last


def test_rows_with_nan_come_last():
    points = np.array([[np.nan, 0.0], [1.0, 2.0], [2.0, 3.0]])
    assert fronts(points).tolist() == [2, 0, 1]
    assert nondominated(points).tolist() == [False, True, False]
    assert nondominated(np.full((2, 2), np.nan)).tolist() == [False, False]


def test_equal_points_share_a_front():
    assert fronts(np.array([[1.0, 1.0], [1.0, 1.0], [0.0, 2.0]])).tolist() == [0, 0, 0]
    assert fronts(np.ones((3, 3))).tolist() == [0, 0, 0]


def test_crowding_by_hand():
    front = np.array([[0.0, 4.0], [1.0, 2.0], [4.0, 0.0]])
    assert crowding_distance(front).tolist() == [np.inf, 2.0, np.inf]
    assert crowding_distance(np.empty((0, 2))).shape == (0,)
    assert np.isinf(crowding_distance(np.ones((1, 2)))).all()


def test_points_outside_the_reference_count_nothing():
    points = np.array([[0.5, 0.5], [2.0, 0.0], [np.nan, 0.0], [1.0, 0.2]])
    assert hypervolume(points, np.ones(2)) == 0.25
    assert hypervolume_contributions(points, np.ones(2)).tolist() == [0.25, 0.0, 0.0, 0.0]
    assert hypervolume(np.empty((0, 3)), np.ones(3)) == 0.0


@pytest.mark.parametrize("m", [2, 3])
def test_dominated_and_duplicated_points_contribute_nothing(m):
    points = np.array([[0.2] * m, [0.2] * m, [0.6] * m])
    assert hypervolume_contributions(points, np.ones(m)).tolist() == [0.0, 0.0, 0.0]
    assert hypervolume(points, np.ones(m)) == pytest.approx(0.8**m)
