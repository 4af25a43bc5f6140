"""Best rates by size: closed forms, intervals that cover, and laws of pooling and extrapolating."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunewright.errors import ConfigError
from tunewright.scaling import drift
from tunewright.scaling.drift import Optimum, apart, extrapolated, optimum, pooled, slope

RANGE = (2.0**-12, 1.0)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def made(log2: float, growth: float = 0.0, sd: float = 0.2) -> Optimum:
    """An optimum whose resamples have that standard deviation, to a hair."""
    draws = log2 + sd * np.array([-1.0, 1.0] * 100)
    return Optimum(
        growth, 2.0**log2, 2.0 ** (log2 - 1.645 * sd), 2.0 ** (log2 + 1.645 * sd), 1.0, 0.1, 20, 0, "", draws
    )


@given(st.floats(-9, -3), st.floats(0.01, 5), st.floats(-3, 3))
def test_the_lowest_point_of_a_parabola_is_found_exactly(at: float, bend: float, loss: float) -> None:
    z = np.linspace(at - 2.5, at + 2.2, 16)
    found = optimum(2.0**z, loss + bend * (z - at) ** 2, RANGE, rng())
    assert math.log2(found.rate) == pytest.approx(at, abs=1e-6)
    assert found.curvature == pytest.approx(bend, rel=1e-5)
    assert found.loss == pytest.approx(loss, abs=1e-6)
    assert found.low <= found.rate <= found.high
    assert found.high / found.low < 1.001


def test_the_effect_of_what_else_was_varied_is_taken_out() -> None:
    r = rng(3)
    z, other = r.uniform(-9, -1, 60), r.random((60, 1))
    loss = 0.1 * (z + 5) ** 2 + 0.5 * other[:, 0]
    bare = optimum(2.0**z, loss, RANGE, rng())
    full = optimum(2.0**z, loss, RANGE, rng(), others=other)
    assert math.log2(full.rate) == pytest.approx(-5, abs=1e-6)
    assert full.high / full.low < bare.high / bare.low


@pytest.mark.slow
def test_intervals_of_ninety_percent_cover_about_that_often() -> None:
    hits, n = 0, 200
    for seed in range(n):
        r = rng(seed)
        z = r.uniform(-10, 0, 30)
        found = optimum(2.0**z, 0.05 * (z + 5) ** 2 + 0.1 * r.standard_normal(30), RANGE, r)
        hits += found.low <= 2.0**-5 <= found.high
    # Selecting the better half by noisy losses costs a little; three standard errors of a share of 0.85 are 0.08.
    assert hits / n > 0.77


def test_diverged_trainings_are_counted_and_bend_nothing() -> None:
    z = np.linspace(-8, -2, 13)
    loss = 0.1 * (z + 5) ** 2
    with_bad = optimum(2.0 ** np.append(z, [-1, 0]), np.append(loss, [math.inf, math.nan]), RANGE, rng())
    assert with_bad.diverged == 2
    assert with_bad.count == 13
    assert math.log2(with_bad.rate) == pytest.approx(-5)


@pytest.mark.parametrize(("centre", "edge"), [(-15.0, "low"), (-11.9, "low"), (-6.0, ""), (3.0, "high")])
def test_an_optimum_at_the_end_of_the_range_is_one_of_the_range(centre: float, edge: str) -> None:
    z = np.linspace(-12, 0, 25)
    assert optimum(2.0**z, (z - centre) ** 2, RANGE, rng()).edge == edge


def test_where_no_parabola_has_a_lowest_point_the_best_rate_counts() -> None:
    z = np.linspace(-8, -2, 7)
    found = optimum(2.0**z, -((z + 5.2) ** 2), RANGE, rng())
    assert found.rate == 2.0**-2
    assert found.curvature == 0.0


@pytest.mark.parametrize("losses", [[1.0] * 4, [math.inf] * 20, [1.0] * 4 + [math.inf] * 9])
def test_too_few_trainings_are_refused(losses: list[float]) -> None:
    with pytest.raises(ConfigError, match="5 trainings that did not diverge"):
        optimum(2.0 ** np.linspace(-9, -1, len(losses)), losses, RANGE, rng())


def test_pooling_is_that_of_dersimonian_and_laird() -> None:
    v = 0.25**2
    near = pooled([made(-5.0, sd=0.25), made(-5.1, sd=0.25)])
    assert math.log2(near.rate) == pytest.approx(-5.05)
    assert near.spread == pytest.approx(math.sqrt(v / 2))
    # Two sizes of equal variance v, d apart: Q = d^2 / 2v, so the variance between them is d^2 / 2 - v.
    far = pooled([made(-5.0, sd=0.25), made(-6.0, sd=0.25)])
    between = 0.5 - v
    assert far.spread == pytest.approx(math.sqrt((v + between) / 2 + between))
    assert math.log2(far.high / far.rate) == pytest.approx(1.6449 * far.spread)


@given(st.floats(-2, 1), st.floats(-8, -3), st.floats(1, 6))
def test_a_power_law_is_found_and_extrapolated(power: float, at: float, target: float) -> None:
    sizes = [made(at + power * g, g) for g in (0.0, 1.0, 2.0)]
    assert slope(sizes)[0] == pytest.approx(power, abs=1e-9)
    found = extrapolated(sizes, target)
    assert math.log2(found.rate) == pytest.approx(at + power * target)
    assert found.low <= found.rate <= found.high


def test_the_further_the_target_the_wider_the_interval() -> None:
    z = np.linspace(-9, -1, 20)
    sizes: list[Any] = []
    for g in (0.0, 1.0):
        noise = 0.05 * rng(int(g)).standard_normal(20)
        sizes.append(optimum(2.0**z, 0.1 * (z + 5 + g) ** 2 + noise, RANGE, rng(7), growth=g))
    spreads = [extrapolated(sizes, t).spread for t in (1.0, 3.0, 6.0)]
    assert spreads[0] < spreads[1] < spreads[2]


def test_sizes_contradict_each_other_when_their_intervals_have_nothing_in_common() -> None:
    a, b, c = made(-5, 0), made(-5.5, 1), made(-7, 2)
    assert apart([a, b]) is None
    assert set(apart([a, b, c]) or ()) == {a, c}


def test_a_move_finer_than_rates_are_tuned_is_no_contradiction() -> None:
    assert apart([made(-5, 0, sd=0.001), made(-5.45, 1, sd=0.001)]) is None
    assert apart([made(-5, 0, sd=0.001), made(-5.55, 1, sd=0.001)]) is not None


def test_the_best_of_what_few_rates_were_let_through_may_be_far_from_the_best() -> None:
    z = np.linspace(-5, -3, 9)  # a scheduler kept these, and the loss falls towards lower ones
    assert optimum(2.0**z, 0.1 * (z + 7) ** 2, RANGE, rng()).edge == "low"
    # A training that diverged beyond them was tried, too.
    high = optimum(2.0 ** np.append(z, -2), np.append(0.1 * (z + 1) ** 2, math.inf), RANGE, rng())
    assert high.edge == ""


def test_many_trainings_are_resampled_bit_by_bit_to_the_same_result(monkeypatch: pytest.MonkeyPatch) -> None:
    z = np.linspace(-9, -1, 300)
    loss = 0.1 * (z + 5) ** 2 + 0.05 * rng(1).standard_normal(300)
    at_once = optimum(2.0**z, loss, RANGE, rng())
    monkeypatch.setattr(drift, "_ROOM", 1000)
    in_bits = optimum(2.0**z, loss, RANGE, rng())
    assert in_bits.rate == pytest.approx(at_once.rate, rel=1e-12)
    assert in_bits.draws == pytest.approx(at_once.draws, rel=1e-9)
    assert len(in_bits.draws) == 400
