"""What each chart shows: from a study to a figure, with a sentence computed from the data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from tunewright.analysis.charted import (
    BRIEF,
    MOST,
    SHOWN,
    Charted,
    Floats,
    Groups,
    fully_trained,
    measured,
    need,
    objective_of,
    stairs,
    thin,
    tip,
    turns,
)
from tunewright.analysis.drawing import Figure
from tunewright.analysis.effects import Effect, comparable, effects
from tunewright.analysis.marks import (
    Axis,
    Band,
    Box,
    Dots,
    Line,
    Mark,
    Panel,
    Rows,
    cell,
    domain_axis,
    linear,
    names_axis,
    number,
    values_axis,
)
from tunewright.analysis.shares import labels, ranking
from tunewright.analysis.sizes import reached
from tunewright.core.domains import Scalar
from tunewright.core.events import Ended, Interrupted, Paused, Resumed, Started
from tunewright.core.trial import FAILURES

Stretch = tuple[int, float, float, str]  # trial, start, end, worker


def history(study: Charted) -> Figure:
    """Every result in order, and the best so far."""
    found = measured(study)
    need(found, 1, "the history")
    _, sign, label = objective_of(study)
    values = np.array([v for _, v in found])
    numbers = np.array([t.number for t, _ in found], dtype=np.float64)
    full = fully_trained(study, found)
    score = np.where(full, values * sign, np.inf)
    best = np.minimum.accumulate(score) * sign
    best[~np.isfinite(best)] = np.nan
    x, y = linear("trial", 0, max(float(numbers.max()), 1.0)), values_axis(label, values)
    groups, keep = Groups(study), thin(len(found))
    turn = turns(best)
    steps = stairs(numbers[turn], best[turn])
    points = np.column_stack([numbers, values])
    styles = [f"{groups.style(found[i][0])}{'' if full[i] else ' hollow'}" for i in keep]
    brief = len(keep) > BRIEF
    tips, trials = [tip(*found[i], brief=brief) for i in keep], [found[i][0].number for i in keep]
    dots = Dots(points[keep], styles, tips, trials=trials)
    top = int(np.argmin(score)) if full.any() else int(np.argmin(values * sign))
    share = (top + 1) / len(found)
    failed = sum(t.status in FAILURES for t in study.trials)
    insight = (
        f"The best {study.problem.objectives[0].name} is {number(values[top])}, of trial {found[top][0].number}; "
        f"it was found after {share:.0%} of the trials"
        + (", so more trials may still find better ones." if share > 0.8 else ".")
        + (f" {failed} trials failed and are not shown." if failed else "")
    )
    partial = (("s0 hollow", "stopped or paused early"),) if not full.all() else ()
    how = "Each point is a trial, in order of start; the line is the best result so far of a full training."
    if y.clipped:
        how += " Far outliers are drawn at the edge."
    return Figure(
        "history", "Progress", how, insight,
        (Panel(x, y, (Line(steps, "ink", "best so far"), dots)),),
        (*groups.legend(), *partial, ("ink", "best so far")),
        ("trial", "status", "step" if study.problem.scale is None else "size", study.problem.objectives[0].name),
        tuple((str(t.number), t.status, reached(study.problem, t.step), number(v)) for t, v in found[-SHOWN:]),
    )  # fmt: skip


def slices(study: Charted) -> Figure:
    """The objective against each parameter, with its average effect."""
    history = study.history()
    rows = np.flatnonzero(history.usable & ~np.all(np.isnan(history.codes), axis=1))
    need(rows, 6, "slices")
    _, sign, label = objective_of(study)
    space, names, groups = study.problem.space, labels(study.problem.space), Groups(study)
    compared, curves = comparable(history), {e.column: e for e in effects(history)}
    y = replace(values_axis(label, history.loss[rows] * sign), label="")
    panels = []
    most = max(300, 6000 // space.d)
    for j, column in enumerate(space.columns):
        here = rows[~np.isnan(history.codes[rows, j])]
        if not len(here) or np.ptp(history.codes[here, j]) == 0:
            continue
        here = here[thin(len(here), most)]
        marks: list[Mark] = []
        x = domain_axis("", column.domain)
        if j in curves:
            marks.extend(_effect_marks(curves[j], x, sign, column.domain))
        points = np.column_stack([x.values(history.codes[here, j]), history.loss[here] * sign])
        styles = [f"{groups.style(study.trials[i])}{'' if compared[i] else ' hollow'}" for i in here]
        tips = [f"trial {i}: {number(float(history.loss[i] * sign))}" for i in here]
        panels.append(Panel(x, y, (*marks, Dots(points, styles, tips, 3.0, here.tolist())), names[j], 150))
    legend = (*groups.legend(), *((("s0 hollow", "trained less"),) if not compared[rows].all() else ()))
    return Figure(
        "slice",
        "Each parameter on its own",
        f"Each point is a trial, its height the {label}; the line is the average over the trials trained longest and "
        "the band its 90 % interval.",
        _slice_insight(curves, sign, study),
        tuple(panels),
        (*legend, ("ink", "average")),
        ("parameter", "best average", "at", "trials"),
        tuple(_effect_row(e, sign, study) for e in curves.values()),
        columns=3,
    )


def _effect_marks(effect: Effect, x: Axis, sign: float, domain: Scalar) -> list[Mark]:
    """The average with its band; a stroke per option where options have nothing between them."""
    low, high = (effect.low, effect.high) if sign > 0 else (-effect.high, -effect.low)
    mean, places = effect.mean * sign, x.values(effect.codes)
    if not domain.categorical:
        return [Band(places, low, high, "band"), Line(np.column_stack([places, mean]), "ink", "average")]
    marks: list[Mark] = []
    for place, middle, below, above in zip(places, mean, low, high, strict=True):
        ends = np.array([place - 0.3, place + 0.3])
        marks.append(Band(ends, np.full(2, below), np.full(2, above), "band"))
        marks.append(Line(np.column_stack([ends, np.full(2, middle)]), "ink", "average"))
    return marks


def _at(effect: Effect, study: Charted) -> str:
    """The value of the parameter where its average is best."""
    decode = study.problem.space.columns[effect.column].domain.coder()[1]
    return cell(decode(float(effect.codes[int(np.argmin(effect.mean))])))


def _effect_row(effect: Effect, sign: float, study: Charted) -> tuple[str, ...]:
    return effect.name, number(float(effect.mean.min()) * sign), _at(effect, study), str(effect.n)


def _slice_insight(curves: dict[int, Effect], sign: float, study: Charted) -> str:
    if not curves:
        return "No parameter was varied in enough trials to say where it does best."
    widest = max(curves.values(), key=lambda e: float(np.ptp(e.mean)))
    best, worst = float(widest.mean.min()) * sign, float(widest.mean.max()) * sign
    at = int(np.argmin(widest.mean))
    sure = bool(np.any(widest.low > widest.high[at]))
    return (
        f"The average moves most with {widest.name}: {number(best)} at {_at(widest, study)} against {number(worst)} "
        f"at its worst" + (", more than chance explains." if sure else ", though the bands still overlap.")
    )


def parallel(study: Charted) -> Figure:
    """Whole configurations: one line per trial through all its parameters."""
    history = study.history()
    order, codes = ranking(history)
    need(order, 2, "configurations")
    _, sign, label = objective_of(study)
    space, names = study.problem.space, labels(study.problem.space)
    values = history.loss[order] * sign
    last = values_axis(label, values)
    keep = np.unique(np.r_[np.arange(min(20, len(order))), thin(len(order))[:: max(1, len(order) // 300)]])
    top = max(1, min(20, round(0.1 * len(order))))
    styles = ["best" if rank < top else "muted faint" for rank in keep][::-1]
    tips = [tip(study.trials[order[i]], float(values[i])) for i in keep][::-1]
    axes = [domain_axis(n, c.domain) for n, c in zip(names, space.columns, strict=True)]
    lines = np.column_stack([*(a.values(codes[:, j]) for j, a in enumerate(axes)), values])[keep][::-1]
    return Figure(
        "parallel", "Whole configurations",
        "Each line is a trial, read from the top parameter to the result; it runs along the left edge past parameters "
        "that the trial does not use.",
        _parallel_insight(study, codes[:top], names),
        Rows((*axes, last), lines, styles, tips, order[keep][::-1].tolist()),
        (("best", f"best {top}"), ("muted", "others")),
        ("rank", "trial", *(e.path for e in space.entries[:8]), study.problem.objectives[0].name),
        tuple(
            (str(r + 1), str(i), *(cell(study.trials[i].config.get(e.name, "-")) for e in space.entries[:8]), number(v))
            for r, (i, v) in enumerate(zip(order[:20], values, strict=False))
        ),
    )  # fmt: skip


def _parallel_insight(study: Charted, best: Floats, names: Sequence[str]) -> str:
    """What the best have in common: the same option, or the narrowest part of a range."""
    parts: list[tuple[float, str]] = []
    for j, column in enumerate(study.problem.space.columns):
        codes = best[:, j]
        if np.isnan(codes).any():
            continue
        decode = column.domain.coder()[1]
        low, high = cell(decode(float(codes.min()))), cell(decode(float(codes.max())))
        width = float(np.ptp(codes))
        if column.domain.categorical:
            if width == 0:
                parts.append((0.0, f"{names[j]} = {low}"))
        elif width < 0.5:
            parts.append((width, f"{names[j]} in [{low}, {high}]"))
    if not parts:
        return f"The best {len(best)} trials have no parameter in common: good results come in several kinds."
    shared = ", ".join(text for _, text in sorted(parts)[:4])
    return (
        f"The best {len(best)} trials agree on {shared}."
        if len(best) > 1
        else f"The best trial has {shared}."
    )


def timeline(study: Charted) -> Figure:
    """Who trained when: a lane per worker, more where one trains several trials at a time."""
    spans = _segments(study)
    need(spans, 1, "the timeline")
    began, ended = min(s[1] for s in spans), max(s[2] for s in spans)
    lanes, placed = _lanes(spans)
    total, k = max(ended - began, 1e-3), len(lanes)
    x = linear("seconds since the first start", 0.0, total)
    y = names_axis("", lanes[::-1])
    groups = Groups(study)
    marks = [
        Box(
            start - began, k - 1.38 - lane, stop - began, k - 0.62 - lane,
            "failed" if study.trials[n].status in FAILURES else groups.style(study.trials[n]),
            f"trial {n}, {study.trials[n].status}, {stop - start:.2f} s", n,
        )
        for lane, n, start, stop in placed[:MOST]
    ]  # fmt: skip
    busy = sum(s[2] - s[1] for s in spans)
    longest = max(placed, key=lambda p: p[3] - p[2])
    again = len(spans) - len({s[0] for s in spans})
    failed = any(t.status in FAILURES for t in study.trials)
    return Figure(
        "timeline", "Timeline",
        "Each bar is a stretch of training of one trial; gaps are time in which a lane had nothing to do.",
        f"{k} slots were busy {busy / (total * k):.0%} of {total:.3g} s; the longest stretch was trial {longest[1]} with "
        f"{longest[3] - longest[2]:.3g} s" + (f", and {again} times a trial went on after a pause." if again else "."),
        (Panel(x, y, tuple(marks), "", 34 * k + 6),),
        (*groups.legend(), *((("failed", "failed"),) if failed else ())),
        ("trial", "from", "to"),
        tuple((str(n), f"{a - began:.2f} s", f"{b - began:.2f} s") for n, a, b, _ in spans[:SHOWN]),
    )  # fmt: skip


def _lanes(spans: Sequence[Stretch]) -> tuple[list[str], list[tuple[int, int, float, float]]]:
    """Names of lanes, and ``(lane, trial, start, end)`` of every stretch; nothing lies on top of another within a lane."""
    free: dict[str, list[float]] = {}
    where: list[tuple[str, int]] = []
    ordered = sorted(spans, key=lambda s: s[1])
    for _, start, stop, worker in ordered:
        mine = free.setdefault(worker, [])
        at = next((i for i, until in enumerate(mine) if until <= start + 1e-3), len(mine))
        mine[at : at + 1] = [stop]
        where.append((worker, at))
    keys = [(worker, i) for worker in sorted(free) for i in range(len(free[worker]))]
    numbers = {key: i for i, key in enumerate(keys)}
    placed = [(numbers[key], s[0], s[1], s[2]) for key, s in zip(where, ordered, strict=True)]
    if len(free) == 1:
        return [f"slot {i + 1}" for i in range(len(keys))], placed
    return [_called(worker) + (f" ({i + 1})" if i else "") for worker, i in keys], placed


def _called(worker: str) -> str:
    """A worker's name without what only tells processes apart: its tag, else its host and process."""
    parts = worker.split("/")
    return (parts[4] or f"{parts[0]} {parts[2]}") if len(parts) == 5 else worker


def _segments(study: Charted) -> list[Stretch]:
    """Every stretch of training, from the log."""
    open_: dict[int, tuple[float, str]] = {}
    spans: list[Stretch] = []
    at = 0.0
    for record in study.session.store.read(study.session.info.id):
        event, at = record.event, record.at
        if isinstance(event, Started | Resumed):
            open_[event.trial] = at, record.worker
        elif isinstance(event, Ended | Paused | Interrupted) and event.trial in open_:
            start, worker = open_.pop(event.trial)
            spans.append((event.trial, start, at, worker))
    return spans + [(trial, start, max(at, start), worker) for trial, (start, worker) in open_.items()]
