"""Spaces from signatures: annotations that cannot all be read, partial functions, enumerations."""

from __future__ import annotations

import dataclasses
import enum
import functools
import math
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import pytest

from tunewright.core.declare import log, one_of, space_from, space_of
from tunewright.core.domains import Bool, Choice, Float, Int
from tunewright.core.space import Space
from tunewright.errors import SpaceError

if TYPE_CHECKING:
    from collections import ChainMap
    from decimal import Decimal


class Optimizer(enum.StrEnum):
    ADAM = "adam"
    SGD = "sgd"


class Odd(enum.Enum):
    LIST = (1, 2)


def checked_only(
    trial: Decimal, lr: Annotated[float, Float(0, 1)] = 0.5, k: Literal["a", "b"] = "b"
) -> float:
    return lr


def unreadable(lr: Annotated[ChainMap[str, int], Float(0, 1)] = 0.5, k: bool = True) -> float:
    return 0.0


def test_an_annotation_for_type_checkers_only_does_not_hide_the_others() -> None:
    space, defaults, wants_trial = space_of(checked_only)
    assert list(space.domains) == ["lr", "k"]
    assert defaults == {"lr": 0.5, "k": "b"}
    assert wants_trial


def test_an_annotation_that_declares_something_but_cannot_be_read_is_a_mistake() -> None:
    with pytest.raises(SpaceError, match=r"annotation of 'lr' must be readable.*Annotated\[ChainMap"):
        space_of(unreadable)


def test_what_a_partial_function_fixes_is_not_tuned() -> None:
    def train(lr: Annotated[float, Float(0, 1)], n: Annotated[int, Int(1, 9)] = 3, b: bool = True) -> float:
        return lr

    assert list(space_of(functools.partial(train, n=5)).space.domains) == ["lr", "b"]
    assert list(space_of(functools.partial(functools.partial(train, n=5), b=False)).space.domains) == ["lr"]
    assert list(space_of(functools.partial(train, 0.5)).space.domains) == ["n", "b"]


def test_objects_and_methods_that_can_be_called_declare_too() -> None:
    class Trainer:
        def __call__(self, lr: Annotated[float, Float(0, 1)] = 0.1) -> float:
            return lr

        def fit(self, trial: Any, n: Annotated[int, Int(1, 9)] = 2) -> float:
            return n

    assert space_of(Trainer()).defaults == {"lr": 0.1}
    declared = space_of(Trainer().fit)
    assert (declared.defaults, declared.wants_trial) == ({"n": 2}, True)


def test_enumerations_declare_their_values() -> None:
    def train(o: Optimizer = Optimizer.SGD) -> float:
        return 0.0

    space, defaults, _ = space_of(train)
    assert space.domains["o"] == Choice(["adam", "sgd"])
    assert defaults == {"o": "sgd"}

    def odd(o: Odd) -> float:
        return 0.0

    with pytest.raises(SpaceError, match=r"annotation of 'o' must list plain options.*got \(1, 2\)"):
        space_of(odd)


def test_defaults_are_plain_and_of_the_right_type() -> None:
    def train(
        lr: Annotated[float, Float(0, 2)] = 1,
        n: Annotated[int, Int(1, 9)] = np.int64(3),
        c: Annotated[str, one_of("a", "b"), "documentation"] = "a",
        m: Annotated[str, "not a domain"] = "x",
    ) -> float:
        return lr

    space, defaults, _ = space_of(train)
    assert list(space.domains) == ["lr", "n", "c"]
    assert defaults == {"lr": 1.0, "n": 3, "c": "a"}
    assert [type(v) for v in defaults.values()] == [float, int, str]

    def none(lr: Annotated[float | None, Float(0, 1)] = None) -> float:
        return lr

    with pytest.raises(SpaceError, match="default of 'lr' must lie in its own range; got None"):
        space_of(none)


def test_fields_that_are_not_arguments_are_left_out() -> None:
    @dataclasses.dataclass
    class Settings:
        lr: float = Float(1e-3, 1, log=True)
        tags: list[str] = dataclasses.field(default_factory=list)
        derived: Annotated[float, Float(0, 1)] = dataclasses.field(default=0.0, init=False)

    assert list(space_of(Settings).space.domains) == ["lr"]


def test_helpers_pick_the_type_by_the_bounds() -> None:
    assert log(1, 64) == Int(1, 64, log=True)
    assert log(1.0, 64) == Float(1, 64, log=True)
    assert one_of(1, "a", None) == Choice([1, "a", None])


def test_anything_else_is_refused() -> None:
    with pytest.raises(SpaceError, match=r"must show its parameters|must declare at least one"):
        space_of(math.hypot)
    with pytest.raises(SpaceError, match="got 'lr'"):
        space_from("lr")
    with pytest.raises(SpaceError, match="wraps|Space, a dict"):
        space_from(Float(0, 1))


def test_guesses_of_a_space_become_the_first_configuration() -> None:
    space = Space(
        {"o": Choice(["adam", "sgd"], guess="adam"), "m": Float(0, 1, guess=0.9), "b": Bool(guess=True)},
        when={"m": {"o": "sgd"}},
    )
    assert space_from(space).defaults == {"o": "adam", "b": True}
    assert space.check(space.defaults(), partial=True) == {"o": "adam", "b": True}
    nested = {
        "m": Choice({"svm": {"C": Float(0, 10, guess=1)}, "tree": {"d": Int(1, 9, guess=3)}}, guess="svm")
    }
    assert space_from(nested).defaults == {"m": "svm", "C": 1.0}
