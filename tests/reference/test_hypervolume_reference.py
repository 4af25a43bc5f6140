"""Expected hypervolume improvement against quadrature by SciPy, and where it is a product of expected improvements."""

from itertools import pairwise

import numpy as np
import pytest
from scipy.integrate import dblquad
from scipy.stats import norm

from tunewright.models.hypervolume import free_boxes, log_expected_hypervolume_improvement


def improvement(mean, std, best):
    # Jones, Schonlau and Welch 1998, eq. 15, with SciPy's normal distribution.
    z = (best - mean) / std
    return std * (z * norm.cdf(z) + norm.pdf(z))


def test_without_a_front_it_is_a_product():
    # Emmerich et al. 2011: one cell, bounded by the reference alone.
    mean, std, reference = np.array([[0.2, 0.9, 1.4]]), np.array([[0.3, 0.1, 0.5]]), np.array([1.0, 1.0, 1.0])
    found = log_expected_hypervolume_improvement(mean, std, *free_boxes(np.empty((0, 3)), reference))
    expected = np.prod(improvement(mean[0], std[0], reference))
    assert np.exp(found[0]) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("mean", [(0.2, 0.3), (0.6, 0.7), (1.2, 0.1)])
def test_two_losses_against_quadrature(mean):
    front = np.array([[0.1, 0.8], [0.4, 0.5], [0.7, 0.2]])
    std = (0.15, 0.25)

    def gain(b, a):
        # Area above and right of (a, b), below the reference (1, 1), that the three points leave.
        steps = [
            (max(a, low), high, top)
            for low, high, top in ((-9, 0.1, 1), (0.1, 0.4, 0.8), (0.4, 0.7, 0.5), (0.7, 1, 0.2))
        ]
        area = sum(max(0.0, high - low) * max(0.0, top - b) for low, high, top in steps)
        return area * norm.pdf(a, mean[0], std[0]) * norm.pdf(b, mean[1], std[1])

    points = [0.1, 0.4, 0.7, 1.0]
    total = 0.0
    edges = [mean[0] - 8 * std[0], *[p for p in points if p > mean[0] - 8 * std[0]]]
    for low, high in pairwise(edges):
        cuts = [mean[1] - 8 * std[1], 0.2, 0.5, 0.8, 1.0]
        for a, b in pairwise(cuts):
            total += dblquad(gain, low, high, a, b, epsabs=1e-8)[0]
    found = log_expected_hypervolume_improvement(
        np.array([mean]), np.array([std]), *free_boxes(front, np.ones(2))
    )
    assert np.exp(found[0]) == pytest.approx(total, rel=1e-4)
