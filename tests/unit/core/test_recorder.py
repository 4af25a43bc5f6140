"""Define-by-run: widening, merging, and conditions that stay, go, or are left to the user."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunewright.core.constraints import Linear, Range
from tunewright.core.domains import Bool, Choice, Domain, Float, Int, Order
from tunewright.core.recorder import grow, infer, union
from tunewright.core.space import Space
from tunewright.errors import SpaceError


def met(*configs: dict[str, Any]) -> list[tuple[dict[str, Any], frozenset[str]]]:
    return [(c, frozenset(c)) for c in configs]


@given(
    st.integers(-50, 50),
    st.integers(1, 60),
    st.integers(1, 7),
    st.integers(-50, 50),
    st.integers(1, 60),
    st.integers(1, 7),
)
def test_a_union_of_whole_numbers_contains_both(a: int, n: int, s: int, b: int, m: int, t: int) -> None:
    one, two = Int(a, a + n, step=min(s, n)), Int(b, b + m, step=min(t, m))
    both = union("x", one, two)
    for domain in (one, two):
        assert all(both.contains(v) for v in range(domain.low, domain.high + 1, domain.step))
    assert union("x", both, one) is both
    assert union("x", both, two) is both


def test_a_union_keeps_belief_and_branches() -> None:
    assert union("x", Float(0, 1, guess=0.5, confidence=0.8), Float(0, 3)) == Float(
        0, 3, guess=0.5, confidence=0.8
    )
    tree = Choice({"a": {"q": Float(0, 1)}, "b": None}, guess="a")
    wide = union("x", tree, Choice({"c": {"r": Bool()}, "a": None}))
    assert wide == Choice({"a": {"q": Float(0, 1)}, "b": None, "c": {"r": Bool()}}, guess="a")


def test_options_of_different_types_are_different() -> None:
    space = Space(k=Choice([1]))
    assert grow(space, "k", Choice([True])).domains["k"] == Choice([1, True])
    assert grow(space, "k", Choice([1])) is space


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (Float(0, 1), Int(0, 1)),
        (Int(1, 5), Int(1, 5, log=True)),
        (Float(0, 1, step=0.25), Float(0.1, 1.1, step=0.25)),
        (Float(0, 1, step=0.25), Float(0, 1)),
        (Bool(), Choice([True, False])),
        (Order(["s", "m"]), Order(["s", "l"])),
    ],
)
def test_what_cannot_be_joined_is_refused(a: Domain, b: Domain) -> None:
    with pytest.raises(SpaceError, match="keep its type and scale in all trials; 'x' was"):
        union("x", a, b)


def test_steps_that_fall_on_the_same_values_are_joined() -> None:
    assert union("x", Float(0, 1, step=0.25), Float(0.5, 2, step=0.25)) == Float(0, 2, step=0.25)


def test_growing_keeps_constraints_once_and_conditions() -> None:
    inner = Space({"C": Float(0, 1)}, constraints=[Linear({"C": 1.0}, 0.5)])
    space = Space(
        {"m": Choice({"a": inner, "b": None}), "f": Bool()},
        when={"f": {"m": "b"}},
        constraints=[lambda c: True],
    )
    for i in range(4):
        space = grow(space, f"p{i}", Float(0, 1))
    assert len(space.own) == 1
    assert len(space.constraints) == 2
    assert space.when == {"f": {"m": "b"}}


def test_a_condition_of_the_user_stays_while_it_explains_the_trials() -> None:
    space = Space(
        {"k": Choice(["a", "b", "c"]), "n": Int(1, 9), "x": Bool(), "y": Bool()},
        when={"x": {"k": "a"}, "y": {"n": Range(5, None), "k": ["a", "b"]}},
    )
    trials = met(
        {"k": "a", "n": 3, "x": True}, {"k": "b", "n": 7, "y": True}, {"k": "c", "n": 9}, {"k": "a", "n": 9, "x": True, "y": False}
    )  # fmt: skip
    assert infer(space, trials) is space


def test_a_condition_that_a_trial_contradicts_is_learned_again() -> None:
    space = Space({"k": Choice(["a", "b", "c"]), "x": Bool()}, when={"x": {"k": ["a"]}})
    wider = infer(space, met({"k": "a", "x": True}, {"k": "b", "x": True}, {"k": "c"}))
    assert wider.when == {"x": {"k": ["a", "b"]}}
    assert infer(wider, met({"k": "a", "x": True}, {"k": "a"})).when == {}


def test_what_no_recent_trial_met_keeps_its_condition() -> None:
    space = Space({"k": Choice(["a", "b"]), "x": Bool()}, when={"x": {"k": ["a"]}})
    assert infer(space, met({"k": "b"}, {"k": "b"})) is space


def test_options_are_told_apart_by_type() -> None:
    space = Space(k=Choice([1, True, 1.0]), x=Bool())
    learned = infer(space, met({"k": 1, "x": True}, {"k": True}, {"k": 1.0, "x": False}))
    assert learned.when == {"x": {"k": [1, 1.0]}}
    assert [type(v) for v in learned.when["x"]["k"]] == [int, float]


def program(config: dict[str, Any], suggest: Any) -> None:
    """A training function with nested branches, a loop over layers and a flag."""
    model = suggest("model", Choice(["svm", "net", "mean"]))
    if model == "svm" and suggest("kernel", Choice(["rbf", "linear"])) == "rbf":
        suggest("gamma", Float(1e-3, 1, log=True))
    if model == "net":
        if suggest("dropout", Bool()):
            suggest("rate", Float(0, 0.5))
        suggest("width", Int(8, 64))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32))
def test_a_program_with_branches_is_understood_after_enough_trials(seed: int) -> None:
    rng = random.Random(seed)
    space, trials = Space(), []
    for _ in range(60):
        config: dict[str, Any] = {}

        def suggest(name: str, domain: Any, config: dict[str, Any] = config) -> Any:
            nonlocal space
            space = grow(space, name, domain)
            config[name] = domain.coder()[1](rng.random())
            return config[name]

        program(config, suggest)
        trials.append((config, frozenset(config)))
        space = infer(space, trials)
    # Every configuration is in the space, and no parameter is active that the program would not have met.
    for config, _ in trials:
        assert space.check(config) == config
    assert infer(space, trials) is space
