"""Gaussian process against closed forms that share no code with it."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import gamma, kv

from tunewright.models import gp as model
from tunewright.models import kernel
from tunewright.models.evidence import evidence


@pytest.mark.parametrize("r", [1e-3, 0.2, 1.0, 3.0])
def test_matern_five_halves_is_its_bessel_form(r):
    # Rasmussen and Williams 2006, eq. 4.14 with nu = 5/2.
    nu, z = 2.5, np.sqrt(5.0) * r
    expected = 2 ** (1 - nu) / gamma(nu) * z**nu * kv(nu, z)
    assert kernel.matern(np.array([[r * r]]))[0][0, 0] == pytest.approx(expected, rel=1e-9)


def test_evidence_is_the_multivariate_normal_density_with_a_random_mean():
    # y ~ N(0, K + 11'), with the mean integrated out at its mode: Rasmussen and Williams 2006, eq. 2.40.
    rng = np.random.default_rng(0)
    x, y = rng.random((12, 2)), rng.standard_normal(12)
    columns = model.columns_of(np.zeros(2, dtype=np.int64), np.zeros(2, dtype=bool))
    posterior = replace(evidence(columns, x, y, None, False), location=np.zeros(4), spread=np.full(4, 1e9))
    v = np.array([-0.5, 0.3, 0.2, -2.0])
    r = np.sqrt(5.0) * np.sqrt((((x[:, None] - x[None]) / np.exp(v[:2])) ** 2).sum(axis=2))
    covariance = np.exp(0.2) * (1 + r + r * r / 3) * np.exp(-r) + np.exp(-2.0) * np.eye(12)
    # min over m of (y - m)' K^-1 (y - m) + m^2 equals y' (K + 11')^-1 y.
    quadratic = y @ np.linalg.solve(covariance + 1.0, y)
    expected = 0.5 * quadratic + 0.5 * np.linalg.slogdet(covariance)[1]
    value, _ = posterior.loss(v)
    assert value == pytest.approx(expected, rel=1e-9)


def test_one_point_posterior_by_hand():
    # With one observation y at x: mean(x) = m + s/(s+t)(y-m), var(x) = s - s^2/(s+t); m = y/(s+t+1).
    columns = model.columns_of(np.zeros(1, dtype=np.int64), np.zeros(1, dtype=bool))
    hyper = model.Hyper(np.array([0.0]), np.log(2.0), np.log(0.5))
    x = np.array([[0.4]])
    gp = model.condition_on(model.update(columns, hyper, x, np.array([7.0])), np.empty((0, 1)))
    mean, std = model.predict(gp, x)
    # One loss is warped to zero.
    assert mean[0] == pytest.approx(0.0, abs=1e-12)
    assert std[0] == pytest.approx(np.sqrt(2.0 - 4.0 / 2.5))
    far_mean, far_std = model.predict(gp, np.array([[1e3]]))
    assert far_mean[0] == pytest.approx(0.0, abs=1e-12)
    assert far_std[0] == pytest.approx(np.sqrt(2.0))


def test_the_additive_kernel_by_hand():
    # Two columns, shares one half, length scales 1, factor 1: k = (M(r) + (M(a) + M(b)) / 2) / 2 with M of eq. 4.17.
    columns = model.columns_of(np.zeros(2, dtype=np.int64), np.zeros(2, dtype=bool))
    hyper = model.Hyper(np.zeros(2), 0.0, -9.0, share=0.0)
    a, b = np.array([[0.1, 0.9]]), np.array([[0.4, 0.5]])

    def matern(r):
        return (1 + 5**0.5 * r + 5 / 3 * r * r) * np.exp(-(5**0.5) * r)

    got = kernel.covariance(columns, hyper, columns.embed(a), columns.embed(b))[0, 0]
    assert got == pytest.approx(0.5 * matern(0.5) + 0.25 * (matern(0.3) + matern(0.4)), rel=1e-12)
