"""Shrinkage: what the best of many noisy numbers is worth.

The lowest of many measurements is low partly by luck. Both estimators here pull every measurement to where the others
say that it should be: ``james_stein`` towards their mean, for a handful that are alike; ``deconvolve`` towards a
distribution fitted to them all, for the results of a search, which are not.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tunewright.errors import ConfigError

Floats = NDArray[np.float64]
_GRID, _ROUNDS, _SPACING = 200, 300, 0.5


def james_stein(values: ArrayLike, variance: float) -> tuple[Floats, float]:
    """Measurements pulled towards their mean by as much as their noise says.

    Args:
        values: Unbiased measurements, shape ``(k,)``.
        variance: Variance of the noise of each, in the squared unit of the values.

    Returns:
        The estimates, shape ``(k,)``, and the factor in [0, 1] by which distances from the mean were multiplied; with
        fewer than four values nothing can be learnt from the others, and the factor is 1.

    Source: Efron and Morris 1975, J. American Statistical Association 70:311-319, eq. 2.8, positive part.
    """
    y = np.asarray(values, dtype=np.float64)
    k = len(y)
    if k < 4 or variance <= 0.0:
        return y.copy(), 1.0
    mean = float(y.mean())
    squares = float(((y - mean) ** 2).sum())
    factor = max(0.0, 1.0 - (k - 3) * variance / squares) if squares > 0.0 else 0.0
    return mean + factor * (y - mean), factor


@dataclass(frozen=True, slots=True)
class Posterior:
    """What a noisy value says about the true one.

    Attributes:
        mean: Expected true value.
        low: Lower end of the 95 % interval.
        high: Upper end.
    """

    mean: float
    low: float
    high: float


def deconvolve(values: ArrayLike, sd: ArrayLike, which: int) -> Posterior:
    """Expected true value behind one of many noisy ones, whatever the distribution of the true values.

    The distribution is the most likely mixture of normals on a grid, half a noise deviation apart and wide, found by
    expectation maximisation.

    Args:
        values: Measurements, shape ``(n,)``, ``n >= 1``.
        sd: Standard deviation of the noise of each, positive, a number or shape ``(n,)``.
        which: The one to be judged.

    Raises:
        ConfigError: If a value is not finite or a deviation not positive.

    Source: Kiefer and Wolfowitz 1956, Annals of Mathematical Statistics 27:887-906, for the estimator; Jiang and Zhang
    2009, Annals of Statistics 37:1647-1684, for its use to shrink; normal components as in Stephens 2017,
    Biostatistics 18:275-294.
    """
    y = np.asarray(values, dtype=np.float64)
    noise = np.broadcast_to(np.asarray(sd, dtype=np.float64), y.shape)
    if not len(y) or not np.all(np.isfinite(y)) or not np.all(noise > 0.0):
        raise ConfigError(
            f"Shrinkage needs finite values and a positive noise; got {len(y)} values, noise {noise[:1]}. "
            f"Leave out failures."
        )
    # Far values say nothing about the one in question, and would only stretch the grid.
    unit = float(np.median(noise))
    near = np.abs(y - y[which]) <= 0.5 * _GRID * _SPACING * unit
    y, noise, which = y[near], noise[near], int(near[:which].sum())
    places = np.linspace(y.min(), y.max(), max(2, min(_GRID, int(np.ptp(y) / (_SPACING * unit)) + 2)))
    width = _SPACING * unit
    spread = noise[:, None] ** 2 + width**2
    likelihood = np.exp(-0.5 * (y[:, None] - places) ** 2 / spread) / np.sqrt(spread)
    weights = np.full(len(places), 1.0 / len(places))
    for _ in range(_ROUNDS):
        shares = likelihood * weights
        shares /= shares.sum(axis=1, keepdims=True)
        weights = shares.mean(axis=0)
    own = likelihood[which] * weights
    own /= own.sum()
    pull = noise[which] ** 2 / (noise[which] ** 2 + width**2)
    centres = pull * places + (1.0 - pull) * y[which]
    return _summary(own, centres, math.sqrt(pull) * width)


def _summary(weights: Floats, centres: Floats, sd: float) -> Posterior:
    """Mean and central 95 % interval of a mixture of normals with a common deviation."""
    from scipy.special import ndtr

    grid = np.linspace(centres.min() - 4 * sd, centres.max() + 4 * sd, 2001)
    cumulative = ndtr((grid[:, None] - centres) / sd) @ weights
    low, high = (float(np.interp(p, cumulative, grid)) for p in (0.025, 0.975))
    return Posterior(float(weights @ centres), low, high)
