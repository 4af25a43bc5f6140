"""A chart of forks: whose weights each trial went on with."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from tunewright.analysis.charted import Charted, need, objective_of, tip
from tunewright.analysis.drawing import Figure
from tunewright.analysis.lineage import ancestors
from tunewright.analysis.marks import Dots, Line, Mark, Panel, linear, number
from tunewright.analysis.sizes import along, reached, steps_axis
from tunewright.core.problem import Problem
from tunewright.core.replicates import original_of
from tunewright.core.trial import FAILURES, Trial

_MOST = 600


def lineage(study: Charted) -> Figure:
    """Every trial as a stretch of training from where it took its weights; the ancestors of the best stand out.

    Raises:
        ConfigError: If no trial went on with the weights of another.
    """
    trials = list(study.trials)
    forks = [t for t in trials if t.parent is not None and original_of(t.start) is None]
    need(
        forks, 1, "lineage (trials that went on with the weights of another, as population methods make them)"
    )
    name, sign, _ = objective_of(study)
    ranked = [t for t in trials if name in t.metrics and t.status not in FAILURES]
    need(ranked, 1, "lineage")
    longest = max(t.step for t in ranked)
    best = min((t for t in ranked if t.step >= longest), key=lambda t: t.metrics[name] * sign)
    chain = ancestors(trials, best.number)
    marked = {t.number for t in chain}
    shown = [t for t in trials if t.number in marked or t.number >= len(trials) - _MOST]
    problem = study.problem
    marks: list[Mark] = [_stretch(problem, t, marked) for t in shown]
    marks += [_jump(problem, t, marked) for t in shown if t in forks]
    ends = np.array([[t.step, t.number] for t in shown], dtype=np.float64)
    styles = ["best" if t.number in marked else "failed" if t.status in FAILURES else "muted" for t in shown]
    tips = [tip(t, t.metrics.get(name)) for t in shown]
    marks.append(Dots(along(problem, ends), styles, tips, 2.6, [t.number for t in shown]))
    changed = sum(a.config != b.config for a, b in pairwise(chain))
    x = steps_axis(problem, float(max(t.step for t in shown)) or 1.0)
    y = linear("trial", float(shown[0].number) - 0.5, float(shown[-1].number) + 0.5)
    return Figure(
        "lineage", "Who went on from whom",
        "Each horizontal stretch is a trial's own training; dashed lines lead up from the trial whose weights it took over; the best "
        "and its ancestors are in colour.",
        f"Trial {best.number}, the best with {number(best.metrics[name])}, goes back over {len(chain) - 1} copies to trial "
        f"{chain[0].number}; on the way its hyperparameters changed at {changed} of them.",
        (Panel(x, y, tuple(marks), "", max(160, min(520, 8 * len(shown)))),),
        (("best", "the best and its ancestors"), ("muted", "others")),
        ("trial", "from step", "to step", name),
        tuple((str(t.number), reached(problem, _begin(t)), reached(problem, t.step), number(t.metrics.get(name, float("nan")))) for t in chain),
    )  # fmt: skip


def _begin(trial: Trial) -> int:
    """The step at which a trial's own training began."""
    return 0 if trial.parent is None or original_of(trial.start) is not None else trial.parent[1]


def _stretch(problem: Problem, trial: Trial, marked: set[int]) -> Line:
    points = np.array([[_begin(trial), trial.number], [trial.step, trial.number]], dtype=np.float64)
    style = "best" if trial.number in marked else "muted faint"
    return Line(along(problem, points), style, f"trial {trial.number}", trial.number)


def _jump(problem: Problem, trial: Trial, marked: set[int]) -> Line:
    donor = trial.parent[0] if trial.parent is not None else trial.number
    points = np.array([[_begin(trial), donor], [_begin(trial), trial.number]], dtype=np.float64)
    return Line(along(problem, points), "best dashed" if trial.number in marked else "muted faint dashed")
