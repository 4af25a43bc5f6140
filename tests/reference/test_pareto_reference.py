"""Hypervolumes with closed forms, and against inclusion-exclusion over boxes."""

import itertools

import numpy as np
import pytest

from tunewright.numerics.pareto import hypervolume, hypervolume_contributions


def inclusion_exclusion(points, reference):
    """Sum over subsets of boxes: (-1)^(k+1) times the volume of their intersection."""
    total = 0.0
    for k in range(1, len(points) + 1):
        for subset in itertools.combinations(points, k):
            total += (-1) ** (k + 1) * np.prod(reference - np.max(subset, axis=0))
    return total


@pytest.mark.parametrize("m", [1, 2, 3, 4, 5])
def test_equals_inclusion_exclusion(m):
    rng = np.random.default_rng(m)
    for _ in range(5):
        points, reference = rng.random((9, m)), np.ones(m)
        assert hypervolume(points, reference) == pytest.approx(
            inclusion_exclusion(points, reference), rel=1e-10
        )


@pytest.mark.parametrize("m", [2, 3, 4])
def test_contributions_are_what_is_lost(m):
    rng = np.random.default_rng(m + 10)
    points, reference = rng.random((12, m)), np.ones(m)
    total = inclusion_exclusion(points, reference)
    lost = [total - inclusion_exclusion(np.delete(points, i, 0), reference) for i in range(12)]
    np.testing.assert_allclose(hypervolume_contributions(points, reference), lost, atol=1e-12)


def test_contributions_of_a_front_in_two_dimensions():
    # A staircase of n steps: each point alone covers one unit square.
    points = np.array([(3.0, 0.0), (1.0, 2.0), (0.0, 3.0), (2.0, 1.0)])
    np.testing.assert_allclose(hypervolume_contributions(points, np.full(2, 4.0)), 1.0)


def test_linear_front_in_two_dimensions():
    # n points (i, n - 1 - i) under reference (n, n) form a staircase of 1 + 2 + ... + n unit squares.
    n = 40
    points = np.array([(i, n - 1 - i) for i in range(n)], dtype=float)
    assert hypervolume(points, np.full(2, float(n))) == n * (n + 1) / 2


def test_simplex_front_in_three_dimensions():
    # Points of the integer simplex i + j + k = s leave C(s + 2, 3) of the (s + 1)^3 unit cubes free.
    s = 6
    points = np.array([(i, j, s - i - j) for i in range(s + 1) for j in range(s + 1 - i)], dtype=float)
    assert hypervolume(points, np.full(3, s + 1.0)) == pytest.approx((s + 1) ** 3 - s * (s + 1) * (s + 2) / 6)


def test_sphere_front_in_two_dimensions_approaches_the_quarter_disc():
    # The part of the unit square not beyond a dense quarter circle around (1, 1) has area pi / 4.
    angle = np.linspace(0.0, np.pi / 2.0, 4001)
    points = 1.0 - np.column_stack((np.cos(angle), np.sin(angle)))
    assert hypervolume(points, np.ones(2)) == pytest.approx(np.pi / 4.0, abs=5e-4)
