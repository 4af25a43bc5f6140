"""What matters around one configuration: the slopes of a line fitted there to a forest, in the manner of LIME.

*Use when* a configuration is to be trusted or changed by hand: which parameter must not move, which may. *Do not use when* the
question is about the whole space; fANOVA answers that.

*Paper*: Ribeiro, Singh and Guestrin 2016, "Why Should I Trust You?", KDD, Algorithm 1 and section 3.4: an exponential kernel on
the distance, and a weighted linear fit. Used on hyperparameters by Ravikumar et al. 2022 ("What augmentations are sensitive to
hyper-parameters and why?"): standardised coefficients per choice of augmentation.

*Differs*: the line is fitted to every tree of the forest, so that slopes come with intervals; all parameters stay in it, by a
small ridge instead of a selection; a number moves by a normal step of a tenth of its range, an option to any other one; a
parameter that is inactive at the configuration has no slope, and one that becomes inactive on the way counts as unmoved.

*Cost*: a forest, 1000 predictions and one least-squares problem.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tunewright.analysis.shares import HasHistory, Importance, history_of, labels, parameters, ranking
from tunewright.analysis.surrogate import Surrogate, surrogate
from tunewright.core.domains import Choice
from tunewright.core.history import History
from tunewright.core.space import Space
from tunewright.errors import ConfigError

Floats = NDArray[np.float64]
_DRAWS, _STEP, _FLIP, _RIDGE = 1000, 0.1, 0.3, 1e-3


@dataclass(frozen=True, slots=True)
class Slope:
    """How the loss changes with one parameter, around a configuration.

    Attributes:
        name: The parameter.
        column: Its column in the space.
        value: Change of the loss per tenth of the range upwards; for options, on average by taking another one.
        low: Lower end of the 90 % interval, over trees.
        high: Upper end.
    """

    name: str
    column: int
    value: float
    low: float
    high: float

    @property
    def sure(self) -> bool:
        """Whether the interval leaves zero out."""
        return self.low > 0.0 or self.high < 0.0


@dataclass(frozen=True, slots=True)
class Local:
    """The line around a configuration.

    Attributes:
        slopes: Of the parameters that are active there, steepest first.
        trial: Number of the trial, None for a configuration of the user's.
        explained: Weighted share of the variance of the forest's mean that the line explains.
        stable: Mean rank correlation of the absolute slopes of single trees with those of the mean.
        model: The forest.
        by_tree: Slopes in every tree, columns without one NaN, shape ``(t, d)``.
    """

    slopes: tuple[Slope, ...]
    trial: int | None
    explained: float
    stable: float
    model: Surrogate
    by_tree: Floats


def sensitivity(
    study_or_history: HasHistory | History,
    around: Mapping[str, Any] | int | None = None,
    seed: int = 0,
) -> Local:
    """Fits a line around a configuration.

    Args:
        study_or_history: A study, or its history; the first objective counts.
        around: The configuration, or the number of a trial; the best trial when not given.
        seed: For the forest and the draws.

    Raises:
        ConfigError: If there is no such trial, fewer than 20 trials have a result, or all losses are equal.
    """
    history = history_of(study_or_history)
    model = surrogate(history, "Local sensitivity", seed)
    trial = int(ranking(history)[0][0]) if around is None else around
    if isinstance(trial, int):
        if not 0 <= trial < history.n or np.isnan(history.codes[trial]).all():
            raise ConfigError(
                f"Local sensitivity needs the number of a trial of the study; got {trial} of {history.n}. Pass one of them."
            )
        return _line(model, history.codes[trial], trial, seed)
    return _line(model, model.space.encode(trial), None, seed)


def _line(model: Surrogate, here: Floats, trial: int | None, seed: int) -> Local:
    space, rng = model.space, np.random.default_rng([seed, 64])
    rows = _moved(space, here, rng)
    features = _features(space, here, rows)
    used = np.flatnonzero(~np.isnan(here))
    x = features[:, used]
    distance = (x**2).sum(axis=1) / len(used)
    weight = np.exp(-0.5 * distance)
    y = model.by_tree(rows).T
    mean = y.mean(axis=1)
    root = np.sqrt(weight)[:, None]
    design = np.column_stack([np.ones(len(x)), x]) * root
    gram = design.T @ design
    gram[1:, 1:] += _RIDGE * len(x) * np.eye(len(used))
    solved = np.linalg.solve(gram, design.T @ (np.column_stack([mean, y]) * root))
    slopes = solved[1:, 0]
    trees = solved[1:, 1:].T
    left = mean - solved[0, 0] - x @ slopes
    whole = float(weight @ (mean - weight @ mean / weight.sum()) ** 2)
    explained = 1.0 - float(weight @ left**2) / whole if whole > 0 else 0.0
    low, high = np.quantile(trees, [0.05, 0.95], axis=0)
    names = labels(space)
    found = [
        Slope(names[j], j, float(slopes[i]), float(min(low[i], slopes[i])), float(max(high[i], slopes[i])))
        for i, j in enumerate(used.tolist())
    ]
    by_tree = np.full((len(trees), space.d), np.nan)
    by_tree[:, used] = trees
    found.sort(key=lambda s: -abs(s.value))
    return Local(tuple(found), trial, explained, _stability(slopes, trees), model, by_tree)


def _moved(space: Space, here: Floats, rng: np.random.Generator) -> Floats:
    """Configurations around one, shape ``(draws, d)``; newly active parameters are drawn from the prior."""
    rows = space.prior(rng, _DRAWS)
    rows = np.where(np.isnan(rows), 0.5, rows)
    flip = rng.random(rows.shape) < _FLIP
    step = here + _STEP * rng.standard_normal(rows.shape)
    # Reflected, not cut: at an end of the range a cut would put half of the draws on the configuration itself.
    step = 1.0 - np.abs(1.0 - np.abs(step))
    named = np.array([c.domain.categorical for c in space.columns])
    near = np.where(named, np.where(flip, rows, here), step)
    return space.snap(np.where(np.isnan(here), rows, near))


def _features(space: Space, here: Floats, rows: Floats) -> Floats:
    """Steps in tenths of the range, and whether an option is another one, shape ``(draws, d)``."""
    named = np.array([c.domain.categorical for c in space.columns])
    moved = np.where(named, np.abs(rows - here) > 1e-9, (rows - here) / _STEP)
    out: Floats = np.where(np.isnan(rows) | np.isnan(here), 0.0, moved)
    return out


def _stability(slopes: Floats, trees: Floats) -> float:
    from tunewright.numerics.statistics import ranks

    if len(slopes) < 2:
        return 1.0
    first = ranks(np.abs(slopes))
    found = [
        float(np.corrcoef(first, ranks(np.abs(t)))[0, 1])
        for t in trees
        if np.ptp(np.abs(t)) > 0 and np.ptp(first) > 0
    ]
    return float(np.mean(found)) if found else 0.0


def local_importance(study_or_history: HasHistory | History, seed: int = 0) -> list[Importance]:
    """Steepness around the best trial, as shares of the sum over parameters, largest first.

    Args:
        study_or_history: A study, or its history.
        seed: For the forest and the draws.

    Raises:
        ConfigError: As for ``sensitivity``.
    """
    found = sensitivity(study_or_history, seed=seed)
    space = found.model.space
    steep = np.nan_to_num(np.abs(found.by_tree))
    grouped = np.add.reduceat(steep, [e.first for e in space.entries], axis=1)
    total = grouped.sum(axis=1, keepdims=True)
    share = np.divide(grouped, total, out=np.zeros_like(grouped), where=total > 0)
    value = share.mean(axis=0)
    low, high = np.quantile(share, [0.05, 0.95], axis=0)
    out = [
        Importance(n, float(v), float(min(a, v)), float(max(b, v)))
        for n, v, a, b in zip(parameters(space), value, low, high, strict=True)
    ]
    return sorted(out, key=lambda i: (-i.value, -i.high, i.name))


@dataclass(frozen=True, slots=True)
class Touchy:
    """How sensitive an option is to the other parameters.

    Attributes:
        option: The option, as text.
        value: Sum of the absolute slopes of all other parameters around the best trial with that option.
        low: Lower end of the 90 % interval, over trees.
        high: Upper end.
        slopes: The slopes.
    """

    option: str
    value: float
    low: float
    high: float
    slopes: tuple[Slope, ...]


def by_option(study_or_history: HasHistory | History, name: str, seed: int = 0) -> list[Touchy]:
    """Which options of a choice are touchy about the other parameters, and which forgiving; touchiest first.

    Args:
        study_or_history: A study, or its history; the first objective counts.
        name: A parameter of kind Choice, such as the augmentation.
        seed: For the forest and the draws.

    Raises:
        ConfigError: If there is no such choice, fewer than 20 trials have a result, or all losses are equal.
    """
    history = history_of(study_or_history)
    model = surrogate(history, "Local sensitivity", seed)
    space = model.space
    place = next((j for j, n in enumerate(labels(space)) if n == name), None)
    domain = space.columns[place].domain if place is not None else None
    if place is None or not isinstance(domain, Choice):
        raise ConfigError(
            f"Sensitivity by option needs the name of a Choice; got {name!r}. Pass one of {list(space.names)}."
        )
    order, codes = ranking(history)
    level = np.floor(np.nan_to_num(codes[:, place], nan=-1.0) * domain.levels)
    out = []
    for i, option in enumerate(domain.options):
        rows = order[level == i]
        if not len(rows):
            continue
        found = _line(model, history.codes[rows[0]], int(rows[0]), seed)
        others = np.delete(found.by_tree, place, axis=1)
        sums = np.nansum(np.abs(others), axis=1)
        value = float(sum(abs(s.value) for s in found.slopes if s.column != place))
        low, high = np.quantile(sums, [0.05, 0.95]).tolist()
        slopes = tuple(s for s in found.slopes if s.column != place)
        out.append(Touchy(str(option), value, min(low, value), max(high, value), slopes))
    return sorted(out, key=lambda t: -t.value)
