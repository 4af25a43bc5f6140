"""Bytes from anywhere run nothing: a loader gives data or one of its own errors, whatever it is fed."""

from __future__ import annotations

import functools
import json
import os
import pickle
import sqlite3
import struct
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

import tunewright as tw
from tunewright.core.events import Started, decode_event
from tunewright.core.problem import Problem
from tunewright.core.snapshot import load
from tunewright.core.space import Space
from tunewright.errors import CheckpointError, TunewrightError
from tunewright.models.tensors import read_tensors
from tunewright.run.checkpoint import pack_tree, unpack_tree
from tunewright.run.child import Hello
from tunewright.run.messages import from_worker, to_worker
from tunewright.store import blobs
from tunewright.store.sqlite import SqliteStore

SPACE = Space(x=tw.Float(0, 1))
PROBLEM = Problem(SPACE)


class Trap:
    """Writes a file when it is unpickled."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (self.path,)


ARMED: list[bool] = []


def _hear(event: str, args: tuple[Any, ...]) -> None:
    if ARMED and event in ("pickle.find_class", "os.system"):
        raise AssertionError(f"{event} {args}")


@functools.cache
def _listening() -> None:
    sys.addaudithook(_hear)


@pytest.fixture
def trap(tmp_path: Path) -> Iterator[Path]:
    """A folder that exists only if something was run; while the test lasts, looking up a name to unpickle is an error."""
    _listening()
    ARMED.append(True)
    yield tmp_path / "sprung"
    ARMED.clear()
    assert not (tmp_path / "sprung").exists()


def loaders() -> dict[str, Callable[[bytes], Any]]:
    """Everything in the package that reads bytes which another process or another time has written."""
    return {
        "checkpoint": unpack_tree,
        "snapshot": lambda data: load(PROBLEM, data),
        "event": decode_event,
        "from worker": from_worker,
        "to worker": to_worker,
        "hello": lambda data: msgspec.json.decode(data, type=Hello),
        "weights": read_tensors,
        "space": lambda data: Space.from_dict(json.loads(data)),
        "problem": lambda data: Problem.from_dict(json.loads(data)),
    }


def hostile(path: Path) -> list[bytes]:
    """Pickles of every protocol, as they are and where the formats expect something else."""
    found = [pickle.dumps(Trap(str(path)), protocol) for protocol in range(pickle.HIGHEST_PROTOCOL + 1)]
    text = found[0].decode("ascii")
    tree = pack_tree({"a": np.arange(3)})
    header = struct.pack("<Q", len(found[2]))
    return [
        *found,
        *(tree[:6] + header + f for f in found[2:3]),
        tree.replace(b"<i8", b"|O8"),
        tree[:-3],
        json.dumps(
            {"kind": "started", "trial": 0, "config": {"x": text}, "why": {"__reduce__": text}}
        ).encode(),
        json.dumps({"kind": "finish", "trial": 0, "token": 1, "outcome": text}).encode(),
        json.dumps({"target": {"module": "os", "name": text}, "path": [text]}).encode(),
        json.dumps(
            {"parameters": [{"name": "x", "type": "!!python/object/apply:os.system", "args": ["true"]}]}
        ).encode(),
        json.dumps({"space": {"py/object": "os.system"}, "objectives": []}).encode(),
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"",
        b"\x00" * 64,
        b"\xff" * 64,
        b"\x80\x04\x95",
    ]


FINE = (
    TunewrightError,
    msgspec.MsgspecError,
    ValueError,
    KeyError,
    TypeError,
    RecursionError,
    AttributeError,
)


@pytest.mark.parametrize("name", list(loaders()))
def test_a_loader_runs_nothing(name: str, trap: Path) -> None:
    reads = loaders()[name]
    for data in hostile(trap):
        try:
            reads(data)
        except FINE as error:
            assert "sprung" not in type(error).__name__
        assert not trap.exists()


def test_the_trap_works(tmp_path: Path) -> None:
    _listening()
    ARMED.append(True)
    with pytest.raises(AssertionError, match="find_class"):
        pickle.loads(pickle.dumps(Trap(str(tmp_path / "sprung"))))
    ARMED.clear()
    pickle.loads(pickle.dumps(Trap(str(tmp_path / "sprung"))))
    assert (tmp_path / "sprung").exists()


def test_checkpoints_say_what_is_wrong_with_them(trap: Path) -> None:
    tree = pack_tree({"weights": np.arange(6.0).reshape(2, 3), "text": "é", "raw": b"x"})
    rng = np.random.default_rng(0)
    for _ in range(200):
        data = bytearray(tree)
        for at in rng.integers(0, len(data), rng.integers(1, 6)):
            data[at] = rng.integers(0, 256)
        try:
            unpack_tree(bytes(data[: rng.integers(1, len(data) + 1)]))
        except CheckpointError as error:
            assert str(error)
    for damage in ("|O8", "nonsense", "M8[x]", "f99"):
        manifest = json.dumps({"a": [damage, [1], [0, 8]]}).encode()
        with pytest.raises(CheckpointError):
            unpack_tree(tree[:6] + struct.pack("<Q", len(manifest)) + manifest + b"x" * 8)


@pytest.mark.slow
def test_tensors_in_checkpoints_say_what_is_wrong_with_them(trap: Path) -> None:
    pytest.importorskip("torch")
    head = pack_tree({})[:6]
    for damage in (
        {"T": ["load", [1], [0, 8]]}, {"T": ["nothing", [1], [0, 8]]}, {"T": ["float32", [3], [0, 8]]},
        {"T": ["float32", [10**9, 10**9], [0, 0]]}, {"T": ["hub", [0], [0, 0]]}, {"T": ["float32", [-1, 0], [0, 0]]},
    ):  # fmt: skip
        manifest = json.dumps(damage).encode()
        with pytest.raises(CheckpointError):
            unpack_tree(head + struct.pack("<Q", len(manifest)) + manifest + b"x" * 8)


def test_a_store_with_hostile_contents_runs_nothing(trap: Path, tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    store = SqliteStore(path)
    info = store.create("s", {"problem": PROBLEM.to_dict(), "method": "random"})
    store.append(info.id, [Started(0, {"x": 0.5})], worker="external/a")
    for data in hostile(trap):
        store.save_snapshot(info.id, 1, data)
        store.close()
        with sqlite3.connect(path) as connection:
            connection.execute("UPDATE event SET data = ?", (data,))
        connection.close()
        try:
            with tw.Study.open("s", storage=path) as study:
                assert study.counts is not None
        except FINE:
            pass
        assert not trap.exists()


def test_files_of_checkpoints_run_nothing(trap: Path, tmp_path: Path) -> None:
    with tw.Study.open(
        "s", {"x": tw.Float(0, 1)}, method="random", storage=tmp_path / "s.db", steps=2
    ) as study:

        def train(trial: tw.Attempt) -> float:
            for step in trial.steps():
                trial.checkpoint.save_bytes(pickle.dumps(Trap(str(trap))))
                trial.report(step, loss=1.0)
            return 1.0

        study.run(train, trials=1, progress="none")
        folder = Path(study.session.store.blobs(study.session.info.id))
        assert [p for p in folder.iterdir() if p.is_file()]
        with pytest.raises(CheckpointError, match="must start with its mark"):
            study.checkpoint(0)
        for name in ("../../etc/passwd", "/etc/passwd", "a/../../b", "..", "t0\x00", "t0-s1.\ud800"):
            with pytest.raises((CheckpointError, ValueError)):
                blobs.get(str(folder), name)


def test_reports_show_what_is_in_a_study_and_run_none_of_it(trap: Path, tmp_path: Path) -> None:
    text = pickle.dumps(Trap(str(trap)), 0).decode("ascii")
    with tw.Study.open(
        "s", {"k": tw.Choice([text, "b"])}, method="random", storage=tmp_path / "s.db"
    ) as study:
        study.enqueue({"k": text})
        study.run(lambda k: float(len(k)), trials=3, progress="none")
        from tunewright.analysis.report import html

        assert "<script" not in html(study)
