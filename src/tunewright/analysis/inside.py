"""Where hyperparameters went while runs trained: drawn from the metrics that such a run reports.

``hyper.*`` are those tuned inside a run by their gradients; ``chosen.*`` is what an optimizer or a schedule chose.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tunewright.analysis.charted import Charted
from tunewright.analysis.drawing import Figure
from tunewright.analysis.marks import (
    Axis,
    Line,
    Mark,
    Panel,
    logarithmic,
    number,
    values_axis,
)
from tunewright.analysis.sizes import along, steps_axis
from tunewright.core.problem import Problem
from tunewright.core.trial import FAILURES, Trial
from tunewright.errors import ConfigError

_TRIALS, _PANELS, _LINES = 3, 8, 24
_RATES = ("lr", "d")
_DECADES = (
    1e6  # most between the ends of an axis of rates: a schedule that ends near zero would squeeze the rest
)
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Told:
    """Metrics that make one chart: those whose name begins with a prefix."""

    kind: str
    prefix: str
    title: str
    how: str
    lacking: str

    def of(self, trials: Sequence[Trial]) -> list[Trial]:
        """The trials that reported any."""
        return [t for t in trials if any(self.base(k) for r in t.reports[-1:] for k in r.metrics)]

    def base(self, metric: str) -> str:
        """``hyper.decay.3`` -> ``decay``; empty for other metrics."""
        return metric.removeprefix(self.prefix).split(".")[0] if metric.startswith(self.prefix) else ""


HYPER = Told(
    "inside",
    "hyper.",
    "Hyperparameters inside the runs",
    "Each line is a hyperparameter of one of the best trials while it was trained; large ones are shown by quantiles.",
    "A chart of hyperparameters inside runs needs trials that report them; got none. Pass trial=trial to hypergrad.tune, or report "
    "metrics named hyper.NAME.",
)
CHOSEN = Told(
    "chosen",
    "chosen.",
    "What the optimizers chose",
    "Each line is the step size, momentum or batch size of one of the best trials while it was trained.",
    "A chart of what optimizers chose needs trials that report it; got none. Call optim.report(trial, optimizer, step), or report "
    "metrics named chosen.NAME.",
)


def inside(study: Charted) -> Figure:
    """The hyperparameters of the best trials by step, one panel each.

    Raises:
        ConfigError: If no trial reported any.
    """
    return _figure(study, HYPER)


def chosen(study: Charted) -> Figure:
    """What the optimizers of the best trials chose by step, one panel each; what never changed is left out if anything did.

    Raises:
        ConfigError: If no trial reported any.
    """
    return _figure(study, CHOSEN)


def _figure(study: Charted, told: Told) -> Figure:
    objective = study.problem.objectives[0]
    found = told.of(study.trials)
    if not found:
        raise ConfigError(told.lacking)
    best = sorted(found, key=lambda t: _rank(t, objective.name, objective.sign))[:_TRIALS]
    names = list(dict.fromkeys(n for t in best for r in t.reports for n in map(told.base, r.metrics) if n))
    if told is CHOSEN:
        names = [
            n for n in names if any(_moves(c) for t in best for c in _courses(t, told, n).values())
        ] or names
    names = names[:_PANELS]
    panels = tuple(_panel(study.problem, name, told, best) for name in names)
    longest = max((t for t in best if _courses(t, told, names[0])), key=lambda t: t.step)
    return Figure(
        told.kind, told.title, told.how,
        _insight(longest, told, names[0]),
        panels,
        tuple((f"s{i}", f"trial {t.number}") for i, t in enumerate(best)),
        ("trial", "hyperparameter", "first", "last"),
        tuple(_rows(best, told)),
        columns=2 if len(panels) > 1 else 1,
    )  # fmt: skip


def _moves(course: Floats) -> bool:
    return bool(np.ptp(course[:, 1]) > 0)


def _rank(trial: Trial, objective: str, sign: float) -> tuple[bool, float, int]:
    value = trial.metrics.get(objective)
    return trial.status in FAILURES, value * sign if value is not None else float("inf"), trial.number


def _courses(trial: Trial, told: Told, name: str) -> dict[str, Floats]:
    """Step and value by metric of one hyperparameter, each of shape ``(reports, 2)``."""
    metrics = dict.fromkeys(k for r in trial.reports for k in r.metrics if told.base(k) == name)
    return {
        m: np.array([(r.step, r.metrics[m]) for r in trial.reports if m in r.metrics], dtype=np.float64)
        for m in list(metrics)[:_LINES]
    }


def _panel(problem: Problem, name: str, told: Told, trials: list[Trial]) -> Panel:
    courses = [(i, along(problem, c)) for i, t in enumerate(trials) for c in _courses(t, told, name).values()]
    values = np.concatenate([c[:, 1] for _, c in courses])
    steps = np.concatenate([c[:, 0] for _, c in courses])
    x = steps_axis(problem, max(float(steps.max()), 1.0))
    y = _axis(name, values)
    marks: list[Mark] = [
        Line(c, f"s{i}", f"trial {trials[i].number}", trials[i].number) for i, c in reversed(courses)
    ]
    return Panel(x, y, tuple(marks), name, 200)


def _axis(name: str, values: Floats) -> Axis:
    low, high = float(values.min()), float(values.max())
    if name in _RATES and high > 0:
        low = max(float(values[values > 0].min()), high / _DECADES)
        return logarithmic(name, low / 1.1, high * 1.1)
    return logarithmic(name, low, high) if low > 0 and high > 8 * low else values_axis(name, values)


def _rows(trials: list[Trial], told: Told) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for trial in trials:
        metrics: Any = dict.fromkeys(k for r in trial.reports for k in r.metrics if told.base(k))
        for metric in list(metrics)[:_LINES]:
            seen = [r.metrics[metric] for r in trial.reports if metric in r.metrics]
            rows.append(
                (str(trial.number), metric.removeprefix(told.prefix), number(seen[0]), number(seen[-1]))
            )
    return rows


def _insight(trial: Trial, told: Told, name: str) -> str:
    course = next(iter(_courses(trial, told, name).values()))
    first, last = float(course[0, 1]), float(course[-1, 1])
    tail = course[int(len(course) * 0.8) :, 1]
    still = np.ptp(tail) > 0.1 * max(np.ptp(course[:, 1]), 1e-300) and len(course) >= 10
    moving = "was still moving" if still else "had settled"
    return f"In trial {trial.number}, {name} went from {number(first)} to {number(last)} and {moving} at the end."
