"""Two studies side by side."""

from __future__ import annotations

from typing import Any

import pytest

from tunewright.analysis.compare import compare, summary
from tunewright.core.events import Ended, Record, Started
from tunewright.core.problem import Goal, Objective, Problem
from tunewright.core.space import Space
from tunewright.core.trial import Ledger


def side(
    name: str, values: list[float | None], goal: Goal = "minimize", metric: str = "loss"
) -> dict[str, Any]:
    problem = Problem(Space(), (Objective(metric, goal),))
    ledger = Ledger(problem)
    for number, value in enumerate(values):
        ledger.apply(Record(2 * number + 1, 0.0, "w", Started(number, {"x": number})))
        metrics = None if value is None else {metric: value}
        end = Ended(number, 2 * number + 1, "failed" if value is None else "completed", metrics, cost=2.0)
        ledger.apply(Record(2 * number + 2, 0.0, "w", end))
    return summary(name, "random", problem, ledger.trials)


def test_summary() -> None:
    found = side("a", [None, 3.0, 1.0, 2.0])
    assert found["curve"] == [None, 3.0, 1.0, 1.0]
    assert (found["best"], found["best_trial"], found["best_params"]) == (1.0, 2, {"x": 2})
    assert (found["trials"], found["completed"], found["failed"], found["cost"]) == (4, 3, 1, 8.0)


@pytest.mark.parametrize(("goal", "better"), [("minimize", "a"), ("maximize", "b")])
def test_the_better_one_depends_on_the_goal(goal: Goal, better: str) -> None:
    data = compare(side("a", [1.0] * 7, goal), side("b", [2.0, 3.0], goal), ["+ y"])
    assert data["better"] == better
    assert [m["trials"] for m in data["after"]] == [1, 2, 5, 7]
    assert data["after"][2]["right"] is None
    assert data["space"] == ["+ y"]


def test_what_cannot_be_compared() -> None:
    assert compare(side("a", [1.0]), side("b", [1.0], metric="acc"))["comparable"] is False
    assert compare(side("a", [1.0]), side("b", [1.0]))["better"] is None
    empty = compare(side("a", []), side("b", [None]))
    assert empty["better"] is None
    assert empty["after"] == [{"trials": 1, "left": None, "right": None}]
