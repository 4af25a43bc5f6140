"""Checkpoint files."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from tunewright.errors import CheckpointError, StoreUnavailable
from tunewright.store import blobs


def test_round_trip(tmp_path: Path) -> None:
    data = os.urandom(100_000)
    name = blobs.put(tmp_path, "trial-3-step-9", data)
    assert name.startswith("trial-3-step-9.")
    assert blobs.get(tmp_path, name) == data
    assert blobs.get_file(tmp_path, name).read_bytes() == data
    assert [p.name for p in tmp_path.iterdir()] == [name], "nothing temporary is left"


def test_same_content_same_name(tmp_path: Path) -> None:
    assert blobs.put(tmp_path, "a", b"x") == blobs.put(tmp_path, "a", b"x")
    assert blobs.put(tmp_path, "a", b"x") != blobs.put(tmp_path, "a", b"y")


def test_file_gets_the_name_of_its_content(tmp_path: Path) -> None:
    source = tmp_path / "model.pt"
    source.write_bytes(b"weights")
    folder = tmp_path / "blobs"
    folder.mkdir()
    assert blobs.put_file(folder, "m", source) == blobs.put(folder, "m", b"weights")
    with pytest.raises(CheckpointError, match="must be a file"):
        blobs.put_file(folder, "m", tmp_path / "none")


@pytest.mark.parametrize("damage", [b"", b"weight", b"weightz", b"weights!"])
def test_damage_is_noticed(tmp_path: Path, damage: bytes) -> None:
    name = blobs.put(tmp_path, "m", b"weights")
    (tmp_path / name).write_bytes(damage)
    for read in (blobs.get, blobs.get_file):
        with pytest.raises(CheckpointError, match="changed or cut"):
            read(tmp_path, name)


def test_missing_blob(tmp_path: Path) -> None:
    name = blobs.put(tmp_path, "m", b"weights")
    blobs.remove(tmp_path, name)
    blobs.remove(tmp_path, name)
    for read in (blobs.get, blobs.get_file):
        with pytest.raises(CheckpointError, match="must be there"):
            read(tmp_path, name)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "..",
        "../secret.0123456789abcdef",
        "/etc/passwd",
        "a/b.0123456789abcdef",
        "a\\b.0123456789abcdef",
        "a\x00b.0123456789abcdef",
        "%2e%2e.0123456789abcdef/",
        "a..b.0123456789abcdef",
        "a.0123456789ABCDEF",
        "a.0123",
        ".hidden.0123456789abcdef",
        "a.0123456789abcdef\n",
        "C:a.0123456789abcdef",
    ],
)
def test_names_lead_nowhere_else(tmp_path: Path, name: str) -> None:
    for use in (blobs.get, blobs.get_file, blobs.remove, blobs.where):
        with pytest.raises(CheckpointError, match="one that this store gave"):
            use(tmp_path, name)


@pytest.mark.parametrize("stem", ["../../x", "", "-rf", "größe 🎛️", "a" * 1000, ".", "a/b\\c:d", "x\x00y"])
def test_any_stem_gives_a_name_that_can_be_read(tmp_path: Path, stem: str) -> None:
    name = blobs.put(tmp_path, stem, b"x")
    assert blobs.get(tmp_path, name) == b"x"
    assert (tmp_path / name).parent == tmp_path
    assert len(name) <= 120


def test_links_are_refused(tmp_path: Path) -> None:
    name = blobs.put(tmp_path, "m", b"weights")
    (tmp_path / "elsewhere").write_bytes(b"weights")
    (tmp_path / name).unlink()
    (tmp_path / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(CheckpointError, match="link"):
        blobs.get(tmp_path, name)


def test_failing_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tunewright.store.blobs.os.fsync", fail)
    source = tmp_path / "source"
    source.write_bytes(b"x")
    folder = tmp_path / "blobs"
    folder.mkdir()
    with pytest.raises(StoreUnavailable, match="No space left"):
        blobs.put(folder, "m", b"x")
    with pytest.raises(StoreUnavailable, match="No space left"):
        blobs.put_file(folder, "m", source)
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("clones", [False, True])
def test_files_share_their_blocks_where_the_file_system_can(
    clones: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied: list[bool] = []

    def ioctl(written: int, request: int, read: int) -> int:
        assert request == 0x40049409
        if not clones:
            raise OSError(95, "Operation not supported")
        return os.write(written, os.read(read, 100))

    def copy(*args: Any) -> None:
        copied.append(True)
        true(*args)

    true = shutil.copyfileobj
    monkeypatch.setattr("fcntl.ioctl", ioctl)
    monkeypatch.setattr("tunewright.store.blobs.shutil.copyfileobj", copy)
    source = tmp_path / "model.pt"
    source.write_bytes(b"weights")
    name = blobs.put_file(tmp_path, "m", source)
    assert blobs.get(tmp_path, name) == b"weights"
    assert copied == [] if clones else [True]


def test_on_this_file_system_a_file_comes_out_as_it_went_in(tmp_path: Path) -> None:
    source = tmp_path / "model.pt"
    source.write_bytes(os.urandom(3_000_001))
    name = blobs.put_file(tmp_path, "m", source)
    source.write_bytes(b"trained on")
    assert len(blobs.get(tmp_path, name)) == 3_000_001


@pytest.mark.parametrize(
    ("where", "flushes"), [("s.db", 0), ("sqlite:///s.db?durability=full", 4), ("memory", 0)]
)
def test_checkpoints_are_flushed_to_the_disk_where_the_log_is(
    where: str, flushes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tunewright as tw

    counted: list[int] = []
    true = os.fsync

    def count(fd: int) -> None:
        counted.append(fd)
        true(fd)

    monkeypatch.chdir(tmp_path)
    source = tmp_path / "model.pt"
    source.write_bytes(b"weights")

    def train(trial: tw.Attempt) -> float:
        trial.checkpoint.save(step=1)
        trial.checkpoint.save_file(source)
        return 1.0

    with tw.Study.open("s", {"x": tw.Float(0, 1)}, method="random", storage=where) as study:
        monkeypatch.setattr("tunewright.store.blobs.os", Namespace(os, fsync=count))
        study.run(train, trials=1, progress="none")
    assert len(counted) == flushes, "a file and its folder, twice"


class Namespace:
    """A module with some names replaced."""

    def __init__(self, module: Any, **replaced: Any) -> None:
        self.__dict__.update(vars(module), **replaced)
