"""Values at the door, units, and spaces declared by code or while running."""

from __future__ import annotations

import dataclasses
import enum
from typing import Annotated, Any, Literal

import numpy as np
import pytest

from tunewright.core.declare import log, one_of, space_from, space_of
from tunewright.core.domains import Bool, Choice, Float, Int, Order
from tunewright.core.recorder import grow, infer, union
from tunewright.core.space import Space
from tunewright.core.units import seconds, size, whole
from tunewright.core.values import measured, returned, split
from tunewright.errors import ConfigError, SpaceError


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1, 1.0),
        (1.5, 1.5),
        (np.float32(0.5), 0.5),
        (np.array(2.0), 2.0),
        (np.array([3.0]), 3.0),
        (True, 1.0),
        (-0.0, 0.0),
    ],
)
def test_numbers_become_floats(value: Any, expected: float) -> None:
    got = measured("loss", value)
    assert type(got) is float
    assert got == expected
    assert str(measured("loss", -0.0)) == "0.0"


@pytest.mark.parametrize(
    "value", ["1.5", b"1", None, 1 + 2j, [1.0], {}, 10**400, np.array([1.0, 2.0]), object()]
)
def test_everything_else_is_refused_with_its_type(value: Any) -> None:
    with pytest.raises(ConfigError, match="Metric 'loss' must"):
        measured("loss", value)


def test_values_that_are_not_finite_are_kept_apart() -> None:
    good, bad = split({"a": 1, "b": float("nan"), "c": float("inf"), "d": float("-inf")})
    assert good == {"a": 1.0}
    assert bad == {"b": "nan", "c": "inf", "d": "-inf"}
    assert split({"a": 1.0})[1] is None
    with pytest.raises(ConfigError, match="1 to 256 characters"):
        split({"": 1.0})
    with pytest.raises(ConfigError, match="at most 1000 metrics"):
        split({str(i): 0.0 for i in range(1001)})


def test_what_a_function_may_return() -> None:
    assert returned(0.5, ["loss"]) == {"loss": 0.5}
    assert returned({"loss": 1, "acc": 2}, ["loss"]) == {"loss": 1, "acc": 2}
    assert returned((1.0, 2.0), ["a", "b"]) == {"a": 1.0, "b": 2.0}
    with pytest.raises(
        ConfigError, match=r"what the study optimises, 'loss'; got \['los'\]. Did you mean 'los'"
    ):
        returned({"los": 1.0}, ["loss"])
    with pytest.raises(ConfigError, match=r"Return \{'loss': ...\}"):
        returned({"zzz": 1.0}, ["loss"])
    with pytest.raises(ConfigError, match="returned None and reported nothing"):
        returned(None, ["loss"])
    with pytest.raises(ConfigError, match="one number per objective"):
        returned((1.0,), ["a", "b"])
    with pytest.raises(ConfigError, match="one number per objective"):
        returned(1.0, ["a", "b"])
    with pytest.raises(ConfigError, match=r"must be a number; got 'abc' of type str"):
        returned("abc", ["loss"])


def test_units() -> None:
    assert seconds("10min") == 600
    assert seconds("1h30m") == 5400
    assert seconds("1.5 h") == 5400
    assert seconds("500ms") == 0.5
    assert seconds("2 hours 5 secs") == 7205
    assert seconds(3) == 3.0
    assert seconds(None) is None
    assert size("2GiB") == 2 << 30
    assert size("500MB") == 500_000_000
    assert size("64k") == 65536
    assert size(None) is None
    assert whole("trials", 3) == 3
    assert whole("trials", None) is None
    for bad in ("ten", "", "5 parsecs", -1, 0, True, float("inf"), "3min x"):
        with pytest.raises(ConfigError, match="A time must be"):
            seconds(bad)
    with pytest.raises(ConfigError, match="A size must be"):
        size("2 apples")
    for wrong in (0, -1, 1.5, True, "3"):
        with pytest.raises(ConfigError, match="trials must be a whole number"):
            whole("trials", wrong)


class Kind(enum.Enum):
    A = "a"
    B = "b"


def annotated(
    trial: Any,
    lr: Annotated[float, Float(1e-4, 1, log=True)] = 0.01,
    layers: Annotated[int, Int(1, 4)] = 2,
    opt: Literal["adam", "sgd"] = "sgd",
    nesterov: bool = False,
    kind: Kind = Kind.B,
    data: str = "digits",
) -> float:
    return 0.0


