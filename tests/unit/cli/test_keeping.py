"""``checkpoints`` lists what a study keeps and removes what nobody needs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import tunewright as tw
from tunewright.cli import main
from tunewright.store import blobs


class Weights:
    def state_dict(self) -> dict[str, Any]:
        return {"w": 1.0}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        assert state == {"w": 1.0}


def train(trial: tw.Attempt) -> None:
    trial.keep(weights=Weights())
    for step in trial.steps():
        trial.report(step, loss=trial["x"])


@pytest.fixture
def db(tmp_path: Path) -> str:
    path = str(tmp_path / "s.db")
    with tw.Study.open("s", {"x": tw.Float(0, 1)}, steps=3, method="asha", storage=path) as study:
        study.run(train, trials=4, progress="none")
        folder = study.session.store.blobs(study.session.info.id)
        blobs.put(folder, "t9-s9", b"orphan")
    return path


def run(capsys: pytest.CaptureFixture[str], *args: str) -> str:
    with pytest.raises(SystemExit) as stop:
        main(["checkpoints", *args])
    assert not stop.value.code
    return capsys.readouterr().out


def test_it_lists_who_needs_what(db: str, capsys: pytest.CaptureFixture[str]) -> None:
    data = json.loads(run(capsys, "s", "--json", "--storage", db))
    assert [c["trials"] for c in data["checkpoints"]] == [[0], [1], [2], [3]]
    assert sorted(c["step"] for c in data["checkpoints"]) == [1, 1, 1, 3]
    assert [o["bytes"] for o in data["orphans"]] == [6]
    assert data["bytes"] == 6 + sum(c["bytes"] for c in data["checkpoints"])
    assert data["freed"] == 0
    out = run(capsys, "s", "--storage", db)
    assert "4 checkpoints," in out
    assert "1 files, 6 bytes, are needed by no trial" in out


def test_it_removes_what_is_old_and_not_needed(db: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert "0 bytes freed" in run(capsys, "s", "--clean", "--storage", db)
    assert "6 bytes freed" in run(capsys, "--clean", "--age", "0", "--storage", db)
    assert json.loads(run(capsys, "--json", "--storage", db))["orphans"] == []


def test_it_keeps_the_best_completed_only(db: str, capsys: pytest.CaptureFixture[str]) -> None:
    data = json.loads(run(capsys, "--keep", "0", "--json", "--storage", db))
    assert {c["step"] for c in data["checkpoints"]} == {1}, "paused trials can still be resumed"
    assert data["freed"] > 0
    with tw.Study.open("s", storage=db, exist="must") as study:
        assert not study.session.ledger.finals
        assert study.replay().verified >= 4


def test_a_missing_file_is_called_missing(db: str, capsys: pytest.CaptureFixture[str]) -> None:
    data = json.loads(run(capsys, "--json", "--storage", db))
    (Path(data["folder"]) / data["checkpoints"][1]["name"]).unlink()
    assert "missing" in run(capsys, "--storage", db)


def test_more_steps_on_the_command_line_make_trainings_longer(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    script = "import tunewright as tw\ndef train(trial, x=tw.Float(0, 1)):\n    for step in trial.steps():\n        trial.report(step, loss=x + 1 / step)\n"
    (tmp_path / "longer.py").write_text(script)
    for steps, longest in (("3", 3), ("9", 9)):
        words = ["run", "longer.py:train", "--minimize", "loss", "--method", "asha"]
        with pytest.raises(SystemExit) as stop:
            main([*words, "--steps", steps, "--trials", "4", "--name", "l", "--progress", "none"])
        assert not stop.value.code
        with tw.Study.open("l", exist="must") as study:
            assert max(t.step for t in study.trials) == longest
