"""Acquisitions by name against numbers from outside: closed forms of the papers, SciPy's quadrature and distributions."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import integrate, special

from tunewright.models import criteria
from tunewright.models import gp as model
from tunewright.models.entropy import confidence_schedule
from tunewright.models.kernel import covariance

LEVELS, CATEGORICAL = np.zeros(1, dtype=np.int64), np.zeros(1, dtype=np.bool_)


def fitted():
    x = np.linspace(0.05, 0.95, 6)[:, None]
    return model.fit(x, np.sin(7.0 * x[:, 0]), LEVELS, CATEGORICAL)


@pytest.mark.parametrize(("mean", "std", "low"), [(0.0, 1.0, -1.0), (0.4, 0.3, 0.2), (1.0, 0.2, -0.5)])
def test_max_value_entropy_is_the_fall_of_the_entropy(mean, std, low):
    # Wang and Jegelka 2017, eq. 5: H(f) - H(f | f > minimum), both integrated by SciPy.
    def density(f):
        return np.exp(-0.5 * ((f - mean) / std) ** 2) / (std * np.sqrt(2.0 * np.pi))

    mass = special.ndtr((mean - low) / std)

    def entropy(f):
        p = density(f) / mass
        return -p * np.log(p) if p > 0.0 else 0.0

    whole = 0.5 * np.log(2.0 * np.pi * np.e * std**2)
    cut = integrate.quad(entropy, low, mean + 12.0 * std, epsabs=1e-12, points=[max(low, mean)])[0]
    value, _, _ = criteria.log_max_value_entropy(np.array([mean]), np.array([std]), np.array([low]))
    assert np.exp(value[0]) == pytest.approx(whole - cut, rel=1e-7)


def test_the_confidence_bound_has_a_fifth_of_the_theorems_weight():
    # Srinivas et al. 2010, Theorem 1 with delta = 0.1, and section 6: "scaled down by a factor 5".
    gp, cover = fitted(), np.linspace(0.0, 1.0, 50)[:, None]
    best = 10.0
    found = criteria.criterion("lcb", gp, best, cover, np.random.default_rng(0)).value(cover)
    mean, std = model.predict(gp, cover)
    beta = 2.0 * np.log(50 * 7**2 * np.pi**2 / 0.6) / 5.0
    assert beta == pytest.approx(confidence_schedule(7, 50) / 5.0)
    # So far below the incumbent, the soft corner adds less than 1e-30.
    np.testing.assert_allclose(np.exp(found), best - mean + np.sqrt(beta) * std, rtol=1e-9)


def test_a_thompson_draw_has_the_moments_of_the_process():
    gp, x = fitted(), np.array([[0.13], [0.51], [0.88]])
    best, draws = 20.0, 4000
    rng = np.random.default_rng(0)
    values = np.array(
        [best - np.exp(criteria.criterion("thompson", gp, best, x, rng).value(x)) for _ in range(draws)]
    )
    mean, std = model.predict(gp, x)
    np.testing.assert_allclose(values.mean(axis=0), mean, atol=4.5 * std.max() / draws**0.5 + 1e-6)
    # The standard error of a standard deviation is std / sqrt(2 n).
    np.testing.assert_allclose(values.std(axis=0), std, rtol=4.5 / (2.0 * draws) ** 0.5, atol=2e-4)


def test_joint_entropy_is_that_of_a_truncated_process():
    # Hvarfner et al. 2022, eq. 7 to 10: told one drawn minimum without noise by dense algebra, the variance above it by
    # SciPy's quadrature.
    gp, cover = fitted(), np.linspace(0.0, 1.0, 21)[:, None]
    value = criteria.criterion("jes", gp, float(gp.y.min()), cover, np.random.default_rng(1), 1).value
    every = np.vstack([cover, gp.x])
    drawn = model.sample(gp, every, np.random.default_rng(1), 1)[0]
    low, optimum = drawn.min(), every[[drawn.argmin()]]
    noise = np.exp(gp.hyper.noise)

    def prior(a, b):
        return covariance(gp.columns, gp.hyper, gp.columns.embed(a), gp.columns.embed(b))

    seen = np.vstack([gp.x, optimum])
    gram = prior(seen, seen) + np.diag([noise] * len(gp.x) + [0.0])
    x = np.array([[0.11], [0.37], [0.58], [0.93]])
    across = prior(x, seen)
    mean = gp.mean + across @ np.linalg.solve(gram, np.append(gp.y, low) - gp.mean)
    std = np.sqrt(np.exp(gp.hyper.scale) - np.sum(across * np.linalg.solve(gram, across.T).T, axis=1))
    before = model.predict(gp, x)[1] ** 2 + noise

    def moment(k, m, s):
        return integrate.quad(
            lambda z: (m + s * z) ** k * np.exp(-0.5 * z * z), max((low - m) / s, -12.0), 12.0, epsabs=1e-13
        )[0]

    after = []
    for m, s in zip(mean, std, strict=True):
        mass, first, second = (moment(k, m, s) for k in range(3))
        after.append(second / mass - (first / mass) ** 2 + noise)
    np.testing.assert_allclose(np.exp(value(x)), 0.5 * np.log(before / np.array(after)), rtol=1e-3, atol=1e-6)
