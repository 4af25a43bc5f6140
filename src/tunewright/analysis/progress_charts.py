"""Charts of how a search goes: best against trials, time and cost, regret, distribution of results, what more would bring."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from tunewright.analysis.charted import (
    Charted,
    Floats,
    fully_trained,
    measured,
    need,
    objective_of,
    stairs,
    thin,
    turns,
)
from tunewright.analysis.drawing import Figure
from tunewright.analysis.marks import (
    GROUPS,
    Band,
    Dots,
    Line,
    Mark,
    Panel,
    linear,
    logarithmic,
    number,
    values_axis,
)
from tunewright.analysis.outlook import LEAST, Outlook
from tunewright.analysis.outlook import outlook as ahead
from tunewright.core.trial import Trial
from tunewright.errors import ConfigError

Found = Sequence[tuple[Trial, float]]
_AGAINST = ("cost", "time", "trials")
_SHARES = (0.5, 0.9, 1.0)


def _finished(study: Charted) -> tuple[Found, Floats]:
    """Fully trained trials in order of number, and their values."""
    found = measured(study)
    if found:
        full = fully_trained(study, found)
        found = [f for f, keep in zip(found, full, strict=True) if keep]
    return found, np.array([v for _, v in found])


def _places(study: Charted, found: Found, against: str | None) -> tuple[Floats, str, list[int]]:
    """Where each result stands along time, cost or trials; a label; and the order."""
    costs = [sum(r.cost or 0.0 for r in t.reports) or t.cost or 0.0 for t, _ in found]
    kind = against or ("cost" if any(costs) else "time")
    if kind not in _AGAINST:
        raise ConfigError(
            f"A cost chart runs against one of {', '.join(_AGAINST)}; got {against!r}. Choose one."
        )
    if kind == "trials":
        return np.array([t.number + 1.0 for t, _ in found]), "trials", list(range(len(found)))
    ended = [t.ended_at or t.at or 0.0 for t, _ in found]
    order = sorted(range(len(found)), key=lambda i: ended[i])
    if kind == "time":
        began = study.trials[0].at
        return np.array([ended[i] - began for i in order]), "seconds since the start", order
    return np.cumsum([costs[i] for i in order]), "total cost", order


def cost(study: Charted, against: str | None = None) -> Figure:
    """The best result against what was spent: total cost, time, or trials (``against``); cost where it is known."""
    found, values = _finished(study)
    need(found, 2, "the best by cost")
    name, sign, label = objective_of(study)
    places, what, order = _places(study, found, against)
    best = np.minimum.accumulate(values[order] * sign) * sign
    turn = turns(best)
    x = linear(what, 0.0, float(places[-1]) or 1.0)
    tips = [
        f"trial {found[order[i]][0].number}: {number(float(best[i]))} at {number(float(places[i]))}"
        for i in turn.tolist()
    ]
    dots = Dots(
        np.column_stack([places, best])[turn],
        "best",
        tips,
        trials=[found[order[i]][0].number for i in turn.tolist()],
    )
    rows = _reached(best * sign, places, sign)
    last = rows[1] if len(rows) > 2 else rows[-1]
    return Figure(
        "cost", "What the result cost",
        f"The line is the best {label} so far of a full training, against {what}; flat stretches were spent without a gain.",
        f"90 % of the gain over the first result came after {last[2]} of {number(float(places[-1]))} ({what}); the best {name} is "
        f"{number(float(best[-1]))}.",
        (Panel(x, values_axis(label, best), (Line(stairs(places[turn], best[turn]), "ink", "best so far"), dots), "", 260),),
        (("ink", "best so far"),),
        ("share of the gain", name, what),
        tuple(rows),
    )  # fmt: skip


def _reached(loss: Floats, places: Floats, sign: float) -> list[tuple[str, str, str]]:
    """When shares of the whole gain were reached."""
    whole = float(loss[0] - loss[-1])
    rows = []
    for share in _SHARES:
        at = int(np.argmax(loss <= loss[0] - share * whole * (1.0 - 1e-12)))
        rows.append((f"{share:.0%}", number(float(loss[at] * sign)), number(float(places[at]))))
    return rows


def regret(study: Charted, known: float | None = None) -> Figure:
    """How far the best is above the lowest possible; above the study's own best where ``known`` is not given."""
    found, values = _finished(study)
    need(found, 3, "regret")
    name, sign, _ = objective_of(study)
    best = np.minimum.accumulate(values * sign)
    floor = float(best[-1]) if known is None else float(known) * sign
    left = best - floor
    trials = np.array([t.number + 1.0 for t, _ in found])
    shown = left > 1e-12 * max(1.0, abs(floor))
    if not shown.any():
        raise ConfigError(
            "A chart of regret needs results that got better; got the best one first. Pass known=, the best value possible."
        )
    y = logarithmic(
        f"{name} above the {'best found' if known is None else 'best known'}",
        float(left[shown].min()) / 1.2,
        float(left.max()) * 1.2,
    )
    course = np.where(shown, left, np.nan)
    turn = turns(course)
    half = int(np.argmax(left <= left[0] / 2))
    return Figure(
        "regret", "Distance to the best",
        "The line is how far the best result so far is from the best " + ("found at all" if known is None else "value known") +
        ", on a logarithmic scale: a straight line down means steady progress.",
        f"The distance fell from {number(float(left[0]))} to half of it after {int(trials[half])} trials"
        + (f", and the best was found at trial {int(trials[int(np.argmin(left))]) - 1}." if known is None else f"; {number(float(left[-1]))} is left."),
        (Panel(linear("trials", 0.0, float(trials[-1])), y, (Line(stairs(trials[turn], course[turn]), "ink", "regret"),), "", 240),),
        (("ink", "distance"),),
        ("trials", "distance"),
        tuple((str(int(trials[i])), number(float(left[i]))) for i in np.unique(np.linspace(0, len(left) - 1, min(len(left), 20)).astype(int))),
    )  # fmt: skip


