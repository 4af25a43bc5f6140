"""Sobol points against scipy.stats.qmc, which uses the same table new-joe-kuo-6 and Gray-code order."""

import numpy as np
import pytest
from scipy.stats import qmc

from tunewright.numerics.sequences import SOBOL_DIMENSIONS, sobol


@pytest.mark.parametrize("d", [1, 2, 3, 10, 40, SOBOL_DIMENSIONS])
def test_plain_points_equal_scipy(d):
    expected = qmc.Sobol(d, scramble=False, bits=32).random(1024)
    np.testing.assert_array_equal(sobol(d, None).block(0, 1024), expected)


@pytest.mark.parametrize("d", [2, 5, 10])
def test_scrambled_points_are_more_even_than_random_ones(d):
    ours = [qmc.discrepancy(sobol(d, (seed,)).block(0, 128)) for seed in range(20)]
    random = [qmc.discrepancy(np.random.default_rng(seed).random((128, d))) for seed in range(20)]
    assert max(ours) < min(random)


def test_scrambled_integration_error_falls_faster_than_root_n():
    # The integral of prod(1.5 x^0.5) over the cube is 1; plain Monte Carlo has error of about 0.6 / sqrt(n) here.
    errors = []
    for seed in range(20):
        points = sobol(4, (seed,)).block(0, 4096)
        errors.append(np.prod(1.5 * np.sqrt(points), axis=1).mean() - 1.0)
    assert np.sqrt(np.mean(np.square(errors))) < 0.1 * 0.6 / np.sqrt(4096)
