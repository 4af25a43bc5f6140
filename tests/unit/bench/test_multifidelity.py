from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tunewright.bench import curves
from tunewright.bench.simulate import Task
from tunewright.core.domains import Float
from tunewright.core.problem import Fidelity, Problem
from tunewright.core.space import Space

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))
from benchmarks import multifidelity, race, scheduling

STEPS = 9


def falling(config: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    return config["x"] + 1.0 / np.arange(1, STEPS + 1), np.full(STEPS, 2.0)


TASK = Task("falling", Problem(Space(x=Float(0, 1)), fidelity=Fidelity(STEPS)), falling, 1 / 9, 0.5 + 1 / 9)


class Halves:
    """Asks for four steps of a configuration, then for the rest of it, then for the next one."""

    def __init__(self, seed: int, values: list[float]) -> None:
        self.values, self.asked = values, 0
        self.told: list[tuple[int, float, int]] = []
        self.heard: list[int] = []

    def ask(self) -> tuple[int, dict[str, float], int, int]:
        number, half = divmod(self.asked, 2)
        self.asked += 1
        return number, {"x": self.values[number]}, number, STEPS if half else 4

    def report(self, handle: int, step: int, value: float) -> bool:
        self.heard.append(step)
        return True

    def tell(self, handle: int, value: float, step: int) -> None:
        self.told.append((handle, value, step))


def test_another_tool_pays_every_step_once_and_is_told_the_end_of_segments() -> None:
    tool = Halves(0, [0.5, 0.25])
    row = race.run_peer(lambda seed: tool, TASK, 0, 2 * STEPS, math.inf, 9.0)
    assert tool.heard == [*range(1, 10), *range(1, 10)]
    assert tool.told == [
        (0, 0.75, 4),
        (0, pytest.approx(0.5 + 1 / 9), 9),
        (1, 0.5, 4),
        (1, pytest.approx(0.25 + 1 / 9), 9),
    ]
    assert (row["steps"], row["seconds"], row["error"]) == (18, 36.0, "")
    first, last = row["trace"][0], row["trace"][-1]
    assert first == (1, 2.0, 1.0), "a loss of 1.5 is no better than a random one"
    assert last == (18, 36.0, pytest.approx(0.5))


def test_a_training_that_diverged_is_told_as_the_worst_value() -> None:
    def curve(config: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray]:
        return np.where(np.arange(STEPS) >= 2, np.nan, falling(config)[0]), np.ones(STEPS)

    task = Task("bad", TASK.problem, curve, 0.0, 1.0)
    tool = Halves(0, [0.5, 0.25])
    row = race.run_peer(lambda seed: tool, task, 0, 4, math.inf, 9.0)
    assert tool.told[0] == (0, 9.0, 3)
    assert row["trace"][-1][2] == 1.0


def test_a_tool_that_fails_is_too_slow_or_asks_for_nothing_new_is_cut_off() -> None:
    assert race.run_peer(lambda seed: Halves(0, [0.5]), TASK, 0, 99, math.inf, 9.0)["error"].startswith(
        "IndexError"
    )
    assert "cut off" in race.run_peer(lambda seed: Halves(0, [0.5]), TASK, 0, 99, -1.0, 9.0)["error"]

    class Same(Halves):
        def ask(self) -> tuple[int, dict[str, float], int, int]:
            return 0, {"x": 0.5}, 0, 3

    row = race.run_peer(lambda seed: Same(0, []), TASK, 0, 99, math.inf, 9.0)
    assert (row["steps"], row["error"]) == (3, "asked for nothing new")


def test_our_methods_are_judged_by_the_truth_of_what_they_saw() -> None:
    row = race.run_ours("asha(random)", TASK, 0, 60)
    assert (row["steps"], row["error"]) == (60, "")
    regrets = [r for _, _, r in row["trace"]]
    assert regrets == sorted(regrets, reverse=True)
    blind = Task("noisy", TASK.problem, falling, 1 / 9, 0.5 + 1 / 9, lambda c: np.full(STEPS, 0.5 + 1 / 9))
    assert {r for _, _, r in race.run_ours("asha(random)", blind, 0, 60)["trace"]} == {1.0}
    assert race.run_ours("auto", TASK, 0, 20)["steps"] == 20


def record(points: list[tuple[int, float, float]], steps: int = 100, **more: Any) -> dict[str, Any]:
    rows = [
        {
            "task": t,
            "seed": s,
            "high": 10,
            "trace": points,
            "steps": steps,
            "seconds": 2.0 * steps,
            "cpu": 0.5,
            "error": "",
        }
        | more
        for t in curves.SUITES["curves"]
        for s in (0, 1)
    ]
    return {"version": "tool 1", "rows": rows}


def test_a_summary_has_regret_rank_and_compute_saved() -> None:
    slow = record([(5, 10.0, 0.9), (100, 200.0, 0.4)])
    fast = record([(5, 10.0, 0.6), (20, 40.0, 0.3)])
    short = record([(5, 10.0, 0.1)], steps=40)
    found = multifidelity.summary("curves", {"tw:random": slow, "peer": fast, "cut": short}, 10)
    assert list(found["at"]) == ["1", "4"]
    one = {s["name"]: (s["regret"], s["rank"], s["seeds"]) for s in found["at"]["1"]["standings"]}
    assert one == {"tw:random": (0.9, 3.0, 2), "peer": (0.6, 2.0, 2), "cut": (0.1, 1.0, 2)}
    assert found["at"]["4"]["best_peer"] == "cut"
    # Random search reaches 0.4 after ten trainings; the peer after two, on a fine grid.
    assert found["savings"]["tw:random"]["suite"] == pytest.approx(1.0)
    assert found["savings"]["peer"]["suite"] == pytest.approx(5.0, rel=0.03)
    assert "cut" not in found["savings"], "it did not run so long"
    assert found["tools"]["peer"]["ms_per_report"] == 5.0
    assert "seconds" not in found


def test_seeds_that_did_not_run_long_enough_are_left_out() -> None:
    some = record([(5, 10.0, 0.5)])
    some["rows"][1] |= {"steps": 20, "error": "cut off"}
    units = dict.fromkeys(curves.SUITES["curves"], 10.0)
    tasks = list(curves.SUITES["curves"])
    found = multifidelity.table(some, tasks, units, np.array([4.0]), 0)
    assert found is not None
    assert found.shape == (5, 1, 1)
    some["rows"][1]["error"] = "exhausted"
    found = multifidelity.table(some, tasks, units, np.array([4.0]), 0)
    assert found is not None
    assert found.shape == (5, 2, 1)


def test_records_are_kept_and_not_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("TUNEWRIGHT_PEERS", raising=False)
    monkeypatch.setattr(multifidelity, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(race.curves, "suite_task", lambda suite, name: TASK)
    out = tmp_path / "curves_tw:random.json"
    arguments = ["--tool", "tw:random", "--suite", "curves", "--seeds", "2", "--budget", "4"]
    assert race.main([*arguments, "--out", str(out)]) == 0
    rows = json.loads(out.read_text())["rows"]
    assert [(r["task"], r["seed"]) for r in rows] == [(t, s) for s in (0, 1) for t in curves.SUITES["curves"]]
    before = out.read_text()
    assert race.main([*arguments, "--out", str(out)]) == 0
    assert out.read_text() == before
    shown = ["--suite", "curves", "--tools", "tw:random,nosuch", "--budget", "4", "--raw", str(tmp_path)]
    assert multifidelity.main([*shown, "--only-show", "--save"]) == 0
    assert "tw:random" in capsys.readouterr().out
    found = json.loads((tmp_path / "results" / "multifidelity_curves.json").read_text())
    assert set(found["at"]) == {"1", "4"}
    assert found["tools"]["tw:random"]["seeds"] == 2


def test_tools_that_are_not_here_say_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TUNEWRIGHT_PEERBENCH", str(tmp_path))
    monkeypatch.setattr(race, "PEERS", {"nosuch": ("nosuch_", "mf_nosuch", "nosuch")})
    out = str(tmp_path / "out.json")
    assert race.main(["--tool", "nosuch", "--suite", "xgb", "--out", out]) == 3
    assert "nosuch is not installed here" in capsys.readouterr().out
    monkeypatch.setenv("TUNEWRIGHT_DATA", str(tmp_path))
    monkeypatch.setattr(race.curves, "suite_task", curves.suite_task.__wrapped__)
    assert race.main(["--tool", "tw:random", "--suite", "xgb", "--out", out]) == 5
    assert "Set TUNEWRIGHT_DATA" in capsys.readouterr().out


def test_methods_that_are_not_listed_are_left_out() -> None:
    assert multifidelity.known(["random", "nosuch", "auto"]) == ["tw:random", "tw:auto"]
    assert len(multifidelity.known(multifidelity.QUICK)) == len(multifidelity.QUICK)


def test_pausing_and_resuming_in_one_process_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNEWRIGHT_SEGMENTS", "")
    found = scheduling.pause_and_resume(0, 12)
    assert found["resumed"] >= 3
    assert 0.0 < found["cpu_ms"] < 50.0
    assert found["least_ms"] <= found["median_ms"]
    assert scheduling.per_report("asha(random)", 200) > 0.0
    assert scheduling.at_scale(50, 100)["trials"] == 100


def test_arguments_have_defaults_by_suite(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TUNEWRIGHT_PEERS", raising=False)
    quick: argparse.Namespace = multifidelity.arguments(["--quick"])
    assert (quick.suites, quick.seeds, quick.budget, quick.raw) == (["curves"], 2, 16, None)
    full = multifidelity.arguments([])
    assert full.suites == list(curves.SUITES)
    assert (full.seeds, full.budget) == (10, 50)
    with pytest.raises(SystemExit):
        multifidelity.arguments(["--suite", "nosuch"])
