"""The exponents of the paper, FLOPs as asked for, and limits that are kept."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunewright.errors import ConfigError
from tunewright.scaling.compound import STRATEGIES, Strategy, fast, growth, recommend, scale
from tunewright.scaling.counting import ConvShape, Counts, convnet

BASE = ConvShape(64, (32, 64, 128, 256), (2, 3, 4, 2), channels=32, classes=10, batch=2)


def test_exponents_of_the_paper() -> None:
    # Table 4 of arXiv:2103.06877: alpha = 1 is width alone, 1/3 uniform; activations grow as s^.5, s^.6 and s^.833.
    assert fast(1.0).activations == pytest.approx(0.5)
    assert fast(0.8).activations == pytest.approx(0.6)
    assert fast(1 / 3).activations == pytest.approx(5 / 6)
    assert (fast(0.8).depth, fast(0.8).width, fast(0.8).resolution) == pytest.approx((0.1, 0.4, 0.05))
    uniform = fast(1 / 3)
    assert (uniform.depth, uniform.width, uniform.resolution) == pytest.approx((1 / 3, 1 / 6, 1 / 6))
    assert STRATEGIES["d"].activations == STRATEGIES["r"].activations == 1.0


@pytest.mark.parametrize("name", ["w", "dw", "dwr", "dWr"])
def test_growth_as_counted(name: str) -> None:
    found = growth(BASE, name, [1, 4, 16, 64])
    assert found["activations"] == pytest.approx(STRATEGIES[name].activations, abs=0.05)
    assert found["parameters"] == pytest.approx(STRATEGIES[name].parameters, abs=0.08)


@settings(max_examples=30, deadline=None)
@given(st.floats(1, 200), st.floats(0.05, 1))
def test_flops_as_asked_for(s: float, alpha: float) -> None:
    made = scale(BASE, s, fast(alpha))
    assert made.flops == pytest.approx(s, rel=0.05)
    assert made.shape.batch == BASE.batch


def test_factor_of_one_changes_nothing() -> None:
    for name in STRATEGIES:
        assert scale(BASE, 1.0, name).shape == BASE


def test_groups_grow_with_widths() -> None:
    base = ConvShape(32, (16, 32), (2, 2), channels=3, classes=10, group=8)
    made = scale(base, 16, "w")
    assert made.shape.group == 32
    assert all(w % 32 == 0 for w in made.shape.widths)
    assert made.flops == pytest.approx(16, rel=0.35)


def test_multiples() -> None:
    made = scale(BASE, 5, "dwr", multiple=8, resolution_multiple=16)
    assert all(w % 8 == 0 for w in made.shape.widths) and made.shape.resolution % 16 == 0


def test_recommendation_keeps_limits() -> None:
    limit = 4 * convnet(BASE).activations
    found = recommend(BASE, activations=limit)
    assert [m.strategy.name for m in found] == ["w", "dWr", "dw", "dwr"]
    assert all(convnet(m.shape).activations <= limit for m in found)
    assert found[0].flops > 2.5 * found[-1].flops
    # Where weights are what is short, the order is the other way round.
    assert recommend(BASE, parameters=4 * convnet(BASE).parameters)[0].strategy.name == "dwr"


def test_recommendation_by_time() -> None:
    def time(c: Counts) -> float:
        return 1e-9 * c.activations

    found = recommend(BASE, seconds=3 * time(convnet(BASE)), time=time, strategies=["dwr", "dWr"])
    assert found[0].strategy.name == "dWr"


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: scale(BASE, 0.5), "at least 1"),
        (lambda: scale(BASE, float("nan")), "at least 1"),
        (lambda: scale(BASE, 2, "deep"), "must be one of"),
        (lambda: fast(1.5), "share of width"),
        (lambda: Strategy("x", 1, 1, 0), "sum 3"),
        (lambda: recommend(BASE), "needs a limit"),
        (lambda: recommend(BASE, seconds=1.0), "needs 'time'"),
        (lambda: recommend(BASE, flops=1.0), "within the limits itself"),
        (lambda: growth(BASE, "w", [2, 2]), "two different factors"),
    ],
)
def test_bad_input(call: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        call()
