"""Copies are the same, can be continued, and are refused where they would not be true."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tunewright.core.events import Ended, Event, Interrupted, Noted, Paused, Record, Resumed, Saved, Started
from tunewright.errors import SchemaError, StudyExists, StudyMissing
from tunewright.store import blobs, copying
from tunewright.store.base import Store
from tunewright.store.copying import copy_study, digest
from tunewright.store.memory import MemoryStore
from tunewright.store.sqlite import SqliteStore

ME = "external/me"
KINDS = ("memory", "sqlite")


@pytest.fixture
def make(tmp_path: Path) -> Callable[[str], Store]:
    numbers = itertools.count()

    def made(kind: str) -> Store:
        return MemoryStore() if kind == "memory" else SqliteStore(tmp_path / f"s{next(numbers)}.db")

    return made


def filled(store: Store, name: str = "s") -> int:
    """A study with a trial that runs, one that is over and one that rests, and checkpoints of two."""
    study = store.create(name, {"b": [1, 2.5], "a": {"y": None, "x": "größe"}}).id
    folder = store.blobs(study)
    first, last = blobs.put(folder, "t0-s1", b"first"), blobs.put(folder, "t1-s2", b"last")
    blobs.put(folder, "t9-s9", b"nobody's")
    events: list[Sequence[Event]] = [
        [Started(0, {"x": 0.1}), Started(1, {"x": -0.0}), Started(2, {"x": 1e-308})],
        [Saved(0, 1, 1, first), Paused(1, 2, 2, last), Noted("n", {"n": 2**53})],
        [Ended(2, 3, "completed", {"loss": 0.25}), Interrupted(0, 1, "lost"), Resumed(0, 1, by="retry")],
    ]
    for some in events:
        store.append(study, some, worker=ME)
    return study


@pytest.mark.parametrize("source", KINDS)
@pytest.mark.parametrize("target", KINDS)
def test_a_copy_is_the_same_study(source: str, target: str, make: Callable[[str], Store]) -> None:
    a, b = make(source), make(target)
    study = filled(a)
    done = copy_study(a, "s", b, "other")
    assert (done.name, done.records, done.found, done.late, done.running) == ("other", 9, 0, 0, 1)
    assert (done.files, done.bytes, done.damaged, done.unknown) == (2, 9, (), 0)
    copy = b.find("other")
    assert copy is not None
    assert copy.spec == a.studies()[0].spec
    assert copy.created == pytest.approx(a.studies()[0].created)
    assert b.read(copy.id) == a.read(study)
    assert done.digest == digest(a, study) == digest(b, copy.id)
    assert {e.name for e in blobs.listing(b.blobs(copy.id))} == {
        e.name for e in blobs.listing(a.blobs(study)) if not e.name.startswith("t9")
    }
    (lease,) = b.leases(copy.id)
    assert (lease.trial, lease.token) == (0, 9), "what ran there is taken back here"
    b.append(copy.id, [Ended(1, 2, "completed", {"loss": 1.0})], worker=ME)
    a.close()
    b.close()


def test_the_digest_sees_every_record_and_no_name(make: Callable[[str], Store]) -> None:
    store = make("memory")
    study = filled(store)
    whole = digest(store, study)
    assert digest(store, study, upto=9) == whole
    assert len({digest(store, study, upto=n) for n in range(10)}) == 10
    assert copy_study(store, "s", store, "t").digest == whole
    other = store.create("u", {"b": [1, 2.5], "a": {"y": None, "x": "grösse"}}, created=1.0)
    assert digest(store, other.id) != digest(store, study, upto=0)
    for change in (Record(1, 2.0, ME, Noted("n", {})), Record(1, 1.0, "external/b", Noted("n", {}))):
        one, two = (store.create(f"{change.at}{change.worker}{i}", {}).id for i in range(2))
        store.graft(one, [change])
        store.graft(two, [Record(1, 1.0, ME, Noted("n", {}))])
        assert digest(store, one) != digest(store, two)
    with pytest.raises(StudyMissing):
        digest(store, 99)
    store.close()


def test_a_long_log_is_read_in_blocks(make: Callable[[str], Store], monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = make("sqlite"), make("memory")
    study = filled(a)
    whole = digest(a, study)
    monkeypatch.setattr(copying, "_BLOCK", 2)
    assert digest(a, study) == whole
    seen: list[tuple[int, int]] = []
    assert copy_study(a, "s", b, progress=lambda n, total: seen.append((n, total))).digest == whole
    assert seen == [(2, 9), (4, 9), (6, 9), (8, 9), (9, 9)]
    a.close()
    b.close()


def test_a_copy_that_was_cut_short_is_continued(
    make: Callable[[str], Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = make("sqlite"), make("sqlite")
    filled(a)
    monkeypatch.setattr(copying, "_BLOCK", 2)

    def cut(done: int, total: int) -> None:
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        copy_study(a, "s", b, progress=cut)
    done = copy_study(a, "s", b)
    assert (done.records, done.found, done.files) == (9, 4, 2)
    again = copy_study(a, "s", b)
    assert (again.found, again.files, again.digest) == (9, 0, done.digest)
    a.close()
    b.close()


def test_what_comes_in_meanwhile_is_copied_too(make: Callable[[str], Store]) -> None:
    a, b = make("memory"), make("memory")
    study = filled(a)

    def busy(done: int, total: int) -> None:
        if total == 9:
            name = blobs.put(a.blobs(study), "t0-s2", b"later")
            a.append(study, [Saved(0, 9, 2, name)], worker=ME)

    done = copy_study(a, "s", b, progress=busy)
    assert (done.records, done.late, done.files) == (10, 1, 3)
    a.close()
    b.close()


def test_what_is_no_copy_is_left_alone(make: Callable[[str], Store]) -> None:
    a, b = make("memory"), make("memory")
    study = filled(a)
    with pytest.raises(StudyMissing, match="has no 'x'"):
        copy_study(a, "x", b)
    with pytest.raises(StudyExists, match="another name"):
        copy_study(a, "s", a)
    b.create("s", {"b": 1})
    with pytest.raises(StudyExists, match="another study"):
        copy_study(a, "s", b)
    b.create("same settings", a.studies()[0].spec, created=5.0)
    with pytest.raises(StudyExists, match="another study"):
        copy_study(a, "s", b, "same settings")
    copy_study(a, "s", b, "t")
    other = b.find("t")
    assert other is not None
    b.append(other.id, [Noted("own", {})], worker=ME)
    with pytest.raises(StudyExists, match="went its own way"):
        copy_study(a, "s", b, "t")
    a.append(study, [Noted("not the same", {})], worker=ME)
    with pytest.raises(StudyExists, match="went its own way"):
        copy_study(a, "s", b, "t")
    a.close()
    b.close()


def test_a_copy_that_is_not_the_same_is_an_error(make: Callable[[str], Store]) -> None:
    class Careless(MemoryStore):
        """Loses the names of workers."""

        def graft(self, study: int, records: Sequence[Record]) -> None:
            """Appends records, nearly as they are."""
            super().graft(study, [Record(r.seq, r.at, "somebody", r.event) for r in records])

    class Forgetful(MemoryStore):
        """Leaves out a record when it reads."""

        def read(self, study: int, after: int = 0, limit: int | None = None) -> list[Record]:
            """Records, without the third."""
            return [r for r in super().read(study, after, limit) if r.seq != 3]

    a = make("memory")
    filled(a)
    with pytest.raises(SchemaError, match="is not. Delete it there"):
        copy_study(a, "s", Careless())
    b = Forgetful()
    filled(b)
    with pytest.raises(SchemaError, match="every position from 1 to 9; after 0 some are missing"):
        copy_study(b, "s", a, "t")
    a.close()
    b.close()


def test_damaged_and_missing_checkpoints_are_said(make: Callable[[str], Store]) -> None:
    a, b = make("sqlite"), make("memory")
    study = filled(a)
    first, last, _ = sorted(entry.name for entry in blobs.listing(a.blobs(study)))
    blobs.where(a.blobs(study), first).write_bytes(b"FIRST")
    blobs.remove(a.blobs(study), last)
    done = copy_study(a, "s", b)
    assert (done.files, done.damaged) == (0, (first,))
    assert copy_study(a, "s", b, "bare", blobs=False).damaged == ()
    a.close()
    b.close()


def test_folders_and_logs_of_trials_go_along(make: Callable[[str], Store]) -> None:
    a, b = make("sqlite"), make("sqlite")
    study = filled(a)
    for name in ("logs/trial-0.log", "files/trial-0/model.bin"):
        path = Path(a.blobs(study)) / name
        path.parent.mkdir(parents=True)
        path.write_text(name)
    copy_study(a, "s", b)
    for name in ("logs/trial-0.log", "files/trial-0/model.bin"):
        assert (Path(b.blobs(1)) / name).read_text() == name
    a.close()
    b.close()
