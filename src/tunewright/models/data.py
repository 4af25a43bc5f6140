"""From a history to what a surrogate model is fitted to: rows of codes, and one finite loss each."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tunewright.core.history import FAILED, History

FloatArray = NDArray[np.float64]

_RHO = 0.05


def scalarise(losses: FloatArray, rng: np.random.Generator) -> FloatArray:
    """One loss out of several, by a random augmented Chebyshev weighting; shape ``(n, m)`` to ``(n,)``.

    Source: Knowles 2006, IEEE Trans. Evol. Comput. 10(1), eq. 2, with rho = 0.05.
    """
    low, high = losses.min(axis=0), losses.max(axis=0)
    scaled = (losses - low) / np.where(high > low, high - low, 1.0)
    weights = rng.dirichlet(np.ones(losses.shape[1]))
    weighted = scaled * weights
    out: FloatArray = weighted.max(axis=1) + _RHO * weighted.sum(axis=1)
    return out


def training_trials(history: History) -> NDArray[np.bool_]:
    """Which trials ``training_set`` is made of, shape ``(n,)``; none when no trial has a loss."""
    usable = history.usable & np.isfinite(history.losses).all(axis=1)
    known = ~np.isnan(history.codes).all(axis=1)
    rows: NDArray[np.bool_] = (usable | (history.status >= FAILED)) & known & bool(np.any(usable & known))
    return rows


def training_set(
    history: History, rng: np.random.Generator, without: int | None = None
) -> tuple[FloatArray, FloatArray]:
    """Rows of codes ``(n, d)`` and one finite loss each ``(n,)``; empty when no trial has a loss.

    Args:
        history: The trials.
        rng: Draws the weights of several objectives.
        without: Number of an objective that is not part of the loss.
    """
    rows = training_trials(history)
    if not rows.any():
        return np.empty((0, history.problem.space.d)), np.empty(0)
    usable = history.usable & np.isfinite(history.losses).all(axis=1)
    good = usable[rows]
    losses = np.full(len(good), np.nan)
    several = history.losses[rows][good]
    if without is not None:
        several = np.delete(several, without, axis=1)
    losses[good] = several[:, 0] if several.shape[1] == 1 else scalarise(several, rng)
    worst = float(np.nanmax(losses))
    excess = history.violation[rows]
    broken = good & (excess > 0.0)
    if np.all(broken[good]):
        # Nothing is allowed yet, so what counts is to get closer.
        finite = excess[good & np.isfinite(excess)]
        losses[good] = np.minimum(excess[good], float(finite.max()) if len(finite) else 1.0)
        worst = float(np.nanmax(losses))
    else:
        losses[broken] = worst
    losses[~good] = worst
    return history.codes[rows], losses


class Pooled(NamedTuple):
    """One row per configuration.

    Attributes:
        rows: Codes, NaN where inactive, shape ``(k, d)``, in order of the first trial of each.
        losses: Mean loss of its trials, shape ``(k,)``.
        counts: Number of its trials, shape ``(k,)``; ``1 / counts`` are the weights that ``models.gp`` takes.
        errors: Standard error of each mean, NaN for a single trial, shape ``(k,)``.
    """

    rows: FloatArray
    losses: FloatArray
    counts: FloatArray
    errors: FloatArray


def pool(x: FloatArray, losses: FloatArray) -> Pooled:
    """Trials of one configuration as one observation.

    Args:
        x: Rows of codes, NaN where inactive, shape ``(n, d)``.
        losses: A finite loss each, shape ``(n,)``.
    """
    n = len(x)
    if n == 0:
        return Pooled(x, losses, np.empty(0), np.empty(0))
    _, first, group = np.unique(np.nan_to_num(x, nan=-1.0), axis=0, return_index=True, return_inverse=True)
    group = group.reshape(-1)
    if len(first) == n:
        return Pooled(x, losses, np.ones(n), np.full(n, np.nan))
    order = np.argsort(first)
    place = np.empty(len(first), dtype=np.int64)
    place[order] = np.arange(len(first))
    group, first = place[group], first[order]
    counts = np.bincount(group).astype(np.float64)
    # Differences from one of its own losses keep a mean of equal losses exact.
    base = losses[first]
    means = base + np.bincount(group, losses - base[group]) / counts
    squares = np.bincount(group, (losses - means[group]) ** 2)
    errors = np.full(len(first), np.nan)
    several = counts > 1
    errors[several] = np.sqrt(squares[several] / (counts[several] - 1) / counts[several])
    return Pooled(x[first], means, counts, errors)


def pooled(history: History, rng: np.random.Generator) -> Pooled:
    """The training set with the trials of each configuration as one observation."""
    return pool(*training_set(history, rng))


class Observations(NamedTuple):
    """What a model learns losses from when it learns separately which configurations are allowed.

    Attributes:
        rows: Codes, one row per configuration, NaN where inactive, shape ``(k, d)``.
        losses: Mean loss of its trials, shape ``(k,)``.
        counts: Number of its trials, shape ``(k,)``.
        allowed: Whether most of them kept the outcome limits, shape ``(k,)``.
    """

    rows: FloatArray
    losses: FloatArray
    counts: FloatArray
    allowed: NDArray[np.bool_]

    @property
    def weights(self) -> FloatArray | None:
        """What ``models.gp`` takes as weights, shape ``(k,)``; None where no configuration was tried twice."""
        return 1.0 / self.counts if np.any(self.counts > 1.0) else None


def observations(history: History, rng: np.random.Generator, without: int | None = None) -> Observations:
    """Measured losses, those over an outcome limit too; failed trials left out; replicates pooled.

    While no two allowed losses differ, this is the pooled ``training_set`` instead, where failed trials count as the worst
    and, as long as nothing is allowed, the excess over the limits stands for the loss.

    Args:
        history: The trials.
        rng: Draws the weights of several objectives.
        without: Number of an objective that is not part of the loss.
    """
    usable = history.usable & np.isfinite(history.losses).all(axis=1)
    rows = usable & ~np.isnan(history.codes).all(axis=1)
    kept = history.violation[rows] <= 0.0
    several = history.losses[rows]
    if without is not None:
        several = np.delete(several, without, axis=1)
    if not np.any(kept) or bool(np.all(several[kept] == several[kept][0])):
        x, losses = training_set(history, rng, without)
        kept = np.ones(len(losses), dtype=np.bool_)
    else:
        x, losses = history.codes[rows], several[:, 0] if several.shape[1] == 1 else scalarise(several, rng)
    found = pool(x, losses)
    if len(found.losses) < len(losses):
        kept = pool(x, kept.astype(np.float64)).losses > 0.5
    return Observations(found.rows, found.losses, found.counts, kept)
