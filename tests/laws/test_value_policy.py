"""One policy for values, names and texts: the same table for memory, SQLite, HTTP and PostgreSQL."""

from __future__ import annotations

import math
from collections.abc import Iterator
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tunewright as tw
from small_server import SmallServer
from tunewright.core.events import Ended, Noted, Reported
from tunewright.core.limits import ERROR, METRICS, NAME, NOTE
from tunewright.errors import ConfigError, SpaceError, TunewrightError
from tunewright.store.base import Store
from tunewright.store.memory import MemoryStore
from tunewright.store.urls import open_store

REFUSED = "refused"
SPACE = {
    "x": tw.Float(0.0, 1.0),
    "k": tw.Choice(["a", "größe 鍵 🔑", "'; DROP TABLE event;--", "<img src=x>", True, 1]),
}
# What is told, and what becomes of the trial: its value, why it failed, or that nothing happened to it.
TOLD: list[tuple[Any, Any]] = [
    (1.5, 1.5),
    (3, 3.0),
    (True, 1.0),
    (np.float32(0.5), 0.5),
    (np.int64(3), 3.0),
    (np.array(1.5), 1.5),
    (np.array([1.5]), 1.5),
    ([1.5], 1.5),
    ({"loss": 1.5, "acc": math.nan}, 1.5),
    (-0.0, 0.0),
    (1e308, 1e308),
    (5e-324, 5e-324),
    (2**53, float(2**53)),
    (10**18, 1e18),
    (math.nan, "returned loss=nan"),
    (math.inf, "returned loss=inf"),
    (-math.inf, "returned loss=-inf"),
    (np.float32("nan"), "returned loss=nan"),
    (2**53 + 1, REFUSED),
    (np.int64(2**53 + 1), REFUSED),
    (10**400, REFUSED),
    (None, REFUSED),
    ("abc", REFUSED),
    ("1.5", REFUSED),
    (b"1", REFUSED),
    (1 + 2j, REFUSED),
    (Decimal("0.1"), REFUSED),
    (Fraction(1, 3), REFUSED),
    ([1.0, 2.0], REFUSED),
    ([], REFUSED),
    ({}, REFUSED),
    ({"loss": "1"}, REFUSED),
    ({"los": 1.0}, REFUSED),
    ({"loss": 1.0, "a\x00b": 1.0}, REFUSED),
    ({"loss": 1.0, "\ud800": 1.0}, REFUSED),
    ({"loss": 1.0, "m" * (NAME + 1): 1.0}, REFUSED),
    ({"loss": 1.0, 3: 1.0}, REFUSED),
    ({"loss": 1.0, **{str(i): 1.0 for i in range(METRICS)}}, REFUSED),
    (object(), REFUSED),
]
STEPS: list[tuple[Any, Any]] = [
    (1, 1), (2.0, 2), (np.int64(3), 3), (2**31, 2**31), (2**53, 2**53),
    (0, REFUSED), (-1, REFUSED), (1.5, REFUSED), (2**53 + 1, REFUSED), (2**63, REFUSED), (10**400, REFUSED),
    (True, REFUSED), ("1", REFUSED), (math.nan, REFUSED), (math.inf, REFUSED), (None, REFUSED),
]  # fmt: skip


