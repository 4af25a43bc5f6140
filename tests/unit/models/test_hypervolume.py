"""Boxes tile what a front leaves free, and expected growth is what sampling finds."""

import numpy as np
import pytest

from tunewright.models.acquisition import log_expected_improvement
from tunewright.models.hypervolume import (
    free_boxes,
    log_expected_hypervolume_improvement,
    reference_point,
    thinned,
)
from tunewright.numerics.pareto import hypervolume, nondominated


def front_of(m, n, seed):
    points = np.random.default_rng(seed).random((n, m))
    return points[nondominated(points)]


@pytest.mark.parametrize("m", [1, 2, 3, 4])
def test_boxes_are_disjoint_and_hold_exactly_what_is_free(m):
    front, reference = front_of(m, 12, m), np.ones(m)
    lows, highs = free_boxes(front, reference)
    points = np.random.default_rng(9).uniform(-0.5, 1.2, (500, m))
    inside = ((points[:, None] > lows[None]) & (points[:, None] <= highs[None])).all(axis=2).sum(axis=1)
    dominated = (front[None] < points[:, None]).all(axis=2).any(axis=1)
    free = ~dominated & (points < 1.0).all(axis=1)
    assert inside.tolist() == free.astype(int).tolist()
    # From a corner below every point the boxes and what is dominated fill the cube.
    volume = np.prod(highs - np.maximum(lows, -1.0), axis=1).sum()
    assert volume + hypervolume(front, reference) == pytest.approx(2.0**m)


@pytest.mark.parametrize("m", [2, 3, 4])
def test_expected_growth_is_what_sampling_finds(m):
    rng = np.random.default_rng(m)
    front, reference = front_of(m, 8, 5), np.full(m, 1.1)
    mean, std = rng.random((3, m)), rng.uniform(0.1, 0.4, (3, m))
    found = log_expected_hypervolume_improvement(mean, std, *free_boxes(front, reference))
    base = hypervolume(front, reference)
    for i in range(3):
        draws = mean[i] + std[i] * rng.standard_normal((1200, m))
        gains = [hypervolume(np.vstack([front, y]), reference) - base for y in draws]
        assert np.exp(found[i]) == pytest.approx(np.mean(gains), abs=5 * np.std(gains) / 1200**0.5)


def test_poor_points_keep_finite_values_that_order_them():
    front, reference = front_of(2, 8, 5), np.full(2, 1.1)
    boxes = free_boxes(front, reference)
    mean = np.column_stack([np.linspace(2.0, 60.0, 30)] * 2)
    values = log_expected_hypervolume_improvement(mean, np.full((30, 2), 0.05), *boxes)
    assert np.isfinite(values).all()
    assert (np.diff(values) < 0.0).all()


def test_one_loss_gives_expected_improvement():
    mean, std = np.array([[0.3], [0.9]]), np.array([[0.2], [0.1]])
    boxes = free_boxes(np.array([[0.5], [0.7]]), np.array([1.0]))
    found = log_expected_hypervolume_improvement(mean, std, *boxes)
    np.testing.assert_allclose(found, log_expected_improvement(mean[:, 0], std[:, 0], 0.5), rtol=1e-9)


def test_the_reference_lies_a_tenth_beyond_the_front():
    front = np.array([[0.0, 2.0], [1.0, 0.0]])
    assert reference_point(front, front).tolist() == [1.1, 2.2]
    # The other points reach to 4 in the first loss: a tenth of that beyond, or their upper tenth.
    single = reference_point(front[:1], np.array([[0.0, 2.0], [0.0, 2.0], [4.0, 2.0]]))
    np.testing.assert_allclose(single, [3.2, 2.1])


def test_large_fronts_are_thinned_evenly():
    f = np.linspace(0.0, 1.0, 1000)
    thin = thinned(np.column_stack([f, 1.0 - f, 1.0 - f]))
    assert len(thin) == 32
    assert np.diff(np.sort(thin[:, 0])).max() < 0.1
