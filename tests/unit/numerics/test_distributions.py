import numpy as np
import pytest

from tunewright.numerics import distributions as dist


def test_normal_functions_at_the_origin_and_deep_in_the_tail():
    assert dist.normal_log_pdf(0.0) == pytest.approx(-0.5 * np.log(2 * np.pi))
    assert dist.normal_log_cdf(0.0) == pytest.approx(np.log(0.5))
    # Leading asymptotic terms: log cdf(-z) = log pdf(z) - log z + log(1 - 1/z^2 + ...).
    z = 1e4
    assert dist.normal_log_cdf(-z) == pytest.approx(
        -0.5 * z * z - 0.5 * np.log(2 * np.pi) - np.log(z), rel=1e-12
    )
    assert dist.normal_quantile(0.975) == pytest.approx(1.959963984540054)


def test_log_improvement_is_increasing_and_finite_everywhere():
    z = np.concatenate([-np.logspace(8, -3, 4000), [0.0], np.logspace(-3, 8, 4000)])
    value = dist.log_normal_improvement(z)
    assert np.isfinite(value).all()
    assert np.all(np.diff(value) > 0)


def test_log_difference():
    assert dist.log_difference(np.log(5.0), np.log(3.0)) == pytest.approx(np.log(2.0))
    assert dist.log_difference(1000.0, -1000.0) == 1000.0
    assert dist.log_difference(2.0, 2.0) == -np.inf
    assert dist.log_difference(0.0, -1e-12) == pytest.approx(np.log(1e-12), rel=1e-4)


@pytest.mark.parametrize(
    ("mean", "std", "low", "high"),
    [
        (0.2, 0.1, 0.0, 1.0),
        (-3.0, 0.2, 0.0, 1.0),
        (5.0, 0.3, 0.0, 1.0),
        (0.5, 50.0, 0.0, 1.0),
        (0.0, 1.0, -np.inf, -8.0),
    ],
)
def test_truncated_normal_density_integrates_to_one_and_matches_its_samples(mean, std, low, high):
    end = max(low, -12.0)
    x = np.linspace(end, high, 200_001)
    density = np.exp(dist.truncated_normal_log_pdf(x, mean, std, low, high))
    mass = np.concatenate([[0.0], np.cumsum(0.5 * (density[1:] + density[:-1]) * np.diff(x))])
    assert mass[-1] == pytest.approx(1.0, abs=1e-4)
    draws = dist.truncated_normal_sample(np.random.default_rng(0), mean, std, low, high, size=4000)
    assert draws.min() >= low
    assert draws.max() <= high
    # Kolmogorov-Smirnov distance; 2.2 / sqrt(n) is exceeded with probability about 1e-4, and the seed is fixed.
    steps = np.interp(np.sort(draws), x, mass) - (np.arange(4000) + 0.5) / 4000
    assert np.abs(steps).max() < 2.2 / np.sqrt(4000)


def test_truncated_normal_is_impossible_outside_and_broadcasts():
    out = dist.truncated_normal_log_pdf([-0.1, 0.5, 1.1], 0.5, 0.2, 0.0, 1.0)
    assert np.isneginf(out[[0, 2]]).all()
    draws = dist.truncated_normal_sample(np.random.default_rng(0), [0.1, 0.9], 0.01, 0.0, 1.0)
    np.testing.assert_allclose(draws, [0.1, 0.9], atol=0.06)
