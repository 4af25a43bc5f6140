"""Hydra finds the sweeper, its grammar becomes a space, and a sweep survives what studies survive."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import tunewright as tw
from tunewright.errors import ConfigError, SpaceError

pytest.importorskip("hydra")
from hydra.core.override_parser.overrides_parser import OverridesParser

from tunewright.integrations.hydra import Searched, _override, report, searched, trial

APP = """
import os
from dataclasses import dataclass
import hydra
from hydra.core.config_store import ConfigStore
from tunewright.integrations.hydra import report, trial

@dataclass
class Config:
    lr: float = 0.1
    opt: str = "sgd"
    pair: bool = False

ConfigStore.instance().store("config", Config)

@hydra.main(version_base=None, config_path=None, config_name="config")
def main(cfg):
    if os.environ.get("DIE_AT") and trial().number == int(os.environ["DIE_AT"]):
        os._exit(9)
    if cfg.opt == "it's bad":
        raise ValueError("bad choice")
    for step in range(1, 4):
        if not report(step, loss=cfg.lr + 1 / step):
            break
    return (cfg.lr, 1 - cfg.lr) if cfg.pair else cfg.lr + 1 / step

main()
"""


def _searched(*words: str) -> Searched:
    return searched(OverridesParser.create().parse_overrides(list(words)))


@pytest.mark.parametrize(
    ("word", "domain"),
    [
        ("x=interval(0.5, 2)", tw.Float(0.5, 2)),
        ("x=interval(1, 8)", tw.Float(1, 8)),
        ("x=int(interval(1, 8))", tw.Int(1, 8)),
        ("x=tag(log, interval(1e-5, 1e-1))", tw.Float(1e-5, 1e-1, log=True)),
        ("x=tag(log, int(interval(1, 512)))", tw.Int(1, 512, log=True)),
        ("x=range(1, 9)", tw.Int(1, 8)),
        ("x=range(1, 9, 2)", tw.Int(1, 7, step=2)),
        ("x=range(0.0, 1.0, 0.25)", tw.Float(0.0, 0.75, step=0.25)),
        ("x=choice(a, b, c)", tw.Choice(["a", "b", "c"])),
        ("x=1,a,2.5,null", tw.Choice([1, "a", 2.5, None])),
        ("x=choice(true, false)", tw.Bool()),
        ("x=tag(ordered, choice(small, large))", tw.Order(["small", "large"])),
        ("x=[1,2],[3]", tw.Choice(["[1, 2]", "[3]"])),
    ],
)
def test_the_grammar_becomes_a_space(word: str, domain: Any) -> None:
    assert _searched(word, "y=3").space.domains == {"x": domain}
    assert _searched(word, "y=3").fixed == ["y=3"]


def test_a_value_comes_back_as_hydra_reads_it() -> None:
    what = _searched('x="it\'s, odd",{a:1},null,true')
    for option in what.space.domains["x"].options:  # type: ignore[union-attr]
        (parsed,) = OverridesParser.create().parse_overrides([_override("x", option, what.words)])
        assert not parsed.is_sweep_override()
    for value in ("it's; $x", "a\\b", None, True, 1e-7, 3):
        (parsed,) = OverridesParser.create().parse_overrides([_override("y", value, {})])
        assert getattr(parsed.value(), "text", parsed.value()) == value


@pytest.mark.parametrize(
    ("words", "error", "text"),
    [
        (["x=3"], ConfigError, "something to search"),
        (["x=tag(logg, interval(1, 2))"], ConfigError, "Tags are log and ordered"),
        (["x=tag(log, choice(1, 2))"], ConfigError, "x' is a choice"),
        (["x=interval(2, 1)"], SpaceError, "low < high"),
    ],
)
def test_what_cannot_be_searched_is_said(words: list[str], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        _searched(*words)


def test_the_later_of_two_overrides_holds() -> None:
    assert _searched("x=interval(0, 1)", "x=choice(1, 2)").space.domains == {"x": tw.Choice([1, 2])}


def test_outside_of_a_sweep_a_report_does_nothing() -> None:
    assert report(1, loss=0.5) is True
    assert trial() is None


def _sweep(folder: Path, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    (folder / "app.py").write_text(APP)
    command = [
        sys.executable,
        "app.py",
        "-m",
        "hydra/sweeper=tunewright",
        "hydra.sweeper.storage=s.db",
        *words,
    ]
    environment = {**os.environ, **variables, "PYTHONWARNINGS": "ignore"}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False
    )


@pytest.mark.slow
def test_a_sweep_stops_jobs_early_and_goes_on_after_a_crash(tmp_path: Path) -> None:
    words = (
        "lr=tag(log, interval(1e-5, 1e-1))", "hydra.sweeper.steps=3", "hydra.sweeper.method='halting(random)'",
        "hydra.sweeper.trials=9",
    )  # fmt: skip
    assert _sweep(tmp_path, *words, DIE_AT="6").returncode == 9
    done = _sweep(tmp_path, *words)
    assert done.returncode == 0, done.stderr
    with tw.Study.open("app", storage=tmp_path / "s.db", exist="must") as study:
        assert len(study.trials) == 9 and set(study.counts) == {"completed", "stopped"}
        assert study.trials[6].attempts == 2, "what the crash cut off was begun again"
        stopped = [t for t in study.trials if t.status == "stopped"]
        assert all(t.reports and t.step < 3 for t in stopped)
        best = study.best
    found = next((tmp_path / "multirun").rglob("optimization_results.yaml")).read_text()
    assert f"best_job: {best.number}" in found
    overrides = next((tmp_path / "multirun").rglob("8/.hydra/overrides.yaml")).read_text()
    assert overrides.splitlines() == [line for line in overrides.splitlines() if line.startswith("- lr=")]


@pytest.mark.slow
def test_params_in_the_config_jobs_in_batches_and_failures(tmp_path: Path) -> None:
    (tmp_path / "conf").mkdir()
    done = _sweep(
        tmp_path,
        "+hydra.sweeper.params.lr='interval(0.0, 1.0)'",
        "opt=adam,\"it's bad\"",
        "hydra.sweeper.trials=8", "hydra.sweeper.n_jobs=3", "hydra.sweeper.method=random", "hydra.sweeper.failures=null",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    with tw.Study.open("app", storage=tmp_path / "s.db", exist="must") as study:
        assert set(study.space.domains) == {"lr", "opt"}
        for one in study.trials:
            assert one.status == ("failed" if one.params["opt"] == "it's bad" else "completed")
        assert 0 < study.counts["failed"] < 8
        assert "bad choice" in next(t.error for t in study.trials if t.status == "failed")


@pytest.mark.slow
def test_several_objectives(tmp_path: Path) -> None:
    done = _sweep(
        tmp_path, "lr=interval(0.0, 1.0)", "pair=true", "hydra.sweeper.trials=3",
        "hydra.sweeper.minimize=[a,b]", "hydra.sweeper.method=random",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    with tw.Study.open("app", storage=tmp_path / "s.db", exist="must") as study:
        assert len(study.pareto) == 3
    assert "solutions:" in next((tmp_path / "multirun").rglob("optimization_results.yaml")).read_text()
