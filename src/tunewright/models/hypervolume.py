"""Expected growth of the volume that a front dominates, given independent normal beliefs about every loss.

*Use when* two to four losses are minimised together and one configuration is chosen at a time. *Do not use when* losses are
correlated given the configuration, or there are more than four: the number of boxes grows as ``k^(m - 1)``.

*Paper*: Emmerich, Deutz and Klinkenberg 2011 (CEC), section IV, and Yang, Emmerich, Deutz and Baeck 2019 (J. Global
Optimization 75), eq. 15, for the closed form; Ament et al. 2023 (arXiv:2310.20708) for the logarithms.

*Differs*: the improvement is written as the integral, over the region that the front leaves free, of the probability of being
dominated. Over a box of that region the integral is a product of differences of expected improvements, so any number of
losses has a closed form; nothing is sampled. Large fronts are thinned, which slightly overestimates the improvement.

*Cost*: O(q k m) for a front of ``k`` points and two losses, O(q k^2 m) for three.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from tunewright.numerics.distributions import log_difference, log_normal_improvement
from tunewright.numerics.pareto import crowding_distance, nondominated

FloatArray = NDArray[np.float64]

_MOST = {1: 1, 2: 400, 3: 32, 4: 12}
_FEWEST = 5
_MARGIN = 0.1
_CHUNK = 2_000_000


def reference_point(front: FloatArray, losses: FloatArray) -> FloatArray:
    """Worst corner of the volume: a tenth of the front's range beyond its worst losses, or the worst tenth of all points.

    The second rule keeps room for ends of the front that are not found yet.

    Args:
        front: Points that no other dominates, shape ``(k, m)`` with ``k >= 1``.
        losses: All points, shape ``(n, m)``; their range serves where the front has none.

    Returns:
        Shape ``(m,)``.
    """
    span = front.max(axis=0) - front.min(axis=0)
    whole = losses.max(axis=0) - losses.min(axis=0)
    span = np.where(span > 0.0, span, np.where(whole > 0.0, whole, 1.0))
    beyond = front.max(axis=0) + _MARGIN * span
    out: FloatArray = np.maximum(beyond, np.quantile(losses, 1.0 - _MARGIN, axis=0))
    return out


def thinned(front: FloatArray) -> FloatArray:
    """As many points of a front as can be afforded, those in crowded places left out first."""
    most = _MOST.get(front.shape[1], _FEWEST)
    while len(front) > most:
        front = np.delete(front, int(np.argmin(crowding_distance(front))), axis=0)
    return front


def free_boxes(front: FloatArray, reference: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Disjoint boxes that together are all points below the reference that no point of the front dominates.

    Args:
        front: Shape ``(k, m)``; ``k`` may be 0.
        reference: Worst corner, shape ``(m,)``.

    Returns:
        Lower corners, with minus infinity, and upper corners, shape ``(boxes, m)`` each.
    """
    m = len(reference)
    front = front[(front < reference).all(axis=1)]
    if m == 1:
        high = front.min(axis=0, initial=float(reference[0])).reshape(1, 1)
        return np.full((1, 1), -np.inf), high
    cuts = np.unique(front[:, -1])
    edges = np.concatenate([[-np.inf], cuts, reference[-1:]])
    lows, highs = [], []
    for low, high in pairwise(edges):
        # Within a slab only points below it bound what is free in the other losses.
        inner = front[front[:, -1] <= low, :-1]
        inner = inner[nondominated(inner)] if len(inner) else inner
        lower, upper = free_boxes(np.unique(inner, axis=0), reference[:-1])
        lows.append(np.column_stack([lower, np.full(len(lower), low)]))
        highs.append(np.column_stack([upper, np.full(len(upper), high)]))
    return np.concatenate(lows), np.concatenate(highs)


def _log_improvements(mean: FloatArray, std: FloatArray, levels: FloatArray) -> FloatArray:
    """Log expected improvement over each level, shape ``(q, levels)``; minus infinity over minus infinity."""
    finite = np.where(np.isfinite(levels), levels, 0.0)
    value = np.log(std)[:, None] + log_normal_improvement((finite[None] - mean[:, None]) / std[:, None])
    out: FloatArray = np.where(np.isfinite(levels)[None], value, -np.inf)
    return out


def log_expected_hypervolume_improvement(
    mean: FloatArray, std: FloatArray, lows: FloatArray, highs: FloatArray
) -> FloatArray:
    """Log of the expected volume that a point adds, shape ``(q,)``; finite however poor the point.

    Args:
        mean: Means of the losses, shape ``(q, m)``.
        std: Their standard deviations, positive, shape ``(q, m)``.
        lows: Lower corners of ``free_boxes``, shape ``(boxes, m)``.
        highs: Their upper corners.

    Source: the integral over the free region of the probability of dominating a point, which is the expected improvement
    of Emmerich et al. 2011, eq. 2.
    """
    q, m = mean.shape
    step = max(1, _CHUNK // max(1, len(lows) * m))
    parts = [_log_sum(mean[i : i + step], std[i : i + step], lows, highs) for i in range(0, q, step)]
    return np.concatenate(parts) if parts else np.empty(0)


def _log_sum(mean: FloatArray, std: FloatArray, lows: FloatArray, highs: FloatArray) -> FloatArray:
    product = np.ones((len(mean), len(lows)))
    offset = np.zeros(len(mean))
    for j in range(mean.shape[1]):
        levels, place = np.unique(np.concatenate([lows[:, j], highs[:, j]]), return_inverse=True)
        logs = _log_improvements(mean[:, j], std[:, j], levels)
        top = logs.max(axis=1)
        scaled = np.exp(logs - top[:, None])
        at = place.ravel()
        product *= np.maximum(scaled[:, at[len(lows) :]] - scaled[:, at[: len(lows)]], 0.0)
        offset += top
    total = product.sum(axis=1)
    out: FloatArray = np.log(np.maximum(total, 1e-300)) + offset
    lost = np.flatnonzero(total < 1e-280)
    if len(lost):
        out[lost] = _careful(mean[lost], std[lost], lows, highs)
    return out


def _careful(mean: FloatArray, std: FloatArray, lows: FloatArray, highs: FloatArray) -> FloatArray:
    """The same for points so poor that products underflow: all in logarithms."""
    total = np.zeros((len(mean), len(lows)))
    for j in range(mean.shape[1]):
        high = _log_improvements(mean[:, j], std[:, j], highs[:, j])
        low = _log_improvements(mean[:, j], std[:, j], lows[:, j])
        below = np.isneginf(low)
        total += np.where(below, high, log_difference(high, np.where(below, high - 1.0, low)))
    top = total.max(axis=1)
    top = np.where(np.isfinite(top), top, -1e300)
    out: FloatArray = top + np.log(np.maximum(np.exp(total - top[:, None]).sum(axis=1), 1e-300))
    return out
