"""What only the SQLite store does; everything else is in the laws."""

from __future__ import annotations

import os
import sqlite3
import sys
from pathlib import Path

import pytest

from tunewright.core.events import Ended, Event, Noted, Started
from tunewright.errors import ConfigError, SchemaError, StoreUnavailable
from tunewright.store import clock as clocks
from tunewright.store.base import Lease
from tunewright.store.sqlite import SqliteStore

ME = "external/me"


def test_address_opens_the_same_file(tmp_path: Path) -> None:
    from tunewright.store.urls import open_store

    path = tmp_path / "größe 100%?.db"
    store = SqliteStore(path, durability="full")
    store.create("s", {})
    again = open_store(store.url)
    assert again.url == store.url
    assert again.find("s") is not None
    assert repr(store) == f"SqliteStore({store.url!r})"
    store.close()
    again.close()


def test_unknown_durability(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'process' or 'full'"):
        SqliteStore(tmp_path / "s.db", durability="none")  # type: ignore[arg-type]


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere SQLite flushes")
def test_full_durability_flushes_every_write_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flushed: list[int] = []
    flush = os.fdatasync
    monkeypatch.setattr("tunewright.store.link.os.fdatasync", lambda fd: (flushed.append(fd), flush(fd)))
    for durability, per_write in (("process", 0), ("full", 1)):
        store = SqliteStore(tmp_path / f"{durability}.db", durability=durability)  # type: ignore[arg-type]
        store.create("s", {})
        flushed.clear()
        for _ in range(5):
            store.append(1, [Noted("a", {})], worker=ME)
        store.read(1)
        assert len(flushed) == 5 * per_write
        store.close()
        store.append(1, [Noted("a", {})], worker=ME)
        store.close()


def test_failing_flush_is_made_good_or_not_acknowledged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system forgets what it could not flush, so everything goes to the main file; unless a reader is in the way."""
    store = SqliteStore(tmp_path / "s.db", durability="full")
    store.create("s", {})

    def fail(fd: int) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr("tunewright.store.link.os.fdatasync", fail)
        store.append(1, [Noted("a", {})], worker=ME)
        assert (tmp_path / "s.db-wal").stat().st_size == 0
        reader = sqlite3.connect(tmp_path / "s.db", isolation_level=None)
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM event").fetchone()
        with pytest.raises(StoreUnavailable, match="flushing"):
            store.append(1, [Noted("b", {})], worker=ME)
        reader.execute("ROLLBACK")
        reader.close()
    store.append(1, [Noted("c", {})], worker=ME)
    store.close()


def test_names_of_an_undone_write_are_void(tmp_path: Path) -> None:
    """A number given to a worker in a transaction that failed may be given to another one later."""
    store, other = SqliteStore(tmp_path / "s.db"), SqliteStore(tmp_path / "s.db")
    store.create("s", {})

    def choose(tail: object, expired: object) -> list[Event]:
        return [Noted("a", {}), Noted("b", {"x": object()})]

    with pytest.raises(ConfigError):
        store.decide(1, 0, choose, worker="external/undone")
    connection = store._link._connections["write"]
    with pytest.raises(ZeroDivisionError), store._writing():
        store._id(connection, "external/undone")
        raise ZeroDivisionError
    other.append(1, [Noted("a", {})], worker="external/other")
    store.append(1, [Noted("b", {})], worker="external/undone")
    assert [r.worker for r in other.read(1)] == ["external/other", "external/undone"]
    assert [r.worker for r in store.read(1)] == ["external/other", "external/undone"]
    store.close()
    other.close()


@pytest.mark.parametrize(
    ("place", "later", "expired"),
    [("same host, last boot", 0.0, True), ("other host", 0.0, False), ("other host", 31.0, True)],
)
def test_lease_from_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, later: float, expired: bool
) -> None:
    """Another boot's clock says nothing: after a reboot a lease is over, of another host the wall clock decides."""
    host, boot = clocks.place().split("/")
    there = f"{host}/0{boot}" if place.startswith("same") else f"other/0{boot}"
    wall = [1e9]
    monkeypatch.setattr("tunewright.store.sqlite.time.time", lambda: wall[0])
    store = SqliteStore(tmp_path / "s.db", clock=lambda: 0.0)
    store.create("s", {})
    with monkeypatch.context() as patch:
        patch.setattr(clocks, "place", lambda: there)
        store.append(1, [Started(0, {})], worker=ME)
    wall[0] += later
    assert store.leases(1) == [Lease(0, 1, ME, expired)]
    assert store.renew(1, [(0, 1)]) == []
    wall[0] += 1000
    assert store.leases(1) == [Lease(0, 1, ME, False)], "renewed here, it is measured on our clock"
    store.close()


def test_decisions_do_not_look_at_leases_every_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    time = [0.0]
    store = SqliteStore(tmp_path / "s.db", clock=lambda: time[0])
    store.create("s", {})
    looked: list[int] = []
    leases = store._leases

    def counted(connection: sqlite3.Connection, study: int) -> list[Lease]:
        looked.append(study)
        return leases(connection, study)

    monkeypatch.setattr(store, "_leases", counted)
    for _ in range(100):
        time[0] += 0.01
        store.decide(1, 0, lambda tail, expired: [], worker=ME)
    assert len(looked) == 2
    store.close()


@pytest.mark.parametrize("query", ["last", "head", "tail", "running"])
def test_no_query_of_the_hot_path_scans(tmp_path: Path, query: str) -> None:
    from tunewright.store import sqlite

    store = SqliteStore(tmp_path / "s.db")
    store.create("s", {})
    store.append(1, [Started(0, {}), Ended(0, 1)], worker=ME)
    text, values = {
        "last": (sqlite._LAST, (1,)),
        "head": (sqlite._HEAD, (1, 0)),
        "tail": (sqlite._READ, (1, 1, -1)),
        "running": (sqlite._RUNNING, (1,)),
    }[query]
    connection = sqlite3.connect(store.path)
    plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {text}", values)]
    connection.close()
    assert not [line for line in plan if line.startswith("SCAN") and "CONSTANT" not in line], plan
    assert not [line for line in plan if "TEMP B-TREE" in line], plan
    # The primary key alone would go through every trial that there ever was.
    assert query != "running" or "SEARCH h USING INDEX running (study=?)" in plan
    store.close()


def test_a_changed_bit_is_noticed_wherever_it_is(tmp_path: Path) -> None:
    """A digit that became another one is still JSON; only the checksum tells."""
    path = tmp_path / "s.db"
    store = SqliteStore(path)
    study = store.create("s", {"seed": 12}).id
    store.append(study, [Noted("n", {"loss": 0.125}), Noted("n", {"loss": 0.25})], worker="external/a")
    store.save_snapshot(study, 2, b'{"cursor": 2}')
    assert store.load_snapshot(study) == (2, b'{"cursor": 2}')

    def change(sql: str) -> None:
        connection = sqlite3.connect(path)
        connection.execute(sql)
        connection.commit()
        connection.close()

    change("UPDATE snapshot SET data = CAST('{\"cursor\": 1}' AS BLOB)")
    assert store.load_snapshot(study) is None, "a cache is made anew"
    change("UPDATE event SET data = CAST(replace(data, '0.25', '0.26') AS BLOB)")
    with pytest.raises(SchemaError, match="number 2 of study 1 in .* is damaged"):
        store.read(study)
    assert store.read(study, limit=1)[0].event == Noted("n", {"loss": 0.125})
    change("UPDATE event SET data = CAST(replace(data, '0.26', '0.25') AS BLOB), seq = seq + 1 WHERE seq = 2")
    with pytest.raises(SchemaError, match="number 2 .* is gone"):
        store.read(study)
    change("UPDATE study SET spec = replace(spec, '12', '13')")
    with pytest.raises(SchemaError, match="settings"):
        store.find("s")
    with pytest.raises(SchemaError, match="settings"):
        store.studies()
    store.close()


def test_an_end_that_is_gone_is_no_end(tmp_path: Path) -> None:
    """Telling the same result again compares with what was written, and that must be what was written."""
    store = SqliteStore(tmp_path / "s.db")
    study = store.create("s", {}).id
    end = Ended(0, 1, "completed", {"loss": 0.5})
    store.append(study, [Started(0, {}), end], worker=ME)
    assert store.append(study, [end], worker=ME) == []
    for statement in (
        "UPDATE event SET data = CAST(replace(data, '0.5', '0.6') AS BLOB) WHERE seq = 2",
        "DELETE FROM event WHERE seq = 2",
    ):
        connection = sqlite3.connect(tmp_path / "s.db")
        connection.execute(statement)
        connection.commit()
        connection.close()
        with pytest.raises(SchemaError, match="the end of trial 0"):
            store.append(study, [end], worker=ME)
    store.close()
