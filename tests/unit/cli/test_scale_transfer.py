"""What the terminal says of a study with a scale, and ``scale transfer``."""

from __future__ import annotations

import io
import json
import math
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import tunewright as tw
from tunewright.analysis.live import Live
from tunewright.analysis.pace import Pace
from tunewright.scaling import Scale

SCALE = Scale({"width": (64, 1024)}, [{"width": 64}, {"width": 128}], steps=(4, 4, 16))


def train(drift: float, trial: tw.Attempt) -> None:
    away = math.log2(trial["lr"]) + 7 + drift * math.log2(trial.size("width") / 64)
    for step in trial.steps():
        trial.report(step, loss=1 + 0.05 * away**2 + 0.1 / step)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two studies: under one the best rate stays, under the other it moves by two doublings."""
    path = tmp_path_factory.mktemp("studies") / "studies.db"
    for name, drift in (("stays", 0), ("moves", 2)):
        space = tw.Space(lr=tw.Float(1e-4, 1.0, log=True), dropout=tw.Float(0.0, 0.4))
        with tw.Study.open(name, space, scale=SCALE, method="random", storage=str(path)) as study:
            study.run(partial(train, drift), trials=24, progress="none")
    return path


def said(store: Path, capfd: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    from tunewright.cli import main

    with pytest.raises(SystemExit) as left:
        main([*words, "--storage", str(store)])
    return int(left.value.code or 0), capfd.readouterr().out


def test_the_answer_comes_with_its_evidence(store: Path, capfd: Any) -> None:
    code, text = said(store, capfd, "scale", "transfer", "stays")
    assert code == 0
    assert text.startswith("width 1,024: lr=0.00")
    assert "The study cost 0.117 trainings of the target." in text
    head, first, second = (
        line.split() for line in text.splitlines() if line.startswith(("size", "width 64", "width 128"))
    )
    assert head[:3] == ["size", "steps", "best"]
    assert first[:3] == ["width", "64", "4"]
    assert second[-1] == "24"
    assert "claims that the best rate stays" in text


def test_json_says_the_same_as_python(store: Path, capfd: Any) -> None:
    code, text = said(store, capfd, "scale", "transfer", "stays", "--json", "--horizon", "published")
    with tw.Study.open("stays", storage=str(store), exist="must") as study:
        assert json.loads(text) == study.transfer(horizon="published").to_dict()
    assert code == 0
    assert json.loads(text)["rules"][0]["length"]["source"] == "published"


def test_a_refusal_is_an_answer_with_a_status_of_its_own(store: Path, capfd: Any) -> None:
    code, text = said(store, capfd, "scale", "transfer", "moves")
    assert code == 1
    assert text.startswith("No settings for width 1,024: mup claims that the best rate stays")
    code, text = said(store, capfd, "scale", "transfer", "moves", "--json")
    assert code == 1
    assert json.loads(text)["settings"] is None


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (("--horizon", "later"), "horizon must be"),
        (("--horizon", "shares"), "needs a scale with shares"),
        (("--parameter", "dropout"), "follows one parameter on a log scale"),
    ],
)
def test_what_cannot_be_asked_is_refused(
    store: Path, capfd: Any, words: tuple[str, ...], wanted: str
) -> None:
    with pytest.raises(SystemExit) as left:
        from tunewright.cli import main

        main(["scale", "transfer", "stays", *words, "--storage", str(store)])
    assert left.value.code == 2
    assert wanted in capfd.readouterr().err


def test_commands_say_sizes(store: Path, capfd: Any) -> None:
    assert "size     width 128 · step 4" in said(store, capfd, "best", "stays")[1]
    assert "for width 1,024: tunewright scale transfer stays" in said(store, capfd, "best", "stays")[1]
    shown = said(store, capfd, "show", "stays")[1]
    assert "target   width 1,024 (16 steps)" in shown
    assert "proxies  width 64 (4); width 128 (4)" in shown
    one = said(store, capfd, "show", "stays", "3")[1]
    assert "size      width 128 · step 4" in one
    assert "  width 64 · step 1: loss=" in one
    assert "point" not in one
    assert "width 128 · step 4" in said(store, capfd, "trials", "stays", "--limit", "2")[1]
    place = json.loads(said(store, capfd, "best", "stays", "--json")[1])["place"]
    assert place == {"sizes": {"width": 128}, "step": 4, "words": "width 128 · step 4"}
    assert json.loads(said(store, capfd, "show", "stays", "--json")[1])["scale"] == SCALE.to_dict()


def test_exports_say_sizes(store: Path, capfd: Any) -> None:
    lines = said(store, capfd, "export", "stays", "--format", "csv")[1].splitlines()
    assert "size.width,size.step,step" in lines[0]
    assert ",128,4,12," in lines[1]
    rows = [
        json.loads(line)
        for line in said(store, capfd, "export", "stays", "--format", "jsonl")[1].splitlines()
    ]
    assert {r["place"]["words"] for r in rows} == {"width 128 · step 4"}


def test_the_live_table_says_sizes(store: Path) -> None:
    with tw.Study.open("stays", storage=str(store), exist="must") as study:
        show = Live("stays", "random", study.problem, Pace(24, None), io.StringIO())
        study.session.sync()
        show.look(study.session)
        text = "\n".join(line.plain for line in show.lines(120, 30))
    assert "width 128 · step 4" in text
    assert "12/12" not in text
