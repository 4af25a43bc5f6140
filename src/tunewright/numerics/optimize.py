"""Two local optimisers for smooth functions in a box: one point, or many points side by side."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

_MEMORY = 4


def minimize_in_box(
    function: Callable[[FloatArray], tuple[float, FloatArray]],
    start: FloatArray,
    low: FloatArray,
    high: FloatArray,
    *,
    max_evaluations: int = 50,
    tolerance: float = 1e-5,
) -> tuple[FloatArray, float]:
    """Minimises one smooth function of a box with L-BFGS-B.

    Args:
        function: Maps a point ``(d,)`` to its value and gradient ``(d,)``.
        start: Where to begin, shape ``(d,)``; moved into the box if outside.
        low: Lower bounds, shape ``(d,)``.
        high: Upper bounds, shape ``(d,)``.
        max_evaluations: Calls of ``function`` allowed, finished line search aside.
        tolerance: Stop when the relative decrease of a step falls below this.

    Returns:
        The best point seen and its value; never worse than ``start``.

    Source: Byrd, Lu, Nocedal and Zhu 1995, SIAM J. Sci. Comput. 16(5), as implemented by SciPy.
    """
    from scipy.optimize import minimize

    start = np.clip(start, low, high)
    best: list[tuple[float, FloatArray]] = []

    def watched(point: FloatArray) -> tuple[float, FloatArray]:
        value, gradient = function(point)
        if not best or value < best[0][0]:
            best[:] = [(value, point.copy())]
        return value, gradient

    minimize(
        watched,
        start,
        jac=True,
        method="L-BFGS-B",
        bounds=np.column_stack([low, high]),
        options={"maxfun": max_evaluations, "maxiter": max_evaluations, "ftol": tolerance, "gtol": 1e-4},
    )
    return best[0][1], float(best[0][0])


def ascend_in_box(
    function: Callable[[FloatArray], tuple[FloatArray, FloatArray]],
    starts: FloatArray,
    low: FloatArray,
    high: FloatArray,
    *,
    steps: int = 20,
    first_step: float = 0.05,
) -> tuple[FloatArray, FloatArray]:
    """Climbs from ``q`` starts at once, one call of ``function`` per step, by spectral projected gradients.

    Every row has its own Barzilai-Borwein step length. A step that ends below the last few values of its row is
    undone and retried at a quarter of the length; the best point of every row is returned, so none gets worse.

    Args:
        function: Maps points ``(q, d)`` to values ``(q,)`` and gradients ``(q, d)``.
        starts: Where to begin, shape ``(q, d)``.
        low: Lower bounds, shape ``(d,)`` or ``(q, d)``.
        high: Upper bounds, shape ``(d,)`` or ``(q, d)``; equal to ``low`` where a coordinate must not move.
        steps: Number of calls of ``function`` after the first.
        first_step: Largest coordinate change of the first step, in the units of the box.

    Returns:
        Points ``(q, d)`` and their values ``(q,)``.

    Source: Birgin, Martinez and Raydan 2000, SIAM J. Optim. 10(4), Algorithm 2.1, with the sufficient-decrease
    term of the non-monotone acceptance rule left out, and a memory of four values.
    """
    x = np.clip(starts, low, high)
    value, gradient = function(x)
    best, best_value = x, value
    recent = np.tile(value, (_MEMORY, 1))
    steepest = np.abs(gradient).max(axis=1, initial=0.0)
    length = first_step / np.maximum(steepest, 1e-12)
    for step in range(steps):
        trial = np.clip(x + length[:, None] * gradient, low, high)
        moved = trial - x
        if not np.any(np.abs(moved) > 1e-9):
            break
        new_value, new_gradient = function(trial)
        accepted = new_value > recent.min(axis=0)
        curvature = -np.sum(moved * (new_gradient - gradient), axis=1)
        squared = np.sum(moved * moved, axis=1)
        spectral = np.where(curvature > 1e-16, squared / np.maximum(curvature, 1e-16), 4.0 * length)
        reach = 1.0 / np.maximum(np.abs(new_gradient).max(axis=1, initial=0.0), 1e-12)
        length = np.where(accepted, np.minimum(spectral, reach), 0.25 * length)
        x = np.where(accepted[:, None], trial, x)
        gradient = np.where(accepted[:, None], new_gradient, gradient)
        value = np.where(accepted, new_value, value)
        recent[step % _MEMORY] = value
        improved = value > best_value
        best = np.where(improved[:, None], x, best)
        best_value = np.where(improved, value, best_value)
    return best, best_value
