"""A study as a small piece of HTML for notebooks: static, without scripts, in the colours of the page around it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from tunewright.core.life import Trial
from tunewright.core.problem import Problem

__all__ = ["as_html"]

_TOP = 5
_MOST = 5_000
_COLUMNS = 8
_CHARS = 120
_WIDTH, _HEIGHT = 240, 48
_CELL = "padding:2px 8px;text-align:left;border-bottom:1px solid rgba(128,128,128,.35)"


def as_html(
    name: str,
    method: str,
    problem: Problem,
    counts: dict[str, int],
    trials: Sequence[Trial],
    best: Trial | None,
) -> str:
    """What a notebook shows for a study.

    Args:
        name: The study's name.
        method: What chooses trials.
        problem: What is optimised.
        counts: Trials by status.
        trials: All trials; of more than 5,000 only the best is shown.
        best: The best one; None if there is none, or several objectives.
    """
    goals = ", ".join(f"{o.goal} {o.name}" for o in problem.objectives)
    states = ", ".join(f"{n} {status}" for status, n in counts.items()) or "no trials yet"
    parts = [
        f"<div><b>{_text(name)}</b> &middot; {_text(goals)} &middot; {_text(method)}</div>",
        f"<div>{_text(states)}</div>",
    ]
    one = len(problem.objectives) == 1
    scored = _scored(problem, trials) if one and len(trials) <= _MOST else []
    if len(scored) > 1:
        parts.append(_history(problem, [value for _, value in scored]))
    shown = [t for t, _ in sorted(scored, key=lambda pair: pair[1] * problem.objectives[0].sign)[:_TOP]]
    if not shown and best is not None:
        shown = [best]
    if shown:
        parts.append(_table(problem, shown))
    elif not one:
        parts.append(f"<div>{len(problem.objectives)} objectives: see <code>study.pareto</code></div>")
    return f'<div style="font-size:90%;line-height:1.5">{"".join(parts)}</div>'


def _scored(problem: Problem, trials: Iterable[Trial]) -> list[tuple[Trial, float]]:
    """Completed trials that meet the limits, with their objective, in the order they began."""
    metric = problem.objectives[0].name
    return [
        (t, t.metrics[metric])
        for t in trials
        if t.status == "completed" and metric in t.metrics and problem.violation(t.metrics) == 0
    ]


def _history(problem: Problem, values: list[float]) -> str:
    """Every result as a dot, and the best so far as a line; the axis leaves out the worst tenth."""
    sign = problem.objectives[0].sign
    losses = [v * sign for v in values]
    best = list(itertools.accumulate(losses, min))
    low, high = min(losses), sorted(losses)[math.ceil(0.9 * len(losses)) - 1]
    span = (high - low) or 1.0

    def place(i: int, loss: float) -> tuple[float, float]:
        x = 4 + i / max(1, len(losses) - 1) * (_WIDTH - 8)
        return round(x, 1), round(_HEIGHT - 4 - min(max((high - loss) / span, 0.0), 1.0) * (_HEIGHT - 8), 1)

    dots = "".join(
        f'<circle cx="{x}" cy="{y}" r="1.5"/>' for x, y in (place(i, v) for i, v in enumerate(losses))
    )
    line = " ".join(f"{x},{y}" for x, y in (place(i, v) for i, v in enumerate(best)))
    label = f"{problem.objectives[0].name} of {len(values)} trials, best {values[losses.index(low)]:.4g}"
    return (
        f'<svg role="img" aria-label="{_text(label)}" width="{_WIDTH}" height="{_HEIGHT}" viewBox="0 0 {_WIDTH} {_HEIGHT}">'
        f'<g fill="currentColor" opacity="0.35">{dots}</g>'
        f'<polyline points="{line}" fill="none" stroke="currentColor" stroke-width="1.5"/></svg>'
    )


def _table(problem: Problem, trials: list[Trial]) -> str:
    """The best trials, one a row."""
    metrics = [o.name for o in problem.objectives]
    names = list(dict.fromkeys(n for t in trials for n in t.params))
    more = len(names) - _COLUMNS
    heads = ["trial", *metrics, *names[:_COLUMNS], *([f"and {more} more"] if more > 0 else [])]
    rows = [
        [t.number, *(t.metrics.get(m) for m in metrics), *(t.params.get(n) for n in names[:_COLUMNS])]
        for t in trials
    ]
    head = "".join(f'<th scope="col" style="{_CELL}">{_text(h)}</th>' for h in heads)
    cells = [[f'<td style="{_CELL}">{_value(v)}</td>' for v in row] for row in rows]
    body = "".join(f"<tr>{''.join(row)}</tr>" for row in cells)
    return f'<table style="border-collapse:collapse;margin-top:4px"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'


def _value(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4g}"
    return _text(value)


def _text(value: Any) -> str:
    text = str(value)
    return escape(text if len(text) <= _CHARS else text[:_CHARS] + "…")
