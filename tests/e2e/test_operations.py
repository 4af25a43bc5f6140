"""Every operation goes wrong at every moment in every way, on every store that outlives a process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = Path(__file__).with_name("operations.py")
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are stopped as on Linux")


@pytest.fixture(params=["sqlite", "full", "postgres", "http"])
def url(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Address of a place; SQLite gets a file for each combination, servers a study."""
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
        yield f"sqlite:///{tmp_path}/STUDY.db" + ("?durability=full" if request.param == "full" else "")


@pytest.mark.slow
def test_every_operation_moment_and_way(url: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), url, str(tmp_path)], capture_output=True, text=True, timeout=400, check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["bad"] == []
    assert found["cells"] == 72
    assert found["killed"] == 18, "every combination with a kill has killed"
