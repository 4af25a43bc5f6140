"""Best rates over horizons: parabolas and power laws come back exactly, and sweeps that tell nothing are refused."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunewright.errors import ConfigError
from tunewright.scaling.horizon import fit_horizon, optimal_rate, transfer_rate

RATES = 2.0 ** np.arange(-12, -2)


def bowl(best, curvature=0.1, floor=2.0, rates=RATES):
    """Loss over rates, a parabola in their logarithm."""
    return floor + 0.5 * curvature * np.log(rates / best) ** 2


@settings(max_examples=60, deadline=None)
@given(st.floats(-10.4, -4.6), st.floats(0.01, 10), st.sampled_from([3, 5, 7]))
def test_a_parabola_comes_back(exponent, curvature, points):
    found = optimal_rate(RATES, bowl(2.0**exponent, curvature), points=points)
    assert math.isclose(found.rate, 2.0**exponent, rel_tol=1e-6)
    assert math.isclose(found.curvature, curvature, rel_tol=1e-6)
    assert math.isclose(found.loss, 2.0, rel_tol=1e-9)
    assert math.isnan(found.low)


def test_a_cliff_beyond_the_best_rate_moves_it_by_less_than_a_step():
    losses = bowl(2.0**-6)
    losses[-2:] = [50.0, math.inf]
    found = optimal_rate(RATES, losses)
    assert abs(math.log2(found.rate) + 6) < 0.05


def test_intervals_cover_the_truth_about_as_often_as_they_say():
    rng = np.random.default_rng(0)
    hits = 0
    for i in range(16):
        noisy = bowl(2.0**-7.3) + 0.01 * rng.standard_normal((8, len(RATES)))
        found = optimal_rate(RATES, noisy, seed=i)
        hits += found.low <= 2.0**-7.3 <= found.high
    assert hits >= 11


def test_a_power_law_comes_back_and_reaches_beyond():
    tokens = 2.0 ** np.arange(20, 25)
    law = fit_horizon(tokens, RATES, [bowl(3.0 * t**-0.32) for t in tokens])
    assert math.isclose(law.exponent, 0.32, rel_tol=1e-6)
    assert math.isclose(law.scale, 3.0, rel_tol=1e-5)
    value, low, high = law.rate(2.0**28)
    assert math.isclose(value, 3.0 * 2.0 ** (-0.32 * 28), rel_tol=1e-5)
    assert math.isclose(low, high, rel_tol=1e-5)
    assert math.isclose(
        transfer_rate(law.optima[0].rate, tokens[0], tokens[-1]), law.optima[-1].rate, rel_tol=1e-5
    )


def test_repetitions_give_an_interval_of_the_exponent():
    rng = np.random.default_rng(1)
    tokens = 2.0 ** np.arange(20, 25)
    losses = [
        [bowl(3.0 * t**-0.32) + 0.01 * rng.standard_normal(len(RATES)) for _ in range(5)] for t in tokens
    ]
    law = fit_horizon(tokens, RATES, losses)
    assert law.interval[0] < 0.32 < law.interval[1]
    value, low, high = law.rate(2.0**26)
    assert low < value < high


def test_two_horizons_without_repetitions_give_no_interval():
    law = fit_horizon([1e6, 4e6], RATES, [bowl(2.0**-6), bowl(2.0**-7)])
    assert math.isclose(law.exponent, 0.5, rel_tol=1e-6)
    assert math.isnan(law.interval[0])


@pytest.mark.parametrize(
    ("rates", "losses", "says"),
    [
        ([1, 2, 2], [1, 0, 1], "strictly increasing"),
        ([0, 1, 2], [1, 0, 1], "above 0"),
        ([1, 2, 4], [1, 0], "one loss for each"),
        ([1, 2, 4], [1, 0, math.nan], "3 rates whose trainings all ended; got 2"),
        ([1, 2, 4], [[1, 0, 1], [1, math.inf, 1]], "got 2 of 3"),
        ([1, 2, 4, 8], [0, 1, 2, 3], "towards smaller"),
        ([1, 2, 4, 8], [3, 2, 1, math.inf], "largest that did not diverge, 4"),
    ],
)
def test_sweeps_that_tell_no_optimum_are_refused(rates, losses, says):
    with pytest.raises(ConfigError, match=says):
        optimal_rate(rates, losses)


def test_laws_of_too_little_are_refused():
    good = bowl(2.0**-6)
    with pytest.raises(ConfigError, match="2 or more"):
        fit_horizon([1e6], RATES, [good])
    with pytest.raises(ConfigError, match="increasing"):
        fit_horizon([2e6, 1e6], RATES, [good, good])
    with pytest.raises(ConfigError, match="one sweep for each"):
        fit_horizon([1e6, 2e6], RATES, [good])
    with pytest.raises(ConfigError, match=r"At 2e\+06 tokens: The best rate"):
        fit_horizon([1e6, 2e6], RATES, [good, np.arange(10.0)])
    with pytest.raises(ConfigError, match="3 points"):
        optimal_rate(RATES, good, points=2)


def test_far_horizons_are_refused():
    law = fit_horizon([1e6, 4e6], RATES, [bowl(2.0**-6), bowl(2.0**-7)])
    with pytest.raises(ConfigError, match="not a billion"):
        law.rate(10.0)
    with pytest.raises(ConfigError, match="at most 32 times"):
        law.rate(1e9)
    with pytest.raises(ConfigError, match="32 times at most"):
        transfer_rate(1e-3, 1e9, 1e12)
    for broken in (0.0, -1.0, math.nan):
        with pytest.raises(ConfigError, match="above 0"):
            transfer_rate(broken, 1e9, 2e9)
