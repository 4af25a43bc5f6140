"""``pause``, ``stop``, ``note`` and ``tag`` from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import tunewright as tw
from tunewright.cli import main


@pytest.fixture
def db(tmp_path: Path) -> str:
    path = str(tmp_path / "s.db")
    with tw.Study.open("s", {"x": tw.Float(0, 1)}, method="random", storage=path) as study:
        asked = study.ask()
        assert asked is not None
        asked.tell(0.5)
        study.ask()
    return path


def run(capsys: pytest.CaptureFixture[str], *args: str, code: int = 0) -> str:
    with pytest.raises(SystemExit) as stop:
        main([*args])
    assert (stop.value.code or 0) == code
    told = capsys.readouterr()
    return told.out if not code else told.err


def test_pause_and_stop_say_what_happens(db: str, capsys: pytest.CaptureFixture[str]) -> None:
    out = run(capsys, "pause", "s", "--storage", db)
    assert out == "s is paused; 1 running trial goes on to the end. tunewright resume takes it back.\n"
    assert "was paused already" in run(capsys, "pause", "--storage", db)
    told = json.loads(run(capsys, "stop", "s", "--json", "--storage", db))
    assert told == {"study": "s", "control": "stop", "changed": True, "running": 1}
    assert "is told to stop" not in run(capsys, "stop", "s", "--storage", db)
    with tw.Study.open("s", storage=db, exist="must") as study:
        assert study.control == "stop"


def test_notes_and_tags_are_shown(db: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "note", "s", "the new data", "--storage", db) == "noted\n"
    run(capsys, "note", "s", "odd", "--trial", "1", "--storage", db)
    assert run(capsys, "tag", "s", "paper", "good", "--storage", db) == "paper, good\n"
    assert run(capsys, "tag", "s", "--remove", "good", "--storage", db) == "paper\n"
    assert run(capsys, "tag", "s", "--trial", "0", "--storage", db) == "no tags\n"
    out = run(capsys, "note", "s", "--storage", db)
    assert [line.split() for line in out.splitlines()] == [
        ["about", "note", "tags"],
        ["study", "the", "new", "data", "paper"],
        ["trial", "1", "odd"],
    ]
    data = json.loads(run(capsys, "note", "s", "--json", "--storage", db))
    assert data == {
        "study": {"note": "the new data", "tags": ["paper"]},
        "trials": {"1": {"note": "odd", "tags": []}},
    }


def test_what_is_not_there_is_said(db: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert "must be about a trial of the study; got 9" in run(
        capsys, "note", "s", "x", "--trial", "9", "--storage", db, code=2
    )
    assert "needs a text" in run(capsys, "note", "s", "--trial", "1", "--storage", db, code=2)
    assert "A tag must be printable text" in run(capsys, "tag", "s", "x" * 61, "--storage", db, code=2)


def test_resume_takes_a_pause_back(db: str, capsys: pytest.CaptureFixture[str]) -> None:
    run(capsys, "pause", "s", "--storage", db)
    with pytest.raises(SystemExit) as stop:
        main(["resume", "s", "--storage", db])
    assert not stop.value.code
    told = capsys.readouterr().err
    assert "s goes on: runs and workers that wait for it" in told
    assert "to run it here" not in told, "it was started from Python"
    with tw.Study.open("s", storage=db, exist="must") as study:
        assert study.control is None
    assert "was started from Python" in run(capsys, "resume", "s", "--storage", db, code=2)


def test_status_says_what_a_study_was_told(db: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert "told" not in run(capsys, "status", "s", "--storage", db)
    run(capsys, "pause", "s", "--storage", db)
    assert "told    to pause; tunewright resume takes it back" in run(capsys, "status", "s", "--storage", db)
    assert json.loads(run(capsys, "status", "s", "--json", "--storage", db))["control"] == "pause"
