"""Everything that a user gives has a maximum: one below it and the maximum itself are taken, one above is refused."""

from __future__ import annotations

import enum
import math
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from tunewright.core import limits
from tunewright.core.domains import Choice, Float, Int, Order, Permutation, Subset
from tunewright.core.events import (
    Amended,
    Edited,
    Ended,
    Enqueued,
    Event,
    Interrupted,
    Noted,
    Reported,
    Started,
)
from tunewright.core.limits import (
    CONFIG,
    DEPTH,
    ERROR,
    EVENT,
    METRICS,
    NAME,
    NOTE,
    OPTIONS,
    PARAMETERS,
    SPEC,
    STEP,
    check_event,
    check_metrics,
    checked_json,
    checked_name,
    checked_note,
    checked_space,
    error_kept,
)
from tunewright.core.problem import Limit, Objective
from tunewright.core.space import Space
from tunewright.errors import ConfigError, SpaceError, TunewrightError


class Colour(enum.Enum):
    RED = 1


def nested(levels: int) -> Any:
    data: Any = 1
    for _ in range(levels):
        data = [data]
    return data


def text_of(size: int, around: int) -> str:
    """A text whose JSON, with ``around`` other bytes, takes ``size`` bytes."""
    return "x" * (size - around)


BOUNDARIES: list[tuple[str, int, Callable[[int], Any]]] = [
    ("study name", NAME, lambda n: checked_name("A study name", "n" * n)),
    ("metric", NAME, lambda n: check_metrics({"n" * n: 1.0})),
    ("objective", NAME, lambda n: Objective("n" * n)),
    ("limited metric", NAME, lambda n: Limit("n" * n, 1.0)),
    ("parameter", NAME, lambda n: Space({"n" * n: Float(0, 1)})),
    ("key", NAME, lambda n: check_event(Enqueued({}, "k" * n))),
    ("topic", NAME, lambda n: check_event(Noted("t" * n, {}))),
    ("note", NOTE, lambda n: checked_note("n" * n)),
    ("note, two bytes a character", NOTE // 2, lambda n: checked_note("é" * n)),
    ("metrics", METRICS, lambda n: check_metrics({str(i): 1.0 for i in range(n)})),
    ("options", OPTIONS, lambda n: Choice(list(range(n)))),
    ("values of an order", OPTIONS, lambda n: Order(list(range(n)))),
    ("parameters", PARAMETERS, lambda n: Space({f"p{i}": Float(0, 1) for i in range(n)})),
    ("depth", DEPTH, lambda n: checked_json("Data", nested(n), 10**6)),
    ("step", STEP, lambda n: check_event(Reported(0, 1, n, {}))),
    ("error", ERROR, lambda n: check_event(Ended(0, 1, "failed", error="e" * n))),
    ("detail", ERROR, lambda n: check_event(Interrupted(0, 1, "lost", "e" * n))),
    ("configuration", CONFIG, lambda n: check_event(Enqueued({"x": text_of(n, 8)}) if n > CONFIG else Amended(0, {"x": text_of(n - 40, 8)}))),
    ("event", EVENT, lambda n: check_event(Noted("t", {"x": text_of(n, 44)}))),
    ("space", SPEC, lambda n: check_event(Edited({"x": text_of(n, 34)}))),
]  # fmt: skip


@pytest.mark.parametrize(("most", "give"), [b[1:] for b in BOUNDARIES], ids=[b[0] for b in BOUNDARIES])
def test_the_largest_is_taken_and_one_more_is_refused(most: int, give: Callable[[int], Any]) -> None:
    give(most - 1)
    give(most)
    with pytest.raises(TunewrightError, match=r"; (got|with)"):
        give(most + 1)


def test_events_are_measured_to_the_byte() -> None:
    from tunewright.core.events import encode_event

    assert len(encode_event(Noted("t", {"x": text_of(EVENT, 44)}))) == EVENT
    assert len(encode_event(Edited({"x": text_of(SPEC, 34)}))) == SPEC


@pytest.mark.parametrize(
    "name", ["a\x00b", "\ud800", "a\nb", "\x1b[31mred", "a\u202eb", "", 3, None, b"x", "\x9b"]
)
def test_names_that_cannot_be_kept_or_shown_are_refused_everywhere(name: Any) -> None:
    for give in (
        lambda: checked_name("A study name", name),
        lambda: check_metrics({name: 1.0}),
        lambda: Objective(name),
        lambda: Limit(name, 1.0),
        lambda: check_event(Reported(0, 1, 1, {name: 1.0})),
        lambda: check_event(Noted(name, {})),
    ):
        with pytest.raises(ConfigError, match="Rename it"):
            give()
    with pytest.raises(SpaceError, match="Rename it"):
        Space({name: Float(0, 1)})


@pytest.mark.parametrize("name", ["a", "学習率", "🚀", "λ_1", "a.b/c@d", "x'; DROP TABLE study;--", "<b>"])
def test_any_other_name_is_a_name(name: str) -> None:
    assert checked_name("A name", name) == name
    assert Space({name: Float(0, 1)}).names == (name,)


@pytest.mark.parametrize("value", ["a\x00b", "\ud800", 10**400, float("nan"), b"x", object(), 1 + 2j])
def test_options_that_not_every_store_can_keep_are_refused(value: Any) -> None:
    for domain in (Choice, Order, Permutation, Subset):
        with pytest.raises(SpaceError, match="A parameter value must be"):
            domain([value, "other"])


@pytest.mark.parametrize(
    "data",
    [
        {1, 2},
        b"x",
        object(),
        10**400,
        2**63,
        "\ud800",
        "\0",
        1 + 2j,
        math.nan,
        math.inf,
        Colour.RED,
        Decimal(1),
    ],
)
def test_what_json_would_change_is_refused(data: Any) -> None:
    for give in ({"x": data}, [[data]], {"a": {"b": (data,)}}):
        with pytest.raises(ConfigError, match="must be plain JSON data"):
            checked_json("Data", give, 1000)
        with pytest.raises(ConfigError, match="must be plain JSON data"):
            check_event(Noted("t", {"x": give}))
    for keys in ({1: 2}, {None: 1}, {"a": {True: 1}}):
        with pytest.raises(ConfigError, match="text for its keys"):
            checked_json("Data", keys, 1000)


def test_what_has_no_end_is_not_followed_for_ever() -> None:
    loop: list[Any] = []
    loop.append(loop)
    for data in (loop, nested(100_000), {"x": nested(DEPTH)}):
        with pytest.raises(ConfigError, match="64 levels deep"):
            checked_json("Data", data, 10**6)


def test_error_texts_keep_their_end_and_lose_what_no_store_takes() -> None:
    assert error_kept("a" * 9000 + "the reason") == "a" * (ERROR - 10) + "the reason"
    assert error_kept("a\x00b\ud800c") == "a\ufffdb\ufffdc"
    for bad in ("\x00", "\ud800"):
        with pytest.raises(ConfigError, match="An error text must have"):
            check_event(Ended(0, 1, "failed", error=bad))
        with pytest.raises(ConfigError, match="A note must be text"):
            checked_note(bad)
    with pytest.raises(ConfigError, match="A note must be text"):
        checked_note(3)


def test_configurations_that_could_get_too_large_are_refused_with_the_space() -> None:
    checked_space(Space(a=Choice(["x" * 500_000, "y"]), b=Choice(["x" * 500_000])))
    with pytest.raises(ConfigError, match="A configuration may take"):
        checked_space(Space(a=Choice(["x" * 600_000, "y"]), b=Choice(["x" * 500_000])))
    with pytest.raises(ConfigError, match="A configuration may take"):
        checked_space(Space(a=Permutation([str(i) * 500 for i in range(900)])))
    checked_space(Space(a=Choice(list(range(10_000))), b=Int(0, 9), c=Subset(list(range(900)))))


def test_many_long_metric_names_are_too_much_for_one_event() -> None:
    check_metrics({f"{i:04}" + "m" * 252: 1.0 for i in range(METRICS)})
    with pytest.raises(ConfigError, match="A report may take"):
        check_metrics({chr(0x20000 + i) + "🚀" * 255: 1.0 for i in range(METRICS)})


def test_ordinary_events_pass() -> None:
    events: list[Event] = [
        Started(0, {"x": 1.0}),
        Reported(0, 1, 3, {"loss": 1.0}, {"acc": "nan"}, {"loss": 0.1}, 2.0),
        Ended(0, 1, metrics={"loss": 1.0}),
        Noted("note", {"text": "é"}),
        Edited(Space(x=Float(0, 1)).to_dict()),
    ]
    for event in events:
        check_event(event)
    assert len({type(e) for e in events} & limits.WEIGHED) == 2
