"""Spaces with other domains: structure, conditions and constraints stay."""

from __future__ import annotations

import pytest

from tunewright.core.constraints import Linear
from tunewright.core.domains import Bool, Choice, Float, Int, Order
from tunewright.core.space import Space
from tunewright.models.reshape import deciders, narrowed, reshaped, without_guesses


def test_guesses_go_and_everything_else_stays():
    inner = {"C": Float(1, 10, log=True, guess=2.0)}
    space = Space(
        {
            "m": Choice({"svm": inner, "none": None}, guess="svm"),
            "x": Float(0, 1, guess=0.5),
            "y": Float(0, 1),
        },
        constraints=[Linear({"x": 1.0, "y": 1.0}, 1.5)],
    )
    plain = without_guesses(space)
    assert plain.defaults() == {}
    assert plain.names == space.names
    assert len(plain.constraints) == 1
    assert plain.check({"m": "svm", "C": 3.0, "x": 0.2, "y": 0.1})


@pytest.mark.parametrize(
    ("domain", "values", "low", "high"),
    [
        (Float(0, 10), [2, 4], 2.0, 4.0),
        (Float(0, 10), [5], 4.5, 5.5),
        (Float(0, 10), [0], 0.0, 1.0),
        (Float(0, 10), [12], 9.0, 10.0),
        (Float(1e-4, 1, log=True), [1e-3, 1e-1], 1e-3, 1e-1),
        (Float(0, 1, step=0.25), [0.25, 0.5], 0.25, 0.5),
        (Int(1, 100), [20, 60], 20, 60),
        (Int(0, 3), [1], 1, 2),
        (Int(0, 3), [3], 2, 3),
    ],
)
def test_ranges_shrink_to_the_values(domain, values, low, high):
    got = narrowed(domain, values, 0.1)
    assert (got.low, got.high) == (pytest.approx(low), pytest.approx(high))
    assert all(domain.contains(v) for v in (got.low, got.high))


def test_options_shrink_to_those_seen_and_orders_stay_contiguous():
    assert narrowed(Choice(["a", "b", "c"], guess="b"), ["c", "a"], 0.1) == Choice(["a", "c"])
    assert narrowed(Order([1, 2, 4, 8], guess=4), [2, 8], 0.1) == Order([2, 4, 8], guess=4)
    assert narrowed(Bool(), [True], 0.1) == Choice([True])
    assert narrowed(Choice([True, 1]), [1], 0.1).options == (1,)
    assert narrowed(Choice(["a", "b"]), ["gone"], 0.1).options == ("a", "b")


def test_guesses_outside_are_dropped():
    assert narrowed(Float(0, 1, guess=0.9), [0.1, 0.4], 0.1).guess is None
    assert narrowed(Float(0, 1, guess=0.3), [0.1, 0.4], 0.1).guess == 0.3


def test_deciders_are_found_at_every_depth():
    nested = Space({"a": Int(0, 3), "b": Float(0, 1)}, when={"b": {"a": [1, 2]}})
    space = Space(
        {"m": Choice({"x": nested, "y": None}), "k": Bool(), "v": Float(0, 1)}, when={"v": {"k": True}}
    )
    assert deciders(space) == {"a", "k"}
    assert reshaped(space, lambda name, domain: domain) == space
