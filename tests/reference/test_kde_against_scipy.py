"""Parzen densities against scipy.stats: Gaussian kernels away from the edges, truncated ones at them."""

import numpy as np
import pytest
from scipy import stats

from tunewright.models.kde import columns, fit, scott_bandwidths


def continuous(d):
    return columns(np.zeros(d, dtype=np.int64), np.zeros(d, dtype=bool))


@pytest.mark.parametrize("d", [1, 3])
def test_equals_a_gaussian_mixture_where_the_edges_are_far(d):
    rng = np.random.default_rng(d)
    centres, weights = rng.uniform(0.4, 0.6, (12, d)), rng.uniform(0.5, 1.5, 12)
    widths = np.linspace(0.02, 0.04, d)
    points = rng.uniform(0.35, 0.65, (40, d))
    kernels = [stats.multivariate_normal(c, np.diag(widths**2)).pdf(points) for c in centres]
    ours = fit(continuous(d), centres, weights, widths, np.ones(d))
    found = ours.log_density(ours.columns.features(points))
    np.testing.assert_allclose(np.exp(found), weights @ np.array(kernels) / weights.sum(), rtol=1e-9)


@pytest.mark.parametrize(("centre", "width"), [(0.0, 0.1), (0.97, 0.05), (0.5, 0.8), (1.0, 0.01)])
def test_equals_truncnorm_at_the_edges(centre, width):
    law = stats.truncnorm(-centre / width, (1 - centre) / width, centre, width)
    ours = fit(continuous(1), np.array([[centre]]), np.ones(1), np.array([width]), np.ones(1))
    points = np.clip(centre + width * np.linspace(-3, 3, 25), 0.0, 1.0)
    found = ours.log_density(ours.columns.features(points[:, None]))
    np.testing.assert_allclose(found, law.logpdf(points), rtol=1e-7, atol=1e-9)
    draws = ours.sample(np.random.default_rng(0), 4000)[:, 0]
    assert stats.kstest(draws, law.cdf).pvalue > 1e-3


def test_bandwidth_is_scipys_scott_factor_times_the_spread():
    # Enough centres that neither the floor nor the extra centre at 0.5 decides.
    rng = np.random.default_rng(0)
    d = 2
    centres = np.clip(rng.normal(0.5, 0.15, (400, d)), 0, 1)
    factor = stats.gaussian_kde(centres.T).scotts_factor()
    spread = np.minimum(centres.std(axis=0), stats.iqr(centres, axis=0) / 1.34)
    widths = scott_bandwidths(centres, np.zeros(d, dtype=np.int64), 1.0, -1 / (d + 4))
    np.testing.assert_allclose(widths, factor * spread, rtol=0.01)
