"""How probable it is that a configuration is valid and keeps the outcome limits, learned from the trials that did not.

*Use when* some configurations fail, are invalid or exceed a limit, and an acquisition should avoid more of them: add the log
probability to it. *Do not use when* validity is a rule that can be written down; give the space a constraint instead.

*Paper*: Gelbart, Snoek and Adams 2014 (UAI, arXiv:1403.5607), section 3, for weighing an acquisition by the probability of
feasibility; Gardner et al. 2014 (ICML), section 3, for a process of each limited metric; Rasmussen and Williams 2006,
section 6.5, for classification by least squares.

*Differs*: validity is a process of labels, -1 where a trial was valid and 1 where it was not, taken as normal: a label below 0
is the event. Its noise is learned, so that failures by chance are told from failures by place.

*Cost*: one process of at most 300 rows for validity, once a trial failed, and one per outcome limit, once one was exceeded.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from tunewright.core.history import COMPLETED, FAILED, PAUSED, History
from tunewright.models import gp as model
from tunewright.models.metric import MAX_ROWS, best_and_newest, feasibility, unwarped
from tunewright.models.refit import Memo, hyper_of
from tunewright.numerics.distributions import normal_log_cdf

FloatArray = NDArray[np.float64]
LogValidity = Callable[[FloatArray], FloatArray]

VALIDITY = 1
_LEAST_VARIANCE = 0.05


def log_validity(
    memos: dict[int, Memo], columns: model.Columns, history: History, awaited: FloatArray
) -> LogValidity | None:
    """Log probability that a configuration neither fails nor exceeds an outcome limit.

    Args:
        memos: Caches: 1 the validity, limits from -1 downwards.
        columns: The embedding.
        history: The trials.
        awaited: Rows of codes whose results are awaited, shape ``(k, d)``.

    Returns:
        From rows of codes ``(q, d)`` to log probabilities ``(q,)``, all at most 0 and finite; None while every finished
        trial was valid and kept every limit.
    """
    valid = _validity(memos.setdefault(VALIDITY, {}), columns, history, awaited)
    exceeded = bool(np.any(history.violation[history.usable] > 0.0))
    kept = feasibility(memos, columns, history, awaited) if exceeded else None
    if valid is None or kept is None:
        return valid or kept
    return lambda rows: valid(rows) + kept(rows)


def _validity(
    memo: Memo, columns: model.Columns, history: History, awaited: FloatArray
) -> LogValidity | None:
    """By a process of labels; None while nothing failed."""
    # A paused trial that has a loss was valid so far; under halving most trials stay paused.
    judged = (history.status >= COMPLETED) | ((history.status == PAUSED) & history.usable)
    over = judged & ~np.isnan(history.codes).all(axis=1)
    failed = history.status[over] >= FAILED
    if not failed.any():
        return None
    x, labels = history.codes[over], np.where(failed, 1.0, -1.0)
    hyper = hyper_of(memo, columns, x, labels, warped=True)
    if len(x) > MAX_ROWS:
        keep = best_and_newest(labels, MAX_ROWS)
        x, labels = x[keep], labels[keep]
    gp = unwarped(columns, hyper, x, labels)
    if len(awaited):
        gp = model.condition_on(gp, awaited)
    # What few trials cannot tell stays uncertain, by the variance of the mean of so many labels at least.
    noise = float(np.exp(hyper.noise)) + _LEAST_VARIANCE + 1.0 / len(labels)

    def log_probability(rows: FloatArray) -> FloatArray:
        mean, std = model.predict(gp, rows)
        return normal_log_cdf(-mean / np.sqrt(std**2 + noise))

    return log_probability
