"""Checkpoint files at addresses: the same promises as in a folder, over places that fail for a while."""

from __future__ import annotations

import datetime
import os
import stat
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import tunewright as tw
from tunewright.errors import CheckpointError, MissingExtra, StoreUnavailable
from tunewright.run.child import log_path
from tunewright.run.retention import Retention
from tunewright.store import blobs, depots, scratch
from tunewright.store.memory import MemoryStore

pytest.importorskip("fsspec")


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TUNEWRIGHT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(params=["memory", "local"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """An object store, and a file system where writing takes a move."""
    if request.param == "local":
        yield f"local://{tmp_path}/place/7"
        return
    import fsspec

    yield "memory://bucket/place/7"
    fsspec.filesystem("memory").rm("/", recursive=True)


def test_round_trip(address: str, tmp_path: Path) -> None:
    data = os.urandom(50_000)
    assert blobs.listing(address) == [], "a place that does not exist yet is empty"
    name = blobs.put(address, "t3-s9", data)
    assert name == blobs.put(tmp_path, "t3-s9", data), "the same name as in a folder"
    assert blobs.exists(address, name)
    assert blobs.get(address, name) == data
    assert blobs.get_file(address, name).read_bytes() == data
    (entry,) = blobs.listing(address)
    assert (entry.name, entry.size) == (name, len(data))
    assert abs(entry.mtime - time.time()) < 60
    blobs.remove(address, name)
    blobs.remove(address, name)
    assert not blobs.exists(address, name)


def test_files_are_copied_in_and_stay_in_the_cache(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "model.pt"
    source.write_bytes(b"weights")
    name = blobs.put_file(address, "m", source)
    assert name == blobs.put(address, "m", b"weights")
    monkeypatch.setattr(depots.FsspecDepot, "fetch", None)
    assert blobs.get_file(address, name).read_bytes() == b"weights"
    with pytest.raises(CheckpointError, match="must be a file"):
        blobs.put_file(address, "m", tmp_path / "none")


@pytest.mark.parametrize("damage", [b"", b"weight", b"weightz", b"weights!"])
def test_damage_is_noticed(address: str, damage: bytes) -> None:
    name = blobs.put(address, "m", b"weights")
    depots.depot(address).put(name, damage)
    for read in (blobs.get, blobs.get_file):
        with pytest.raises(CheckpointError, match="changed or cut") as caught:
            read(address, name)
        assert caught.value.blob == name


def test_a_damaged_copy_in_the_cache_is_fetched_again(address: str) -> None:
    name = blobs.put(address, "m", b"weights")
    path = blobs.get_file(address, name)
    path.write_bytes(b"weightz")
    assert blobs.get_file(address, name).read_bytes() == b"weights"


def test_missing_blob(address: str) -> None:
    name = blobs.put(address, "m", b"weights")
    blobs.remove(address, name)
    for read in (blobs.get, blobs.get_file):
        with pytest.raises(CheckpointError, match="must be there"):
            read(address, name)


@pytest.mark.parametrize(
    "name", ["..", "../secret.0123456789abcdef", "a/b.0123456789abcdef", "a.0123", ".x.part"]
)
def test_names_lead_nowhere_else(address: str, name: str) -> None:
    for use in (blobs.get, blobs.get_file, blobs.remove, blobs.exists):
        with pytest.raises(CheckpointError, match="one that this store gave"):
            use(address, name)


def test_a_file_address_is_a_folder(tmp_path: Path) -> None:
    address = f"file://{tmp_path}/with%20space"
    (tmp_path / "with space").mkdir()
    name = blobs.put(address, "m", b"weights")
    assert (tmp_path / "with space" / name).read_bytes() == b"weights"
    assert blobs.get_file(address, name) == tmp_path / "with space" / name
    assert log_path(address, 3) == tmp_path / "with space" / "logs" / "trial-3.log"


def test_clearing_leaves_what_is_not_ours(address: str) -> None:
    blobs.put(address, "m", b"weights")
    depots.depot(address).put(".0123456789abcdef.part", b"half")
    depots.depot(address).put("notes.txt", b"mine")
    blobs.clear(address)
    assert [e.name for e in blobs.listing(address)] == ["notes.txt"]


def test_a_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    address = f"local://{tmp_path}/place"
    place = depots.depot(address)
    monkeypatch.setattr(place._files, "mv", lambda *a: 1 / 0)  # type: ignore[attr-defined]
    with pytest.raises(OSError, match="ZeroDivisionError"):
        place.put("m.0123456789abcdef", b"weights")
    assert place.entries() == []


class Flaky:
    """A place that fails a number of times before it serves a call."""

    def __init__(self, failures: int, error: OSError) -> None:
        self.failures = failures
        self.error = error
        self.calls = 0
        self.files: dict[str, bytes] = {}

    def __getattr__(self, name: str) -> Any:
        def call(*args: Any) -> Any:
            self.calls += 1
            if self.calls <= self.failures:
                raise self.error
            if name == "put":
                self.files[args[0]] = args[1]
                return None
            return self.files[args[0]]

        return call


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(depots, "PATIENCE", 0.0)
    monkeypatch.setattr(depots, "_PAUSE", 0.001)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("failures", [0, 1, 2])
def test_failures_for_a_moment_are_not_noticed(failures: int, monkeypatch: pytest.MonkeyPatch) -> None:
    place = Flaky(failures, ConnectionResetError("reset by peer"))
    monkeypatch.setattr(blobs, "depot", lambda address: place)
    name = blobs.put("s3://bucket", "m", b"weights")
    place.calls = 0
    assert blobs.get("s3://bucket", name) == b"weights"
    assert place.calls == failures + 1


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(
    ("error", "calls"), [(TimeoutError("no answer within 60 seconds"), 3), (PermissionError("refused"), 1)]
)
def test_a_place_that_stays_away_is_unavailable_and_the_checkpoint_not_lost(
    error: OSError, calls: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Flaky(10**6, error)
    monkeypatch.setattr(blobs, "depot", lambda address: place)
    address = "sftp://me:secret@host/place"
    for use in (
        lambda: blobs.get(address, "m.0123456789abcdef"),
        lambda: blobs.put(address, "m", b"weights"),
        lambda: blobs.remove(address, "m.0123456789abcdef"),
    ):
        place.calls = 0
        with pytest.raises(StoreUnavailable, match=r"sftp://\*\*\*@host/place") as caught:
            use()
        assert "secret" not in str(caught.value)
        assert place.calls == calls


def test_a_call_that_hangs_ends() -> None:
    gate = threading.Event()
    with pytest.raises(TimeoutError, match="no answer"):
        depots.within(0.02, lambda: gate.wait(10))
    gate.set()
    assert depots.within(5, lambda: 7) == 7


def test_drivers_errors_hold_no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    place = depots.FsspecDepot("memory://bucket/place")
    place.address = "sftp://me:secret@host/place"

    def fails(*args: Any) -> Any:
        raise ValueError("cannot log in as me:secret, password secret")

    monkeypatch.setattr(place._files, "info", fails)
    with pytest.raises(OSError, match="ValueError: cannot log in") as caught:
        place.get("m.0123456789abcdef")
    assert "secret" not in str(caught.value)
    assert "secret" not in repr(place)


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StoreUnavailable, match="nowhere"):
        depots.FsspecDepot("nowhere://place")
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(MissingExtra, match="s3"):
        depots.FsspecDepot("s3://bucket")
    monkeypatch.setitem(sys.modules, "fsspec.core", None)
    with pytest.raises(MissingExtra, match=r"tunewright\[remote\]"):
        depots.FsspecDepot("memory://place")


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({"mtime": 12.5}, 12.5),
        ({"LastModified": datetime.datetime(1970, 1, 2, tzinfo=datetime.UTC)}, 86400.0),
        ({"created": datetime.datetime(1970, 1, 2)}, 86400.0),  # noqa: DTZ001 - as some drivers say it
        ({"updated": "1970-01-02T00:00:00.000Z"}, 86400.0),
    ],
)
def test_times_of_drivers(entry: dict[str, Any], expected: float) -> None:
    assert depots._time(entry) == expected


@pytest.mark.parametrize("entry", [{}, {"updated": "yesterday"}])
def test_a_file_of_unknown_age_is_young(entry: dict[str, Any]) -> None:
    assert abs(depots._time(entry) - time.time()) < 5


# ---------------------------------------------------------------------- the local folder


def test_the_cache_has_a_bound(own_cache: Path) -> None:
    folder = scratch.cache()
    for i in range(5):
        (folder / f"f{i}").write_bytes(bytes(100))
        os.utime(folder / f"f{i}", (i, i))
    scratch.used(folder / "f0")
    assert scratch.trim(250, keep=folder / "f1") == 300
    assert {p.name for p in folder.iterdir()} == {"f0", "f1"}
    assert stat.S_IMODE(own_cache.stat().st_mode) == 0o700


def test_a_folder_of_somebody_else_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TUNEWRIGHT_CACHE")
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / f"tunewright-{os.getuid()}").symlink_to(elsewhere)
    path = scratch.private()
    assert path.parent == tmp_path
    assert path.resolve() != elsewhere
    assert stat.S_IMODE(path.stat().st_mode) == 0o700