def edf(study: Charted, others: Sequence[Charted] = ()) -> Figure:
    """How results are distributed, of one study or several; the higher and the further towards good, the better the space."""
    label = objective_of(study)[2]
    _, sign, _ = objective_of(study)
    lots = [(s, np.sort(_finished(s)[1])) for s in (study, *others)]
    need(lots[0][1], 5, "the distribution")
    lots = [(s, v) for s, v in lots if len(v)]
    x = values_axis(label, np.concatenate([v for _, v in lots]))
    marks: list[Mark] = []
    for i, (s, values) in enumerate(lots):
        n = len(values)
        share = (np.arange(n) + 1.0) / n if sign > 0 else 1.0 - np.arange(n) / n
        keep = thin(n, 300)
        # Dvoretzky, Kiefer and Wolfowitz 1956 with Massart's constant: a band that holds everywhere at once.
        half = math.sqrt(math.log(2 / 0.05) / (2 * n))
        style = f"s{i % GROUPS}"
        marks.append(
            Band(
                values[keep], np.maximum(share[keep] - half, 0.0), np.minimum(share[keep] + half, 1.0), style
            )
        )
        marks.append(Line(np.column_stack([values[keep], share[keep]]), style, s.name))
    _, first = lots[0]
    middle, tenth = (float(np.quantile(first * sign, q)) * sign for q in (0.5, 0.1))
    insight = f"Half of the trials reach {number(middle)}, one in ten {number(tenth)}, the best {number(float((first * sign).min()) * sign)}."
    return Figure(
        "edf", "How good trials are",
        f"The line says what share of the fully trained trials is at least as good as each value of {label}; the band is its 95 % "
        "confidence band.",
        insight + _apart(lots, sign),
        (Panel(x, linear("share of trials", 0.0, 1.0), tuple(marks), "", 260),),
        tuple((f"s{i % GROUPS}", s.name) for i, (s, _) in enumerate(lots)),
        ("study", "trials", "median", "best"),
        tuple((s.name, str(len(v)), number(float(np.median(v))), number(float((v * sign).min()) * sign)) for s, v in lots),
    )  # fmt: skip


def _apart(lots: Sequence[tuple[Charted, Floats]], sign: float) -> str:
    if len(lots) < 2:
        return ""
    from tunewright.numerics.statistics import mann_whitney

    (a, x), (b, y) = lots[:2]
    p = mann_whitney(x * sign, y * sign)
    better = a.name if np.median(x * sign) < np.median(y * sign) else b.name
    sure = (
        f"differ (Mann-Whitney p = {p:.2g}); {better} is better"
        if p < 0.05
        else f"cannot be told apart (p = {p:.2g})"
    )
    return f" Trials of {a.name} and {b.name} {sure}."


def stopping(study: Charted, more: int = 20) -> Figure:
    """What more trials would bring, and one sentence whether to stop."""
    if study.problem.m > 1:
        raise ConfigError(
            f"A chart of stopping needs one objective; got {study.problem.m}. Look at the hypervolume instead."
        )
    found, values = _finished(study)
    need(found, LEAST, "stopping")
    more = int(more)
    name, sign, label = objective_of(study)
    seen = ahead(values * sign, max(50, more))
    best = np.minimum.accumulate(values * sign) * sign
    trials = np.arange(1.0, len(values) + 1)
    later = len(values) + seen.trials.astype(np.float64)
    low, high = (seen.low, seen.high) if sign > 0 else (-seen.high, -seen.low)
    mean = seen.mean * sign
    keep = turns(best)
    y = values_axis(label, np.r_[best, low, high])
    at = float(later[more])
    marks = (
        Line(stairs(trials[keep], best[keep]), "ink", "best so far"),
        Band(later, low, high, "s1"),
        Line(np.column_stack([later, mean]), "s1 dashed", "expected best"),
        Line(np.array([[at, y.low], [at, y.high]]), "muted dashed", f"{more} more trials"),
    )
    return Figure(
        "stopping", "Should I stop?",
        "The line is the best result so far; to its right, dashed, what the best is expected to be if the search goes on like in its "
        "later half, with the 90 % interval.",
        verdict(seen, more, name, values * sign),
        (Panel(linear("full trainings", 0.0, float(later[-1])), y, marks, "", 260),),
        (("ink", "best so far"), ("s1", "expected best")),
        ("more trials", "expected best", "gain", "low", "high"),
        tuple((str(k), number(float(mean[k])), *(number(v) for v in seen.gain(k))) for k in (5, 10, 20, 50)),
    )  # fmt: skip


def verdict(seen: Outlook, more: int, name: str, losses: Floats) -> str:
    """One sentence: what so many more trials are expected to gain, and what to make of it.

    Args:
        seen: The outlook.
        more: Number of further trials.
        name: Name of the objective.
        losses: Losses so far, shape ``(n,)``.
    """
    gain, low, high = seen.gain(more)
    whole = float(np.median(losses)) - seen.best
    share = gain / whole if whole > 0 else 0.0
    advice = (
        "go on"
        if share > 0.1
        else "going on pays a little"
        if share > 0.02
        else "stop, unless trials are cheap"
    )
    return (
        f"{more} more trials are expected to improve {name} by {number(gain)} (90 % interval {number(low)} to {number(high)}), "
        f"{share:.1%} of what separates the best from a typical trial; the best is {seen.since} trials old: {advice}."
    )
