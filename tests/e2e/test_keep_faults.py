"""Backups, copies, vacuums and checks while others write, and killed in the middle."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from shell import Shell

from tunewright.core.events import Ended, Noted
from tunewright.store.copying import digest
from tunewright.store.sqlite import SqliteStore

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="processes are killed as on POSIX"),
]
WORKER = Path(__file__).with_name("store_worker.py")
SPEC = {
    "problem": {
        "space": {"parameters": [{"name": "x", "type": "float", "low": 0.0, "high": 1.0}]},
        "objectives": [{"name": "loss"}],
    },
    "method": "random",
}


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    made = Shell(tmp_path)
    yield made
    made.close()


def filled(path: Path, records: int = 20_000) -> None:
    store = SqliteStore(path)
    study = store.create("s", SPEC).id
    for _ in range(records // 1000):
        store.append(study, [Noted("n", {"text": "x" * 200})] * 1000, worker="external/a")
    store.close()


def test_everybody_goes_on_meanwhile(shell: Shell) -> None:
    """A worker writes all the time; it never fails, never waits long, and nothing that it was promised is missing."""
    path, acks = shell.folder / "s.db", shell.folder / "acks.txt"
    filled(path)
    worker = subprocess.Popen(
        [sys.executable, str(WORKER), "loop", str(path), str(acks), "8"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    shell.wait(lambda: acks.exists() and acks.stat().st_size > 0, "the worker")
    quiet, seen, last = 0.0, 0, time.monotonic()
    commands = [
        ["backup", "--to", "b.db", "--storage", str(path)],
        ["copy", "s", "--to", "c.db", "--storage", str(path)],
        ["vacuum", "--storage", str(path)],
        ["copy", "s", "--to", "c.db", "--storage", str(path)],
    ]
    for command in commands:
        process = shell.start(*command)
        while process.poll() is None:
            time.sleep(0.005)
            size = acks.stat().st_size
            if size > seen:
                quiet, seen, last = max(quiet, time.monotonic() - last), size, time.monotonic()
        out, err = process.communicate()
        assert process.returncode == 0, out + err
    told, _ = worker.communicate(timeout=60)
    assert told == "ready\n"
    assert worker.returncode == 0
    assert quiet < 3.0
    store = SqliteStore(path)
    ended = {r.event.token: r.event.metrics for r in store.read(1) if isinstance(r.event, Ended)}
    lines = [line.split() for line in acks.read_text().splitlines()]
    assert len(lines) > 50
    for seq, value in lines:
        assert ended[int(seq)] == {"loss": float(value)}
    for name in ("b.db", "c.db"):
        copy = SqliteStore(shell.folder / name)
        end = copy.last(1)
        assert end > 20_000
        assert digest(copy, 1) == digest(store, 1, upto=end)
        copy.close()
    store.close()


@pytest.mark.parametrize("command", ["backup", "copy", "vacuum"])
def test_a_command_that_is_killed_can_be_repeated(shell: Shell, command: str) -> None:
    path = shell.folder / "s.db"
    filled(path, 10_000)
    store = SqliteStore(path)
    whole = digest(store, 1)
    args = {
        "backup": ["backup", "--to", "t.db", "--force"],
        "copy": ["copy", "s", "--to", "t.db"],
        "vacuum": ["vacuum"],
    }[command]
    rng = random.Random(4)
    for _ in range(6):
        process = shell.start(*args, "--storage", str(path))
        time.sleep(0.35 + 0.25 * rng.random())
        process.kill()
        process.communicate()
        assert digest(store, 1) == whole
        target = shell.folder / "t.db"
        if target.exists() and command == "backup":
            copy = SqliteStore(target)
            assert digest(copy, 1) == whole, "a file of that name is a whole backup"
            copy.close()
            os.unlink(target)  # noqa: PTH108
    shell(*args, "--storage", str(path))
    if command != "vacuum":
        copy = SqliteStore(shell.folder / "t.db")
        assert digest(copy, 1) == whole
        copy.close()
    assert shell.json("doctor", "--storage", str(path))["ok"]
    store.close()
