"""A chart of what small models say of a large one: the best rate by size, and the trainings that it is read from."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from tunewright.analysis.charted import MOST, Charted, Floats, objective_of, thin
from tunewright.analysis.drawing import Figure
from tunewright.analysis.marks import (
    GROUPS,
    Axis,
    Band,
    Dots,
    Line,
    Mark,
    Panel,
    logarithmic,
    number,
    values_axis,
)
from tunewright.core.scale import named
from tunewright.errors import ConfigError

if TYPE_CHECKING:
    from tunewright.core.scale import Scale, Sizes
    from tunewright.scaling.proxy import Transfer, Verdict

_RULES = 4


def transfer(study: Charted, parameter: str | None = None, horizon: str | None = None) -> Figure:
    """The best rate of every proxy with its interval and that of the target, and the losses that this is read from.

    Args:
        study: A study with a scale.
        parameter: The rate that is followed from size to size; as in ``Study.transfer``.
        horizon: ``shares``, ``published`` or an exponent; as in ``Study.transfer``.

    Raises:
        ConfigError: If the study has no scale, or no proxy is trained.
    """
    from tunewright.scaling.proxy import horizon_of
    from tunewright.scaling.proxy import transfer as transferred

    found = transferred(study.problem, study.trials, parameter, horizon_of(horizon))
    verdicts = [v for v in found.verdicts if any(math.isfinite(t.loss) for t in v.trainings)][:_RULES]
    if not verdicts:
        raise ConfigError("A chart of transfer needs a training of a whole proxy; got none. Run more trials.")
    rates = _rates(found, verdicts)
    panels = [p for v in verdicts for p in (_by_size(found, v, rates), _by_rate(study, found, v))]
    name = study.problem.objectives[0].name
    return Figure(
        "transfer", "From small to large",
        f"By size: the best {found.parameter} with its interval of 90 percent, and the target's that follows. "
        f"By {found.parameter}: each training of a proxy; the dashed line is the target's {found.parameter}.",
        _insight(found),
        tuple(panels),
        (*((f"s{i % GROUPS}", s.name) for i, s in enumerate(found.scale.stages)), ("ink", "target")),
        ("rule", "size", "steps", f"best {found.parameter}", "low", "high", name, "trainings", "diverged"),
        tuple(_rows(found)),
        columns=2,
    )  # fmt: skip


def _insight(found: Transfer) -> str:
    target = named(found.scale.target)
    if found.refusal:
        return f"The proxies do not tell the {found.parameter} of {target}."
    low, high = found.interval
    rate = number(found.settings[found.parameter])
    return f"The {found.parameter} of {target} is {rate} under {found.rule}, within {number(low)} to {number(high)}."


def _rates(found: Transfer, verdicts: list[Verdict]) -> Axis:
    """One axis of rates for all rules, so that they can be compared."""
    ends = [
        end for v in verdicts for o in (*v.optima, v.predicted) if o is not None for end in (o.low, o.high)
    ]
    ends = ends or [t.rate for v in verdicts for t in v.trainings]
    return logarithmic(f"best {found.parameter}", min(ends) / 1.5, max(ends) * 1.5)


def _large(scale: Scale, sizes: Sizes) -> float:
    """Where sizes stand on the axis of sizes: the one that grows, or how many times the base all are together."""
    grown = [n for n, (low, high) in scale.sizes.items() if high > low]
    return float(sizes[grown[0]]) if len(grown) == 1 else float(2.0 ** scale.growth(sizes))


def _by_size(found: Transfer, verdict: Verdict, rates: Axis) -> Panel:
    scale = found.scale
    grown = [n for n, (low, high) in scale.sizes.items() if high > low]
    label = grown[0] if len(grown) == 1 else f"times the base, {' and '.join(grown)} together"
    places = {scale.growth(s.sizes): (i, _large(scale, s.sizes)) for i, s in enumerate(scale.stages)}
    smallest, target = _large(scale, scale.stages[0].sizes), _large(scale, scale.target)
    marks: list[Mark] = []
    if verdict.predicted is not None:
        marks += _foretold(verdict, places, target)
    for o in verdict.optima:
        i, x = places[o.growth]
        style = f"s{i % GROUPS}"
        words = f"{scale.stages[i].name}: {number(o.rate)}, {number(o.low)} to {number(o.high)}"
        marks.append(Line(np.array([[x, o.low], [x, o.high]]), style))
        marks.append(Dots(np.array([[x, o.rate]]), style, [words], 5.0))
    x_axis = logarithmic(label, smallest / 1.2, target * 1.2)
    return Panel(x_axis, rates, tuple(marks), f"{verdict.rule}: best {found.parameter} by size")


def _foretold(verdict: Verdict, places: dict[float, tuple[int, float]], target: float) -> list[Mark]:
    """What follows for the target: the same rate for a rule under which it stays, else where the law leads to."""
    p = verdict.predicted
    assert p is not None
    words = f"target: {number(p.rate)}, {number(p.low)} to {number(p.high)}"
    marks: list[Mark] = [
        Line(np.array([[target, p.low], [target, p.high]]), "ink"),
        Dots(np.array([[target, p.rate]]), "ink", [words], 6.0),
    ]
    if verdict.claims and verdict.length is None:
        begin, rate = places[verdict.optima[0].growth][1], p.rate
        marks.append(Band(np.array([begin, target]), np.full(2, p.low), np.full(2, p.high), "band"))
    else:
        last = verdict.optima[-1]
        begin, rate = places[last.growth][1], last.rate
    return [*marks, Line(np.array([[begin, rate], [target, p.rate]]), "ink dashed")]


def _by_rate(study: Charted, found: Transfer, verdict: Verdict) -> Panel:
    _, sign, label = objective_of(study)
    stages = [s.sizes for s in found.scale.stages]
    whole = [t for t in verdict.trainings if math.isfinite(t.loss)]
    kept = [whole[i] for i in thin(len(whole), MOST)]
    values = np.array([sign * t.loss for t in kept])
    points: Floats = np.column_stack([[t.rate for t in kept], values])
    styles = [f"s{stages.index(t.sizes) % GROUPS}" for t in kept]
    tips = [f"trial {t.trial}: {number(sign * t.loss)} with {number(t.rate)}" for t in kept]
    searched = [t.rate for t in verdict.trainings]
    x = logarithmic(found.parameter, min(searched) / 1.1, max(searched) * 1.1)
    y = values_axis(label, values)
    marks: list[Mark] = [Dots(points, styles, tips, 3.0, [t.trial for t in kept])]
    if verdict.predicted is not None:
        at = verdict.predicted.rate
        marks.append(Line(np.array([[at, y.low], [at, y.high]]), "ink dashed", "target"))
    return Panel(x, y, tuple(marks), f"{verdict.rule}: {found.objective.name} by {found.parameter}")


def _rows(found: Transfer) -> list[tuple[str, ...]]:
    out: list[tuple[str, ...]] = []
    scale = found.scale
    for told in found.to_dict()["rules"]:
        for s in told["sizes"]:
            ends = [number(s[k]) for k in ("rate", "low", "high", "loss")]
            out.append((told["rule"], s["name"], str(s["steps"]), *ends, str(s["count"]), str(s["diverged"])))
        if told["predicted"] is not None:
            ends = [number(told["predicted"][k]) for k in ("rate", "low", "high")]
            name, steps = f"target, {named(scale.target)}", str(scale.target_steps)
            out.append((told["rule"], name, steps, *ends, "", "", ""))
    return out