def test_logs_of_an_address_stay_on_this_machine(own_cache: Path) -> None:
    path = log_path("s3://bucket/7", 3)
    assert own_cache in path.parents
    assert path == log_path("s3://bucket/7", 3)
    assert path != log_path("s3://bucket/8", 3)
    assert log_path("folder/7", 3) == Path("folder/7/logs/trial-3.log")


# ---------------------------------------------------------------------- a whole study


class Elsewhere(MemoryStore):
    """A store whose checkpoints are at an address."""

    def __init__(self, address: str) -> None:
        super().__init__()
        self.address = address

    def blobs(self, study: int) -> str:
        return depots.inside(self.address, study)


class Counter:
    def __init__(self) -> None:
        self.n = 0

    def state_dict(self) -> dict[str, Any]:
        return {"n": self.n}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.n = state["n"]


def train(trial: tw.Attempt) -> None:
    counter = Counter()
    trial.keep(counter=counter)
    for step in trial.steps():
        counter.n += 1
        assert counter.n == step
        (trial.folder / "notes.txt").write_text(str(step))
        trial.report(step, loss=trial["x"] / step)


def test_a_study_with_checkpoints_at_an_address(address: str, own_cache: Path) -> None:
    store = Elsewhere(address)
    study = tw.Study.open(
        "s",
        {"x": tw.Float(0, 1)},
        steps=9,
        method="asha",
        storage=store,
        policy=tw.Policy(keep=1),
        seed=1,
    )
    study.run(train, trials=9, progress="none")
    assert study.checkpoint(study.best)["counter"] == {"n": 9}
    kept = {e.name for e in blobs.listing(depots.inside(address, study.session.info.id))}
    assert kept == set(study.session.sync().held)
    assert study.best.checkpoint is not None
    assert study.best.checkpoint[1] in kept
    assert len(Retention(study.session).files()) == len(kept)
    assert list(own_cache.glob("scratch/*/files/trial-*/notes.txt"))


