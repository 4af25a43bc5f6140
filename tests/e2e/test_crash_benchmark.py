"""The crash benchmark keeps its promises, and notices when they are broken."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tunewright.core.events import Ended, Record, Started

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def crash(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT))
    return importlib.import_module("benchmarks.crash")


def broken(crash: Any, folder: Path, items: list[str] | None = None, failed: int = 0) -> dict[str, int]:
    found, _ = crash.judge(folder, items or [], failed)
    return {promise: count for promise, count in found.items() if count}


def finished(crash: Any, folder: Path, value: float | None = None) -> float:
    """One trial, told; returns the true value."""
    with crash.opened(folder, steps=False) as study:
        asked = study.ask()
        truth = float(crash.value_of(asked.params))
        asked.tell(truth if value is None else value)
    return truth


def test_honest_study_is_judged_clean(crash: Any, tmp_path: Path) -> None:
    truth = finished(crash, tmp_path)
    (tmp_path / "1.ack").write_text(f"0 {truth!r}\n0 1.0")
    assert broken(crash, tmp_path) == {}


def test_every_broken_promise_is_noticed(crash: Any, tmp_path: Path) -> None:
    truth = finished(crash, tmp_path)
    (tmp_path / "1.ack").write_text(f"0 {truth!r}\n1 0.5\n")
    assert broken(crash, tmp_path) == {"acknowledged results lost": 1}
    (tmp_path / "1.ack").write_text("0 77.0\n")
    assert broken(crash, tmp_path) == {"acknowledged results lost": 1}
    (tmp_path / "1.ack").unlink()
    finished(crash, tmp_path, value=-1.0)
    assert broken(crash, tmp_path) == {"results that are wrong": 1}
    with crash.opened(tmp_path, steps=False) as study:
        study.enqueue({"x": 0.5, "n": 1}, key="item")
        study.ask()
    assert broken(crash, tmp_path, ["item"], failed=2) == {
        "results that are wrong": 1,
        "enqueued items lost or done twice": 1,
        "trials left running": 1,
        "processes that failed by themselves": 2,
    }


def test_double_numbers_and_endings_are_noticed(crash: Any) -> None:
    end = Ended(0, 1, "completed", {"loss": 1.0})
    log = [Record(1, 0.0, "w", Started(0, {})), Record(2, 0.0, "w", Started(2, {}))]
    assert crash.counted(log) == (0, 1)
    assert crash.counted([*log, Record(3, 0.0, "w", end), Record(4, 0.0, "w", end)]) == (1, 1)


def test_page_is_written_from_the_figures(crash: Any) -> None:
    kept = crash.page.load()
    assert crash.page.PAGE.read_text(encoding="utf-8") == crash.page.text(kept)


def test_kept_figures_break_no_promise_of_ours(crash: Any) -> None:
    rows = crash.page.load()["rows"]
    assert set(rows) == set(crash.ROWS)
    for key, row in rows.items():
        for kind in crash.ROWS[key].ours:
            assert set(row["tunewright"][kind]["broken"].values()) == {0}, (key, kind)


@pytest.mark.slow
def test_quick_run(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.crash", "--quick", "--seconds", "4", "--seed", "7"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "every promise was kept" in done.stdout
