"""Backups are whole, checked, and made beside a store that is in use."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import pytest

from tunewright.core.events import Noted, Saved, Started
from tunewright.errors import ConfigError, SchemaError, StoreUnavailable
from tunewright.store import blobs, compacting
from tunewright.store.backup import back_up
from tunewright.store.copying import digest
from tunewright.store.inspection import inspect_file
from tunewright.store.memory import MemoryStore
from tunewright.store.sqlite import SqliteStore

ME = "external/me"


def filled(path: Path, records: int = 50) -> SqliteStore:
    store = SqliteStore(path)
    study = store.create("s", {"a": 1}).id
    name = blobs.put(store.blobs(study), "t0-s1", b"weights")
    store.append(study, [Started(0, {}), Saved(0, 1, 1, name)], worker=ME)
    store.append(study, [Noted("n", {"text": "x" * 500, "n": n}) for n in range(records)], worker=ME)
    return store


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_backup_is_a_store_of_its_own(tmp_path: Path) -> None:
    store = filled(tmp_path / "s.db")
    (tmp_path / "kept").mkdir()
    made = back_up(store, tmp_path / "kept" / "b.db")
    assert (made.records, made.files, made.file_bytes, made.damaged) == (52, 1, 7, ())
    assert names(tmp_path / "kept") == {"b.db", "b.db-blobs"}
    assert made.bytes == (tmp_path / "kept" / "b.db").stat().st_size > 30_000
    copy = SqliteStore(tmp_path / "kept" / "b.db")
    assert made.digests == {"s": digest(copy, 1)} == {"s": digest(store, 1)}
    assert [x.trial for x in copy.leases(1)] == [0]
    (entry,) = blobs.listing(copy.blobs(1))
    assert blobs.get(copy.blobs(1), entry.name) == b"weights"
    copy.append(1, [Noted("on", {})], worker=ME)
    copy.close()
    store.close()


def test_others_write_while_it_is_made(tmp_path: Path) -> None:
    store = filled(tmp_path / "s.db", 2000)
    wrote = []

    def busy(done: int, total: int) -> None:
        other = SqliteStore(tmp_path / "s.db", deadline=2.0)
        wrote.extend(other.append(1, [Noted("meanwhile", {})], worker=ME))
        other.close()

    made = back_up(store, tmp_path / "b.db", progress=busy)
    assert wrote
    assert made.records == 2002, "the store as it was when the backup began"
    assert store.last(1) == 2002 + len(wrote)
    store.close()


def test_nothing_is_overwritten_by_chance(tmp_path: Path) -> None:
    store = filled(tmp_path / "s.db")
    back_up(store, tmp_path / "b.db")
    first = (tmp_path / "b.db").read_bytes()
    with pytest.raises(ConfigError, match="must not overwrite"):
        back_up(store, tmp_path / "b.db")
    with pytest.raises(ConfigError, match="the store itself"):
        back_up(store, tmp_path / "s.db", force=True)
    with pytest.raises(StoreUnavailable, match="folder must exist"):
        back_up(store, tmp_path / "none" / "b.db")
    assert (tmp_path / "b.db").read_bytes() == first
    store.append(1, [Noted("new", {})], worker=ME)
    orphan = blobs.put(tmp_path / "b.db-blobs" / "1", "t7-s7", b"of an earlier backup")
    again = back_up(store, tmp_path / "b.db", force=True)
    assert (again.records, again.files) == (53, 0), "checkpoints that are there are not copied again"
    assert not blobs.exists(tmp_path / "b.db-blobs" / "1", orphan)
    used = SqliteStore(tmp_path / "b.db")
    used.append(1, [Noted("own", {})], worker=ME)
    with pytest.raises(StoreUnavailable, match="not in use"):
        back_up(store, tmp_path / "b.db", force=True)
    used.close()
    store.close()


def test_an_interrupted_backup_leaves_nothing(tmp_path: Path) -> None:
    store = filled(tmp_path / "s.db", 500)

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    before = names(tmp_path)
    killed = tmp_path / ".b.db.0123456789ab.part-wal"
    killed.write_bytes(b"of a process that was killed")
    os.utime(killed, (0, 0))
    with pytest.raises(KeyboardInterrupt):
        back_up(store, tmp_path / "b.db", progress=stop)
    assert names(tmp_path) == before
    store.close()


def test_a_damaged_store_makes_no_backup(tmp_path: Path) -> None:
    store = filled(tmp_path / "s.db", 500)
    store.close()
    connection = sqlite3.connect(tmp_path / "s.db")
    connection.execute("UPDATE event SET data = CAST(replace(data, 'xxxx', 'xyxx') AS BLOB) WHERE seq = 9")
    connection.commit()
    connection.close()
    with pytest.raises(SchemaError, match="number 9"):
        back_up(store, tmp_path / "b.db")
    with (tmp_path / "s.db").open("r+b") as file:
        file.seek(os.path.getsize(tmp_path / "s.db") - 4096 * 3)  # noqa: PTH202
        file.write(b"\xff" * 4096)
    with pytest.raises(SchemaError, match=r"salvage|Restore"):
        back_up(store, tmp_path / "b.db")
    assert not (tmp_path / "b.db").exists()
    store.close()


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root writes everywhere")
def test_a_store_that_cannot_be_written_is_backed_up(tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir()
    filled(tmp_path / "locked" / "s.db").close()
    (tmp_path / "locked").chmod(0o500)
    try:
        store = SqliteStore(tmp_path / "locked" / "s.db")
        assert back_up(store, tmp_path / "b.db").records == 52
        assert not inspect_file(store.path).pages
        store.close()
    finally:
        (tmp_path / "locked").chmod(0o700)


def test_any_store_is_backed_up_into_a_file(tmp_path: Path) -> None:
    store = MemoryStore()
    for name in ("a", "b"):
        study = store.create(name, {"name": name}).id
        store.append(study, [Started(0, {}), Noted(name, {})], worker=ME)
    made = back_up(store, tmp_path / "b.db")
    copy = SqliteStore(tmp_path / "b.db")
    assert made.digests == {info.name: digest(copy, info.id) for info in copy.studies()}
    assert list(made.digests) == ["a", "b"]
    assert all(lease.expired for lease in copy.leases(1))
    copy.close()
    store.close()


def test_a_file_becomes_small_again(tmp_path: Path) -> None:
    store = filled(tmp_path / "s.db", 3000)
    gone = store.create("gone", {}).id
    store.blobs(gone)
    store.append(gone, [Noted("n", {"text": "y" * 500})] * 3000, worker=ME)
    other = SqliteStore(tmp_path / "s.db")
    before = compacting.used(store.path)
    store.delete(gone)
    assert compacting.free_pages(store) > before / 4
    compacting.compact(store)
    assert compacting.used(store.path) < before / 2
    assert compacting.free_pages(store) == 0
    assert digest(other, 1) == digest(store, 1)
    (tmp_path / "s.db-blobs" / str(gone)).mkdir()
    (tmp_path / "s.db-blobs" / str(gone) / "x").write_bytes(b"12345")
    (left,) = compacting.leftovers(store)
    assert compacting.remove_tree(left) == 5
    assert compacting.leftovers(store) == []
    other.close()
    store.close()
