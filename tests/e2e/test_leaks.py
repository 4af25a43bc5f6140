"""What a process holds does not grow with the trials it has seen: files, threads, children, connections, memory."""

from __future__ import annotations

import gc
import os
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import tunewright as tw

ROOT = Path(__file__).resolve().parents[2]
EARLY, ALL = 1000, 5000
# Connections that a store keeps for its next calls.
POOL = 4
# What the ledger keeps of a trial is its history, and no leak; measured at 1 to 2 KB.
PER_TRIAL = 4096
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc"),
]


@pytest.fixture(params=["sqlite", "full", "postgres", "http"])
def url(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    if request.param == "postgres":
        yield f"{request.getfixturevalue('postgres_url')}&blobs={tmp_path / 'blobs'}"
    elif request.param == "http":
        monkeypatch.syspath_prepend(str(ROOT))
        from benchmarks.faults.places import Server

        server = Server(tmp_path)
        try:
            server.start()
            yield server.url("tunewright")
        finally:
            server.close()
    else:
        yield f"sqlite:///{tmp_path}/studies.db" + ("?durability=full" if request.param == "full" else "")


def opened(url: str) -> tw.Study:
    return tw.Study.open("leaks", {"x": tw.Float(0, 1)}, method="random", storage=url)


def held() -> dict[str, int]:
    """Open files and sockets, threads, children."""
    children = 0
    for task in Path("/proc/self/task").iterdir():
        children += len((task / "children").read_text().split())
    return {
        "files": sum(1 for _ in Path("/proc/self/fd").iterdir()),
        "threads": threading.active_count(),
        "children": children,
    }


def assert_same(early: dict[str, int]) -> None:
    now = held()
    assert now["files"] <= early["files"] + POOL, (early, now)
    assert {**now, "files": 0} == {**early, "files": 0}


def memory() -> int:
    """Resident bytes."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_ask_and_tell(url: str) -> None:
    with opened(url) as study:
        early: dict[str, int] = {}
        resident = 0
        for number in range(ALL):
            asked = study.ask()
            assert asked is not None
            asked.tell(asked.params["x"])
            if number == EARLY:
                early, resident = held(), memory()
        assert_same(early)
        assert (memory() - resident) / (ALL - EARLY) < PER_TRIAL
        assert study.counts == {"completed": ALL}


def test_run_with_workers(url: str) -> None:
    """Between two runs of the same process: the workers of the first are gone, and nothing of them is left."""
    before = 0
    with opened(url) as study:
        first: dict[str, int] = {}
        for trials in (EARLY, ALL):
            study.run(quick, trials=trials, workers=2, progress="none")
            end = time.monotonic() + 10
            while held()["children"] > 1 and time.monotonic() < end:
                time.sleep(0.05)
            if trials == EARLY:
                first, before = held(), memory()
        assert_same(first)
        assert first["children"] <= 1, "the pool is gone"
        assert (memory() - before) / (ALL - EARLY) < PER_TRIAL
        assert study.counts == {"completed": ALL}


def quick(x: float) -> float:
    return x


def test_opening_again_and_again(url: str) -> None:
    opened(url).close()
    early = held()
    for _ in range(100):
        with opened(url) as study:
            asked = study.ask()
            assert asked is not None
            asked.tell(0.5)
    gc.collect()
    assert_same(early)
