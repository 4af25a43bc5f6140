"""Async runs in a process that is told to go: what they did is kept, and the same program continues."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import tunewright as tw

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals as on POSIX")
PROGRAM = """
import asyncio, sys, time
import tunewright as tw

def plain(trial):
    for step in trial.steps():
        time.sleep(0.02)
        trial.report(step, loss=trial["x"] + 1 / step)

async def coroutine(trial):
    for step in trial.steps():
        await asyncio.sleep(0.02)
        trial.report(step, loss=trial["x"] + 1 / step)

async def main():
    async with tw.Study.open("s", {"x": tw.Float(0, 1)}, steps=300, method="random", storage="s.db") as study:
        train, workers = {"coroutine": (coroutine, 3), "workers": (plain, 2), "thread": (plain, 1)}[sys.argv[1]]
        summary = await study.arun(train, workers=workers, trials=6, **({} if train is coroutine else {"progress": "none"}))
        print(summary.why, summary.signal)

if __name__ == "__main__":
    asyncio.run(main())
"""


def children(pid: int) -> set[int]:
    found = set()
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == pid:
            found.add(int(path.parent.name))
    return found


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize(
    ("how", "number"),
    [
        ("workers", signal.SIGTERM),
        pytest.param("coroutine", signal.SIGTERM, marks=pytest.mark.slow),
        pytest.param("thread", signal.SIGHUP, marks=pytest.mark.slow),
        pytest.param("workers", signal.SIGINT, marks=pytest.mark.slow),
        pytest.param("coroutine", signal.SIGINT, marks=pytest.mark.slow),
        pytest.param("workers", signal.SIGKILL, marks=pytest.mark.slow),
    ],
)
def test_a_process_that_is_told_to_go(how: str, number: signal.Signals, tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    process = subprocess.Popen(
        [sys.executable, "program.py", how],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    end = time.monotonic() + 40
    running = {"coroutine": 3, "workers": 2, "thread": 1}[how]
    while True:
        assert time.monotonic() < end
        assert process.poll() is None
        time.sleep(0.05)
        if (tmp_path / "s.db").exists() and tw.Study.exists("s", tmp_path / "s.db"):
            with tw.Study.open("s", storage=tmp_path / "s.db", exist="must") as study:
                if sum(t.step > 0 for t in study.trials) == running:
                    break
    workers = children(process.pid)
    process.send_signal(number)
    out, err = process.communicate(timeout=40)
    if number in (signal.SIGTERM, signal.SIGHUP):
        assert out.split() == ["interrupted", str(int(number))], out + err
        assert process.returncode == 0
    else:
        assert process.returncode != 0
    while any(alive(pid) for pid in workers):
        assert time.monotonic() < end
        time.sleep(0.02)
    with tw.Study.open("s", storage=tmp_path / "s.db", exist="must") as study:
        assert len(study.trials) == running
        lost = {t.number for t in study.trials if t.status == "running"}
        if number != signal.SIGKILL:
            assert study.counts == {"waiting": running}
            assert study.session.store.leases(1) == []
        assert lost <= {lease.trial for lease in study.session.store.leases(1) if lease.expired}
        asked = study.ask()
        assert asked is not None
        assert asked.number < running, "what was begun comes first"
