"""Charts of what matters: importance by every measure, pairs, the way from the default to the best, slopes around a trial."""

from __future__ import annotations

import numpy as np

from tunewright.analysis.ablation import ablation as ablated
from tunewright.analysis.charted import Charted, objective_of
from tunewright.analysis.drawing import Figure
from tunewright.analysis.fanova import fanova
from tunewright.analysis.importance import SAYS, Importance
from tunewright.analysis.importance import importance as measured_by
from tunewright.analysis.marks import Bars, Panel, linear, names_axis, number
from tunewright.analysis.sensitivity import sensitivity as slopes_around

_SHOWN, _PAIRS = 20, 8


def _bars(
    names: list[str], rows: list[tuple[float, float, float]], tips: list[str], label: str, least: float = 0.0
) -> Panel:
    """Horizontal bars with intervals, the first on top."""
    k = len(names)
    value, low, high = np.array(rows, dtype=np.float64).T
    ends = float(min(low.min(), 0.0)), float(max(high.max(), value.max(), least))
    pad = 0.03 * (ends[1] - ends[0]) if ends[0] < 0 else 0.0
    x = linear(label, ends[0] - pad, ends[1] + pad)
    bars = Bars(np.arange(k)[::-1].astype(np.float64), value, low, high, "s0", tips)
    return Panel(x, names_axis("", names[::-1]), (bars,), "", 24 * k + 10)


def importance(study: Charted, method: str = "ped-anova") -> Figure:
    """Importance of every parameter, with intervals; ``method`` as for ``importance.importance``."""
    found = measured_by(study, method=method)
    shown = found[:_SHOWN]
    tips = [f"{i.name}: {i.value:.0%} [{i.low:.0%}, {i.high:.0%}]" for i in shown]
    rows = [(i.value, i.low, i.high) for i in shown]
    return Figure(
        "importance", "What matters", SAYS[method],
        _first(shown),
        (_bars([i.name for i in shown], rows, tips, "share of importance", 0.05),),
        (),
        ("parameter", "share", "low", "high"),
        tuple((i.name, f"{i.value:.3f}", f"{i.low:.3f}", f"{i.high:.3f}") for i in found),
    )  # fmt: skip


def _first(shown: list[Importance]) -> str:
    first = shown[0]
    if first.value == 0:
        return "No parameter stands out from chance yet."
    text = f"{first.name} decides most, {first.value:.0%} [{first.low:.0%}, {first.high:.0%}]"
    second = shown[1] if len(shown) > 1 else None
    if second is not None and second.high > first.low:
        return f"{text}; its lead over {second.name} is not certain."
    return f"{text}."


def interactions(study: Charted) -> Figure:
    """Pairs of parameters that act together."""
    found = fanova(study, pairs=_PAIRS)
    if not found.pairs:
        return _single(study, found.single[0])
    shown = found.pairs[:12]
    names = [" x ".join(p.names) for p in shown]
    alone, together = sum(i.value for i in found.single), sum(p.value for p in found.pairs)
    first = shown[0]
    strong = first.low > 0.02
    insight = (
        f"{first.names[0]} and {first.names[1]} act together: {first.value:.0%} of the variance is of this pair alone. "
        if strong
        else "No pair explains much beyond its two parameters: each can be chosen on its own. "
    )
    insight += f"Single parameters explain {alone:.0%}, the pairs shown {together:.0%}.{found.model.note}"
    return Figure(
        "interactions", "What acts together",
        "Bars are shares of the variance that two parameters explain only together (fANOVA); the line is the 90 % interval over "
        "the trees of a forest.",
        insight,
        (_bars(names, [(p.value, p.low, p.high) for p in shown], [f"{n}: {p.value:.1%}" for n, p in zip(names, shown, strict=True)],
               "share of variance", 0.05),),
        (),
        ("first", "second", "share", "low", "high"),
        tuple((*p.names, f"{p.value:.3f}", f"{p.low:.3f}", f"{p.high:.3f}") for p in found.pairs),
    )  # fmt: skip


