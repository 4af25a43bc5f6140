"""Expected hypervolume improvement against independent simulation, and against hypervolumes documented by BoTorch's tests."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from tunewright.models.hypervolume import free_boxes, log_expected_hypervolume_improvement

# Gains and their hypervolumes above a reference, from test/utils/multi_objective/test_hypervolume.py of BoTorch.
FLAT = [(8.5, 3.0), (8.5, 3.5), (5.0, 5.0), (9.0, 1.0), (4.0, 5.0)]
DOCUMENTED = (
    (FLAT, (0.0, 0.0), 37.75),
    (FLAT, (1.0, 0.5), 28.75),
    (-np.eye(3), (-2.1, -2.5, -2.3), 11.075),
    (-np.eye(4), (-2.1, -2.5, -2.3, -2.0), 23.15),
)


@pytest.mark.parametrize(("gains", "reference", "volume"), DOCUMENTED)
def test_a_certain_point_that_beats_all_adds_the_rest_of_its_box(gains, reference, volume):
    losses, corner = -np.array(gains), -np.array(reference)
    point = losses.min(axis=0) - 0.5
    boxes = free_boxes(losses, corner)
    found = log_expected_hypervolume_improvement(point[None], np.full((1, len(point)), 1e-9), *boxes)
    assert np.exp(found[0]) == pytest.approx(np.prod(corner - point) - volume, rel=1e-6)


def simulated(mean, std, front, reference, n, seed):
    """Mean and standard error of the volume that normal draws add: inclusion and exclusion over the front."""
    y = mean + std * np.random.default_rng(seed).standard_normal((n, len(mean)))
    gained = np.maximum(reference - y, 0.0).prod(axis=1)
    for size in range(1, len(front) + 1):
        for some in combinations(front, size):
            # What the draw shares with all of these points, each of them already counted.
            shared = np.maximum(reference - np.maximum(y, np.max(some, axis=0)), 0.0).prod(axis=1)
            gained += (-1) ** size * shared
    return gained.mean(), gained.std() / np.sqrt(n)


@pytest.mark.parametrize("m", [2, 3, 4])
@pytest.mark.parametrize("seed", range(3))
def test_against_simulation(m, seed):
    # Emmerich et al. 2011, eq. 2: the mean of the added volume over the belief, here over 100,000 draws of it.
    rng = np.random.default_rng(seed)
    front = rng.dirichlet(np.ones(m), 4)
    reference = np.ones(m)
    mean, std = rng.uniform(0.1, 0.5, m), rng.uniform(0.05, 0.3, m)
    found = log_expected_hypervolume_improvement(mean[None], std[None], *free_boxes(front, reference))
    value, error = simulated(mean, std, front, reference, 100_000, seed)
    assert error < 0.02 * value
    assert np.exp(found[0]) == pytest.approx(value, abs=4.0 * error)
