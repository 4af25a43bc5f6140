"""Sessions on long logs: snapshots in turn, memory, and methods that need no history."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import tunewright as tw
from tunewright.core.algorithm import generator
from tunewright.core.events import Ended, Event, Started
from tunewright.core.news import News
from tunewright.core.snapshot import current, dump
from tunewright.errors import StoreUnavailable
from tunewright.run import session as sessions
from tunewright.samplers.quasirandom import QuasiRandom
from tunewright.samplers.random import Random
from tunewright.store.sqlite import SqliteStore

SPACE = tw.Space(x=tw.Float(0, 1), n=tw.Int(1, 100_000))


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Snapshots every 40 records, read in blocks of 30."""
    monkeypatch.setattr(sessions, "_SNAPSHOT_EVERY", 40)
    monkeypatch.setattr(sessions, "_BLOCK", 30)


def opened(path: Path, **options: Any) -> tw.Study:
    return tw.Study.open(
        "s", SPACE, storage=f"sqlite:///{path}/s.db", seed=3, **{"method": "random", **options}
    )


def filled(path: Path, count: int) -> tw.Study:
    study = opened(path)
    rng = generator(0, 0)
    events: list[Event] = []
    for i in range(count):
        events += [Started(i, SPACE.draw(rng)), Ended(i, 2 * i + 1, "completed", {"loss": i / 7})]
    study.session.record_all(events)
    return study


@pytest.mark.usefixtures("often")
def test_a_long_log_is_read_in_blocks_and_leaves_little_in_memory(tmp_path: Path) -> None:
    filled(tmp_path, 200).close()
    with opened(tmp_path, exist="must") as study:
        session = study.session
        found = session.store.load_snapshot(session.info.id)
        assert found is not None
        assert 400 - found[0] <= 60
        assert current(found[1])
        rows = session.ledger.trials.rows
        assert sum(t is not None for t in rows) <= 60
        assert [t.number for t in study.trials] == list(range(200))
        assert study.best.number == 0
        again = sessions.Ledger(session.origin)
        again.fold(session.store.read(session.info.id))
        assert dump(again) == dump(session.ledger)


@pytest.mark.usefixtures("often")
def test_of_many_processes_one_saves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved: list[int] = []
    real = SqliteStore.save_snapshot

    def save(self: SqliteStore, study: int, seq: int, data: bytes) -> None:
        saved.append(seq)
        real(self, study, seq, data)

    first = filled(tmp_path, 5)
    others = [opened(tmp_path) for _ in range(4)]
    monkeypatch.setattr(SqliteStore, "save_snapshot", save)
    for _ in range(60):
        asked = first.ask()
        assert asked is not None
        asked.tell(1.0)
        for other in others:
            other.session.sync()
    assert len(saved) <= 4
    for study in (first, *others):
        study.close()


@pytest.mark.usefixtures("often")
def test_a_snapshot_that_cannot_be_saved_harms_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = filled(tmp_path, 10)

    def full(*_: Any) -> None:
        raise StoreUnavailable("The store needs free space.")

    monkeypatch.setattr(SqliteStore, "save_snapshot", full)
    for _ in range(40):
        asked = study.ask()
        assert asked is not None
        asked.tell(1.0)
    assert study.counts == {"completed": 50}


@pytest.mark.usefixtures("often")
def test_a_snapshot_of_another_version_is_replaced(tmp_path: Path) -> None:
    study = filled(tmp_path, 100)
    store, key = study.session.store, study.session.info.id
    store.save_snapshot(key, 200, dump(study.session.ledger).replace(b'"version":7', b'"version":5'))
    with opened(tmp_path, exist="must") as other:
        assert len(other.trials) == 100
        asked = other.ask()
        assert asked is not None
        asked.tell(2.0)
        other.session.keep()
    found = store.load_snapshot(key)
    assert found is not None
    assert current(found[1])


@pytest.mark.parametrize("method", [Random(), QuasiRandom()])
@pytest.mark.parametrize("edited", [False, True])
def test_a_shortcut_decides_as_the_whole_log_would(tmp_path: Path, method: Any, edited: bool) -> None:
    study = filled(tmp_path, 20)
    if edited:
        study.session.edit(tw.Space(x=tw.Float(0, 2), n=tw.Int(1, 100_000)))
    session = study.session
    ledger, records = session.sync(), session.store.read(session.info.id)
    state = method.tell(method.init(session.origin), News().of(records))
    short = method.shortcut(ledger.problem, len(ledger.trials), edited)
    assert (short is None) == (edited and isinstance(method, QuasiRandom))
    if short is not None:
        assert method.ask(short, 3, generator(1, 2)) == method.ask(state, 3, generator(1, 2))


def test_small_spaces_need_the_log(tmp_path: Path) -> None:
    problem = tw.Study.open("s", tw.Space(n=tw.Int(1, 9)), storage="memory").session.origin
    assert Random().shortcut(problem, 4, edited=False) is None
    assert QuasiRandom().shortcut(problem, 4, edited=False) is None


def test_a_method_without_history_asks_without_reading_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(tmp_path, 50).session.keep()
    read: list[int] = []
    real = SqliteStore.read

    def count(self: SqliteStore, study: int, after: int = 0, limit: int | None = None) -> Any:
        found = real(self, study, after, limit)
        read.append(len(found))
        return found

    monkeypatch.setattr(SqliteStore, "read", count)
    with opened(tmp_path, exist="must") as study:
        assert study.ask() is not None
        assert sum(read) == 0
    with opened(tmp_path, exist="must", method="tpe") as study:
        assert study.ask() is not None
        assert sum(read) >= 100
