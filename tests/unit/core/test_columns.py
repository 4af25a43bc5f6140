"""How spaces are laid out: names that may be shared, gates that agree with values, changes in words."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tunewright.core.columns import changes, grid_values
from tunewright.core.constraints import Range
from tunewright.core.domains import Bool, Choice, Domain, Float, Int, Order
from tunewright.core.space import Space
from tunewright.errors import SpaceError


@pytest.mark.parametrize(
    "make",
    [
        lambda: Space({"x": Float(0, 1), "m": Choice({"a": {"x": Float(0, 1)}})}),
        lambda: Space({"m": Choice({"a": {"x": Float(0, 1)}}), "x": Float(0, 1)}),
        lambda: Space({"x": Bool(), "m": Choice({"a": {"k": Choice({"u": {"x": Bool()}})}})}),
        lambda: Space({"m": Choice({"a": {"lr": Bool()}}), "n": Choice({"b": {"lr": Bool()}})}),
        lambda: Space({"m": Choice({"a": {"k": Choice({"u": {"lr": Bool()}}), "lr": Bool()}})}),
        lambda: Space({"m": Choice({"a": {"m": Bool()}})}),
        lambda: Space({"p": Choice({"u": {"lr": Bool()}}), "q": Choice({"v": {"lr": Bool()}})}),
    ],
)
def test_names_that_could_be_active_together_are_refused(make: Any) -> None:
    with pytest.raises(SpaceError, match="distinct where both can be active; got '(x|lr|m)' twice"):
        make()


def test_names_in_different_branches_of_one_choice_may_be_the_same() -> None:
    inner = {"u": {"lr": Float(0, 1)}, "v": {"lr": Float(1, 2)}}
    space = Space(m=Choice({"a": {"k": Choice(inner)}, "b": {"lr": Float(2, 3), "k": Bool()}}))
    assert space.names == ("m", "k", "lr", "lr", "lr", "k")
    assert space.layout.parent.tolist() == [-1, 0, 1, 1, 0, 0]
    for config in ({"m": "a", "k": "v", "lr": 1.5}, {"m": "b", "lr": 2.5, "k": True}):
        assert space.decode(space.encode(config)) == config


PARENTS = [
    Int(1, 9),
    Int(-4, 8, step=3),
    Int(1, 600, log=True),
    Int(0, 20_000),
    Int(0, 60_000, step=3),
    Float(0, 2, step=0.1),
    Float(0, 1, step=1e-4),
    Float(-1, 3),
    Float(1e-3, 1e3, log=True),
]


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(PARENTS), st.floats(0.01, 0.99), st.floats(0.01, 0.99), st.floats(0, 1), st.integers(0, 2)
)
def test_a_range_opens_by_the_value_whatever_code_it_came_from(
    parent: Float | Int, a: float, b: float, code: float, kind: int
) -> None:
    low, high = (parent.low + u * (parent.high - parent.low) for u in sorted((a, b)))
    wanted = (Range(low, None), Range(None, high), Range(low, high))[kind]
    try:
        space = Space({"p": parent, "c": Bool()}, when={"c": {"p": wanted}})
    except SpaceError as error:
        assert "never is" in str(error)
        return
    _, decode = parent.coder()
    if parent.count:
        # A code on the very border of two bins may be rounded into either.
        assume(decode(max(code - 1e-9, 0.0)) == decode(min(code + 1e-9, 1.0)))
    row = np.array([code, 0.75])
    config = space.decode(row)
    value = config["p"]
    close = min(abs(value - low), abs(value - high)) < 1e-9 * max(1.0, abs(value))
    assert close or ("c" in config) == wanted.holds(value)
    assert space.active(row[None, :])[0].tolist() == [True, "c" in config]
    assert space.check(config) == config
    assert ("c" in space.decode(space.encode(config))) == ("c" in config)
    assert ("c" in space.decode(space.snap(row[None, :])[0])) == ("c" in config)


@pytest.mark.parametrize(
    ("parent", "wanted"),
    [
        (Int(1, 4), Range(1.2, 1.8)),
        (Int(1, 4), Range(5, 9)),
        (Float(0, 1), Range(2, 3)),
        (Float(0, 1), Range(None, -1)),
        (Float(0, 1, step=0.25), Range(0.3, 0.4)),
        (Int(1, 10_000), Range(20_000, None)),
        (Int(1, 10_000, log=True), Range(None, 0)),
        (Int(1, 10_000, log=True), Range(2.2, 2.8)),
        (Choice(["a"]), []),
    ],
)
def test_conditions_that_never_hold_are_refused(parent: Domain, wanted: Any) -> None:
    with pytest.raises(
        SpaceError, match=r"A condition must be possible; 'c' depends on .* which 'p', .* never is"
    ):
        Space({"p": parent, "c": Bool()}, when={"c": {"p": wanted}})


def test_bounds_of_a_range_are_inclusive_however_they_were_typed() -> None:
    space = Space({"p": Float(0, 1, step=0.1), "c": Bool()}, when={"c": {"p": Range(0.3, 0.7)}})
    open_at = [round(space.decode(np.array([(i + 0.5) / 11, 0.0]))["p"], 9) for i in range(11)
               if space.active(np.array([[(i + 0.5) / 11, 0.0]]))[0, 1]]  # fmt: skip
    assert open_at == [0.3, 0.4, 0.5, 0.6, 0.7]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: Space({"a": Bool(), "b": Bool()}, when=["b"]),
            r"when must map names to conditions; got \['b'\]",
        ),
        (
            lambda: Space({"a": Bool(), "b": Bool()}, when={"b": "a"}),
            r"map an earlier parameter.*'b' has 'a'",
        ),
        (lambda: Space({"a": Bool()}, when={3: {"a": True}}), r"on a parameter of the space; got '3'"),
        (lambda: Space({"n": Int(1, 9_999), "b": Bool()}, when={"b": {"n": 3}}), r"needs a Range; got \[3\]"),
        (
            lambda: Space({"a": Choice([1]), "b": Bool()}, when={"b": {"a": True}}),
            r"possible value of 'a'.*got True",
        ),
        (lambda: Space(3), r"mapping from name to domain; got 3"),
        (lambda: Space({"x": object()}), r"Fix it in your code"),
        (lambda: Space({3: Bool()}), r"string of 1 to 256 characters; got 3"),
        (
            lambda: Space.from_dict({"parameters": [{"name": "x", "type": "bool"}] * 2}),
            r"distinct; got 'x' twice",
        ),
        (lambda: Space.from_dict({"parameters": [{"name": "x", "type": ["bool"]}]}), r"needs a type out of"),
    ],
)
def test_mistakes_are_named(make: Any, message: str) -> None:
    with pytest.raises(SpaceError, match=message):
        make()


def test_conditions_are_kept_in_an_order_that_does_not_depend_on_the_process() -> None:
    options = ["kiwi", "plum", "pear", "fig", "lime"]
    digests = {
        Space({"o": Choice(options), "c": Bool()}, when={"c": {"o": set(p)}}).digest
        for p in itertools.permutations(options[:4])
    }
    assert len(digests) == 1
    scalar = Space({"n": Choice([1, 2]), "c": Bool()}, when={"c": {"n": np.int64(1)}})
    assert type(scalar.when["c"]["n"]) is int
    assert Space.from_dict(scalar.to_dict()) == scalar
    assert Space({"n": Bool(), "c": Bool()}, when={"c": {}}).when == {}


def test_several_conditions_must_all_hold() -> None:
    space = Space(
        {"a": Choice(["u", "v"]), "n": Int(1, 4), "c": Float(0, 1)},
        when={"c": {"a": "u", "n": Range(3, None)}},
    )
    assert "c" in space.check({"a": "u", "n": 3, "c": 0.5})
    for config in ({"a": "v", "n": 3}, {"a": "u", "n": 2}):
        assert space.check(config) == config


def test_a_child_of_an_inactive_parent_is_inactive() -> None:
    space = Space(
        {"a": Choice(["u", "v"]), "b": Choice(["s", "t"]), "c": Bool()},
        when={"b": {"a": "u"}, "c": {"b": ["s", "t"]}},
    )
    assert space.check({"a": "v"}) == {"a": "v"}
    codes = space.sample(np.random.default_rng(0), 200)
    assert np.array_equal(np.isnan(codes[:, 1]), np.isnan(codes[:, 2]))


def test_grid_values_are_all_of_them_where_they_are_few() -> None:
    assert len(grid_values(Int(1, 8, log=True), 8)) == 8
    assert len(grid_values(Int(1, 5000), 5000)) == 5000
    assert len(grid_values(Int(1, 5000), 7)) == 7
    assert grid_values(Float(0, 1), 3).tolist() == [0.0, 0.5, 1.0]
    # On a log scale the low codes fall on the same whole number.
    assert 5 <= len(grid_values(Int(1, 1000, log=True), 20)) <= 20


@pytest.mark.parametrize(
    ("was", "now", "line"),
    [
        (Float(0, 1), Float(0, 2), "~ x: a number in [0.0, 1.0] -> a number in [0.0, 2.0]"),
        (Int(1, 9, step=2), Int(1, 9, log=True), "~ x: a whole number in [1, 9], step 2 -> a whole number in [1, 9], log scale"),
        (Choice(range(20)), Choice([*range(19), 77]), "~ x: without 19 and with 77"),
        (Choice(range(20)), Choice([*range(8), *range(19, 7, -1)]), "~ x: order of the options changed"),
        (Order([1, 2]), Order([2, 1]), "~ x: one of 1, 2 in this order -> one of 2, 1 in this order"),
        (Choice([1]), Choice([True]), "~ x: one of 1 -> one of True"),
        (Choice(["a", "b"]), Choice(["a", "b"], guess="a"), "~ x: another guess"),
        (Float(0, 1, guess=0.5), Float(0, 1, guess=0.5, confidence=0.9), "~ x: another guess"),
        (Bool(), Int(0, 1), "~ x: True or False -> a whole number in [0, 1]"),
    ],
)  # fmt: skip
def test_changes_are_said_in_words(was: Any, now: Any, line: str) -> None:
    assert changes("x", was, now) == [line]
    assert changes("x", was, was) == []
    assert Space({"x": was}).diff(Space({"x": now})) == [line]


def test_a_difference_inside_a_branch_is_never_silent() -> None:
    def nested(**settings: Any) -> Space:
        return Space(m=Choice({"a": Space({"x": Float(0, 1), "o": Bool()}, **settings), "b": None}))

    plain, conditional = nested(), nested(when={"o": {"x": Range(0.5, None)}})
    assert plain.diff(conditional) == ["~ conditions or constraints of a branch changed"]
    assert plain != conditional
