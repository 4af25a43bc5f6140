"""Output warping: losses on a scale where a Gaussian process sees the good region.

*Use when* losses span orders of magnitude or diverge, as losses of training runs do. *Do not use when* the
posterior mean is needed in the unit of the loss: only the order of losses survives.

*Paper*: after the log transform of Jones, Schonlau and Welch 1998, J. Global Optimization 13, section 5.
*Differs*: the offset is tied to the distance from best to median, so the map is invariant to shift and scale of
the losses: nearly linear up to the offset, logarithmic above it, and constant beyond 30 times that distance. Which of
several offsets fits best is decided by the evidence (``log_slope`` is its Jacobian), as Snelson, Rasmussen and
Ghahramani 2004 (NeurIPS) learn a warp.

*Cost*: O(n) for ``n`` losses.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

# In units of the distance between the best and the median loss; the first guess is from surrogates of tuned classifiers.
OFFSET = 0.3
OFFSETS = (0.1, OFFSET, 1.0, 10.0)
_CAP = 30.0
_HUGE = 1e150


@dataclass(frozen=True, slots=True)
class Warp:
    """``y -> (log(min(y, high) - low + offset) - shift) / scale``, increasing between ``low`` and ``high``.

    Attributes:
        low: Best loss seen, in the unit of the loss.
        high: Losses above count as this, same unit.
        offset: Distance over which the map is about linear, same unit, positive.
        shift: Mean of the logarithms, unitless.
        scale: Standard deviation of the logarithms, unitless, positive.
    """

    low: float
    high: float
    offset: float
    shift: float
    scale: float

    def __call__(self, losses: FloatArray) -> FloatArray:
        """Warped losses, same shape, unitless; losses outside ``[low, high]`` count as the nearer end."""
        out: FloatArray = (
            np.log(np.clip(losses, self.low, self.high) - self.low + self.offset) - self.shift
        ) / self.scale
        return out

    def log_slope(self, losses: FloatArray) -> float:
        """Sum of the logarithms of the map's derivative at ``losses`` within ``[low, high]``."""
        inside = np.clip(losses, self.low, self.high) - self.low + self.offset
        return float(-np.log(inside).sum() - len(losses) * np.log(self.scale))


def fit_warp(losses: FloatArray, offset: float = OFFSET) -> Warp:
    """The warp under which ``losses`` have mean 0 and standard deviation 1.

    Args:
        losses: Finite losses, shape ``(n,)`` with ``n >= 1``, lower is better.
        offset: In units of the distance between the best and the median loss.
    """
    # Differences of larger numbers would overflow.
    losses = np.clip(losses, -_HUGE, _HUGE)
    low = float(losses.min())
    spread = float(np.median(losses)) - low
    if spread <= 0.0:
        spread = float(losses.max()) - low
    # Equal losses, or nearly: any positive offset maps them to nearly equal values.
    distance = offset * spread if spread > 1e-300 else 1.0
    high = low + _CAP * spread
    logs = np.log(np.minimum(losses, high) - low + distance)
    scale = float(logs.std())
    return Warp(low, high, distance, float(logs.mean()), scale if scale > 1e-12 else 1.0)
