"""Learning curves as the tokens of the learning-curve network: one per configuration.

A curve is read at fixed places: at parts of a full training, at parts of what was seen, at the end, and its minimum.
Losses of any scale become numbers in [0, 1] that mean the same in every study: the best loss seen is 1/2, better ones lie
below it and worse ones above, and the resolution is finest around the best.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tunewright.models.curve_prior import DIMENSIONS

Array = NDArray[np.float64]
Ints = NDArray[np.int64]

PARTS = np.array([1 / 64, 1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2, 3 / 4, 1.0])
SHARES = np.array([1 / 8, 1 / 4, 1 / 2, 3 / 4, 7 / 8])
RECENT = 4
PICKS = len(PARTS) + len(SHARES) + RECENT + 1
LAST = len(PARTS) + len(SHARES)
TOKEN = DIMENSIONS + PICKS + 12
_LARGEST = 1e300
_FAR = 1e15


def picked(losses: Array, steps: Ints, high: int) -> Array:
    """A curve read at the places that the network knows: the latest report by each of them, else the first.

    Args:
        losses: Reported losses in order of steps, shape ``(r,)``, r >= 1; NaN counts as infinite.
        steps: Steps of the reports, increasing, shape ``(r,)``.
        high: Steps of a full training.

    Returns:
        Shape ``(PICKS,)``: at ``PARTS`` of a training, at ``SHARES`` of what was seen, the last ``RECENT`` reports with
        the latest first, and the lowest.
    """
    places = np.concatenate([PARTS * high, SHARES * steps[-1]])
    at = np.searchsorted(steps, places + 1e-9, side="right") - 1
    at = np.concatenate([at, len(steps) - 1 - np.arange(RECENT)])
    values = np.where(np.isnan(losses), np.inf, losses)
    return np.append(values[np.maximum(at, 0)], values.min())


def picked_regular(losses: Array, seen: Ints) -> Array:
    """``picked`` of many curves that were reported after every step; those of which nothing was seen get infinity.

    Args:
        losses: Whole curves, shape ``(..., t)``.
        seen: Steps seen of each, shape ``(...)``.

    Returns:
        Shape ``(..., PICKS)``.
    """
    t = losses.shape[-1]
    count = seen[..., None]
    places = np.concatenate([np.broadcast_to(PARTS * t, (*seen.shape, len(PARTS))), SHARES * count], axis=-1)
    at = np.floor(places + 1e-9).astype(np.int64) - 1
    at = np.concatenate([at, count - 1 - np.arange(RECENT)], axis=-1)
    at = np.clip(at, 0, np.maximum(count - 1, 0))
    values = np.take_along_axis(losses, at, axis=-1)
    lowest = np.minimum.accumulate(losses, axis=-1)
    values = np.concatenate([values, np.take_along_axis(lowest, np.maximum(count - 1, 0), axis=-1)], axis=-1)
    out: Array = np.where(count > 0, values, np.inf)
    return out


class Scale(NamedTuple):
    """What losses mean in a study; arrays broadcast over tasks.

    Attributes:
        best: Lowest loss seen.
        unit: Loss above it that is one unit worse.
    """

    best: Array
    unit: Array

    def squashed(self, losses: Array) -> Array:
        """Losses in [0, 1]: ``1/2 + z / (2 + 2 |z|)`` for z units above the best; increasing; infinity is 1."""
        with np.errstate(over="ignore"):
            z = np.clip((losses - self.best) / self.unit, -_FAR, _FAR)
        out: Array = 0.5 + 0.5 * z / (1.0 + np.abs(z))
        return out

    def losses(self, y: Array) -> Array:
        """The inverse of ``squashed`` for 0 < y < 1."""
        z = 2.0 * y - 1.0
        out: Array = self.best + self.unit * z / (1.0 - np.abs(z))
        return out

    def log_slope(self, losses: Array) -> Array:
        """Log of the derivative of ``squashed``: adds to a log density of y to make one of losses."""
        z = np.abs((losses - self.best) / self.unit)
        out: Array = -np.log(2.0 * self.unit) - 2.0 * np.log1p(z)
        return out


def scale_of(picks: Array) -> Scale:
    """The scale of studies: the unit is how far the 30 % quantile of the curves' minima lies above the best.

    At least a hundredth of how far the 90 % quantile of their last losses does, so that ties do not blow it up, and
    never below the resolution of the numbers. Infinite losses do not count unless all are.

    Args:
        picks: Of the curves begun, shape ``(..., n, PICKS)``, n >= 1.

    Returns:
        Arrays of shape ``(..., 1, 1)``.
    """
    lowest, last = np.sort(picks[..., -1], axis=-1), np.sort(picks[..., LAST], axis=-1)
    count = np.isfinite(lowest).sum(axis=-1, keepdims=True)
    best = np.where(count > 0, lowest[..., :1], 0.0)
    good = _quantile(lowest, count, 0.3) - best
    bad = _quantile(last, np.isfinite(last).sum(axis=-1, keepdims=True), 0.9) - best
    unit = np.maximum(good, 0.01 * np.where(np.isfinite(bad), bad, 0.0))
    unit = np.where(unit > 1e-12 * np.abs(best), unit, np.maximum(0.1 * np.abs(best), 1e-12))
    unit = np.minimum(unit, _LARGEST)
    return Scale(best[..., None], unit[..., None])


def _quantile(ordered: Array, count: Ints, q: float) -> Array:
    """Quantile of the first ``count`` of ordered values, linear between them; 0 of none; shape ``(..., 1)``."""
    place = q * np.maximum(count - 1, 0)
    low = np.floor(place).astype(np.int64)
    high = np.minimum(low + 1, np.maximum(count - 1, 0))
    a, b = np.take_along_axis(ordered, low, axis=-1), np.take_along_axis(ordered, high, axis=-1)
    with np.errstate(invalid="ignore"):
        out: Array = np.where(count > 0, a + (place - low) * (b - a), 0.0)
    return out


def tokens(
    codes: Array, picks: Array, part: Array, reports: Array, summary: Array, target: Array | None = None
) -> NDArray[np.float32]:
    """The network's inputs.

    Args:
        codes: Configurations in [0, 1], shape ``(..., n, DIMENSIONS)``; NaN where there is nothing.
        picks: Squashed, shape ``(..., n, PICKS)``; not looked at where nothing was seen.
        part: Part of a training that was seen, 0 to 1, shape ``(..., n)``; 0 for a new configuration.
        reports: Reports seen, shape ``(..., n)``.
        summary: What ``summary_of`` gives, shape ``(..., 1, 4)``.
        target: Part of a training whose loss is asked, in (0, 1], shape ``(..., n)``; None in the context.

    Returns:
        Shape ``(..., n, TOKEN)``.
    """
    out = np.zeros((*part.shape, TOKEN), dtype=np.float32)
    out[..., :DIMENSIONS] = np.nan_to_num((codes - 0.5) * np.sqrt(12.0))
    known = part > 0.0
    end = DIMENSIONS + PICKS
    out[..., DIMENSIONS:end] = np.where(known[..., None], (picks - 0.6) * 4.0, 0.0)
    out[..., end] = known
    out[..., end + 1] = part
    out[..., end + 2] = np.where(known, np.log2(np.where(known, part, 1.0)) / 3.0 + 1.0, 0.0)
    out[..., end + 3] = np.log2(1.0 + reports) / 4.0
    out[..., end + 4 : end + 8] = summary
    if target is not None:
        out[..., end + 8] = 1.0
        out[..., end + 9] = target
        out[..., end + 10] = np.log2(target) / 3.0 + 1.0
        out[..., end + 11] = target - part
    return out


def summary_of(picks: Array) -> Array:
    """What every token knows of the study: how many curves, and quantiles of their last losses; ``(..., 1, 4)``.

    Args:
        picks: Squashed, of the curves begun, shape ``(..., n, PICKS)``.
    """
    n = picks.shape[-2]
    last = np.quantile(picks[..., LAST], (0.25, 0.5, 0.9), axis=-1)
    count = np.full(picks.shape[:-2], np.log2(n) / 4.0)
    out: Array = np.stack([count, *((last - 0.6) * 4.0)], axis=-1)[..., None, :]
    return out
