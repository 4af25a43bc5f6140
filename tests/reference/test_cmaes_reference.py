"""Constants of CMA-ES as others print them, and margins against SciPy's distribution functions."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import chdtri, ndtr

from tunewright.models import cma


@pytest.mark.parametrize(
    ("d", "size", "mu", "mu_eff", "first"),
    [
        # First line of a run of pycma (Hansen et al.), as in its documentation: (mu_w, lambda), mu_eff, share of the best in whole percent.
        (2, 6, 3, 2.0, 63),
        (8, 10, 5, 3.2, 45),
        (10, 10, 5, 3.2, 45),
        (20, 12, 6, 3.7, 40),
    ],
)
def test_weights_are_those_that_pycma_prints(d, size, mu, mu_eff, first):
    rate = cma.rates(d, size)
    assert len(rate.weights) == mu
    assert round(rate.mu_eff, 1) == mu_eff
    assert int(100 * rate.weights[0]) == first


def test_the_expected_length_is_that_of_a_chi_distribution():
    from scipy.special import gammaln

    for d in (2, 5, 20):
        # E|N(0, I)| = sqrt(2) Gamma((d + 1) / 2) / Gamma(d / 2), the closed form that Hansen 2016 approximates.
        exact = np.sqrt(2) * np.exp(gammaln((d + 1) / 2) - gammaln(d / 2))
        assert cma.rates(d, 10).chi == pytest.approx(exact, rel=2e-3)


@pytest.mark.parametrize(("k", "mean"), [(2, 0.1), (2, 0.9), (9, 0.01), (9, 0.99)])
def test_outermost_levels_are_left_with_the_chance_asked_for(k, mean):
    search = cma.normal(np.array([mean]), 1e-3)
    cma.keep_margin(search, np.array([k]), 0.02)
    edge = 1 / k if mean < 1 / k else (k - 1) / k
    # Hamano et al. 2022, eq. 13: |m - edge| = sqrt(chi2 quantile of 1 - 2 alpha) times the deviation.
    reach = np.sqrt(chdtri(1, 2 * 0.02)) * 1e-3
    assert abs(search.mean[0] - edge) == pytest.approx(reach)
    assert (search.mean[0] < edge) == (mean < edge)


@pytest.mark.parametrize(("mean", "sigma"), [(0.5, 1e-4), (0.45, 1e-4), (0.5, 0.05), (0.55, 0.5)])
def test_inner_levels_are_left_both_ways_with_the_chance_asked_for(mean, sigma):
    search = cma.normal(np.array([mean]), sigma)
    cma.keep_margin(search, np.array([9]), 0.02)
    std = sigma * search.scale[0]
    below, above = ndtr((4 / 9 - search.mean[0]) / std), ndtr((search.mean[0] - 5 / 9) / std)
    assert 4 / 9 < search.mean[0] < 5 / 9
    assert min(below, above) >= 0.01 - 1e-9
    if sigma == 0.05:
        # Wide enough already: nothing changes.
        assert search.scale[0] == pytest.approx(1.0)
