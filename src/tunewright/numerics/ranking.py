"""One order among points with several objectives, for schedulers that must say who is better.

Points that meet the limits come first, by non-dominated front and, within a front, by crowding distance (largest
first); the others follow by how far they exceed the limits. Equal points keep their given order.

*Paper*: Deb, Pratap, Agarwal, Meyarivan (2002), "NSGA-II", sections III-A, III-B and VI-A (constraint domination).

*Cost*: that of the fronts, O(n log n) for two objectives.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tunewright.numerics.pareto import crowding_distance, fronts


def best_first(losses: NDArray[np.float64], violation: NDArray[np.float64]) -> NDArray[np.int64]:
    """Indexes of the points, best first.

    Args:
        losses: Shape (n, m), minimised; rows that are not finite come last.
        violation: How far each point exceeds the limits, shape (n,); 0 where it meets them.

    Returns:
        A permutation, shape (n,).
    """
    n = len(losses)
    front = np.zeros(n, dtype=np.int64)
    crowding = np.zeros(n)
    known = np.isfinite(losses).all(axis=1)
    rows = np.flatnonzero(known & (violation <= 0.0))
    if len(rows):
        front[rows] = fronts(losses[rows])
        for number in range(int(front[rows].max()) + 1):
            members = rows[front[rows] == number]
            crowding[members] = crowding_distance(losses[members])
    excess = np.where(known, violation, np.inf)
    order: NDArray[np.int64] = np.lexsort((-crowding, front, excess, ~known)).astype(np.int64)
    return order