def _single(study: Charted, only: Importance) -> Figure:
    del study
    tips = [f"{only.name}: {only.value:.0%}"]
    return Figure(
        "interactions", "What acts together",
        "With a single parameter there is nothing that it could act together with; the bar is its share of the variance.",
        f"{only.name} is the only parameter.",
        (_bars([only.name], [(only.value, only.low, only.high)], tips, "share of variance", 0.05),),
        (),
        ("parameter", "share"),
        ((only.name, f"{only.value:.3f}"),),
    )  # fmt: skip


def ablation(study: Charted) -> Figure:
    """What each change from the default to the best brought."""
    found = ablated(study)
    _, sign, label = objective_of(study)
    steps = found.steps[:_SHOWN]
    names = [f"{s.name}: {s.before} to {s.after}" for s in steps] or ["nothing to change"]
    rows = [(s.gain, s.low, s.high) for s in steps] or [(0.0, 0.0, 0.0)]
    tips = [
        f"{n}\nexpected {number(s.loss * sign)} afterwards" for n, s in zip(names, steps, strict=False)
    ] or [""]
    total = sum(s.gain for s in found.steps)
    few, so_far = 0, 0.0
    while few < len(found.steps) and so_far < 0.9 * total:
        so_far += found.steps[few].gain
        few += 1
    insight = (
        f"From the default, at an expected {number(found.start * sign)}, {few} of {len(found.steps)} changes bring 90 % of the gain: "
        f"{', '.join(s.name for s in found.steps[:few])}.{found.model.note}"
        if total > 0
        else f"The forest sees no gain over the default in trial {found.best}, the best.{found.model.note}"
    )
    return Figure(
        "ablation", "From the default to the best",
        f"Each bar is what one change improves the expected objective by, in the order of the greatest gain; {label}; the line is "
        "the 90 % interval over the trees of a forest. Defaults are guesses, else middles of ranges and first options.",
        insight,
        (_bars(names, rows, tips, "improvement"),),
        (),
        ("parameter", "from", "to", "gain", "expected after"),
        tuple((s.name, s.before, s.after, number(s.gain), number(s.loss * sign)) for s in found.steps)
        or (("-", "-", "-", "0", number(found.start * sign)),),
    )  # fmt: skip


def sensitivity(study: Charted, trial: int | None = None) -> Figure:
    """Slopes around a configuration; the best trial when ``trial`` is not given."""
    found = slopes_around(study, None if trial is None else int(trial))
    _, sign, label = objective_of(study)
    shown = found.slopes[:_SHOWN]
    rows = [(s.value * sign, *sorted((s.low * sign, s.high * sign))) for s in shown]
    sure = [s.name for s in shown if s.sure]
    what = f"Around trial {found.trial}, "
    insight = (
        what
        + f"moving {', '.join(sure[:4])} surely changes the result; no other parameter has a sure direction."
        if sure and len(sure) < len(found.slopes)
        else what + "moving any parameter surely changes the result."
        if sure
        else what
        + "no parameter has a sure direction: small changes one way or the other make no difference that shows."
    )
    insight += f" The line explains {max(found.explained, 0.0):.0%} of what the forest expects there.{found.model.note}"
    return Figure(
        "sensitivity", "What matters around a trial",
        f"Bars say how the objective changes ({label}) as a number goes up by a tenth of its range, or as another option is taken "
        "(a local linear surrogate, LIME); the line is the 90 % interval over the trees of a forest.",
        insight,
        (_bars([s.name for s in shown], [(a, b, c) for a, b, c in rows], [f"{s.name}: {number(s.value * sign)}" for s in shown],
               "change of the objective"),),
        (),
        ("parameter", "change", "low", "high"),
        tuple((s.name, *(number(v) for v in row)) for s, row in zip(shown, rows, strict=True)),
    )  # fmt: skip