@pytest.mark.usefixtures("impatient")
def test_a_place_that_is_away_costs_attempts_and_no_results(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The trial is taken up again: a place that is away says nothing about the parameters."""
    store = Elsewhere(address)
    away = iter([True] * 3)
    put = depots.FsspecDepot.put

    def sometimes(self: depots.FsspecDepot, name: str, source: bytes | Path) -> None:
        if next(away, False):
            raise ConnectionError("the network is down")
        put(self, name, source)

    monkeypatch.setattr(depots.FsspecDepot, "put", sometimes)
    study = tw.Study.open("s", {"x": tw.Float(0, 1)}, steps=3, method="random", storage=store)
    study.run(train, trials=2, progress="none")
    assert study.counts == {"completed": 2}
    assert [t.attempts for t in study.trials] == [2, 1]


@pytest.mark.slow
def test_workers_on_postgresql_share_checkpoints_at_an_address(tmp_path: Path, postgres_url: str) -> None:
    """What several machines do: the log in the database, checkpoints at an address, trials in processes of their own."""
    storage = f"{postgres_url}&blobs=local://{tmp_path}/bucket"
    study = tw.Study.open("s", {"x": tw.Float(0, 1)}, steps=9, method="asha", storage=storage, seed=1)
    study.run(lambda trial: train(trial), trials=6, workers=2, progress="none")
    assert study.counts.get("failed", 0) == 0
    assert study.checkpoint(study.best)["counter"] == {"n": 9}
    place = tmp_path / "bucket" / str(study.session.info.id)
    assert {p.name for p in place.iterdir()} == set(study.session.sync().held)
    study.session.store.delete(study.session.info.id)
    assert list(place.iterdir()) == []
    study.close()


def test_an_sqlite_store_with_checkpoints_at_an_address(tmp_path: Path) -> None:
    storage = f"sqlite:///{tmp_path}/s.db?blobs=local://{tmp_path}/bucket"
    study = tw.Study.open("s", {"x": tw.Float(0, 1)}, steps=2, method="random", storage=storage)
    study.run(train, trials=1, progress="none")
    store, key = study.session.store, study.session.info.id
    again = tw.Study.open("s", storage=store.url, exist="must")
    assert again.checkpoint(0)["counter"] == {"n": 2}
    assert [p.name for p in (tmp_path / "bucket" / str(key)).iterdir()] == list(study.session.sync().held)
    assert not (tmp_path / "s.db-blobs").exists()
    store.delete(key)
    assert list((tmp_path / "bucket" / str(key)).iterdir()) == []


def test_an_sqlite_store_with_checkpoints_in_another_folder(tmp_path: Path) -> None:
    storage = f"sqlite:///{tmp_path}/s.db?durability=full&blobs={tmp_path}/elsewhere"
    study = tw.Study.open("s", {"x": tw.Float(0, 1)}, steps=2, method="random", storage=storage)
    assert study.session.store.blobs(1) == str(tmp_path / "elsewhere" / "1")
    assert "durability=full" in study.session.store.url
    assert (tmp_path / "elsewhere" / "1").is_dir()
