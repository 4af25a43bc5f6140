"""Numbers as a page shows them: six significant digits, None where there is none."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

DIGITS = 6
_EXACT = 22  # the largest power of ten that a float holds without error


def rounded(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The floats nearest to the values with six significant digits, whose shortest text has no more than those.

    A whole number divided or multiplied by a power of ten that is exact gives the float nearest to the decimal number.

    Args:
        values: Any floats, shape ``(n,)``; those that are not finite stay as they are.
    """
    out = values.copy()
    good = np.isfinite(values) & (values != 0.0)
    x = values[good]
    if not len(x):
        return out
    places = DIGITS - 1 - np.floor(np.log10(np.abs(x))).astype(np.int64)
    far = np.abs(places) > _EXACT
    power = 10.0 ** np.where(far, 0, np.abs(places)).astype(np.float64)
    large = places < 0
    found = np.rint(np.where(large, x / power, x * power))
    found = np.where(large, found * power, found / power)
    if far.any():
        found[far] = [float(f"{v:.{DIGITS}g}") for v in x[far].tolist()]
    out[good] = found
    return out


def numbers(values: NDArray[np.float64]) -> list[Any]:
    """Six digits of each, as a list; whole numbers as such, None where a value is not finite."""
    short = rounded(values)
    finite = np.isfinite(short)
    if finite.all() and not np.mod(short, 1.0).any() and (np.abs(short) < 2.0**53).all():
        whole: list[Any] = short.astype(np.int64).tolist()
        return whole
    found: list[Any] = short.tolist()
    if not finite.all():
        for i in np.flatnonzero(~finite).tolist():
            found[i] = None
    return found


def wholes(values: NDArray[np.float64]) -> list[Any]:
    """Whole numbers in full, None where a value is not finite."""
    finite = np.isfinite(values)
    if finite.all():
        every: list[Any] = values.astype(np.int64).tolist()
        return every
    found: list[Any] = np.where(finite, values, 0.0).astype(np.int64).tolist()
    for i in np.flatnonzero(~finite).tolist():
        found[i] = None
    return found
