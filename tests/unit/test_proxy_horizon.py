"""Settings for a target that trains longer than its proxies: the law of lengths, fitted, published or given, and its limits."""

from __future__ import annotations

import math
import random
from typing import Any

import numpy as np
import pytest
from study_helpers import quiet

import tunewright as tw
from tunewright.errors import ConfigError
from tunewright.scaling import Scale
from tunewright.scaling.drift import Optimum, pooled, regressed
from tunewright.scaling.horizon import EXPONENT, adjusted, fitted_length, law_at, widened

SPACE = tw.Space(lr=tw.Float(1e-5, 1.0, log=True))
SIZES = {"width": (64, 1024)}
PROXIES = [{"width": 64}, {"width": 128}, {"width": 256}]


def told(scale: Scale, exponent: float, drift: float = 0.0, trials: int = 30, seed: int = 0) -> tw.Study:
    """A study whose best rate is 2^-5 at width 64 and 100 steps, falls with steps and moves with the width."""
    study = tw.Study.open("s", SPACE, scale=scale, method="random", storage="memory", seed=seed)

    def best(width: int, steps: int) -> float:
        return -5 - exponent * math.log2(steps / 100) + drift * math.log2(width / 64)

    def train(trial: tw.Attempt, lr: float) -> None:
        width, steps = trial.size("width"), max(s.steps for s in scale.stages if s.sizes == trial.sizes)
        marks = next(s.marks for s in scale.stages if s.sizes == trial.sizes)
        noise = random.Random(f"{width} {trial.number}")
        for step in trial.steps():
            if step in marks or step == steps:
                z = math.log2(lr) - best(width, step)
                trial.report(step, loss=1 + 0.05 * z * z + 0.01 * noise.random())

    study.run(train, trials=trials, **quiet())
    return study


def test_the_law_is_fitted_to_proxies_of_different_lengths() -> None:
    found = told(Scale(SIZES, PROXIES, steps=(100, 200, 400, 1600)), 0.4).transfer()
    assert math.log2(found.settings["lr"]) == pytest.approx(-5 - 0.4 * 4, abs=0.15)
    low, high = found.interval
    assert math.log2(low) < -5 - 0.4 * 4 < math.log2(high)
    law = found.verdict.length
    assert law is not None
    assert law.source == "fitted"
    assert law.fitted == 3
    assert law.low < 0.4 < law.high
    assert law.factor == pytest.approx(4**-law.exponent)
    assert "rate ~ steps^-e, e=+0.4" in str(found)
    assert "fitted to 3 best rates of the study" in str(found)
    assert not found.warnings
    assert found.verdict.drift is not None
    assert abs(found.verdict.drift[0]) < 0.1, "what is left once lengths are taken out"


def test_claims_are_still_checked_once_lengths_are_taken_out() -> None:
    # Between 64 and 128 the rate moves by one doubling with no change of length, so no law of lengths explains it.
    scale = Scale(SIZES, PROXIES, steps=(100, 100, 800, 800))
    found = told(scale, 0.4, drift=-1.5).transfer()
    assert "claims that the best rate stays" in found.refusal
    assert told(scale, 0.4).transfer().refusal == ""


def test_sizes_and_lengths_that_grow_apart_give_both_laws() -> None:
    scale = Scale(
        {"width": (64, 2048)},
        [{"width": w} for w in (64, 128, 256, 512)],
        steps=(100, 400, 400, 1600, 6400),
        rule="sp",
    )
    found = told(scale, 0.4, drift=-0.5).transfer()
    assert math.log2(found.settings["lr"]) == pytest.approx(-5 - 0.4 * 6 - 0.5 * 5, abs=0.4)
    assert found.verdict.length is not None
    assert found.verdict.drift is not None
    assert found.verdict.drift[0] == pytest.approx(-0.5, abs=0.15)


def test_shares_stand_for_lengths_only_where_that_is_asked_for() -> None:
    study = told(Scale(SIZES, PROXIES[:2], steps=(160, 160, 640), shares=(0.25, 0.5, 1.0)), 0.5)
    plain = study.transfer()
    assert plain.verdict.length is None
    assert math.log2(plain.settings["lr"]) == pytest.approx(-5 - 0.5 * math.log2(1.6), abs=0.1)
    assert "4 times as long" in plain.warnings[0]
    found = study.transfer(horizon="shares")
    assert found.verdict.length is not None
    assert found.verdict.length.fitted == 6
    assert math.log2(found.settings["lr"]) == pytest.approx(-5 - 0.5 * math.log2(6.4), abs=0.15)


def test_the_published_exponent_is_used_if_asked_for_with_its_spread() -> None:
    study = told(Scale(SIZES, PROXIES, steps=(100, 100, 100, 800)), EXPONENT)
    plain, found, own = study.transfer(), study.transfer(horizon="published"), study.transfer(horizon=0.5)
    assert "8 times as long" in plain.warnings[0]
    assert not found.warnings
    assert found.settings["lr"] == pytest.approx(plain.settings["lr"] * 8**-EXPONENT)
    assert own.settings["lr"] == pytest.approx(plain.settings["lr"] * 8**-0.5)

    def wide(one: Any) -> float:
        low, high = one.interval
        return math.log2(high / low)

    assert wide(own) == pytest.approx(wide(plain))
    # A deviation of 0.1 over three doublings, twice 1.645 of them, in quadrature.
    assert wide(found) == pytest.approx(math.hypot(wide(plain), 2 * 1.6449 * 0.1 * 3), rel=1e-6)
    assert "published for about a billion weights" in str(found)
    assert "given" in str(own)


