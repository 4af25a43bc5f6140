"""Every call of the operating system fails once, fails for good, or is the last one: nothing acknowledged is lost."""

from __future__ import annotations

import errno
import importlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = Path(__file__).with_name("nth_operation.py")
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="calls are intercepted as Linux allows it")
CODES = {
    "write": errno.ENOSPC, "fsync": errno.EIO, "rename": errno.EIO, "truncate": errno.EIO, "open": errno.EMFILE,
    "lock": errno.ENOLCK, "unlink": errno.EIO, "connect": errno.ECONNREFUSED, "send": errno.ECONNRESET,
    "recv": errno.ECONNRESET,
}  # fmt: skip


@pytest.fixture(scope="module")
def library() -> str:
    sys.path.insert(0, str(ROOT))
    try:
        path = importlib.import_module("benchmarks.faults.shim").library()
    finally:
        sys.path.remove(str(ROOT))
    if path is None:
        pytest.skip("needs a C compiler; install gcc to run this test")
    return str(path)


@pytest.fixture(params=["postgres", "http"])
def server(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Address of a server; each run has a study of its own there."""
    if request.param == "postgres":
        yield f"{request.getfixturevalue('postgres_url')}&blobs={tmp_path / 'blobs'}"
        return
    monkeypatch.syspath_prepend(str(ROOT))
    from benchmarks.faults.places import Server

    (tmp_path / "server").mkdir()
    made = Server(tmp_path / "server")
    try:
        made.start()
        yield made.url("tunewright")
    finally:
        made.close()


def sweep(
    library: str, folder: Path, kind: str, action: str, store: str, first: int = 1, step: int = 1
) -> dict[str, Any]:
    command = [sys.executable, SCRIPT, kind, action, CODES[kind], store, folder, first, step]
    environment = {**os.environ, "LD_PRELOAD": library, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        list(map(str, command)), env=environment, capture_output=True, text=True, timeout=280, check=False
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize(
    ("kind", "action", "durability", "first", "step"),
    [
        ("write", "short", "process", 5, 37),
        ("fsync", "once", "full", 4, 9),
        ("rename", "kill", "process", 1, 1),
    ],
)
def test_some_calls(
    library: str, tmp_path: Path, kind: str, action: str, durability: str, first: int, step: int
) -> None:
    found = sweep(library, tmp_path, kind, action, durability, first, step)
    assert found["bad"] == []
    assert found["acknowledged"] > 20
    assert found["calls"] > step


@pytest.mark.slow
@pytest.mark.parametrize("durability", ["process", "full"])
@pytest.mark.parametrize("action", ["once", "on", "kill"])
@pytest.mark.parametrize("kind", ["fsync", "rename", "truncate", "open", "unlink"])
def test_every_call(library: str, tmp_path: Path, kind: str, action: str, durability: str) -> None:
    found = sweep(library, tmp_path, kind, action, durability)
    assert found["bad"] == []
    assert found["acknowledged"] > 0


@pytest.mark.slow
@pytest.mark.parametrize("action", ["once", "on", "kill", "short", "after"])
def test_every_write(library: str, tmp_path: Path, action: str) -> None:
    """Of the database, of its log and of checkpoints; half a write is what a crash of the machine leaves."""
    found = sweep(library, tmp_path, "write", action, "process", step=2 if action == "on" else 1)
    assert found["bad"] == []
    assert found["calls"] > 100


@pytest.mark.slow
@pytest.mark.parametrize("action", ["once", "on", "kill"])
def test_every_fifth_lock(library: str, tmp_path: Path, action: str) -> None:
    """Of the database and of the turnstile beside it."""
    found = sweep(library, tmp_path, "lock", action, "process", step=5)
    assert found["bad"] == []
    assert found["calls"] > 100


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "action"),
    [("connect", "once"), ("connect", "kill"), ("send", "once"), ("send", "kill"), ("send", "after"),
     ("recv", "once"), ("recv", "kill"), ("recv", "after")],
)  # fmt: skip
def test_every_third_word_to_a_server(
    library: str, tmp_path: Path, server: str, kind: str, action: str
) -> None:
    """A connection breaks before a request is sent, or after the server has done what it was asked for."""
    found = sweep(library, tmp_path, kind, action, server, step=1 if kind == "connect" else 3)
    assert found["bad"] == []
    assert found["calls"] >= (1 if kind == "connect" else 30)