@pytest.fixture(params=["memory", "sqlite", "http", "postgres"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    if request.param == "http":
        behind = MemoryStore()
        with SmallServer(behind) as server:
            made = open_store(server.url)
            yield made
            made.close()
        behind.close()
        return
    if request.param == "postgres":
        url = f"{request.getfixturevalue('postgres_url')}&blobs={tmp_path / 'blobs'}"
    else:
        url = "memory" if request.param == "memory" else str(tmp_path / "s.db")
    made = open_store(url)
    yield made
    made.close()


@pytest.fixture
def study(store: Store) -> Iterator[tw.Study]:
    with tw.Study.open("s", SPACE, method="random", storage=store) as made:
        yield made


def again(study: tw.Study) -> list[Any]:
    """The trials as another process would read them."""
    with tw.Study.open("s", storage=study.session.store, exist="must") as other:
        return list(other.trials)


def test_told_values(study: tw.Study) -> None:
    for value, wanted in TOLD:
        asked = study.ask()
        assert asked is not None
        before = study.session.store.last(study.session.info.id)
        if wanted == REFUSED:
            with pytest.raises(ConfigError):
                asked.tell(value)
            assert study.session.store.last(study.session.info.id) == before, "nothing was written"
            asked.tell(1.0)
            wanted = 1.0
        else:
            asked.tell(value)
        trial = study.trials[asked.number]
        if isinstance(wanted, str):
            assert (trial.status, trial.error) == ("failed", wanted)
        else:
            assert (trial.status, trial.metrics["loss"]) == ("completed", wanted), value
            assert str(trial.metrics["loss"]) != "-0.0"
    kept = again(study)
    assert not [t for t in kept if t.status == "running"]
    assert [t.metrics for t in kept] == [t.metrics for t in study.trials]


def test_reported_steps_and_values(study: tw.Study) -> None:
    asked = study.ask()
    assert asked is not None
    for step, wanted in STEPS:
        if wanted == REFUSED:
            with pytest.raises(ConfigError, match="A step must be"):
                asked.report(step, loss=1.0)
        else:
            asked.report(step, loss=float(wanted))
    for value in ("0.5", b"1", 10**400, 1j, [1, 2]):
        with pytest.raises(ConfigError, match="Metric 'loss' must"):
            asked.report(2**53, loss=value)
    records = study.session.store.read(study.session.info.id)
    said = [r.event for r in records if isinstance(r.event, Reported)]
    assert [(e.step, e.metrics) for e in said] == [(w, {"loss": float(w)}) for _, w in STEPS if w != REFUSED]
    another = study.ask()
    assert another is not None
    assert another.report(1, loss=math.nan, acc=math.inf) is False
    last = study.session.store.read(study.session.info.id)[-1].event
    assert isinstance(last, Reported)
    assert (last.metrics, last.bad) == ({}, {"loss": "nan", "acc": "inf"})


def test_texts_come_back_as_they_went_or_are_refused(study: tw.Study) -> None:
    for text in (
        "",
        "значение 🎉",
        "'; DROP TABLE event;--",
        "<script>alert(1)</script>",
        "\x1b[31m",
        "n" * NOTE,
    ):
        study.note(text)
        last = study.session.store.read(study.session.info.id)[-1].event
        assert isinstance(last, Noted)
        assert last.data == {"text": text}
    before = study.session.store.last(study.session.info.id)
    for bad in ("a\x00b", "\ud800", "n" * (NOTE + 1), b"x", None, 3):
        with pytest.raises(ConfigError, match="A note"):
            study.note(bad)  # type: ignore[arg-type]
    for data in ({"x": math.nan}, {"x": {1}}, {"x": b"x"}, {1: 2}, {"x": 10**400}, {"x": "y" * 2**20}):
        with pytest.raises(ConfigError, match="A note"):
            study.session.note("topic", data)  # type: ignore[arg-type]
    assert study.session.store.last(study.session.info.id) == before
    for error, kept in (
        ("a\x00b\ud800", "a\ufffdb\ufffd"),
        ("e" * (ERROR + 5) + "!", "e" * (ERROR - 1) + "!"),
    ):
        asked = study.ask()
        assert asked is not None
        study.tell(asked, outcome="failed", error=error)
        last = study.session.store.read(study.session.info.id)[-1].event
        assert isinstance(last, Ended)
        assert last.error == kept


def test_options_come_back_with_their_types(study: tw.Study) -> None:
    options = SPACE["k"].options  # type: ignore[union-attr]
    for option in options:
        study.enqueue({"k": option})
        asked = study.ask()
        assert asked is not None
        asked.tell(1.0)
    kept = [t.config["k"] for t in again(study)]
    assert [(type(k), k) for k in kept] == [(type(o), o) for o in options]


def test_queued_configurations(study: tw.Study) -> None:
    before = study.session.store.last(study.session.info.id)
    for config in (
        {"x": math.nan},
        {"x": "1"},
        {"x": 2.0},
        {"y": 1.0},
        {"x": 10**400},
        {"x": True},
        {"k": "b"},
        {3: 1},
    ):
        with pytest.raises(SpaceError):
            study.enqueue(config)  # type: ignore[arg-type]
    for key in ("k" * (NAME + 1), "a\x00b", "\ud800", 3):
        with pytest.raises(ConfigError, match="The key of a configuration"):
            study.enqueue({"x": 0.5}, key=key)  # type: ignore[arg-type]
    assert study.session.store.last(study.session.info.id) == before
    assert study.enqueue({"x": 0.5}, key="k" * NAME) == study.enqueue({"x": 0.5}, key="k" * NAME)


def test_names_of_studies(store: Store) -> None:
    for name in (
        "исследование-研究-🧪",
        "../../etc/passwd",
        "x'; DROP TABLE study;--",
        "n" * NAME,
        "%s%n",
        "<b>",
        "a b",
    ):
        with tw.Study.open(name, {"x": tw.Float(0, 1)}, storage=store) as study:
            assert study.name == name
        assert store.find(name) is not None
    count = len(store.studies())
    for bad in (
        "",
        "n" * (NAME + 1),
        "a\x00b",
        "\ud800",
        " a",
        "a ",
        "a\nb",
        "\x1b[31m",
        "a\u202eb",
        None,
        3,
        b"x",
    ):
        with pytest.raises(TunewrightError, match="A study name must"):
            tw.Study.open(bad, {"x": tw.Float(0, 1)}, storage=store)  # type: ignore[arg-type]
    for spec in (
        {"options": {"n_startup_trials": {1}}},
        {"limits": {"size": "big"}},
        {"limits": {"a\x00": 1.0}},
    ):
        with pytest.raises(TunewrightError):
            tw.Study.open("new", {"x": tw.Float(0, 1)}, method="tpe", storage=store, **spec)  # type: ignore[arg-type]
    assert len(store.studies()) == count


def test_costs_and_variances_in_a_run(study: tw.Study) -> None:
    cases: list[dict[str, Any]] = [
        {"cost": math.nan}, {"cost": -1.0}, {"cost": "1"}, {"cost": math.inf}, {"variance": {"loss": -1.0}},
        {"variance": {"loss": "x"}}, {"variance": {"a\x00": 1.0}},
    ]  # fmt: skip
    refused: list[str] = []

    def train(trial: tw.Attempt) -> float:
        for case in cases:
            try:
                trial.report(trial.step + 1, loss=1.0, **case)
            except ConfigError as error:
                refused.append(str(error))
        trial.report(7, loss=1.0, cost=2, variance={"loss": math.nan, "acc": 0.5})
        return 1.0

    study.run(train, trials=1, progress="none")
    assert len(refused) == len(cases)
    (trial,) = again(study)
    assert (trial.status, trial.step, trial.cost) == ("completed", 7, 2.0)
    assert trial.reports[-1].variance == {"acc": 0.5}
