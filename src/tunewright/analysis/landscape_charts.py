"""Charts of the space: two parameters at once, where the search went, how well a model predicts."""

from __future__ import annotations

import numpy as np

from tunewright.analysis.charted import Charted, Floats, need, objective_of, tip
from tunewright.analysis.contours import contour as lines_at
from tunewright.analysis.drawing import Figure
from tunewright.analysis.fanova import averages, fanova
from tunewright.analysis.footprint import footprint as mapped
from tunewright.analysis.marks import (
    Axis,
    Contour,
    Dots,
    Heat,
    Line,
    Mark,
    Panel,
    cell,
    domain_axis,
    linear,
    number,
    values_axis,
)
from tunewright.analysis.shares import labels, ranking
from tunewright.analysis.surrogate import Surrogate, quality, surrogate
from tunewright.core.history import FAILED, History
from tunewright.errors import ConfigError

_LEVELS, _BEST, _BARS = 7, 20, 150


def contour(study: Charted, x: str | None = None, y: str | None = None) -> Figure:
    """The average over two parameters; lines where both are numbers, colours alone where one has options.

    Args:
        study: The study.
        x: The parameter across; the pair that acts together most when not given.
        y: The parameter upwards.

    Raises:
        ConfigError: If there is no such parameter, or fewer than 20 trials have a result.
    """
    history = study.history()
    space, names = study.problem.space, labels(study.problem.space)
    model = surrogate(history, "A contour chart")
    j, k = _pair(model, history, x, y)
    across, upward, mean, std = averages(model, j, k)
    _, sign, label = objective_of(study)
    mean = mean * sign
    if np.isnan(mean).all():
        raise ConfigError(
            f"A contour chart needs two parameters that are used together; {names[j]} and {names[k]} never are. Choose another pair."
        )
    axes = domain_axis(names[j], space.columns[j].domain), domain_axis(names[k], space.columns[k].domain)
    ends = float(np.nanmin(mean)), float(np.nanmax(mean))
    xs, ys = axes[0].values(across), axes[1].values(upward)
    marks: list[Mark] = [Heat(xs, ys, mean, *ends, label)]
    if not (space.columns[j].domain.categorical or space.columns[k].domain.categorical):
        for level in np.linspace(*ends, _LEVELS + 2)[1:-1].tolist():
            found = lines_at(across, upward, mean, level)
            placed = [np.column_stack([axes[0].values(p[:, 0]), axes[1].values(p[:, 1])]) for p in found]
            marks.append(Contour(level, placed))
    marks.append(_best_dots(study, history, (j, k), axes, sign))
    at = np.unravel_index(int(np.nanargmin(mean * sign)), mean.shape)
    best = [
        cell(space.columns[c].domain.coder()[1](float(v)))
        for c, v in ((j, across[at[1]]), (k, upward[at[0]]))
    ]
    return Figure(
        "contour", "Two parameters at once",
        f"Colour is the average {label} that a forest expects, over all other parameters; points are the best {_BEST} trials.",
        f"The average is best, {number(float(mean[at]))}, around {names[j]} = {best[0]} and {names[k]} = {best[1]}, with a standard "
        f"deviation of {number(float(std[at]))} over trees.{model.note}",
        (Panel(axes[0], axes[1], tuple(marks), "", 300),),
        (("s0", "high"), ("s0 faint", "low"), ("best", f"best {_BEST} trials")),
        (names[j], names[k], "average"),
        tuple(
            (number(float(xs[b])) if axes[0].kind != "names" else axes[0].names[b],
             number(float(ys[a])) if axes[1].kind != "names" else axes[1].names[a], number(float(mean[a, b])))
            for a in range(0, len(ys), max(1, len(ys) // 8)) for b in range(0, len(xs), max(1, len(xs) // 8))
        ),
    )  # fmt: skip


def _best_dots(
    study: Charted, history: History, columns: tuple[int, int], axes: tuple[Axis, Axis], sign: float
) -> Dots:
    """The best trials that use both parameters."""
    order, codes = ranking(history)
    here = ~np.isnan(codes[:, list(columns)]).any(axis=1)
    order, codes = order[here][:_BEST], codes[here][:_BEST]
    points = np.column_stack([a.values(codes[:, c]) for a, c in zip(axes, columns, strict=True)])
    tips = [tip(study.trials[i], float(history.loss[i] * sign)) for i in order.tolist()]
    return Dots(points, "best", tips, 3.0, order.tolist())


def _pair(model: Surrogate, history: History, x: str | None, y: str | None) -> tuple[int, int]:
    """The columns of two parameters."""
    names = labels(model.space)
    if len(names) < 2:
        raise ConfigError("A contour chart needs two parameters; got one. Look at the slices instead.")
    given = []
    for name in (x, y):
        if name is None:
            continue
        if name not in names:
            raise ConfigError(
                f"A contour chart needs two parameters out of {names}; got {name!r}. Correct it."
            )
        given.append(names.index(name))
    if len(given) == 2:
        if given[0] == given[1]:
            raise ConfigError(f"A contour chart needs two parameters; got {x!r} twice. Choose another one.")
        return given[0], given[1]
    found = fanova(history, pairs=6, model=model)
    pairs = [p.columns for p in found.pairs if not given or given[0] in p.columns]
    first = pairs[0] if pairs else (given[0], (given[0] + 1) % len(names)) if given else (0, 1)
    return (given[0], first[0] if first[1] == given[0] else first[1]) if given else first


def footprint(study: Charted) -> Figure:
    """Configurations on a map that keeps their distances as well as a plane can."""
    history = study.history()
    known = np.flatnonzero(~np.isnan(history.codes).all(axis=1))
    need(known, 10, "the footprint")
    found = mapped(history.problem.space, history.codes[known])
    rows = known[found.rows]
    _, sign, _ = objective_of(study)
    order = ranking(history)[0]
    best = set(order[: max(1, len(order) // 10)].tolist())
    styles = [
        "best" if i in best else "failed hollow" if history.status[i] >= FAILED else "muted"
        for i in rows.tolist()
    ]
    tips = [
        tip(study.trials[i], float(history.loss[i] * sign) if np.isfinite(history.loss[i]) else None)
        for i in rows.tolist()
    ]
    points = np.vstack([found.trials, found.space])
    x, y = (
        linear(f"{n} direction", float(p.min()) * 1.05, float(p.max()) * 1.05)
        for n, p in zip(("first", "second"), points.T, strict=True)
    )
    some = " Of many trials an even share is shown." if len(rows) < len(known) else ""
    return Figure(
        "footprint", "Where the search went",
        "Each point is a configuration; those near each other are alike in their parameters (multidimensional scaling). Small hollow "
        "points are random configurations of the space that were not tried.",
        f"The trials cover {found.covered:.0%} of the space, where as many random ones would cover 90 %; the map keeps "
        f"{found.kept:.0%} of the distances' variation.{some}",
        (Panel(x, y, (
            Dots(found.space, "muted hollow faint", [""] * len(found.space), 2.0),
            Dots(found.trials, styles, tips, trials=rows.tolist()),
        ), "", 320),),
        (("best", "best tenth"), ("muted", "others"), ("failed hollow", "failed"), ("muted hollow", "not tried")),
        ("trial", "first direction", "second direction"),
        tuple((str(i), number(float(a)), number(float(b))) for i, (a, b) in zip(rows.tolist()[:200], found.trials, strict=False)),
    )  # fmt: skip


def surrogate_quality(study: Charted) -> Figure:
    """Predicted against measured in cross-validation, and whether intervals hold what they promise."""
    found = quality(study)
    _, sign, label = objective_of(study)
    seen, mean = found.seen * sign, found.mean * sign
    x = values_axis(f"expected {label}", np.r_[mean, seen])
    y = values_axis("measured", np.r_[mean, seen])
    ends = np.array([x.low, x.high])
    few = np.unique(np.linspace(0, len(seen) - 1, min(len(seen), _BARS)).astype(np.int64))
    bars = _bars_across(seen[few], found.low[few] * sign, found.high[few] * sign)
    dots = Dots(
        np.column_stack([mean, seen]), "s0",
        [f"trial {i}: {number(float(v))}, expected {number(float(m))}" for i, v, m in zip(found.rows.tolist(), seen, mean, strict=True)],
        3.0, found.rows.tolist(),
    )  # fmt: skip
    level, inside = _calibration(found.seen, found.mean, found.high)
    unit = np.array([[0.0, 0.0], [1.0, 1.0]])
    word = "well" if found.explained > 0.7 else "somewhat" if found.explained > 0.3 else "badly"
    trust = {
        "well": "charts that rest on a model can be trusted",
        "somewhat": "read charts that rest on a model as hints",
        "badly": "do not trust charts that rest on a model yet",
    }
    some = f" It rests on {len(seen)} of {found.of} trials, evenly taken." if len(seen) < found.of else ""
    return Figure(
        "surrogate", "How well a model predicts",
        "Left, each point is a trial that the forest had not seen, with its 90 % interval: on the line, the prediction was right. "
        "Right, how many trials lie within intervals of each width: on the line, they hold what they promise.",
        f"A forest predicts unseen trials {word}: it explains {max(found.explained, 0.0):.0%} of the variance and ranks them with a "
        f"correlation of {found.rank:.2f}; {found.covered:.0%} lie in their 90 % interval; {trust[word]}.{some}",
        (
            Panel(x, y, (Line(np.column_stack([ends, ends]), "ink dashed", "right"), Line(bars, "muted faint", "90 % interval"), dots),
                  "Predictions", 260),
            Panel(linear("promised share", 0.0, 1.0), linear("share within", 0.0, 1.0),
                  (Line(unit, "ink dashed", "as promised"), Line(np.column_stack([level, inside]), "s0", "this forest")), "Calibration", 260),
        ),
        (("s0", "trials"), ("muted", "90 % intervals")),
        ("trial", "measured", "expected"),
        tuple((str(i), number(float(v)), number(float(m))) for i, v, m in zip(found.rows.tolist()[:200], seen, mean, strict=False)),
        columns=2,
    )  # fmt: skip


def _bars_across(at: Floats, low: Floats, high: Floats) -> Floats:
    """Horizontal strokes as one interrupted line."""
    out = np.full((len(at), 3, 2), np.nan)
    out[:, 0] = np.column_stack([low, at])
    out[:, 1] = np.column_stack([high, at])
    return out.reshape(-1, 2)


def _calibration(seen: Floats, mean: Floats, high: Floats) -> tuple[Floats, Floats]:
    """Promised shares, and the shares of trials within such intervals."""
    from tunewright.numerics.distributions import normal_quantile

    std = np.maximum((high - mean) / 1.645, 1e-300)
    level = np.linspace(0.0, 1.0, 21)
    width = normal_quantile(0.5 + level[1:-1] / 2)
    away = np.abs(seen - mean) / std
    return level, np.r_[0.0, [(away <= w).mean() for w in width], 1.0]
