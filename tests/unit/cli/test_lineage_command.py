"""``tunewright lineage`` on a small population."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import tunewright as tw
from tunewright.cli import main


@pytest.fixture
def storage(tmp_path: Path) -> str:
    def train(trial: tw.Attempt) -> None:
        state = trial.checkpoint.load({"w": 0.0})
        for step in trial.steps():
            state["w"] += trial["x"]
            trial.checkpoint.save(state)
            if not trial.report(step, loss=(state["w"] - 4) ** 2):
                return

    where = str(tmp_path / "s.db")
    options = {"size": 6, "interval": 3}
    with tw.Study.open(
        "p", {"x": tw.Float(0, 1)}, minimize="loss", steps=9, method="pbt", options=options, storage=where
    ) as study:
        study.run(train, trials=6, progress="none")
    return where


def said(capsys: pytest.CaptureFixture[str], *args: str) -> str:
    with pytest.raises(SystemExit) as stop:
        main(list(args))
    assert stop.value.code in (None, 0)
    return capsys.readouterr().out


def test_tree_and_schedule_are_shown_and_saved(
    storage: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "schedule.json"
    out = said(capsys, "lineage", "p", "--storage", storage, "--save", str(path))
    assert "└─" in out
    assert f"Saved to {path}" in out
    data: dict[str, Any] = json.loads(said(capsys, "lineage", "p", "--storage", storage, "--json"))
    schedule = tw.Schedule.load(path)
    assert schedule.to_dict() == data["schedule"]
    study = tw.Study.open("p", storage=storage, exist="must")
    assert data["trial"] == study.best.number
    # Following the schedule from scratch gives the weights of the copy of copies.
    weight = sum(schedule.at(step)["x"] for step in range(9))
    assert (weight - 4) ** 2 == pytest.approx(study.best.metrics["loss"])


def test_a_trial_that_is_not_there_is_refused(storage: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["lineage", "p", "--storage", storage, "--trial", "999"])
    assert stop.value.code == 2
    assert "A trial must be one of the study's" in capsys.readouterr().err
