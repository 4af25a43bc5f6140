"""How probable it is that a configuration is valid and keeps the outcome limits, learned from the trials that did not.

*Use when* some configurations fail, are invalid or exceed a limit, and an acquisition should avoid more of them: add the log
probability to it. *Do not use when* validity is a rule that can be written down; give the space a constraint instead.

*Paper*: Gelbart, Snoek and Adams 2014 (UAI, arXiv:1403.5607), section 3, for weighing an acquisition by the probability of
feasibility; Gardner et al. 2014 (ICML) for a regression of each limited metric.

*Differs*: validity is learned by a forest, whose leaves hold the share of valid trials, moved towards the share in all trials by
the weight of two trials. Each limited metric has a forest of its margin, taken as normal with the forest's mean and variance,
in place of a Gaussian process, whose hyperparameters would cost ten times as much.

*Cost*: one forest of 10 trees, and one per limit, O(n d log n); O(10 q log n) per call for each.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from tunewright.core.algorithm import generator
from tunewright.core.history import COMPLETED, FAILED, STOPPED, History
from tunewright.models import forest
from tunewright.numerics.distributions import normal_log_cdf

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
LogValidity = Callable[[FloatArray], FloatArray]

_TREES = 10
_LEAF = 2
_SHARE = 0.5
_TRUST = 2.0
_LEAST_VARIANCE = 1e-12
_LEAST_LOG = -50.0
_PURPOSE = 0x1A7A
_LEAST_MARGINS = 3


def log_validity(history: History) -> LogValidity | None:
    """Log probability that a configuration neither fails nor exceeds an outcome limit.

    Args:
        history: The trials; the answer depends on nothing else.

    Returns:
        From rows of codes ``(q, d)`` to log probabilities ``(q,)``, all at most 0 and finite; None while every finished
        trial was valid and kept every limit.
    """
    known: BoolArray = np.asarray(~np.isnan(history.codes).all(axis=1))
    terms = [_validity(history, known), *_limits(history, known)]
    found = [term for term in terms if term is not None]
    if not found:
        return None

    def log_probability(x: FloatArray) -> FloatArray:
        total = np.zeros(len(x))
        for term in found:
            total += term(x)
        return total

    return log_probability


def _validity(history: History, known: BoolArray) -> LogValidity | None:
    """By a forest of ones and zeros; None while nothing failed."""
    bad = known & (history.status >= FAILED)
    over = known & ((history.status == COMPLETED) | (history.status == STOPPED)) | bad
    if not bad.any():
        return None
    x, valid = history.codes[over], (~bad[over]).astype(np.float64)
    n = len(valid)
    # Two trials of the other kind stand in for what was not seen; no probability is ever 0.
    base = (valid.sum() + 1.0) / (n + 2.0)
    layout = history.problem.space.layout
    rng = generator(history.problem.seed, n, _PURPOSE)
    grown = forest.fit(
        x,
        valid,
        layout.levels,
        layout.categorical,
        rng,
        trees=_TREES,
        leaf=_LEAF,
        split=2 * _LEAF,
        share=_SHARE,
    )
    trust = n / (n + _TRUST)

    def log_probability(rows: FloatArray) -> FloatArray:
        mean, _ = forest.predict(grown, rows)
        out: FloatArray = np.log(trust * np.clip(mean, 0.0, 1.0) + (1.0 - trust) * base)
        return out

    return log_probability


def _limits(history: History, known: BoolArray) -> list[LogValidity | None]:
    """By one forest per limited metric; None for those that every trial kept."""
    return [_limit(history, known & np.isfinite(m), m) for m in history.margins.T]


def _limit(history: History, measured: BoolArray, margins: FloatArray) -> LogValidity | None:
    rows = np.flatnonzero(measured)
    if len(rows) < _LEAST_MARGINS or not (margins[rows] > 0.0).any():
        return None
    values = margins[rows] / float(np.abs(margins[rows]).max())
    layout = history.problem.space.layout
    rng = generator(history.problem.seed, len(rows), _PURPOSE + 1)
    grown = forest.fit(
        history.codes[rows],
        values,
        layout.levels,
        layout.categorical,
        rng,
        trees=_TREES,
        leaf=_LEAF,
        share=_SHARE,
    )
    # What few trials cannot tell apart stays uncertain by their spread.
    least = max(float(values.var()) / len(rows), _LEAST_VARIANCE)

    def log_probability(rows: FloatArray) -> FloatArray:
        mean, variance = forest.predict(grown, rows)
        return np.maximum(normal_log_cdf(-mean / np.sqrt(variance + least)), _LEAST_LOG)

    return log_probability
