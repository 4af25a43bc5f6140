"""Entropies against numerical integration and simulation, and the schedule against its formula."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tunewright.models import entropy

stats = pytest.importorskip("scipy.stats")


@pytest.mark.parametrize(("mean", "std", "least"), [(0.0, 1.0, -0.5), (2.0, 0.7, 1.9), (1.0, 0.3, -2.0)])
def test_max_value_entropy_is_a_difference_of_scipys_entropies(mean: float, std: float, least: float) -> None:
    # Wang and Jegelka 2017, eq. 5 and 6: entropy of a normal minus that of the normal cut off; both by SciPy.
    cut = stats.truncnorm((least - mean) / std, 40.0, loc=mean, scale=std)
    expected = stats.norm(mean, std).entropy() - cut.entropy()
    ours = entropy.max_value_entropy(np.array([mean]), np.array([std]), np.array([least]))
    assert ours[0] == pytest.approx(float(expected), rel=1e-6, abs=1e-12)


@pytest.mark.parametrize("gamma", [-3.0, -0.5, 0.0, 1.0, 4.0])
def test_the_cut_off_variance_is_scipys(gamma: float) -> None:
    assert entropy.truncated_variance(np.array([gamma]))[0] == pytest.approx(
        float(stats.truncnorm(-gamma, np.inf).var()), rel=1e-7
    )


def test_quantiles_of_the_minimum_of_equal_normals_are_in_closed_form() -> None:
    # P(min > y) = (1 - Phi(y))^k, so y = Phi^-1(1 - (1 - share)^(1 / k)).
    shares = np.array([0.05, 0.5, 0.9])
    ours = entropy.minimum_quantiles(np.full(40, 1.0), np.full(40, 2.0), shares)
    expected = 1.0 + 2.0 * stats.norm.ppf(1.0 - (1.0 - shares) ** (1.0 / 40))
    assert ours == pytest.approx(expected, rel=1e-9)


def test_gumbel_draws_have_the_quartiles_of_the_minimum() -> None:
    mean, std = np.linspace(0.0, 3.0, 50), np.full(50, 0.8)
    draws = entropy.gumbel_minima(mean, std, 40_000, np.random.default_rng(0))
    expected = entropy.minimum_quantiles(mean, std, np.array([0.25, 0.5, 0.75]))
    # The median and the distance of the quartiles are fitted, each quartile alone is not; a minimum of unequal normals is
    # no Gumbel variable, and the standard error is below 0.003.
    found = np.quantile(draws, [0.25, 0.5, 0.75])
    assert found[1] == pytest.approx(expected[1], abs=0.012)
    assert found[2] - found[0] == pytest.approx(expected[2] - expected[0], abs=0.012)


def test_joint_entropy_of_an_uninformative_minimum_is_the_gain_of_the_observation() -> None:
    # Far above the minimum nothing is cut off: 0.5 log((s^2 + v) / (t^2 + v)).
    ours = entropy.joint_entropy(
        np.array([1.0]), np.array([[9.0]]), np.array([[0.5]]), np.array([-9.0]), noise=0.1
    )
    assert ours[0] == pytest.approx(0.5 * math.log(1.01 / 0.26), rel=1e-9)


def test_the_schedule_is_that_of_srinivas() -> None:
    # Srinivas et al. 2010, Theorem 1: 2 log(|D| t^2 pi^2 / 6 delta).
    assert entropy.confidence_schedule(10, 1000, 0.1) == pytest.approx(
        2.0 * math.log(1000 * 100 * math.pi**2 / 0.6)
    )
