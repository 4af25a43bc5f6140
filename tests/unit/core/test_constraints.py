"""Constraints: of the space, of a branch, stored and brought back, and their mistakes."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest

from tunewright.core.constraints import Forbidden, Linear, Predicate, Range, constraint_from_dict
from tunewright.core.domains import Bool, Choice, Float, Int, Order
from tunewright.core.events import Edited, Record
from tunewright.core.history import History
from tunewright.core.problem import Limit, Problem, with_functions
from tunewright.core.snapshot import dump, load
from tunewright.core.space import Space
from tunewright.core.trial import Ledger
from tunewright.errors import ConfigError, SpaceError


def low(config: Any) -> bool:
    return bool(config["C"] < 0.5)


def product(config: Any) -> bool:
    return bool(config["x"] * config.get("C", 1.0) < 0.8)


BRANCH = Space({"C": Float(0, 1), "g": Float(0, 1)}, constraints=[low, Linear({"C": 1.0, "g": 1.0}, 1.0)])
NESTED = Space(
    {"x": Float(0, 1), "m": Choice({"svm": BRANCH, "ridge": {"C": Float(0, 1)}, "mean": None})},
    constraints=[product],
)


def test_a_constraint_of_a_branch_counts_only_while_it_is_chosen() -> None:
    codes = NESTED.sample(np.random.default_rng(0), 400)
    configs = [NESTED.decode(c) for c in codes]
    assert {c["m"] for c in configs} == {"svm", "ridge", "mean"}
    assert max(c["C"] for c in configs if c["m"] == "ridge") > 0.9
    assert max(c["C"] for c in configs if c["m"] == "svm") < 0.5
    assert all(product(c) for c in configs)
    assert NESTED.broken({"x": 0.1, "m": "svm", "C": 0.7, "g": 0.1}).label.endswith(":low")  # type: ignore[union-attr]
    with pytest.raises(SpaceError, match=r"must satisfy the constraints.*which breaks .*linear"):
        NESTED.check({"x": 0.1, "m": "svm", "C": 0.4, "g": 0.9})


def test_drawing_one_by_one_honours_them_too() -> None:
    rng = np.random.default_rng(1)
    assert all(NESTED.feasible(NESTED.decode(NESTED.encode(NESTED.draw(rng)))) for _ in range(200))
    with pytest.raises(SpaceError, match="needs configurations that satisfy"):
        Space({"x": Float(0, 1)}, constraints=[Predicate("never", lambda c: False)])


def test_true_and_one_open_different_branches() -> None:
    one, true = Space({"a": Float(0, 1)}, constraints=[Linear({"a": 1}, 0.5)]), Space({"b": Float(0, 1)})
    choice = Choice([1, True], branches=(one, true))
    space = Space(k=choice)
    assert space.check({"k": True, "b": 0.9}) == {"k": True, "b": 0.9}
    assert not space.feasible({"k": 1, "a": 0.9})


def stripped(space: Space) -> Space:
    """As it comes back from a store: functions by name only."""
    return Space.from_dict(space.to_dict())


def functions(space: Space) -> list[bool]:
    return [c.test is not None for c in space.constraints if isinstance(c, Predicate)]


def test_stored_constraints_keep_their_place_and_digest() -> None:
    again = stripped(NESTED)
    assert again == NESTED
    assert len(again.constraints) == len(NESTED.constraints) == 3
    assert functions(again) == [False, False]
    bound = with_functions(again, NESTED)
    assert bound == NESTED
    assert functions(bound) == [True, True]
    assert not bound.feasible({"x": 0.1, "m": "svm", "C": 0.7, "g": 0.1})
    assert with_functions(again, Space(x=Bool())) is again


def test_two_functions_of_one_name_stay_two() -> None:
    space = Space({"x": Float(0, 1)}, constraints=[lambda c: c["x"] < 0.6, lambda c: c["x"] > 0.4])
    labels = [c.label for c in space.constraints if isinstance(c, Predicate)]
    assert labels[1] == f"{labels[0]}#2"
    bound = with_functions(stripped(space), space)
    assert [bound.feasible({"x": v}) for v in (0.3, 0.5, 0.7)] == [False, True, False]
    assert Space({"x": Float(0, 1)}, constraints=space.own) == space


def test_functions_survive_edits_in_every_fold() -> None:
    problem = Problem(NESTED)
    wider = Space({"x": Float(0, 2), "m": NESTED.domains["m"]}, constraints=[product])
    edit = Edited(wider.to_dict())
    ledger, history = Ledger(problem), History(problem)
    ledger.apply(Record(1, 0.0, "w", edit))
    history.apply(edit)
    restored = load(problem, dump(ledger))
    assert restored is not None
    for space in (ledger.problem.space, history.problem.space, restored.problem.space, ledger.spaces[-1][1]):
        assert space == wider
        assert functions(space) == [True, True]
        assert not space.feasible({"x": 1.9, "m": "mean"})


def test_spaces_are_copied_for_nothing_and_pickled_whole() -> None:
    assert copy.deepcopy(NESTED) is NESTED
    again = pickle.loads(pickle.dumps(NESTED))
    assert again == NESTED
    assert functions(again) == [True, True]
    assert again.draw(np.random.default_rng(3)) == NESTED.draw(np.random.default_rng(3))


def test_an_unknown_function_is_taken_to_hold() -> None:
    assert Predicate("gone").holds({})
    assert stripped(NESTED).feasible({"x": 1.0, "m": "mean"})


def test_json_forms() -> None:
    for constraint in (Linear({"x": 1, "y": -2.5}, 3), Forbidden({"k": ("a", "b"), "n": 1}), Predicate("f")):
        assert constraint_from_dict(constraint.to_dict()) == constraint


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Range(3, 1), r"Range needs low <= high; got low=3, high=1. Swap"),
        (lambda: Range("a", None), r"Range needs finite numbers; got low='a'"),
        (lambda: Range(None, float("inf")), r"finite numbers; got high=inf"),
        (lambda: Range(True, 2), r"finite numbers; got low=True"),
        (lambda: Linear({}, 1), r"Linear needs a weight per name; got \{\}"),
        (lambda: Linear(["x"], 1), r"Linear needs a weight per name"),  # type: ignore[arg-type]
        (lambda: Linear({"x": float("nan")}, 1), r"finite numbers; got weight of 'x'=nan"),
        (lambda: Linear({"x": 1}, "1"), r"finite numbers; got upper='1'"),  # type: ignore[arg-type]
        (
            lambda: Space({"o": Choice(["a"])}, constraints=[Linear({"o": 1}, 1)]),
            r"needs numbers; 'o' is one of 'a'",
        ),
        (lambda: Space({"o": Bool()}, forbidden=[{"p": True}]), r"name parameters of the space; got 'p'"),
        (
            lambda: Space({"o": Choice(["a"])}, forbidden=[{"o": "b"}]),
            r"possible values; 'o' is one of 'a'; got 'b'",
        ),
        (lambda: Space({"x": Float(0, 1)}, forbidden=[{"x": "b"}]), r"possible values; 'x' is a number"),
        (lambda: Space({"o": Bool()}, forbidden=[{}]), r"must map names to values; got \{\}"),
        (lambda: Space({"o": Bool()}, forbidden=["o"]), r"must map names to values; got 'o'"),
        (lambda: Space({"o": Bool()}, constraints=["o"]), r"Linear or a function"),
        (
            lambda: constraint_from_dict({"type": "cubic"}),
            r"out of linear, forbidden, predicate; got 'cubic'",
        ),
    ],
)
def test_mistakes_are_named(make: Any, message: str) -> None:
    with pytest.raises(SpaceError, match=message):
        make()


def test_linear_works_on_options_that_are_numbers() -> None:
    space = Space(
        {"a": Order([1, 2, 4]), "b": Choice([1, 8]), "n": Int(1, 9)},
        constraints=[Linear({"a": 1, "b": 1, "n": 1}, 9)],
    )
    configs = [space.draw(np.random.default_rng(i)) for i in range(50)]
    assert all(c["a"] + c["b"] + c["n"] <= 9 for c in configs)


def test_forbidden_values_in_a_set_have_one_order() -> None:
    spaces = {
        Space({"o": Choice(list("abcd"))}, forbidden=[{"o": set(p)}]).digest for p in ("abc", "cab", "bca")
    }
    assert len(spaces) == 1


@pytest.mark.parametrize("upper", [float("nan"), float("inf"), "1", True, None])
def test_limits_are_numbers(upper: Any) -> None:
    with pytest.raises(ConfigError, match="A limit must be a finite number; 'ms' has"):
        Limit("ms", upper)


@pytest.mark.parametrize("seed", ["1", 1.0, None, True, -1, 2**63, 2**200])
def test_seeds_are_whole_numbers(seed: Any) -> None:
    with pytest.raises(ConfigError, match=r"whole number in \[0, 2\*\*63\); got"):
        Problem(NESTED, seed=seed)


def test_a_numpy_seed_becomes_plain() -> None:
    assert type(Problem(NESTED, seed=np.int64(3)).seed) is int
