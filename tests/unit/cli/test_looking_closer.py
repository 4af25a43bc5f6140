"""``plot``, ``importance`` and ``space``: charts, measures and a smaller space from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import tunewright as tw
from tunewright.cli import main


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> str:
    where = str(tmp_path_factory.mktemp("looking") / "s.db")
    space = {"x": tw.Float(0, 1), "y": tw.Float(0, 1), "c": tw.Choice(["a", "b"])}
    with tw.Study.open("s", space, method="random", storage=where, seed=0) as study:
        for _ in range(80):
            trial = study.ask()
            trial.tell(abs(trial.params["x"] - 0.3) + (trial.params["c"] == "a"))
    return where


def said(capsys: pytest.CaptureFixture[str], *args: str, code: int | None = 0) -> tuple[str, str]:
    with pytest.raises(SystemExit) as stop:
        main(list(args))
    assert (stop.value.code or 0) == code
    out = capsys.readouterr()
    return out.out, out.err


def test_a_chart_is_written_and_its_sentence_said(
    capsys: pytest.CaptureFixture[str], storage: str, tmp_path: Path
) -> None:
    file = str(tmp_path / "c.svg")
    out, err = said(
        capsys, "plot", "s", "contour", "-o", file, "--set", "x=x", "--set", "y=c", "--storage", storage
    )
    assert out.strip() == file
    assert err.startswith("The average is best")
    assert Path(file).read_text(encoding="utf-8").startswith("<svg")
    told = json.loads(said(capsys, "plot", "s", "stopping", "-o", file, "--storage", storage, "--json")[0])
    assert told["kind"] == "stopping"
    assert "more trials are expected" in told["says"]


def test_a_wrong_option_of_a_chart_is_wrong_usage(capsys: pytest.CaptureFixture[str], storage: str) -> None:
    _, err = said(capsys, "plot", "s", "history", "--set", "x=1", "--storage", storage, code=2)
    assert "takes no options; got 'x'" in err


@pytest.mark.parametrize("method", ["ped-anova", "fanova", "ablation", "local"])
def test_importance_by_every_measure(capsys: pytest.CaptureFixture[str], storage: str, method: str) -> None:
    found = json.loads(said(capsys, "importance", "s", "--method", method, "--storage", storage, "--json")[0])
    assert {f["name"] for f in found} == {"x", "y", "c"}
    assert found[0]["name"] in ("c", "x")
    assert all(f["low"] <= f["importance"] <= f["high"] for f in found)


def test_the_space_is_shown_and_refined_into_a_file(
    capsys: pytest.CaptureFixture[str], storage: str, tmp_path: Path
) -> None:
    out, _ = said(capsys, "space", "s", "--storage", storage)
    assert "a number in [0.0, 1.0]" in out
    file = tmp_path / "smaller.json"
    out, err = said(capsys, "space", "s", "--refine", "-o", str(file), "--storage", storage)
    assert "narrowed" in out
    assert "of the space is left" in err
    smaller = tw.Space.from_dict(json.loads(file.read_text(encoding="utf-8")))
    assert smaller.domains["c"].options == ("b",)  # type: ignore[union-attr]
    told = json.loads(said(capsys, "space", "s", "--refine", "--storage", storage, "--json")[0])
    assert told["space"] == smaller.to_dict()
    assert {c["name"] for c in told["changes"]} == {"x", "y", "c"}
