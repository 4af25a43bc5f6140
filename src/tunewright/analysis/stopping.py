"""When to end a search: once the most that could still be gained is less than what a result can be told apart by.

*Paper*: Makarova, Shen, Perrone, Klein, Faddoul, Krause, Seeger and Archambeau 2022, "Automatic Termination for
Hyperparameter Optimization", AutoML-Conf, arXiv:2104.08166, section 3: stop when the upper bound on the simple regret,
the lowest upper confidence bound among the configurations tried minus the lowest lower confidence bound in the space,
falls below the noise of a result.

*Differs*: the process sees losses whose upper range is compressed (``models.warp`` with an offset of three times the
distance from best to median, so that values below the best one keep their scale), and its bounds are mapped back into
the unit of the loss, which a monotone map keeps valid. The confidence
factor is that of Srinivas, Krause, Kakade and Seeger 2010 (ICML, Theorem 1, scaled down by five as in their section 6),
with the candidates compared as the finite set. The noise is that between replicates where there are some, else the one
that the process has learnt.

*Cost*: one fit of a process and a few predictions of about a thousand candidates.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tunewright.core.history import COMPLETED, History
from tunewright.errors import UnsupportedError
from tunewright.models import gp as model
from tunewright.models.data import Pooled, pool
from tunewright.models.search import best_rows
from tunewright.models.warp import Warp, fit_warp

FloatArray = NDArray[np.float64]
LEAST = 10
# Smaller offsets cannot express how much better than the best an untried configuration may be.
_CANDIDATES, _DELTA, _SCALE, _OFFSET = 1000, 0.1, 5.0, 3.0


@dataclass(frozen=True, slots=True)
class Bound:
    """What a search may still gain, in the unit of the loss.

    Attributes:
        gap: Upper bound on the loss above the lowest possible, of the best configuration so far.
        noise: Standard deviation of a single result.
        results: Configurations it rests on.
    """

    gap: float
    noise: float
    results: int


def regret_bound(history: History, rng: np.random.Generator) -> Bound | None:
    """An upper bound on what the search may still gain.

    Args:
        history: The trials of a study with one objective; only completed ones within the outcome limits count.
        rng: Draws the candidates.

    Returns:
        The bound; None with fewer than ten configurations, fewer than two per parameter and two more (too few to learn
        a length scale from), or equal losses.

    Raises:
        UnsupportedError: If there are several objectives.
    """
    problem = history.problem
    if problem.m > 1:
        raise UnsupportedError(
            f"A regret bound needs one objective; got {problem.m}. Use a number of trials or a timeout."
        )
    good = (history.status == COMPLETED) & np.isfinite(history.loss) & (history.violation == 0.0)
    good &= ~np.isnan(history.codes).all(axis=1)
    data = pool(history.codes[good], history.loss[good])
    if len(data.losses) < max(LEAST, 2 * (problem.space.d + 1)) or len(np.unique(data.losses)) < 2:
        return None
    space = problem.space
    columns = model.columns_of(space.layout.levels, space.layout.categorical)
    weights = 1.0 / data.counts
    warped = fit_warp(data.losses, _OFFSET)(data.losses)
    hyper = replace(model.tune(columns, data.rows, warped, weights=weights), offset=_OFFSET)
    gp = model.update(columns, hyper, data.rows, data.losses, weights)
    beta = math.sqrt(
        2.0 * math.log(_CANDIDATES * len(data.losses) ** 2 * math.pi**2 / (6.0 * _DELTA)) / _SCALE
    )

    def optimism(rows: FloatArray) -> FloatArray:
        mean, std = model.predict(gp, rows)
        return beta * std - mean

    mean, std = model.predict(gp, gp.x)
    upper = float((mean + beta * std).min())
    lower = -float(best_rows(optimism, space, gp.x[np.argsort(gp.y, kind="stable")[:5]], rng)[1][0])
    gap = unwarped(gp.warp, upper) - unwarped(gp.warp, lower)
    return Bound(max(0.0, gap), _noise(data, gp), len(data.losses))


def unwarped(warp: Warp, value: float) -> float:
    """The loss that a warp maps to a value; above the range of losses the end of it."""
    loss = math.exp(min(value * warp.scale + warp.shift, 700.0)) - warp.offset + warp.low
    return min(loss, warp.high)


def _noise(data: Pooled, gp: model.GP) -> float:
    """Standard deviation of a single result: from replicates, else what the process takes for noise at the best."""
    several = data.counts > 1
    if several.any():
        freedom = data.counts[several] - 1.0
        variance = data.errors[several] ** 2 * data.counts[several]
        return float(np.sqrt((variance * freedom).sum() / freedom.sum()))
    middle, step = float(gp.y.min()), math.exp(0.5 * gp.hyper.noise)
    return unwarped(gp.warp, middle + step) - unwarped(gp.warp, middle)
