"""The law recovers a surface it was made from, its frontier has no point that another beats, and it refuses what it cannot know."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunewright.errors import ConfigError
from tunewright.scaling.mixture import MixtureLaw, fit_mixture

RATIO, RATE = (
    a.ravel()
    for a in np.meshgrid([0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9], 2.0 ** np.arange(-12, -5), indexing="ij")
)


def surfaces(ratio: Any, rate: Any) -> tuple[Any, Any]:
    """Losses with known optima: the best rate of the new language is 2^-8, the old one likes few and gentle steps."""
    u, v = np.log2(ratio / (1 - ratio)), np.log2(rate)
    new = 2.0 - 0.2 * u + 0.03 * u**2 + 0.05 * (v + 8) ** 2
    old = 1.5 + 0.15 * u + 0.02 * u**2 + 0.04 * (v + 9 + 0.3 * u) ** 2
    return new, old


def law(noise: float = 0.0, samples: int = 100) -> MixtureLaw:
    """Fitted to the surfaces."""
    rng = np.random.default_rng(0)
    new, old = surfaces(RATIO, RATE)
    return fit_mixture(
        RATIO,
        RATE,
        new + noise * rng.standard_normal(new.size),
        old + noise * rng.standard_normal(new.size),
        samples=samples,
    )


@settings(max_examples=20, deadline=None)
@given(st.floats(0.1, 0.9), st.floats(-12, -6))
def test_surface_is_recovered(ratio: float, log_rate: float) -> None:
    found = EXACT.predict(ratio, 2.0**log_rate)
    assert (found.new, found.old) == pytest.approx(surfaces(ratio, 2.0**log_rate), rel=1e-6)


EXACT = law()


def test_best_pair_against_a_direct_search() -> None:
    from scipy.optimize import minimize

    def loss(z: Any) -> float:
        new, old = surfaces(1 / (1 + np.exp(-z[0])), 2.0 ** z[1])
        return float(0.5 * new + 0.5 * old)

    best = minimize(loss, [0.0, -8.5], method="Nelder-Mead").x
    found = EXACT.recommend()
    assert np.log(found.ratio / (1 - found.ratio)) == pytest.approx(best[0], abs=0.06)
    assert np.log2(found.lr) == pytest.approx(best[1], abs=0.08)
    assert not found.at_edge
    assert EXACT.recommend(rate_factor=0.25).lr == pytest.approx(found.lr / 4)


def test_slope_of_the_best_rate() -> None:
    # With all weight on the old language the valley is v = -9 - .3 u.
    assert EXACT.slope(weight=0.0) == pytest.approx(-0.3, abs=0.02)
    assert EXACT.slope(weight=1.0) == pytest.approx(0.0, abs=1e-6)
    assert np.log2(EXACT.best_rate(0.5, weight=1.0)) == pytest.approx(-8, abs=0.05)


def test_frontier_has_no_point_that_another_beats() -> None:
    points = EXACT.frontier()
    old, new = [p.old for p in points], [p.new for p in points]
    assert len(points) > 5 and old == sorted(old) and new == sorted(new, reverse=True)
    ratios, rates = (
        np.random.default_rng(1).uniform(0.1, 0.9, 200),
        2.0 ** np.random.default_rng(2).uniform(-12, -6, 200),
    )
    a, b = surfaces(ratios, rates)
    beaten = [np.any((a < p.new - 0.02) & (b < p.old - 0.02)) for p in points]
    assert not any(beaten)


def test_more_weight_on_the_new_language_mixes_more_in() -> None:
    ratios = [EXACT.recommend(weight=w).ratio for w in (0.2, 0.4, 0.6, 0.8)]
    assert ratios == sorted(ratios) and ratios[0] < ratios[-1]


def test_limit_on_forgetting() -> None:
    limit = 1.3
    found = EXACT.recommend(most_old=limit)
    assert found.point.old <= limit
    assert found.point.new <= min(p.new for p in EXACT.frontier() if p.old <= limit) + 1e-9
    with pytest.raises(ConfigError, match="keeps the old loss"):
        EXACT.recommend(most_old=0.5)


def test_ranges_widen_with_noise() -> None:
    def width(noise: float) -> float:
        low, high = law(noise).recommend().ratio_range
        return high - low

    assert width(0.0) < 0.02 < width(0.05)


def test_no_recommendation_from_noise() -> None:
    rng = np.random.default_rng(0)
    nothing = fit_mixture(RATIO, RATE, rng.random(RATIO.size), rng.random(RATIO.size), samples=5)
    with pytest.raises(ConfigError, match="needs a law that explains"):
        nothing.recommend()


@pytest.mark.parametrize(
    "change, words",
    [
        ({"ratios": 100 * RATIO}, "not per cent"),
        ({"rates": -RATE}, "above 0"),
        ({"new": np.full(RATIO.size, np.inf)}, "diverged"),
        ({"old": [1.0]}, "equally many"),
        ({"rates": np.full(RATIO.size, 0.1)}, "3 ratios and 3 rates"),
        ({"rates": RATIO / (1 - RATIO)}, "independently"),
    ],
)
def test_bad_runs(change: dict[str, Any], words: str) -> None:
    new, old = surfaces(RATIO, RATE)
    with pytest.raises(ConfigError, match=words):
        fit_mixture(**{"ratios": RATIO, "rates": RATE, "new": new, "old": old, **change})


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: EXACT.predict(0.99, 0.01), "ratio in"),
        (lambda: EXACT.predict(0.5, 1.0), "rate in"),
        (lambda: EXACT.recommend(weight=2.0), "weight of the new language"),
        (lambda: EXACT.recommend(rate_factor=0.0), "factor on the rate"),
    ],
)
def test_bad_questions(call: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        call()
