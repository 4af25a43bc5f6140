"""Spaces: columns, conditions, constraints, coding, versions."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tunewright.core.constraints import Forbidden, Linear, Predicate, Range
from tunewright.core.domains import Bool, Choice, Float, Int, Order
from tunewright.core.space import Space
from tunewright.errors import SpaceError

sys.path.insert(0, str(Path(__file__).parents[2]))
from strategies import spaces

relaxed = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@relaxed
@given(spaces(), st.integers(0, 2**32))
def test_samples_are_in_the_space_and_survive_coding(space: Space, seed: int) -> None:
    codes = space.sample(rng(seed), 5)
    assert codes.shape == (5, space.d)
    active = space.active(np.nan_to_num(codes, nan=0.5))
    for row, on in zip(codes, active, strict=True):
        config = space.decode(row)
        assert space.check(config) == config
        again = space.encode(config)
        assert np.allclose(again, row, equal_nan=True, atol=1e-9)
        assert np.array_equal(~np.isnan(row), on)
        assert len(config) == sum(on[e.first] for e in space.entries)


@relaxed
@given(spaces(), st.integers(0, 2**32))
def test_snap_is_idempotent_and_merge_keeps_what_is_given(space: Space, seed: int) -> None:
    noise = rng(seed).random((4, space.d))
    once = space.snap(noise)
    assert np.allclose(space.snap(once), once, equal_nan=True, atol=1e-9)
    config = space.decode(once[0])
    assert space.merge(np.nan_to_num(once[1], nan=0.3), config) == config
    projected = space.project(config)
    assert projected is not None
    assert np.allclose(projected, once[0], equal_nan=True, atol=1e-9)


@relaxed
@given(spaces())
def test_json_round_trip_digest_and_diff(space: Space) -> None:
    again = Space.from_dict(json.loads(json.dumps(space.to_dict())))
    assert again == space
    assert again.digest == space.digest
    assert hash(again) == hash(space)
    assert space.diff(again) == []


@relaxed
@given(spaces(), spaces(prefix="q"))
def test_diff_is_empty_only_for_equal_spaces(a: Space, b: Space) -> None:
    assert (a.diff(b) == []) == (a == b)
    assert (a.digest == b.digest) == (a == b)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Space({"x": Float(0, 1)}, x=Float(0, 1)), r"distinct; got 'x' twice"),
        (lambda: Space({"": Float(0, 1)}), r"1 to 256 characters"),
        (lambda: Space({"a\nb": Float(0, 1)}), r"printable text"),
        (lambda: Space({"a" * 257: Float(0, 1)}), r"1 to 256"),
        (lambda: Space({"x": [1, 2]}), r"'x' must be Float, Int.*Wrap it: Choice\(\[1, 2\]\)"),
        (lambda: Space({"x": 3}), r"Fix it in your code"),
        (
            lambda: Space({"x": Float(0, 1)}, when={"y": {"x": 1}}),
            r"condition must be on a parameter.*got 'y'",
        ),
        (
            lambda: Space({"opt": Choice(["a"]), "m": Float(0, 1)}, when={"m": {"optt": "a"}}),
            r"Did you mean 'opt'",
        ),
        (
            lambda: Space(
                {"a": Choice(["u", "v"]), "b": Choice(["u", "v"])}, when={"a": {"b": "u"}, "b": {"a": "u"}}
            ),
            r"earlier parameter; 'a' depends on 'b', which comes later",
        ),
        (lambda: Space({"a": Choice(["u"])}, when={"a": {"a": "u"}}), r"comes later or is itself"),
        (
            lambda: Space({"a": Choice(["u"]), "b": Bool()}, when={"b": {"a": "w"}}),
            r"possible value of 'a'.*got 'w'",
        ),
        (lambda: Space({"a": Float(0, 1), "b": Bool()}, when={"b": {"a": 0.5}}), r"needs a Range"),
        (
            lambda: Space({"a": Choice(["u"]), "b": Bool()}, when={"b": {"a": Range(0, 1)}}),
            r"List its values",
        ),
        (
            lambda: Space({"m": Choice({"u": {"x": Bool()}}), "x": Bool()}),
            r"distinct where both can be active; got 'x'",
        ),
        (
            lambda: Space({"x": Float(0, 1)}, constraints=[Linear({"y": 1.0}, 1.0)]),
            r"must name parameters.*got 'y'",
        ),
        (
            lambda: Space({"x": Float(0, 1)}, constraints=[Linear({"x": 1.0}, -1.0)]),
            r"needs configurations that satisfy",
        ),
        (
            lambda: Space({"x": Float(0, 1)}, constraints=[lambda c: False]),
            r"needs configurations that satisfy",
        ),
        (lambda: Space({"x": Float(0, 1)}, constraints=[lambda c: c["nope"]]), r"raised KeyError"),
        (lambda: Space({"x": Float(0, 1)}, constraints=[3]), r"Linear or a function"),
        (lambda: Space.from_dict({"nothing": 1}), r"stored space must list its parameters"),
        (lambda: Space.from_dict({"parameters": [], "constraints": [{"type": "cubic"}]}), r"got 'cubic'"),
    ],
)
def test_mistakes_are_named_when_declared(make: Any, message: str) -> None:
    with pytest.raises(SpaceError, match=message):
        make()


TREE = Space(
    opt=Choice(["adam", "sgd"]),
    momentum=Float(0, 1),
    layers=Int(1, 4),
    width2=Int(8, 64),
    model=Choice({"svm": {"C": Float(1e-3, 1e3, log=True)}, "none": None}),
    when={"momentum": {"opt": "sgd"}, "width2": {"layers": Range(2, None)}},
)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"opt": "adam", "layers": 1}, r"needs a value for 'model'"),
        (
            {"opt": "adam", "layers": 9, "model": "none"},
            r"'layers' must be a whole number in \[1, 4\]; got 9",
        ),
        ({"opt": "rms", "layers": 1, "model": "none"}, r"'opt' must be one of 'adam', 'sgd'; got 'rms'"),
        ({"opt": "adam", "momentum": 0.5, "layers": 1, "model": "none"}, r"'momentum' is not active here"),
        (
            {"opt": "adam", "layer": 1, "layers": 1, "model": "none"},
            r"'layer' is not a parameter.*Did you mean 'layers'",
        ),
        ({"opt": "adam", "layers": True, "model": "none"}, r"'layers' must be"),
        ({"opt": "adam", "layers": 1, "model": "svm", "C": float("nan")}, r"finite number"),
        ([1], r"must be a mapping"),
    ],
)
def test_configurations_are_checked_by_name(config: Any, message: str) -> None:
    with pytest.raises(SpaceError, match=message):
        TREE.check(config)


def test_a_configuration_that_fits_comes_back_in_order() -> None:
    config = {"C": 1, "model": "svm", "width2": 8, "layers": 2, "momentum": 0.9, "opt": "sgd"}
    assert list(TREE.check(config)) == ["opt", "momentum", "layers", "width2", "model", "C"]
    assert type(TREE.check(config)["C"]) is float
    assert TREE.check({"opt": "sgd"}, partial=True) == {"opt": "sgd"}


def test_encoding_something_foreign_says_why() -> None:
    with pytest.raises(SpaceError, match="needs a value for 'x'"):
        Space(x=Float(0, 1)).encode({"y": 1.0})


def test_the_same_name_may_occur_in_two_branches() -> None:
    space = Space(m=Choice({"a": {"lr": Float(0, 1)}, "b": {"lr": Float(1, 2)}}))
    assert space.d == 3
    assert space.decode(space.encode({"m": "b", "lr": 1.5})) == {"m": "b", "lr": 1.5}
    with pytest.raises(SpaceError, match="m=a/lr"):
        space.check({"m": "a", "lr": 1.5})


def test_constraints_hold_for_every_sample_and_repair_mends() -> None:
    space = Space(
        {"x": Float(0, 1), "y": Float(0, 1), "k": Choice(["a", "b"]), "flag": Bool()},
        forbidden=[{"k": "a", "flag": True}],
        constraints=[Linear({"x": 1.0, "y": 1.0}, 1.0), lambda c: c["x"] < 0.9],
    )
    codes = space.sample(rng(), 200)
    assert len(codes) == 200
    assert all(space.feasible(space.decode(c)) for c in codes)
    broken = rng(1).random((100, space.d))
    mended = space.repair(broken, rng(2))
    assert all(space.feasible(space.decode(c)) for c in mended)
    fine = np.array([space.feasible(space.decode(c)) for c in space.snap(broken)])
    assert np.allclose(mended[fine], space.snap(broken)[fine])
    with pytest.raises(SpaceError, match="must satisfy the constraints"):
        space.check({"x": 0.8, "y": 0.8, "k": "b", "flag": False})


def test_forbidden_tells_one_from_true_and_ignores_inactive_parameters() -> None:
    rule = Forbidden({"n": (1, 2), "b": True})
    assert not rule.holds({"n": 1, "b": True})
    assert rule.holds({"n": True, "b": True})
    assert rule.holds({"n": 1})
    assert Linear({"x": 1.0}, 0.0).holds({})


def test_functions_come_back_by_name_only() -> None:
    space = Space({"x": Float(0, 1)}, constraints=[lambda c: c["x"] < 0.5])
    again = Space.from_dict(space.to_dict())
    (constraint,) = again.constraints
    assert isinstance(constraint, Predicate)
    assert constraint.test is None
    assert again == space


def test_grid_lists_every_active_combination_once() -> None:
    space = Space(a=Choice({"x": {"q": Int(1, 3)}, "y": None}), b=Bool(), f=Float(0, 1))
    grid = space.grid(resolution=3)
    configs = [json.dumps(space.decode(r)) for r in grid]
    assert len(configs) == len(set(configs)) == (3 + 1) * 2 * 3
    assert space.size == float("inf")
    assert Space(a=Choice({"x": {"q": Int(1, 3)}, "y": None}), b=Bool()).size == 8
    with pytest.raises(SpaceError, match="at most 100 points"):
        Space({f"x{i}": Int(0, 9) for i in range(5)}).grid(limit=100)


def test_grid_leaves_out_what_is_forbidden() -> None:
    space = Space({"a": Int(0, 2), "b": Int(0, 2)}, constraints=[Linear({"a": 1.0, "b": 1.0}, 2.0)])
    assert len(space.grid()) == 6


def test_guesses_draw_the_prior_towards_themselves() -> None:
    space = Space(
        x=Float(0, 1, guess=0.1, confidence=0.9), c=Choice(["a", "b", "c"], guess="c", confidence=0.9)
    )
    codes = space.sample(rng(), 2000)
    near = np.mean(np.abs(codes[:, 0] - 0.1) < 0.3)
    # 0.9 of the mass is a normal of standard deviation 0.1 folded at the bounds, the rest is uniform.
    assert near == pytest.approx(0.9 * 0.997 + 0.1 * 0.4, abs=0.03)
    assert np.mean([space.decode(c)["c"] == "c" for c in codes]) == pytest.approx(0.9 + 0.1 / 3, abs=0.03)
    assert space.defaults() == {"x": 0.1, "c": "c"}


def test_versions_project_old_configurations() -> None:
    old = Space(lr=Float(0, 1), k=Choice(["a", "b"]))
    new = Space(lr=Float(0, 0.5), k=Choice(["b", "c"]), extra=Int(1, 3))
    row = new.project({"lr": 0.8, "k": "b"})
    assert row is not None
    assert row[0] == 1.0
    assert np.isnan(row[2])
    assert new.project({"lr": 0.2, "k": "a"}) is None
    lines = old.diff(new)
    assert any(line.startswith("~ lr: a number in [0.0, 1.0]") for line in lines)
    assert "+ extra: a whole number in [1, 3]" in lines
    assert any("one of 'a', 'b' -> one of 'b', 'c'" in line for line in lines)


def test_order_of_parameters_is_part_of_identity() -> None:
    a, b = Space(x=Bool(), y=Bool()), Space(y=Bool(), x=Bool())
    assert a != b
    assert a.diff(b) == ["~ order of the parameters changed"]


def test_big_and_log_integers_are_continuous_to_models_but_whole_when_decoded() -> None:
    space = Space(n=Int(1, 10**6), w=Int(16, 512, log=True), s=Float(0, 1, step=0.25), o=Order([1, 10]))
    assert space.layout.levels.tolist() == [0, 0, 5, 2]
    config = space.draw(rng())
    assert isinstance(config["n"], int)
    assert config["s"] in (0, 0.25, 0.5, 0.75, 1.0)
    snapped = space.snap(rng().random((3, 4)))
    assert np.allclose(snapped, [space.encode(space.decode(r)) for r in snapped])


def test_too_many_parameters_are_refused() -> None:
    with pytest.raises(SpaceError, match="at most 10000 parameters"):
        Space({f"p{i}": Bool() for i in range(10_001)})


@pytest.mark.parametrize(
    ("space", "size"),
    [
        (Space(), 1),
        (Space(a=Int(0, 9), b=Bool()), 20),
        (Space(n=Int(1, 100, log=True)), 100),
        (Space(a=Choice({"x": {"q": Int(1, 3)}, "y": None}), n=Int(1, 50, log=True)), 200),
        (Space({"o": Bool(), "n": Int(1, 9)}, when={"n": {"o": True}}), 10),
        (Space({f"p{i}": Int(0, 9) for i in range(20)}), 1e20),
        (Space({f"p{i}": Int(0, 9) for i in range(400)}), float("inf")),
        (Space(c=Choice({"a": {f"p{i}": Int(0, 9) for i in range(20)}, "b": None})), 1e20 + 1),
        (Space(a=Bool(), x=Float(0, 1)), float("inf")),
    ],
)
def test_sizes_are_exact_and_never_overflow(space: Space, size: float) -> None:
    assert space.size == size


@pytest.mark.parametrize(
    "config",
    [
        {"x": 5.0, "n": 1},
        {"x": float("nan"), "n": 1},
        {"x": 0.5, "n": 9},
        {"x": "a", "n": 1},
        {"x": 10**400, "n": 1},
    ],
)
@pytest.mark.parametrize("conditional", [False, True])
def test_encoding_refuses_what_is_out_of_range(config: dict[str, Any], conditional: bool) -> None:
    when = {"n": {"x": Range(0, 1)}} if conditional else None
    space = Space({"x": Float(0, 1), "n": Int(1, 4)}, when=when)
    with pytest.raises(SpaceError):
        space.encode(config)


def test_true_one_and_one_point_zero_make_different_spaces() -> None:
    spaces_ = [Space(c=Choice([v])) for v in (True, 1, 1.0, "1")]
    assert len(set(spaces_)) == 4
    assert all(a.diff(b) for a in spaces_ for b in spaces_ if a is not b)


def test_projection_takes_no_truth_for_a_number() -> None:
    assert Space(x=Float(0, 1)).project({"x": True}) is None
    row = Space(n=Int(1, 9, step=2)).project({"n": 2.7})
    assert row is not None
    assert row[0] == 0.1


@relaxed
@given(spaces(), st.integers(0, 2**32))
def test_drawing_one_equals_decoding_one_draw(space: Space, seed: int) -> None:
    config = space.draw(rng(seed))
    assert space.check(config) == config
    if not any(c.domain.guess is not None for c in space.columns):
        assert config == space.decode(space.sample(rng(seed), 1)[0])


@relaxed
@given(spaces(), spaces(prefix="q"), st.integers(0, 2**32))
def test_configurations_of_any_version_project_into_range(old: Space, new: Space, seed: int) -> None:
    both = Space({**old.domains, **new.domains}, when={**old.when, **new.when})
    config = both.draw(rng(seed))
    for space in (old, new, both):
        row = space.project(config)
        assert row is not None
        assert np.all(np.isnan(row) | ((row >= 0) & (row <= 1)))
        assert (
            np.array_equal(np.isnan(row), ~space.active(np.nan_to_num(row, nan=0.5)[None, :])[0])
            or space is not both
        )


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            {"C": 1.0},
            r"'C' is not active here, which 'model' decides; got \{'C': 1.0\}. Leave it out, or set 'model'",
        ),
        ({"opt": "adam", "momentum": 0.5}, r"'momentum' is not active here, which 'opt' decides"),
        ({"zzz": 1}, r"'zzz' is not a parameter of the space; got \{'zzz': 1\}. Leave it out"),
        ({3: 1}, r"'3' is not a parameter"),
    ],
)
def test_a_value_too_many_is_explained(config: Any, message: str) -> None:
    with pytest.raises(SpaceError, match=message):
        TREE.check(config, partial=True)


def test_an_unknown_name_without_a_near_one_lists_those_there_are():
    with pytest.raises(SpaceError, match="got 'zebra'. Use one of a, b."):
        Space(a=Float(0, 1), b=Float(0, 1), constraints=[Linear({"zebra": 1.0}, upper=1.0)])
