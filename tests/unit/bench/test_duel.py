import json
from pathlib import Path

import numpy as np
import pytest
from benchmarks import duel, regret

from tunewright.bench.functions import function_task


def record(tasks: list[str], regrets: list[float], version: str = "1") -> dict[str, object]:
    rows = [
        {"task": t, "seed": s, "regret": [r], "ms": 1.0, "evaluations": 25, "error": ""}
        for t, r in zip(tasks, regrets, strict=True)
        for s in (0, 1)
    ]
    return {"at": [25], "version": version, "rows": rows}


def test_a_study_is_measured_and_repeats() -> None:
    task = function_task("ackley", 2)
    first, again = (duel.run("tw_random", task, 3, 25) for _ in range(2))
    assert first["error"] == ""
    assert first["evaluations"] == 25
    assert first["regret"] == again["regret"]
    assert len(first["regret"]) == sum(k <= 25 for k in duel.AT)
    assert all(np.diff(first["regret"]) <= 0)


def test_a_tool_that_fails_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        def __init__(self, *_: object) -> None:
            raise OSError("no disk")

    monkeypatch.setattr(duel, "adapters", lambda: {"broken": (Broken, {}, "broken 0")})
    row = duel.run("broken", function_task("ackley", 2), 0, 25)
    assert row["error"] == "OSError: no disk"
    assert row["evaluations"] == 0
    assert set(row["regret"]) == {1.0}


def test_tools_of_one_loss_are_left_out_of_two(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    class Single:
        pass

    known = {"single": (Single, {}, "single 0")}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(duel, "adapters", lambda: known)
        ended = duel.main(["--adapter", "single", "--suite", "biobj", "--out", str(tmp_path / "x.json")])
    assert ended == 4
    assert "takes one loss" in capsys.readouterr().out
    assert duel.takes_many("tw_random")


def test_tools_are_compared_on_the_tasks_that_all_ran() -> None:
    found = regret.summary(
        {
            "tw_auto": record(["a", "b", "c"], [0.1, 0.2, 0.3]),
            "peer": record(["c", "b"], [0.6, 0.4]),
        }
    )
    assert found["tasks"] == ["b", "c"]
    rows = {s["name"]: s for s in found["at"]["25"]["standings"]}
    assert rows["tw_auto"]["per_task"] == [0.2, 0.3]
    assert rows["peer"]["per_task"] == [0.4, 0.6]
    assert rows["tw_auto"]["ratio"] == pytest.approx(0.5)
    assert rows["tw_auto"]["rank"] == 1.0


def test_nothing_in_common_is_said() -> None:
    with pytest.raises(SystemExit, match="none"):
        regret.summary({"x": record(["a"], [0.1]), "y": record(["b"], [0.1])})


def test_the_runner_prints_a_table_from_kept_records(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in (("tw_auto", 0.1), ("optuna_tpe", 0.2)):
        path = tmp_path / f"functions_{name}.json"
        path.write_text(json.dumps(record(["a", "b"], [value, value], version=f"{name} 9")))
    arguments = ["--suite", "functions", "--adapters", "tw_auto,optuna_tpe", "--raw", str(tmp_path)]
    assert regret.main(arguments) == 0
    out = capsys.readouterr().out
    assert "taken from functions_optuna_tpe.json" in out
    assert "0.1000 / 1.00 / 0.50x" in out
    assert "optuna_tpe 9" in out
