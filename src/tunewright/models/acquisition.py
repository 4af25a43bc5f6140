"""Where to evaluate next, given a process: log expected improvement, and the maximisation of any acquisition.

*Use when* the next configuration is chosen by a Gaussian process over mixed columns. *Do not use when* a joint
batch must be optimal: awaited rows are handled one by one, through ``gp.condition_on``. Other acquisitions of a process
are in ``models.criteria``.

*Paper*: Ament et al. 2023 (arXiv:2310.20708), eq. 8 and 9, for log expected improvement; Srinivas et al. 2010
(arXiv:0912.3995) for the confidence bound.

*Differs*: candidates are the caller's, plus mutations of the best rows; the best few are then improved in three rounds:
mutations, steps to neighbours in discrete columns, and ascent by gradient in the continuous ones.

*Cost*: one prediction of all candidates, O(q n^2), three of about a hundred rows, and some 50 of a handful.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tunewright.models.gp import GP, predict, predict_with_gradient
from tunewright.numerics.distributions import log_normal_improvement, normal_log_cdf, normal_log_pdf
from tunewright.numerics.optimize import ascend_in_box

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]
Repair = Callable[[FloatArray], FloatArray]
Value = Callable[[FloatArray], FloatArray]
Slope = Callable[[FloatArray], tuple[FloatArray, FloatArray]]

_CLIMBERS = 4
_OPTIONS = 64
_STEPS = 15
_ROUNDS = 3
_MUTANTS = 80
_VISITED = 3


@dataclass(frozen=True, slots=True)
class Acquisition:
    """What a trial promises, as the logarithm of something positive: probabilities, beliefs and costs are added to it.

    Attributes:
        value: From rows of codes ``(q, d)`` to ``(q,)``, larger is better.
        slope: The same and its derivatives by the ordered columns, ``(q,)`` and ``(q, d)``; None where there are none.
    """

    value: Value
    slope: Slope | None


def log_expected_improvement(mean: FloatArray, std: FloatArray, best: float) -> FloatArray:
    """Log of ``E[max(best - f, 0)]`` for ``f ~ Normal(mean, std^2)``, finite however far ``mean`` lies above.

    Args:
        mean: Posterior means, shape ``(q,)``, lower is better.
        std: Posterior standard deviations, positive, shape ``(q,)``, unit of ``mean``.
        best: Lowest value known, unit of ``mean``.

    Source: Ament et al. 2023, arXiv:2310.20708, eq. 8.
    """
    out: FloatArray = np.log(std) + log_normal_improvement((best - mean) / std)
    return out


def log_expected_improvement_with_gradient(
    gp: GP, x: FloatArray, best: float
) -> tuple[FloatArray, FloatArray]:
    """Log expected improvement at ``x`` and its derivatives by the ordered columns.

    Args:
        gp: The process.
        x: Rows of codes, shape ``(q, d)``.
        best: Lowest warped loss known, unitless.

    Returns:
        Values ``(q,)`` and derivatives ``(q, d)``, zero for categorical and inactive columns.
    """
    mean, std, by_mean, by_std = predict_with_gradient(gp, x)
    z = (best - mean) / std
    log_h = log_normal_improvement(z)
    cdf = np.exp(normal_log_cdf(z) - log_h) / std
    pdf = np.exp(normal_log_pdf(z) - log_h) / std
    return np.log(std) + log_h, pdf[:, None] * by_std - cdf[:, None] * by_mean


def log_improvement(gp: GP, best: float) -> Acquisition:
    """Log expected improvement of a process, already conditioned on awaited rows, over the warped loss ``best``."""
    return Acquisition(
        lambda x: log_expected_improvement(*predict(gp, x), best),
        lambda x: log_expected_improvement_with_gradient(gp, x, best),
    )


def lower_confidence_bound(mean: FloatArray, std: FloatArray, beta: float = 2.0) -> FloatArray:
    """``mean - sqrt(beta) std``: lower is more promising; shape ``(q,)``.

    Args:
        mean: Posterior means, shape ``(q,)``.
        std: Posterior standard deviations, shape ``(q,)``.
        beta: Weight of exploration, unitless, at least 0.

    Source: Srinivas et al. 2010, arXiv:0912.3995, eq. 6.
    """
    out: FloatArray = mean - beta**0.5 * std
    return out


def mutations(
    rows: FloatArray, count: int, levels: IntArray, categorical: BoolArray, rng: np.random.Generator
) -> FloatArray:
    """Random changes of given rows, on every scale; not yet repaired.

    Each mutant changes at least one column: a continuous one by a normal step, an ordered discrete one by at least a
    level, a categorical one to any choice. Inactive columns are given random codes, for branches that open.

    Args:
        rows: Rows of codes, shape ``(k, d)`` with ``k >= 1``.
        count: Number of mutants.
        levels: Number of levels per column, 0 where continuous, shape ``(d,)``.
        categorical: Which columns have no order, shape ``(d,)``.
        rng: Source of randomness.
    """
    d = rows.shape[1]
    base = rows[rng.integers(len(rows), size=count)]
    base = np.where(np.isnan(base), rng.random((count, d)), base)
    change = rng.random((count, d)) < 10.0 ** rng.uniform(-1.0, 0.0, size=(count, 1))
    change[np.arange(count), rng.integers(d, size=count)] = True
    step = 10.0 ** rng.uniform(-2.5, -0.5, size=(count, 1)) * rng.standard_normal((count, d))
    discrete = (levels > 0) & ~categorical
    step = np.where(discrete, np.sign(step) * np.maximum(np.abs(step), 1.0 / np.maximum(levels, 1)), step)
    moved = np.where(categorical, rng.random((count, d)), np.clip(base + step, 0.0, 1.0))
    out: FloatArray = np.where(change, moved, base)
    return out


def neighbours(
    row: FloatArray, levels: IntArray, categorical: BoolArray, rng: np.random.Generator
) -> FloatArray:
    """Rows that differ from ``row`` in one active discrete column: other choices (64 of many), or one level up or down.

    Args:
        row: Codes, shape ``(d,)``.
        levels: Number of levels per column, 0 where continuous, shape ``(d,)``.
        categorical: Which columns have no order, shape ``(d,)``.
        rng: Fills the columns that a change may switch on.

    Returns:
        Shape ``(k, d)``, not yet repaired; ``k`` is 0 when nothing is discrete.
    """
    filled = np.where(np.isnan(row), rng.random(len(row)), row)
    found: list[FloatArray] = []
    for j in np.flatnonzero((levels > 0) & ~np.isnan(row)):
        k = int(levels[j])
        here = min(int(row[j] * k), k - 1)
        others: Iterable[int] = (here - 1, here + 1)
        if categorical[j]:
            others = range(k) if k <= _OPTIONS else rng.choice(k, _OPTIONS, replace=False).tolist()
        for level in others:
            if level != here and 0 <= level < k:
                other = filled.copy()
                other[j] = (level + 0.5) / k
                found.append(other)
    return np.array(found).reshape(-1, len(row))


def _climb(
    slope: Slope, rows: FloatArray, levels: IntArray, categorical: BoolArray, repair: Repair
) -> FloatArray:
    """Gradient ascent in the active continuous columns of a few rows, repaired."""
    off = np.isnan(rows)
    free = (levels == 0) & ~categorical & ~off
    start = np.where(off, 0.5, rows)
    if not free.any():
        return rows

    def value(z: FloatArray) -> tuple[FloatArray, FloatArray]:
        values, gradient = slope(np.where(off, np.nan, z))
        return values, np.where(free, gradient, 0.0)

    low, high = np.where(free, 0.0, start), np.where(free, 1.0, start)
    z, _ = ascend_in_box(value, start, low, high, steps=_STEPS)
    return repair(np.where(off, np.nan, z))


def _is_known(known: FloatArray, row: FloatArray) -> bool:
    gap = np.abs(np.nan_to_num(known, nan=-1.0) - np.nan_to_num(row, nan=-1.0))
    return bool(np.any(gap.max(axis=1, initial=0.0) < 1e-6))


def maximize_acquisition(
    acquisition: Acquisition,
    known: FloatArray,
    levels: IntArray,
    categorical: BoolArray,
    candidates: FloatArray,
    incumbents: FloatArray,
    repair: Repair,
    rng: np.random.Generator,
    *,
    terms: Sequence[Value] = (),
    local: int = 200,
) -> tuple[FloatArray, float]:
    """The row with the largest acquisition value that was found.

    Args:
        acquisition: What is maximised.
        known: Rows that were tried or are awaited, shape ``(n, d)``.
        levels: Number of levels per column, 0 where continuous, shape ``(d,)``.
        categorical: Which columns have no order, shape ``(d,)``.
        candidates: Legal rows that cover the space, shape ``(q, d)`` with ``q >= 1``.
        incumbents: Good rows to search around, shape ``(k, d)``; may be empty.
        repair: Makes rows legal: snaps to levels, switches columns off, applies constraints.
        rng: Source of randomness.
        terms: Added to the acquisition, each one value per row: a user's belief, the probability of a valid trial,
            a cost. The ascent by gradient looks at the acquisition only.
        local: Number of mutants of the incumbents.

    Returns:
        Codes, shape ``(d,)``, and their value, terms included. A known row is returned only if nothing else was found.
    """

    def score(x: FloatArray) -> FloatArray:
        return sum((term(x) for term in terms), acquisition.value(x))

    def keep(rows: FloatArray, values: FloatArray, more: FloatArray) -> tuple[FloatArray, FloatArray]:
        rows, values = np.vstack([rows, more]), np.concatenate([values, score(more)])
        order = np.argsort(-values, kind="stable")[:_CLIMBERS]
        return rows[order], values[order]

    slope = acquisition.slope
    pool = candidates
    if len(incumbents) and local:
        pool = np.vstack([pool, repair(mutations(incumbents, local, levels, categorical, rng))])
    rows, values = keep(pool[:0], np.empty(0), pool)
    for _ in range(_ROUNDS):
        beside = [neighbours(row, levels, categorical, rng) for row in rows[:_VISITED]]
        beside.append(mutations(rows, _MUTANTS, levels, categorical, rng))
        rows, values = keep(rows, values, repair(np.vstack(beside)))
        if slope is not None:
            rows, values = keep(rows, values, _climb(slope, rows, levels, categorical, repair))
    for row, value in zip(rows, values, strict=True):
        if not _is_known(known, row):
            return row, float(value)
    unknown = [i for i in range(len(candidates)) if not _is_known(known, candidates[i])]
    if unknown:
        scores = score(candidates[unknown])
        return candidates[unknown[int(np.argmax(scores))]], float(scores.max())
    return rows[0], float(values[0])
