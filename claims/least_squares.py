"""Averaged SGD on Gaussian least squares, exactly: what happens to the excess risk as batch, data and dimension change."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tunewright.scaling.critical import critical_batch_size

Floats = NDArray[np.float64]
RATES = tuple(2.0 ** (k / 4) for k in range(-36, 5))


def risks(
    dimension: int,
    batch: int,
    rates: Sequence[float],
    steps: int,
    *,
    decay: float = 1.5,
    source: float = 1.0,
    noise: float = 1.0,
) -> Floats:
    """Excess risk of the averaged weights after each step, shape ``(steps, rates)``; not finite where SGD diverges.

    Examples are fresh at every step. Squared coefficients of the truth times eigenvalues fall as ``i^-(source decay + 1)``.
    Second moments of the error and of its average obey a closed recursion, as Isserlis' theorem gives the fourth moments of the
    inputs. Step t enters the average with weight ``9 / (t + 9)``.

    Args:
        dimension: Of the inputs.
        batch: Examples per step.
        rates: Constant step sizes.
        steps: How many.
        decay: Eigenvalues of the inputs' covariance fall as ``i^-decay``.
        source: How quickly what is to be learned falls, in powers of the eigenvalue.
        noise: Standard deviation of the targets.
    """
    values = np.arange(1, dimension + 1.0) ** -decay
    own = np.arange(1, dimension + 1.0) ** -(source * decay + 1.0) / values
    own = np.tile(own, (len(rates), 1))
    mixed, mean = own.copy(), own.copy()
    rate = np.asarray(rates)[:, None]
    kept = 1 - rate * values
    out = np.empty((steps, len(rates)))
    with np.errstate(over="ignore", invalid="ignore"):
        for t in range(steps):
            spread = (values * own).sum(axis=1, keepdims=True)
            own = kept**2 * own + rate**2 / batch * (values**2 * own + values * spread + noise**2 * values)
            mixed = kept * mixed
            weight = 9.0 / (t + 9.0)
            mean = (1 - weight) ** 2 * mean + 2 * weight * (1 - weight) * mixed + weight**2 * own
            mixed = (1 - weight) * mixed + weight * own
            out[t] = 0.5 * (values * mean).sum(axis=1)
    return out


def critical(
    dimension: int, examples: int, sizes: Sequence[int], *, decay: float = 1.5, source: float = 1.0
) -> float:
    """Critical batch size for the least risk that so many examples reach, the step size tuned at every batch size.

    Args:
        dimension: Of the inputs.
        examples: Of a training at the best batch size.
        sizes: Batch sizes; those that miss the target within thrice the examples are left out.
        decay: As in ``risks``.
        source: As in ``risks``.
    """
    curves = {
        b: np.nan_to_num(
            risks(dimension, b, RATES, 3 * examples // b, decay=decay, source=source), nan=np.inf
        )
        for b in sizes
    }
    target = min(float(curves[b][examples // b - 1].min()) for b in sizes) * (1 + 1e-9)
    steps = np.array([_first(curves[b] <= target) for b in sizes])
    reached = np.isfinite(steps)
    return critical_batch_size(np.asarray(sizes, float)[reached], steps[reached]).size


def _first(met: NDArray[np.bool_]) -> float:
    """First step at which any rate meets the target, from 1; infinite if none does."""
    steps = np.flatnonzero(met.any(axis=1))
    return float(steps[0] + 1) if len(steps) else math.inf
