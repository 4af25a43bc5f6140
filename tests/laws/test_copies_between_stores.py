"""A study copied between any two kinds of stores is the same study, and is backed up the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from small_server import SmallServer
from tunewright.core.events import Ended, Enqueued, Interrupted, Noted, Reported, Saved, Started
from tunewright.store import blobs
from tunewright.store.backup import back_up
from tunewright.store.base import Store
from tunewright.store.copying import copy_study, digest
from tunewright.store.http import HttpStore
from tunewright.store.memory import MemoryStore
from tunewright.store.sqlite import SqliteStore

KINDS = ["memory", "sqlite", "http", "postgres"]
ME = "external/me"
Make = Callable[[str], Store]


@pytest.fixture
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Make]:
    with ExitStack() as stack:

        def made(kind: str) -> Store:
            number = len(list(tmp_path.iterdir()))
            store: Store
            if kind == "memory":
                store = MemoryStore()
            elif kind == "sqlite":
                store = SqliteStore(tmp_path / f"{number}.db")
            elif kind == "http":
                behind = MemoryStore(expiring=True)
                stack.callback(behind.close)
                store = HttpStore(stack.enter_context(SmallServer(behind)).url)
            else:
                from tunewright.store.postgres import PostgresStore

                folder = tmp_path / f"blobs{number}"
                folder.mkdir()
                store = PostgresStore(f"{request.getfixturevalue('postgres_url')}&blobs={folder}")
            stack.callback(store.close)
            return store

        yield made


def filled(store: Store) -> int:
    spec = {
        "problem": {"seed": 2**53 - 1, "low": 1e-300, "high": 1.0, "names": ["größe", "a b", "\u2028"]},
        "n": None,
    }
    study = store.create("s", spec, created=1234567890.125).id
    name = blobs.put(store.blobs(study), "t0-s1", b"weights")
    store.append(study, [Started(0, {"x": 0.1, "n": 2**53}), Enqueued({"x": 1}, "key")], worker=ME)
    store.append(
        study,
        [Reported(0, 1, 1, {"loss": -0.0, "tiny": 5e-324}, {"bad": "nan"}), Saved(0, 1, 1, name)],
        worker=ME,
    )
    store.append(
        study, [Started(1, {"x": 1e308}), Interrupted(0, 1, "lost", "'; DROP TABLE event")], worker=ME
    )
    store.append(
        study,
        [Ended(1, 5, "failed", error="line\nnext\tend"), Noted("n", {"deep": [[{"a": [1.5]}]]})],
        worker=ME,
    )
    return study


@pytest.mark.parametrize("source", KINDS)
@pytest.mark.parametrize("target", KINDS)
def test_a_copy_between_any_two_is_the_same(source: str, target: str, make: Make) -> None:
    a = make(source)
    b = a if source == target == "postgres" else make(target)
    study = filled(a)
    done = copy_study(a, "s", b, "copy")
    copy = b.find("copy")
    assert copy is not None
    assert done.digest == digest(a, study) == digest(b, copy.id)
    assert (done.records, done.files, done.bytes) == (8, 1, 7)
    assert b.read(copy.id) == a.read(study)
    assert copy.created == pytest.approx(1234567890.125, abs=1e-3)
    (entry,) = blobs.listing(b.blobs(copy.id))
    assert blobs.get(b.blobs(copy.id), entry.name) == b"weights"
    again = copy_study(a, "s", b, "copy")
    assert (again.found, again.files) == (8, 0)
    b.append(copy.id, [Noted("own", {})], worker=ME)
    assert b.last(copy.id) == 9


@pytest.mark.parametrize("kind", KINDS)
def test_every_store_is_backed_up(kind: str, make: Make, tmp_path: Path) -> None:
    store = make(kind)
    study = filled(store)
    copy_study(store, "s", store, "t")
    made = back_up(store, tmp_path / "backup.db")
    assert made.digests == dict.fromkeys(("s", "t"), digest(store, study))
    assert (made.records, made.files) == (16, 2)
    copy = SqliteStore(tmp_path / "backup.db")
    assert {info.name for info in copy.studies()} == {"s", "t"}
    copy.close()
