"""Learning curves: how each training went by step or by time, and where it was compared with others and left."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np

from tunewright.analysis.charted import Charted, Floats, need, objective_of, tip
from tunewright.analysis.drawing import Figure
from tunewright.analysis.marks import Dots, Line, Mark, Panel, linear, number, values_axis
from tunewright.analysis.sizes import along, reached, steps_axis, trained
from tunewright.core.events import Ended, Interrupted, Paused, Reported, Resumed, Started
from tunewright.core.trial import Trial
from tunewright.errors import ConfigError
from tunewright.numerics.statistics import ranks

_LINES, _TOP, _COLOURS, _ROWS = 300, 50, 8, 20
_LEAST_AT_RUNG = 3
_LEFT = ("paused", "stopped")
Curve = tuple[Trial, Floats]


def curves(study: Charted, x: str = "step", top: int = 5, metric: str | None = None) -> Figure:
    """A metric of every training, the best trials bright, the steps where trials were left marked.

    Args:
        study: The study.
        x: ``step``, or ``time``: seconds of training, pauses left out.
        top: How many of the best are bright, 1 to 50.
        metric: The metric; the first objective when None.

    Raises:
        ConfigError: If an option cannot be used, or no trial reported the metric.
    """
    if x not in ("step", "time"):
        raise ConfigError(f"Learning curves go across step or time; got {x!r}. Choose one of them.")
    bright = _whole(top)
    name, sign, label = objective_of(study)
    shown = name if metric is None else metric
    found = _found(study, shown)
    need(found, 1, "learning curves")
    last = {t.number: t.metrics.get(name, np.inf * sign) * sign for t, _ in found}
    ranked = sorted(range(len(found)), key=lambda i: (-found[i][1][-1, 0], last[found[i][0].number]))
    longest = max(float(p[-1, 0]) for _, p in found)
    insight = _insight(study, found, longest)
    ends = [reached(study.problem, int(p[-1, 0])) for _, p in found]
    rungs = _rungs(found, longest) if x == "step" else []
    if x == "time":
        found = _timed(study, found, shown)
    end = max(float(np.nanmax(p[:, 0], initial=0.0)) for _, p in found) or 1.0
    if x == "time":
        across = linear("seconds of training", 0.0, end)
        ends = [number(p[-1, 0]) for _, p in found]
    else:
        across = steps_axis(study.problem, end, even=False)
        rungs = along(study.problem, np.array(rungs)[:, None])[:, 0].tolist()
        found = [(t, along(study.problem, p)) for t, p in found]
    y = values_axis(label if shown == name else shown, np.concatenate([p[:, 1] for _, p in found]))
    marks: list[Mark] = [Line(np.array([[r, y.low], [r, y.high]]), "muted dashed", "rung") for r in rungs]
    return Figure(
        "curves", "Learning curves",
        "Each line is one trial's training; it ends with a point where the trial finished, paused or was stopped."
        + (" Dashed lines are the steps at which several were left." if rungs else ""),
        insight,
        (Panel(across, y, (*marks, *_lines(found, ranked, bright)), "", 320),),
        _legend(found, ranked, bright),
        ("trial", "seconds" if x == "time" else across.label if study.problem.scale is not None else "steps", shown),
        tuple((str(found[i][0].number), ends[i], number(found[i][1][-1, 1])) for i in ranked[:_ROWS]),
    )  # fmt: skip


def _whole(top: int) -> int:
    try:
        found = int(top)
    except (TypeError, ValueError):
        found = 0
    if not 1 <= found <= _TOP:
        raise ConfigError(
            f"Learning curves need a number from 1 to {_TOP} of bright ones; got {top!r}. Correct it."
        )
    return found


def _found(study: Charted, metric: str) -> list[Curve]:
    """Every trial that reported a metric, with its steps and values, shape ``(reports, 2)``."""
    found = []
    for trial in study.trials:
        reported = [(r.step, r.metrics[metric]) for r in trial.reports if metric in r.metrics]
        if reported:
            found.append((trial, np.array(reported, dtype=np.float64)))
    return found


def _timed(study: Charted, found: list[Curve], metric: str) -> list[Curve]:
    """The same with the seconds of training until each report in place of its step."""
    spent: defaultdict[int, float] = defaultdict(float)
    since: dict[int, float] = {}
    at: dict[tuple[int, int], float] = {}
    for record in study.session.store.read(study.session.info.id):
        event = record.event
        if isinstance(event, Started | Resumed):
            since[event.trial] = record.at
        elif isinstance(event, Reported) and metric in event.metrics:
            at[event.trial, event.step] = spent[event.trial] + record.at - since.get(event.trial, record.at)
        elif isinstance(event, Ended | Paused | Interrupted) and event.trial in since:
            spent[event.trial] += record.at - since.pop(event.trial)
    out = []
    for trial, points in found:
        seconds = [at.get((trial.number, int(step)), np.nan) for step in points[:, 0]]
        out.append((trial, np.column_stack([seconds, points[:, 1]])))
    return out


def _rungs(found: Sequence[Curve], longest: float) -> list[float]:
    """Steps before the last at which at least three trials were left."""
    left = Counter(float(p[-1, 0]) for t, p in found if t.status in _LEFT)
    return sorted(step for step, n in left.items() if n >= _LEAST_AT_RUNG and step < longest)[:20]


def _style(rank: int, bright: int) -> str:
    return "muted" if rank >= bright else f"s{rank % _COLOURS}"


def _lines(found: Sequence[Curve], ranked: Sequence[int], bright: int) -> list[Mark]:
    """The lines and their ends, the best last so that they lie on top."""
    marks: list[Mark] = []
    kept = ranked[: bright + _LINES]
    for rank in reversed(range(len(kept))):
        trial, points = found[kept[rank]]
        style = _style(rank, bright)
        faint = " faint" if style == "muted" else ""
        marks.append(Line(points, style + faint, f"trial {trial.number}", trial.number))
        marks.append(Dots(points[-1:], style, [tip(trial, float(points[-1, 1]))], 3.0, [trial.number]))
    return marks


def _legend(found: Sequence[Curve], ranked: Sequence[int], bright: int) -> tuple[tuple[str, str], ...]:
    named = tuple(
        (_style(r, bright), f"trial {found[i][0].number}")
        for r, i in enumerate(ranked[: min(bright, _COLOURS)])
    )
    return (*named, *((("muted", "others"),) if len(ranked) > bright else ()))


def _insight(study: Charted, found: Sequence[Curve], longest: float) -> str:
    points = [p for _, p in found]
    whole = [p for p in points if p[-1, 0] == longest]
    text = f"{len(whole)} of {len(points)} trials were trained to the end, {trained(study.problem, [int(p[-1, 0]) for p in points])}."
    early = [(p[0, 1], p[-1, 1]) for p in whole if p[0, 0] < longest]
    if len(early) < 5:
        return text
    first, last = (ranks([e[i] for e in early]) for i in (0, 1))
    if np.ptp(first) > 0 and np.ptp(last) > 0:
        rho = float(np.corrcoef(first, last)[0, 1])
        word = "tells much" if rho > 0.7 else "tells something" if rho > 0.3 else "tells little"
        text += f" Among those, the first report {word} about the last: rank correlation {rho:.2f}."
    return text
