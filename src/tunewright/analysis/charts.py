"""What each chart shows: from a study to a figure, with a sentence computed from the data."""

from __future__ import annotations

from collections.abc import Sequence, Sized
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from tunewright.analysis.drawing import (
    GROUPS,
    Axis,
    Band,
    Box,
    Dots,
    Figure,
    Line,
    Mark,
    Panel,
    Rows,
    cell,
    domain_axis,
    linear,
    logarithmic,
    names_axis,
    number,
    values_axis,
)
from tunewright.analysis.effects import Effect, comparable, effects
from tunewright.analysis.importance import importance as importances
from tunewright.analysis.importance import labels, ranking
from tunewright.core.domains import Choice, Scalar
from tunewright.core.events import Ended, Interrupted, Paused, Resumed, Started
from tunewright.core.history import History
from tunewright.core.problem import Problem
from tunewright.core.trial import FAILURES, Trial
from tunewright.errors import ConfigError
from tunewright.numerics.statistics import ranks

Floats = NDArray[np.float64]
MOST = 2000  # marks per chart; beyond that a page gets heavy and a chart no clearer
_SHOWN = 200


class Charted(Protocol):
    """What charts read of a study."""

    @property
    def name(self) -> str:
        """Its name."""
        ...

    @property
    def method(self) -> str:
        """Its method."""
        ...

    @property
    def problem(self) -> Problem:
        """The problem."""
        ...

    @property
    def trials(self) -> list[Trial]:
        """All trials."""
        ...

    @property
    def session(self) -> Any:
        """Its handle on the log."""
        ...

    def history(self) -> History:
        """The trials as arrays."""
        ...


def tip(trial: Trial, value: float | None) -> str:
    """What a tooltip says about a trial."""
    head = f"trial {trial.number}" + (f": {number(value)}" if value is not None else f", {trial.status}")
    return "\n".join([head, *(f"{k} = {cell(v)}" for k, v in list(trial.config.items())[:20])])


class _Groups:
    """Colours by the first choice that has branches, else one colour for all."""

    def __init__(self, study: Charted) -> None:
        space = study.problem.space
        branched = [
            n
            for n, d in space.domains.items()
            if isinstance(d, Choice) and any(b is not None for b in d.branches) and len(d.options) <= GROUPS
        ]
        self._name = branched[0] if branched else None
        options = space.domains[self._name].options if self._name is not None else ()  # type: ignore[union-attr]
        self._options = [str(o) for o in options]

    def style(self, trial: Trial) -> str:
        """The style of a trial."""
        value = str(trial.config.get(self._name)) if self._name is not None else ""
        return f"s{self._options.index(value)}" if value in self._options else "s0"

    def legend(self) -> tuple[tuple[str, str], ...]:
        """What the colours mean."""
        return tuple((f"s{i}", f"{self._name} = {o}") for i, o in enumerate(self._options))


def _objective(study: Charted, position: int = 0) -> tuple[str, float, str]:
    """Name, sign and label of an objective."""
    objective = study.problem.objectives[position]
    unit = f" ({objective.unit})" if objective.unit else ""
    return objective.name, objective.sign, f"{objective.name}{unit}, {objective.goal}d"


def _measured(study: Charted, position: int = 0) -> list[tuple[Trial, float]]:
    """Trials with a value of an objective, in the user's sign, failed ones left out."""
    name, _, _ = _objective(study, position)
    found = [(t, t.metrics.get(name)) for t in study.trials if t.status not in FAILURES]
    return [(t, float(v)) for t, v in found if v is not None and np.isfinite(v)]


def _need(found: Sized, least: int, what: str) -> None:
    if len(found) < least:
        raise ConfigError(
            f"A chart of {what} needs {'a trial' if least == 1 else f'at least {least} trials'} with a result; "
            f"got {len(found)}. Run more."
        )


def _thin(n: int) -> NDArray[np.int64]:
    """At most ``MOST`` positions out of ``n``, evenly spread."""
    return np.unique(np.linspace(0, n - 1, min(n, MOST)).astype(np.int64))


