"""A process of one metric in standard units, which keeps differences and products meaningful.

*Use when* values of several metrics are combined (volumes, costs, limits) or a mean is needed in the metric's unit. *Do not
use when* only the order of losses matters: ``gp.fit`` warps them, which suits heavy tails better.

*Paper*: Rasmussen and Williams 2006, section 2.3.

*Differs*: values far above the median, by thirty times its distance from the least, count as that; hyperparameters are
found on the scale of the trials they are found on, so that they stay the same until they are due again.

*Cost*: one factorisation of at most 300 rows; some forty when hyperparameters are due.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tunewright.core.history import History
from tunewright.models import gp as model
from tunewright.models.data import training_trials
from tunewright.models.evidence import centre
from tunewright.models.refit import Memo, hyper_of, tuning_size

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

MAX_ROWS = 300
_LARGEST = 1e150
_CAP = 30.0


@dataclass(frozen=True, slots=True)
class Metric:
    """A process of a standardised metric.

    Attributes:
        process: Of the standardised values.
        shift: Their mean, in the metric's unit.
        scale: Their standard deviation, in the metric's unit, positive.
    """

    process: model.GP
    shift: float
    scale: float

    def predict(self, rows: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Mean and standard deviation in standard units, shape ``(q,)`` each, at rows of codes ``(q, d)``."""
        return model.predict(self.process, rows)

    def standard(self, values: FloatArray | float) -> FloatArray:
        """Values of the metric in standard units, same shape."""
        return np.asarray((np.asarray(values) - self.shift) / self.scale)

    def given(self, awaited: FloatArray) -> Metric:
        """The same after rows of codes ``(k, d)`` whose values are awaited: less uncertain, means unchanged."""
        return replace(self, process=model.condition_on(self.process, awaited))


def _scale_of(values: FloatArray) -> tuple[float, float]:
    mean, std = float(values.mean()), float(values.std())
    return mean, std if std > 1e-12 * max(1e-300, abs(mean)) and std > 0.0 else max(1.0, abs(mean))


def capped(values: FloatArray) -> FloatArray:
    """Values with those far above the median brought down; finite, same shape."""
    values = np.clip(values, -_LARGEST, _LARGEST)
    low, middle = float(values.min()), float(np.median(values))
    return np.minimum(values, low + _CAP * (middle - low)) if middle > low else values


def metric_of(memo: Memo, columns: model.Columns, x: FloatArray, values: FloatArray) -> Metric:
    """A process of one metric.

    Args:
        memo: Remembers hyperparameters; a cache.
        columns: The embedding.
        x: Rows of codes in order of the trials, shape ``(n, d)`` with ``n >= 1``.
        values: Finite values of the metric, lower is better, shape ``(n,)``.
    """
    size = tuning_size(len(values))
    first = capped(values[:size])
    mean, scale = _scale_of(first)
    hyper = hyper_of(memo, columns, x[:size], (first - mean) / scale, warped=True)
    values = capped(values)
    mean, scale = _scale_of(values)
    if len(values) > MAX_ROWS:
        keep = best_and_newest(values, MAX_ROWS)
        x, values = x[keep], values[keep]
    return Metric(unwarped(columns, hyper, x, (values - mean) / scale), mean, scale)


def unwarped(columns: model.Columns, hyper: model.Hyper, x: FloatArray, y: FloatArray) -> model.GP:
    """A process of values as they are, where ``gp.update`` would warp them.

    Args:
        columns: The embedding.
        hyper: The hyperparameters.
        x: Rows of codes, shape ``(n, d)`` with ``n`` at most ``gp.MAX_EXACT``.
        y: Values of about unit size, shape ``(n,)``.
    """
    process = model.update(columns, hyper, x, y)
    level, alpha = centre(process.factor, y)
    return replace(process, y=y, mean=level, alpha=alpha)


def best_and_newest(values: FloatArray, size: int) -> IntArray:
    """Indices of the lower half of a budget and of the newest others, ascending, at most ``size``."""
    best = np.argsort(values, kind="stable")[: size // 2]
    others = np.setdiff1d(np.arange(len(values)), best)
    return np.sort(np.concatenate([best, others[len(others) - (size - len(best)) :]])).astype(np.int64)


def outcomes(history: History) -> tuple[BoolArray, FloatArray, BoolArray]:
    """What processes of several metrics are fitted to.

    Returns:
        Which trials are used, shape ``(n,)``; their losses, with the worst known of each where they failed, shape
        ``(k, m)``; and which of them have losses of their own, shape ``(k,)``. Nothing is used when no trial has losses.
    """
    rows = training_trials(history)
    losses = np.clip(history.losses[rows], -_LARGEST, _LARGEST)
    good = (history.usable & np.isfinite(history.losses).all(axis=1))[rows]
    if rows.any():
        losses[~good] = losses[good].max(axis=0)
    return rows, losses, good


def log_feasible(
    memos: dict[int, Memo],
    columns: model.Columns,
    history: History,
    candidates: FloatArray,
    awaited: FloatArray,
) -> FloatArray:
    """Log probability that all outcome limits are met at rows of codes ``(q, d)``; shape ``(q,)``, see ``feasibility``."""
    return feasibility(memos, columns, history, awaited)(candidates)


def feasibility(
    memos: dict[int, Memo], columns: model.Columns, history: History, awaited: FloatArray
) -> Callable[[FloatArray], FloatArray]:
    """Log probability that all outcome limits are met, from rows of codes ``(q, d)`` to ``(q,)``.

    Args:
        memos: Caches by number of the limit, from -1 downwards.
        columns: The embedding.
        history: The trials.
        awaited: Rows of codes whose results are awaited, shape ``(k, d)``.

    Source: Gardner et al. 2014, ICML, "Bayesian Optimization with Inequality Constraints", section 3.
    """
    from tunewright.numerics.distributions import normal_log_cdf

    usable = history.usable & ~np.isnan(history.codes).all(axis=1)
    metrics: list[Metric] = []
    for k, margin in enumerate(history.margins.T):
        known = usable & np.isfinite(margin)
        if int(known.sum()) < 2:
            continue
        metric = metric_of(memos.setdefault(-1 - k, {}), columns, history.codes[known], margin[known])
        metrics.append(metric.given(awaited) if len(awaited) else metric)

    def log_probability(candidates: FloatArray) -> FloatArray:
        total = np.zeros(len(candidates))
        for metric in metrics:
            mean, std = metric.predict(candidates)
            total += normal_log_cdf((float(metric.standard(0.0)) - mean) / std)
        return total

    return log_probability
