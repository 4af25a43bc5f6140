"""From a history to what a surrogate model is fitted to: rows of codes, and one finite loss each."""

from __future__ import annotations

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


def training_set(history: History, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
    """Rows of codes ``(n, d)`` and one finite loss each ``(n,)``; empty when no trial has a loss."""
    rows = training_trials(history)
    if not rows.any():
        return np.empty((0, history.problem.space.d)), np.empty(0)
    usable = history.usable & np.isfinite(history.losses).all(axis=1)
    good = usable[rows]
    losses = np.full(len(good), np.nan)
    several = history.losses[rows][good]
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
