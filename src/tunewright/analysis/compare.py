"""Two studies side by side: what they found, and how soon."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tunewright.core.problem import Problem
from tunewright.core.trial import FAILURES, Trial

_MARKS = (1, 2, 5)


def summary(name: str, method: str, problem: Problem, trials: Sequence[Trial]) -> dict[str, Any]:
    """One study as plain data.

    Args:
        name: Its name.
        method: Its method.
        problem: Its problem.
        trials: Its trials by number.

    Returns:
        Name, method, objectives, number of trials, completed and failed ones, total cost, the best value with its
        trial and parameters, and ``curve``: the best value after each trial, None before the first.
    """
    first = problem.objectives[0]
    best: Trial | None = None
    curve: list[float | None] = []
    for trial in trials:
        if (
            trial.status == "completed"
            and first.name in trial.metrics
            and not problem.violation(trial.metrics)
        ):
            value = first.sign * trial.metrics[first.name]
            if best is None or value < first.sign * best.metrics[first.name]:
                best = trial
        curve.append(None if best is None else best.metrics[first.name])
    costs = [t.cost for t in trials if t.cost is not None]
    return {
        "name": name,
        "method": method,
        "objectives": {o.name: o.goal for o in problem.objectives},
        "trials": len(trials),
        "completed": sum(t.status == "completed" for t in trials),
        "failed": sum(t.status in FAILURES for t in trials),
        "cost": sum(costs),
        "best": None if best is None else best.metrics[first.name],
        "best_trial": None if best is None else best.number,
        "best_params": None if best is None else dict(best.config),
        "curve": curve,
    }


def compare(left: dict[str, Any], right: dict[str, Any], changes: Sequence[str] = ()) -> dict[str, Any]:
    """Puts two summaries side by side.

    Args:
        left: Of one study, from ``summary``.
        right: Of the other.
        changes: How the second space differs from the first.

    Returns:
        Both, the best values after 1, 2, 5, 10, 20, 50, ... trials, the differences of the spaces, and ``better``:
        the name of the study with the better value, None when they are even or optimise different things.
    """
    longest = max(len(left["curve"]), len(right["curve"]))
    marks = [m * 10**e for e in range(7) for m in _MARKS if m * 10**e < longest]
    if longest:
        marks.append(longest)
    after = [{"trials": m, "left": _at(left["curve"], m), "right": _at(right["curve"], m)} for m in marks]
    same = left["objectives"] == right["objectives"]
    better = None
    if same and left["best"] is not None and right["best"] is not None and left["best"] != right["best"]:
        small = next(iter(left["objectives"].values())) == "minimize"
        better = left["name"] if (left["best"] < right["best"]) == small else right["name"]
    plain = [{k: v for k, v in side.items() if k != "curve"} for side in (left, right)]
    return {
        "left": plain[0],
        "right": plain[1],
        "comparable": same,
        "better": better,
        "after": after,
        "space": list(changes),
    }


def _at(curve: Sequence[float | None], trials: int) -> float | None:
    """The best value after so many trials; None when the study has not got that far."""
    return curve[trials - 1] if trials <= len(curve) else None
