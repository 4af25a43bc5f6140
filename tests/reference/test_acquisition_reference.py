"""Log expected improvement against 60-digit arithmetic and quadrature."""

from decimal import Decimal, getcontext

import numpy as np
import pytest
from scipy.integrate import quad

from tunewright.models.acquisition import log_expected_improvement
from tunewright.numerics.distributions import log_normal_improvement


def continued_fraction_log_h(z: float) -> float:
    """log(pdf(z) + z cdf(z)) for z < -3, by the continued fraction of Mills' ratio (DLMF 7.9.3), in 60 digits."""
    getcontext().prec = 60
    x = Decimal(-z)
    tail = x
    for k in range(2000, 0, -1):
        tail = x + Decimal(k) / tail
    pi = Decimal("3.14159265358979323846264338327950288419716939937510582097494")
    return float(-x * x / 2 - (2 * pi).ln() / 2 + (1 - x / tail).ln())


@pytest.mark.parametrize("z", [-3.5, -10.0, -29.9, -30.1, -300.0, -999.0, -1001.0, -1e6])
def test_far_tail_of_the_improvement(z):
    assert float(log_normal_improvement(z)) == pytest.approx(continued_fraction_log_h(z), rel=1e-12, abs=1e-9)


@pytest.mark.parametrize(
    ("mean", "std", "best"), [(0.0, 1.0, 0.0), (1.0, 0.5, 0.2), (-2.0, 3.0, 1.0), (0.3, 0.01, 0.31)]
)
def test_expected_improvement_is_its_defining_integral(mean, std, best):
    def integrand(u):
        return max(best - mean - std * u, 0.0) * np.exp(-0.5 * u * u) / np.sqrt(2 * np.pi)

    z = (best - mean) / std
    expected = quad(integrand, -40.0, z, epsabs=0, epsrel=1e-12, points=[-5.0])[0]
    got = log_expected_improvement(np.array([mean]), np.array([std]), best)[0]
    assert got == pytest.approx(np.log(expected), rel=1e-8, abs=1e-9)


def test_value_at_zero():
    # Closed form: pdf(0) = 1 / sqrt(2 pi).
    assert float(log_normal_improvement(0.0)) == pytest.approx(-0.5 * np.log(2 * np.pi), rel=1e-15)
