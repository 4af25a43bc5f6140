"""What trials cost: a process of log costs, and acquisitions per unit of cost.

*Use when* the cost of a trial depends much on its configuration. *Do not use when* all trials cost about the same.

*Paper*: Snoek, Larochelle and Adams 2012 (arXiv:1206.2944), section 3.2, for expected improvement per second; Lee, Perrone,
Archambeau and Seeger 2020 (arXiv:2003.10870), eq. 4, for cost cooling.

*Differs*: the expectation of the log cost stands for that of the cost, as in both papers; trials without a known cost count as
the median one.

*Cost*: one Gaussian process of at most 300 rows.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from tunewright.core.history import History
from tunewright.core.problem import Problem
from tunewright.errors import ConfigError
from tunewright.models.kernel import Columns
from tunewright.models.metric import Metric, metric_of
from tunewright.models.refit import Memo

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

SECONDS = "seconds"
_LEAST = 1e-12
_MOST = 1e150


def cost_objective(problem: Problem, cost: str) -> int | None:
    """Number of the objective that is the cost; None where trials are measured in seconds.

    Args:
        problem: The problem.
        cost: ``"seconds"``, or the name of one of several objectives, minimised.

    Raises:
        ConfigError: If there is no such objective, it is maximised, or it is the only one.
    """
    if cost == SECONDS:
        return None
    names = [o.name for o in problem.objectives]
    if cost not in names or problem.m < 2 or problem.objectives[names.index(cost)].goal != "minimize":
        raise ConfigError(
            f"The cost must be 'seconds' or one of several objectives that is minimised; got '{cost}' among {names}. "
            "Add it to the objectives, or use 'seconds'."
        )
    return names.index(cost)


def log_costs(history: History, rows: BoolArray, objective: int | None) -> FloatArray:
    """Natural log cost of some trials; 0 where no cost is known at all.

    Args:
        history: The trials.
        rows: Which of them, shape ``(n,)``, ``k`` true.
        objective: Number of the objective that is the cost, or None for seconds.

    Returns:
        Finite, shape ``(k,)``; the median of the others where a cost is not known.
    """
    costs = history.costs if objective is None else history.losses[:, objective]
    known = costs[rows]
    with np.errstate(invalid="ignore"):
        out = np.log(np.clip(known, _LEAST, _MOST))
    missing = ~np.isfinite(known)
    out[missing] = float(np.median(out[~missing])) if not missing.all() else 0.0
    return np.asarray(out)


def cost_model(
    memo: Memo, columns: Columns, history: History, rows: BoolArray, objective: int | None = None
) -> Metric:
    """A process of the log cost, in standard units.

    Args:
        memo: Remembers hyperparameters; a cache.
        columns: The embedding.
        history: The trials.
        rows: Which of them to learn from, shape ``(n,)``, at least one.
        objective: Number of the objective that is the cost, or None for seconds.
    """
    return metric_of(memo, columns, history.codes[rows], log_costs(history, rows, objective))


def cooling(spent: float, budget: float, before: float = 0.0) -> float:
    """Exponent of the cost: 1 when the search begins, 0 when its budget is used up.

    Args:
        spent: Cost of all trials so far, any unit.
        budget: Cost that all trials together may have, same unit.
        before: Cost of the initial design, same unit.

    Source: Lee et al. 2020, arXiv:2003.10870, eq. 4.
    """
    return min(1.0, max(0.0, (budget - spent) / (budget - before))) if budget > before else 0.0


def per_cost(
    log_acquisition: FloatArray, costs: Metric, rows: FloatArray, exponent: float = 1.0
) -> FloatArray:
    """A log acquisition divided by a power of the expected cost, shape ``(q,)``.

    Args:
        log_acquisition: At the rows, shape ``(q,)``.
        costs: Of ``cost_model``.
        rows: Rows of codes, shape ``(q, d)``.
        exponent: 1 for improvement per cost, 0 for plain improvement, between them while cooling.

    Source: Snoek et al. 2012, arXiv:1206.2944, section 3.2, with the exponent of Lee et al. 2020.
    """
    mean, _ = costs.predict(rows)
    out: FloatArray = log_acquisition - exponent * (costs.shift + costs.scale * mean)
    return out


def cost_term(
    memo: Memo,
    columns: Columns,
    history: History,
    objective: int | None = None,
    budget: float | None = None,
    initial: int = 0,
) -> Callable[[FloatArray], FloatArray] | None:
    """What ``per_cost`` adds to a log acquisition, from rows of codes ``(q, d)`` to ``(q,)``; None while no cost is known.

    Args:
        memo: Remembers hyperparameters; a cache.
        columns: The embedding.
        history: The trials; failed ones cost, too.
        objective: Number of the objective that is the cost, or None for seconds.
        budget: Cost that all trials together may have, which cools the cost; None keeps it in full.
        initial: Number of the trials of the design.
    """
    costs = history.costs if objective is None else history.losses[:, objective]
    rows = np.isfinite(costs) & ~np.isnan(history.codes).all(axis=1)
    if not rows.any():
        return None
    exponent = 1.0
    if budget is not None:
        exponent = cooling(float(costs[rows].sum()), budget, float(costs[:initial][rows[:initial]].sum()))
    fitted = cost_model(memo, columns, history, rows, objective)
    return lambda x: per_cost(np.zeros(len(x)), fitted, x, exponent)