def test_a_law_is_refused_outside_its_reach() -> None:
    study = told(Scale(SIZES, PROXIES, steps=(100, 100, 100, 3300)), 0.3)
    assert "differs 33 times from a proxy" in study.transfer(horizon="published").refusal
    assert study.transfer().settings, "without a law it is a warning, as before"
    study = told(Scale(SIZES, PROXIES, steps=(100, 200, 400, 3300)), 0.3)
    assert study.transfer().settings, "within 32 times the longest"
    study = told(Scale(SIZES, PROXIES, steps=(100, 200, 400, 13200)), 0.3)
    assert "differs 33 times from all proxies" in study.transfer().refusal


def test_a_target_that_trains_for_less_is_corrected_upwards() -> None:
    found = told(Scale(SIZES, PROXIES, steps=(400, 400, 400, 100)), 0.3).transfer(horizon=0.3)
    assert math.log2(found.settings["lr"]) == pytest.approx(-5, abs=0.1)


def test_two_lengths_at_two_sizes_leave_nothing_to_check_with() -> None:
    found = told(Scale(SIZES, PROXIES[:2], steps=(100, 800, 800)), 0.5).transfer()
    assert "They also trained for different lengths" in found.refusal
    near = told(Scale(SIZES, PROXIES[:2], steps=(100, 120, 900)), 0.5).transfer()
    assert near.verdict.length is None
    assert "7.5 times as long" in near.warnings[0]


def test_rates_that_rise_with_the_length_are_doubted() -> None:
    found = told(Scale(SIZES, PROXIES, steps=(100, 200, 400, 800)), -0.5).transfer()
    assert "Keep the batch the same" in " ".join(found.warnings)


@pytest.mark.parametrize("horizon", ["chinchilla", True, math.nan, math.inf, [0.3]])
def test_a_horizon_that_is_none_is_refused(horizon: Any) -> None:
    study = tw.Study.open("s", SPACE, scale=Scale(SIZES), method="random", storage="memory")
    with pytest.raises(ConfigError, match="horizon must be"):
        study.transfer(horizon=horizon)


def test_shares_must_be_there_to_be_fitted() -> None:
    study = tw.Study.open("s", SPACE, scale=Scale(SIZES), method="random", storage="memory")
    with pytest.raises(ConfigError, match="needs a scale with shares"):
        study.transfer(horizon="shares")


def test_too_few_at_shares_are_refused_where_shares_were_asked_for() -> None:
    scale = Scale(SIZES, [{"width": 64}], steps=(100, 400), shares=(0.5, 1.0))
    found = told(scale, 0.3, trials=8).transfer(horizon="shares")
    assert "at too few shares" in found.refusal


def made(log2: float, growth: float, length: float, sd: float = 0.2) -> Optimum:
    draws = log2 + sd * np.array([-1.0, 1.0] * 50)
    ends = 2.0 ** (log2 - 1.645 * sd), 2.0 ** (log2 + 1.645 * sd)
    return Optimum(growth, 2.0**log2, *ends, 1.0, 0.1, 20, 0, "", draws, length)


def test_regression_is_weighted_least_squares_in_closed_form() -> None:
    optima = [made(-5, 0, 1, 0.2), made(-5.4, 1, 2, 0.4), made(-5.7, 2, 3, 0.2)]
    columns = np.array([[1.0, -o.length] for o in optima])
    found = regressed(optima, columns, np.array([1.0, -6.0]))
    # The residuals are far below the intervals, so nothing is added between sizes, and the middle one is a quarter as heavy.
    w = 1 / np.array([0.04, 0.16, 0.04])
    coefficients, covariance = np.polyfit([1, 2, 3], [-5, -5.4, -5.7], 1, w=np.sqrt(w), cov="unscaled")
    assert found.coefficients == pytest.approx([coefficients[1], -coefficients[0]])
    assert found.spreads == pytest.approx(np.sqrt([covariance[1, 1], covariance[0, 0]]))
    assert math.log2(found.predicted.rate) == pytest.approx(np.polyval(coefficients, 6))
    row = np.array([6.0, 1.0])
    assert found.predicted.spread == pytest.approx(math.sqrt(row @ covariance @ row))


def test_lengths_that_are_all_the_same_or_that_go_with_sizes_tell_no_law() -> None:
    same = [made(-5, g, 7.0) for g in (0.0, 1.0, 2.0)]
    assert fitted_length(same, 4, 9, moves=False) is None
    along = [made(-5, g, 7.0 + g) for g in (0.0, 1.0, 2.0, 3.0)]
    assert fitted_length(along, 4, 9, moves=True) is None
    assert fitted_length(along, 4, 9, moves=False) is not None


def test_there_and_back_is_nothing() -> None:
    optima = [made(-5, 0, 7), made(-5.3, 1, 8)]
    back = adjusted(adjusted(optima, 0.37, 12), 0.37, 0)
    for o, b in zip(optima, back, strict=True):
        assert b.rate == pytest.approx(o.rate * 2 ** (0.37 * o.length))
        assert b.draws == pytest.approx(o.draws + 0.37 * o.length)
    law = law_at(optima, 0.37, 9)
    assert widened(pooled(optima), optima, law, 9) == pytest.approx(pooled(optima))
    assert law.factor == pytest.approx(2**-0.37)