def history(study: Charted) -> Figure:
    """Every result in order, and the best so far."""
    found = _measured(study)
    _need(found, 1, "the history")
    _, sign, label = _objective(study)
    values = np.array([v for _, v in found])
    numbers = np.array([t.number for t, _ in found], dtype=np.float64)
    full = _fully_trained(study, found)
    score = np.where(full, values * sign, np.inf)
    best = np.minimum.accumulate(score) * sign
    best[~np.isfinite(best)] = np.nan
    x, y = linear("trial", 0, max(float(numbers.max()), 1.0)), values_axis(label, values)
    groups, keep = _Groups(study), _thin(len(found))
    steps_x, steps_y = np.repeat(x.at(numbers), 2)[1:], np.repeat(y.at(best), 2)[:-1]
    points = np.column_stack([x.at(numbers), y.at(values)])
    styles = [f"{groups.style(found[i][0])}{'' if full[i] else ' hollow'}" for i in keep]
    dots = Dots(points[keep], styles, [tip(*found[i]) for i in keep])
    top = int(np.argmin(score)) if full.any() else int(np.argmin(values * sign))
    share = (top + 1) / len(found)
    failed = sum(t.status in FAILURES for t in study.trials)
    insight = (
        f"The best {study.problem.objectives[0].name} is {number(values[top])}, of trial {found[top][0].number}; "
        f"it was found after {share:.0%} of the trials"
        + (", so more trials may still find better ones." if share > 0.8 else ".")
        + (f" {failed} trials failed and are not shown." if failed else "")
    )
    partial = (("hollow s0", "stopped or paused early"),) if not full.all() else ()
    how = "Each point is a trial, in order of start; the line is the best result so far of a full training."
    if y.clipped:
        how += " Far outliers are drawn at the edge."
    return Figure(
        "history", "Progress", how, insight,
        (Panel(x, y, (Line(np.column_stack([steps_x, steps_y]), "ink"), dots)),),
        (*groups.legend(), *partial, ("ink", "best so far")),
        ("trial", "status", "step", study.problem.objectives[0].name),
        tuple((str(t.number), t.status, str(t.step), number(v)) for t, v in found[-_SHOWN:]),
    )  # fmt: skip


def _fully_trained(study: Charted, found: Sequence[tuple[Trial, float]]) -> NDArray[np.bool_]:
    """Which trials were trained as long as any; shape ``(n,)``."""
    if study.problem.fidelity is None:
        return np.array([t.status == "completed" for t, _ in found], dtype=np.bool_)
    most = max(t.step for t, _ in found)
    return np.array([t.step >= most for t, _ in found], dtype=np.bool_)


def slices(study: Charted) -> Figure:
    """The objective against each parameter, with its average effect."""
    history = study.history()
    rows = np.flatnonzero(history.usable & ~np.all(np.isnan(history.codes), axis=1))
    _need(rows, 6, "slices")
    _, sign, label = _objective(study)
    space, names, groups = study.problem.space, labels(study.problem.space), _Groups(study)
    compared, curves = comparable(history), {e.column: e for e in effects(history)}
    y = replace(values_axis(label, history.loss[rows] * sign), label="")
    panels = []
    for j, column in enumerate(space.columns):
        here = rows[~np.isnan(history.codes[rows, j])]
        if not len(here) or np.ptp(history.codes[here, j]) == 0:
            continue
        here = here[_thin(len(here))]
        marks: list[Mark] = []
        if j in curves:
            marks.extend(_effect_marks(curves[j], y, sign, column.domain))
        x = domain_axis("", column.domain)
        points = np.column_stack([x.at(history.codes[here, j]), y.at(history.loss[here] * sign)])
        styles = [f"{groups.style(study.trials[i])}{'' if compared[i] else ' hollow'}" for i in here]
        tips = [tip(study.trials[i], float(history.loss[i] * sign)) for i in here]
        panels.append(Panel(x, y, (*marks, Dots(points, styles, tips, 3.0)), names[j], 150))
    legend = (*groups.legend(), *((("hollow s0", "trained less"),) if not compared[rows].all() else ()))
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