@dataclasses.dataclass
class Settings:
    lr: Annotated[float, log(1e-4, 1.0)]
    width: Annotated[int, log(8, 512)] = 64
    path: str = "x"


def test_signatures_declare_spaces() -> None:
    space, defaults, wants = space_of(annotated)
    assert list(space.domains) == ["lr", "layers", "opt", "nesterov", "kind"]
    assert defaults == {"lr": 0.01, "layers": 2, "opt": "sgd", "nesterov": False, "kind": "b"}
    assert wants
    assert space.domains["kind"] == Choice(["a", "b"])
    assert isinstance(space.domains["nesterov"], Bool)


def test_domains_as_defaults_and_dataclasses_declare_spaces() -> None:
    def train(lr=Float(1e-4, 1, log=True), k=one_of("a", "b")):  # type: ignore[no-untyped-def]  # noqa: B008
        return 0.0

    assert list(space_of(train).space.domains) == ["lr", "k"]
    declared = space_of(Settings)
    assert declared.defaults == {"width": 64}
    assert declared.space.domains["width"] == Int(8, 512, log=True)
    assert space_from(Settings).space == declared.space


def test_declaration_mistakes() -> None:
    def outside(lr: Annotated[float, Float(0, 1)] = 3.0) -> float:
        return lr

    def nothing(a: int, b: str = "") -> float:
        return 0.0

    def twice(a: Annotated[int, Int(0, 1), Int(0, 2)]) -> float:
        return 0.0

    class Plain:
        pass

    for target, message in [
        (outside, "default of 'lr' must lie in its own range; got 3.0"),
        (nothing, "'nothing' must declare at least one parameter"),
        (twice, "'a' must have one domain"),
        (Plain, "plain class Plain"),
    ]:
        with pytest.raises(SpaceError, match=message):
            space_of(target)
    with pytest.raises(SpaceError, match="A space must be a Space, a dict"):
        space_from(3)
    assert space_from(None).space.d == 0
    assert space_from({"x": Float(0, 1)}).space.d == 1
    assert space_from(Space(x=Bool()).to_dict()).space == Space(x=Bool())


def test_a_recorded_space_grows_and_widens() -> None:
    space = grow(Space(), "x", Float(0, 1))
    assert grow(space, "x", Float(0, 1)) is space
    assert grow(space, "x", Float(-1, 0.5)).domains["x"] == Float(-1, 1)
    assert grow(space, "x", Float(0.2, 0.5)) is space
    space = grow(space, "k", Choice(["a"]))
    assert grow(space, "k", Choice(["b", "a"])).domains["k"] == Choice(["a", "b"])
    assert union("n", Int(1, 3), Int(2, 9)) == Int(1, 9)
    assert union("b", Bool(), Bool()) == Bool()
    assert union("o", Order([1, 2]), Order([1])) == Order([1, 2])
    for a, b in [
        (Float(0, 1), Int(0, 1)),
        (Float(0.1, 1), Float(0.1, 1, log=True)),
        (Order([1]), Order([2])),
    ]:
        with pytest.raises(SpaceError, match="must keep its type and scale"):
            union("x", a, b)


def test_conditions_are_inferred_from_what_trials_met() -> None:
    space = Space(k=Choice(["a", "b", "c"]), flag=Bool(), q=Int(1, 5), r=Float(0, 1))
    trials = [
        ({"k": "a", "flag": True, "q": 1, "r": 0.1}, frozenset({"k", "flag", "q", "r"})),
        ({"k": "b", "flag": True, "r": 0.1}, frozenset({"k", "flag", "r"})),
        ({"k": "a", "flag": False, "q": 2}, frozenset({"k", "flag", "q"})),
    ]
    learned = infer(space, trials)
    assert learned.when == {"q": {"k": ["a", "c"]}, "r": {"flag": [True]}}
    assert infer(learned, trials) is learned
    # A counterexample takes the condition away again.
    assert (
        "q"
        not in infer(
            space, [*trials, ({"k": "b", "flag": True, "q": 3, "r": 0.2}, frozenset({"k", "flag", "q", "r"}))]
        ).when
    )


def test_without_evidence_nothing_is_conditional() -> None:
    space = Space(k=Choice(["a", "b"]), q=Int(1, 5))
    assert infer(space, [({"k": "a", "q": 1}, frozenset({"k", "q"}))]) is space
    assert infer(space, []) is space
