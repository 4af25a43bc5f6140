"""What a configuration costs before it is tried, and how much an acquisition is to be marked down for it.

*Use when* costs of configurations differ by factors and the budget is time or money. *Do not use when* they differ by less
than their noise, or the budget is a number of trials.

*Paper*: Snoek, Larochelle and Adams 2012 (NeurIPS), section 3.2, expected improvement per second; Lee, Perrone, Archambeau
and Seeger 2020 (arXiv:2003.10870), section 4.2, cost cooling.

*Differs*: the expected inverse cost is raised to the cooled exponent inside the expectation, so that both papers are cases of
one formula; costs of all finished trials are used, failed ones included; where fewer than two are known, nothing is corrected.

*Cost*: one Gaussian process of at most 300 rows; one prediction per candidate.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tunewright.core.history import History
from tunewright.models.kernel import Columns
from tunewright.models.metric import Metric, metric_of
from tunewright.models.refit import Memo

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

_LEAST = 1e-9
_MOST = 1e100


@dataclass(frozen=True, slots=True)
class CostModel:
    """A process of the logarithm of costs.

    Attributes:
        metric: Of log costs, in log seconds or the log of whatever unit costs are counted in.
    """

    metric: Metric

    def predict(self, rows: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Mean and standard deviation of the log cost, shape ``(q,)`` each, at rows of codes ``(q, d)``."""
        mean, std = self.metric.predict(rows)
        return self.metric.shift + self.metric.scale * mean, self.metric.scale * std

    def correction(self, rows: FloatArray, exponent: float = 1.0) -> FloatArray:
        """What to add to a log acquisition: the log of the expectation of ``cost ** -exponent``, shape ``(q,)``.

        Args:
            rows: Rows of codes, shape ``(q, d)``.
            exponent: 1 for improvement per unit of cost, 0 for no correction.

        Source: Snoek et al. 2012, section 3.2, "expected inverse duration", for an exponent of 1.
        """
        if exponent == 0.0:
            return np.zeros(len(rows))
        mean, std = self.predict(rows)
        out: FloatArray = -exponent * mean + 0.5 * (exponent * std) ** 2
        return out

    def given(self, awaited: FloatArray) -> CostModel:
        """The same after rows of codes ``(k, d)`` whose costs are awaited: less uncertain, means unchanged."""
        return replace(self, metric=self.metric.given(awaited))


def log_costs(costs: FloatArray) -> FloatArray:
    """Logarithms of costs, NaN where unknown, same shape; costs of nothing count as a billionth of the unit."""
    out: FloatArray = np.log(np.clip(costs, _LEAST, _MOST))
    return out


def cost_model(memo: Memo, columns: Columns, x: FloatArray, costs: FloatArray) -> CostModel | None:
    """A process of the log costs that are known; None where fewer than two are.

    Args:
        memo: Remembers hyperparameters; a cache.
        columns: The embedding.
        x: Rows of codes in order of the trials, shape ``(n, d)``.
        costs: In any unit, NaN where unknown, shape ``(n,)``.
    """
    known = np.isfinite(costs) & ~np.isnan(x).all(axis=1)
    if int(known.sum()) < 2:
        return None
    return CostModel(metric_of(memo, columns, x[known], log_costs(costs[known])))


def cost_model_of(memo: Memo, columns: Columns, history: History) -> CostModel | None:
    """A process of the log costs of a study's finished trials; None where fewer than two are known."""
    return cost_model(memo, columns, history.codes, history.costs)


def cooled(spent: float, start: float, budget: float) -> float:
    """Exponent of the cost: 1 when the model takes over, falling to 0 when the budget is spent.

    Args:
        spent: Cost of all trials so far.
        start: Cost of the initial trials, same unit.
        budget: Cost that all trials may have together, same unit, above ``start``.

    Source: Lee et al. 2020, arXiv:2003.10870, eq. 2.
    """
    left = (budget - spent) / (budget - start) if budget > start else 0.0
    return min(1.0, max(0.0, left))
