"""How far two orders of the same things agree: Kendall's rank correlation, with an interval.

*Use when* it is to be told whether an early measurement sorts things as a late one does.

*Do not use when* the distances matter as well as the order.

*Paper*: Kendall 1938, "A New Measure of Rank Correlation", Biometrika 30; Goodman and Kruskal 1954, for pairs without
ties; Fieller, Hartley and Pearson 1957, "Tests for Rank Correlation Coefficients. I", Biometrika 44, for the interval.

*Differs*: pairs that are tied in either order are left out of both sums, so that the result is Kendall's without
ties and Goodman and Kruskal's gamma with them.

*Cost*: O(n^2).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

_WIDTH = 1.959963984540054


def score(x: ArrayLike, y: ArrayLike) -> tuple[int, int]:
    """Pairs in the same order minus pairs in opposite order, and pairs that are tied in neither.

    Args:
        x: First measurement, shape (n,); may be infinite, not NaN.
        y: Second measurement, shape (n,).
    """
    a, b = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    product = _signs(a) * _signs(b)
    upper = product[np.triu_indices(len(a), 1)]
    return int(upper.sum(dtype=np.int64)), int(np.abs(upper).sum(dtype=np.int64))


def _signs(
    values: np.ndarray[tuple[int, ...], np.dtype[np.float64]],
) -> np.ndarray[tuple[int, ...], np.dtype[np.int8]]:
    """Sign of every difference, shape (n, n); equal infinities do not differ."""
    column, row = values[:, None], values[None, :]
    return (column > row).astype(np.int8) - (column < row).astype(np.int8)


def kendall(x: ArrayLike, y: ArrayLike) -> float:
    """Rank correlation in [-1, 1]; 0 when no pair can be compared.

    Args:
        x: First measurement, shape (n,).
        y: Second measurement, shape (n,).
    """
    agreed, pairs = score(x, y)
    return agreed / pairs if pairs else 0.0


def interval(tau: float, n: int) -> tuple[float, float]:
    """95 % interval of a rank correlation of ``n`` things: normal in Fisher's z, with variance ``0.437 / (n - 4)``.

    Fewer than 6 things say nothing: the interval is [-1, 1].
    """
    if n < 6:
        return -1.0, 1.0
    # One discordant pair short of full agreement stands for full agreement, whose z is infinite.
    most = 1.0 - 2.0 / (n * (n - 1))
    z = math.atanh(max(-most, min(most, tau)))
    half = _WIDTH * math.sqrt(0.437 / (n - 4))
    return math.tanh(z - half), math.tanh(z + half)