def _effect_marks(effect: Effect, y: Axis, sign: float, domain: Scalar) -> list[Mark]:
    """The average with its band; a stroke per option where options have nothing between them."""
    low, high = (effect.low, effect.high) if sign > 0 else (-effect.high, -effect.low)
    mean = y.at(effect.mean * sign)
    if not domain.categorical:
        line = Line(np.column_stack([effect.codes, mean]), "ink")
        return [Band(effect.codes, y.at(low), y.at(high), "ink"), line]
    marks: list[Mark] = []
    half = 0.3 / max(domain.levels, 1)
    for place, middle, below, above in zip(effect.codes, mean, y.at(low), y.at(high), strict=True):
        ends = np.array([place - half, place + half])
        marks.append(Band(ends, np.full(2, below), np.full(2, above), "ink"))
        marks.append(Line(np.column_stack([ends, np.full(2, middle)]), "ink"))
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
    _need(order, 2, "configurations")
    _, sign, label = _objective(study)
    space, names = study.problem.space, labels(study.problem.space)
    values = history.loss[order] * sign
    last = values_axis(label, values)
    keep = np.unique(np.r_[np.arange(min(20, len(order))), _thin(len(order))[:: max(1, len(order) // 300)]])
    top = max(1, min(20, round(0.1 * len(order))))
    lines = np.column_stack([codes, last.at(values)])[keep][::-1]
    styles = ["good" if rank < top else "faint thin" for rank in keep][::-1]
    tips = [tip(study.trials[order[i]], float(values[i])) for i in keep][::-1]
    axes = (*(domain_axis(n, c.domain) for n, c in zip(names, space.columns, strict=True)), last)
    return Figure(
        "parallel", "Whole configurations",
        "Each line is a trial, read from the top parameter to the result; it runs along the left edge past parameters "
        "that the trial does not use.",
        _parallel_insight(study, codes[:top], names),
        Rows(axes, lines, styles, tips),
        (("good", f"best {top}"), ("faint", "others")),
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


def curves(study: Charted) -> Figure:
    """The objective by step, the best trials in colour."""
    name, sign, label = _objective(study)
    found = []
    for trial in study.trials:
        reported = [(r.step, r.metrics[name]) for r in trial.reports if name in r.metrics]
        if reported:
            found.append((trial, np.array(reported, dtype=np.float64)))
    _need(found, 1, "learning curves")
    longest = max(float(p[-1, 0]) for _, p in found)
    unit = study.problem.fidelity.unit if study.problem.fidelity is not None else "step"
    x = logarithmic(unit, 1.0, longest) if longest >= 8 else linear(unit, 1.0, longest)
    y = values_axis(label, np.concatenate([p[:, 1] for _, p in found]))
    ranked = sorted(range(len(found)), key=lambda i: (-found[i][1][-1, 0], found[i][1][-1, 1] * sign))
    marks: list[Mark] = []
    for i in [*ranked[5:][:300], *ranked[:5][::-1]]:
        trial, points = found[i]
        place = np.column_stack([x.at(points[:, 0]), y.at(points[:, 1])])
        rank = ranked.index(i)
        style = f"s{rank}" if rank < 5 else "faint"
        marks.append(Line(place, style if rank < 5 else "faint thin"))
        marks.append(Dots(place[-1:], [style], [tip(trial, float(points[-1, 1]))], 3.0))
    trained = sum(float(p[-1, 0]) for _, p in found)
    return Figure(
        "curves", "Learning curves",
        "Each line is one trial's training; it ends with a point where the trial finished, paused or was stopped.",
        _curves_insight([p for _, p in found], longest, trained),
        (Panel(x, y, tuple(marks), "", 260),),
        (*((f"s{r}", f"trial {found[i][0].number}") for r, i in enumerate(ranked[:5])), ("faint", "others")),
        ("trial", "steps", name),
        tuple((str(found[i][0].number), str(int(found[i][1][-1, 0])), number(found[i][1][-1, 1])) for i in ranked[:20]),
    )  # fmt: skip


def _curves_insight(points: Sequence[Floats], longest: float, trained: float) -> str:
    whole = [p for p in points if p[-1, 0] == longest]
    text = f"{len(whole)} of {len(points)} trials were trained to the end, {trained / (longest * len(points)):.0%} of all steps."
    early = [(p[0, 1], p[-1, 1]) for p in whole if p[0, 0] < longest]
    if len(early) >= 5:
        first, last = (ranks([e[i] for e in early]) for i in (0, 1))
        if np.ptp(first) > 0 and np.ptp(last) > 0:
            rho = float(np.corrcoef(first, last)[0, 1])
            word = "tells much" if rho > 0.7 else "tells something" if rho > 0.3 else "tells little"
            text += f" Among those, the first report {word} about the last: rank correlation {rho:.2f}."
    return text


def importance(study: Charted) -> Figure:
    """Importance of every parameter, with intervals."""
    found = importances(study)
    shown = found[:20]
    k = len(shown)
    x = linear("share of importance", 0.0, max(0.05, *(i.high for i in shown)))
    marks: list[Mark] = []
    for place, item in enumerate(shown):
        middle = 1 - (place + 0.5) / k
        text = f"{item.name}: {item.value:.0%} [{item.low:.0%}, {item.high:.0%}]"
        marks.append(Box(0.0, middle - 0.3 / k, float(x.at(item.value)), middle + 0.3 / k, "b s0", text))
        ends = np.column_stack([x.at([item.low, item.high]), [middle, middle]])
        marks.append(Line(ends, "w ink"))
    first = shown[0]
    if first.value == 0:
        insight = "No parameter stands out from chance yet."
    else:
        insight = f"{first.name} decides most, {first.value:.0%} [{first.low:.0%}, {first.high:.0%}]"
        second = shown[1] if k > 1 else None
        unsure = second is not None and second.high > first.low
        insight += f"; its lead over {second.name} is not certain." if unsure and second is not None else "."
    return Figure(
        "importance", "What matters",
        "Bars say how much a parameter decides about being among the best tenth of trials (PED-ANOVA, chance "
        "subtracted); the line is the 90 % bootstrap interval.",
        insight,
        (Panel(x, _upward(names_axis("", [i.name for i in shown])), tuple(marks), "", 24 * k + 10),),
        (),
        ("parameter", "share", "low", "high"),
        tuple((i.name, f"{i.value:.3f}", f"{i.low:.3f}", f"{i.high:.3f}") for i in found),
    )  # fmt: skip


def _upward(axis: Axis) -> Axis:
    """The same categories from the top down."""
    return Axis(axis.label, tuple((1 - p, t) for p, t in axis.ticks), axis.place)


def timeline(study: Charted) -> Figure:
    """Who trained when: segments packed into as few lanes as ran at a time."""
    spans = _segments(study)
    _need(spans, 1, "the timeline")
    began, ended = min(s[1] for s in spans), max(s[2] for s in spans)
    lanes: list[float] = []
    placed: list[tuple[int, int, float, float]] = []
    for number_, start, stop in sorted(spans, key=lambda s: s[1]):
        lane = next((i for i, free in enumerate(lanes) if free <= start + 1e-3), len(lanes))
        lanes[lane : lane + 1] = [stop]
        placed.append((lane, number_, start, stop))
    total, k = max(ended - began, 1e-3), len(lanes)
    x = linear("seconds since the first start", 0.0, total)
    y = _upward(names_axis("", [f"slot {i + 1}" for i in range(k)]))
    groups = _Groups(study)
    marks = [
        Box(
            float(x.at(start - began)), 1 - (lane + 0.12) / k, float(x.at(stop - began)), 1 - (lane + 0.88) / k,
            f"b {'bad' if study.trials[n].status in FAILURES else groups.style(study.trials[n])}",
            f"trial {n}, {study.trials[n].status}, {stop - start:.2f} s",
        )
        for lane, n, start, stop in placed[:MOST]
    ]  # fmt: skip
    busy = sum(stop - start for _, start, stop in spans)
    longest = max(placed, key=lambda p: p[3] - p[2])
    again = len(spans) - len({s[0] for s in spans})
    failed = any(t.status in FAILURES for t in study.trials)
    return Figure(
        "timeline", "Timeline",
        "Each bar is a stretch of training of one trial; gaps are time in which a slot had nothing to do.",
        f"{k} slots were busy {busy / (total * k):.0%} of {total:.3g} s; the longest stretch was trial {longest[1]} with "
        f"{longest[3] - longest[2]:.3g} s" + (f", and {again} times a trial went on after a pause." if again else "."),
        (Panel(x, y, tuple(marks), "", 34 * k + 6),),
        (*groups.legend(), *((("bad", "failed"),) if failed else ())),
        ("trial", "from", "to"),
        tuple((str(n), f"{a - began:.2f} s", f"{b - began:.2f} s") for n, a, b in spans[:_SHOWN]),
    )  # fmt: skip


def _segments(study: Charted) -> list[tuple[int, float, float]]:
    """``(trial, start, end)`` of every stretch of training, from the log."""
    open_: dict[int, float] = {}
    spans: list[tuple[int, float, float]] = []
    at = 0.0
    for record in study.session.store.read(study.session.info.id):
        event, at = record.event, record.at
        if isinstance(event, Started | Resumed):
            open_[event.trial] = at
        elif isinstance(event, Ended | Paused | Interrupted) and event.trial in open_:
            spans.append((event.trial, open_.pop(event.trial), at))
    return spans + [(trial, start, max(at, start)) for trial, start in open_.items()]


def pareto(study: Charted) -> Figure:
    """Two objectives against each other, and the front."""
    from tunewright.numerics.pareto import nondominated

    problem = study.problem
    if problem.m < 2:
        raise ConfigError(
            f"A Pareto chart needs two objectives; got {problem.m}. Look at the history instead."
        )
    found = [
        (t, found_losses)
        for t in study.trials
        if t.status not in FAILURES and (found_losses := problem.losses(t.metrics)) is not None
    ]
    _need(found, 1, "the front")
    losses = np.array([x for _, x in found])
    front = np.asarray(nondominated(losses[:, :2]))
    signs = np.array([o.sign for o in problem.objectives[:2]])
    shown = losses[:, :2] * signs
    x, y = (
        values_axis(_objective(study, 0)[2], shown[:, 0]),
        values_axis(_objective(study, 1)[2], shown[:, 1]),
    )
    places = np.column_stack([x.at(shown[:, 0]), y.at(shown[:, 1])])
    edge = places[front][np.argsort(losses[front, 0], kind="stable")]
    styles = ["good" if f else "faint" for f in front]
    tips = [tip(t, float(v)) for (t, _), v in zip(found, shown[:, 0], strict=True)]
    names = [o.name for o in problem.objectives[:2]]
    best = found[int(np.argmin(losses[:, 0]))][0], found[int(np.argmin(losses[:, 1]))][0]
    return Figure(
        "pareto", "Trade-off",
        "Each point is a trial; no other trial beats those on the line in both objectives.",
        f"{int(front.sum())} of {len(found)} trials are on the front, between trial {best[0].number}, best in {names[0]}, "
        f"and trial {best[1].number}, best in {names[1]}.",
        (Panel(x, y, (Line(edge, "good"), Dots(places, styles, tips)), "", 280),),
        (("good", "on the front"), ("faint", "others")),
        ("trial", *names),
        tuple((str(found[i][0].number), *(number(v) for v in shown[i])) for i in np.flatnonzero(front)),
    )  # fmt: skip
