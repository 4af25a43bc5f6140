"""Lines along which a value on a grid is the same.

*Paper*: Lorensen and Cline 1987, "Marching Cubes", SIGGRAPH, in the plane: a cell's corners above the level say which of its
sides the line crosses; where it crosses is linear interpolation.

*Differs*: saddles are decided by the mean of the four corners; cells with a missing corner are left out.

*Cost*: O(cells) per level.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Point = tuple[float, float]
Side = tuple[int, int, int]  # row, column and direction of a side of the grid
# By which corners are above (1 left below, 2 right below, 4 right above, 8 left above): pairs of sides, counted from below.
_LINKS: dict[int, tuple[tuple[int, int], ...]] = {
    1: ((3, 0),), 2: ((0, 1),), 3: ((3, 1),), 4: ((1, 2),), 6: ((0, 2),), 7: ((3, 2),),
    8: ((2, 3),), 9: ((2, 0),), 11: ((2, 1),), 12: ((1, 3),), 13: ((1, 0),), 14: ((0, 3),),
}  # fmt: skip


def contour(x: Floats, y: Floats, z: Floats, level: float) -> list[Floats]:
    """Polylines along which ``z`` equals a level.

    Args:
        x: Places of the columns, shape ``(c,)``.
        y: Places of the rows, shape ``(r,)``.
        z: Values, shape ``(r, c)``; NaN where there is none.
        level: The value.

    Returns:
        Polylines, each of shape ``(n, 2)``; a closed one ends where it begins.
    """
    ends: dict[Side, list[Side]] = {}
    above = z >= level
    code = above[:-1, :-1] + 2 * above[:-1, 1:] + 4 * above[1:, 1:] + 8 * above[1:, :-1]
    whole = ~(np.isnan(z[:-1, :-1]) | np.isnan(z[:-1, 1:]) | np.isnan(z[1:, 1:]) | np.isnan(z[1:, :-1]))
    for i, j in np.argwhere(whole & (code > 0) & (code < 15)).tolist():
        sides: list[Side] = [(i, j, 0), (i, j + 1, 1), (i + 1, j, 0), (i, j, 1)]
        for a, b in _links(int(code[i, j]), z[i : i + 2, j : j + 2], level):
            ends.setdefault(sides[a], []).append(sides[b])
            ends.setdefault(sides[b], []).append(sides[a])
    return [np.array([_place(side, x, y, z, level) for side in chain]) for chain in _chains(ends)]


def _links(code: int, corners: Floats, level: float) -> tuple[tuple[int, int], ...]:
    if code in (5, 10):
        joined = bool(corners.mean() >= level)
        return ((3, 2), (0, 1)) if joined == (code == 5) else ((3, 0), (1, 2))
    return _LINKS[code]


def _chains(ends: dict[Side, list[Side]]) -> list[list[Side]]:
    """Sides in the order in which lines cross them; open lines first."""
    out = []
    left = {side: list(others) for side, others in ends.items()}
    for start in sorted(left, key=lambda s: len(left[s])):
        while left[start]:
            chain = [start]
            while left[chain[-1]]:
                here = chain[-1]
                there = left[here].pop()
                left[there].remove(here)
                chain.append(there)
            out.append(chain)
    return out


def _place(side: Side, x: Floats, y: Floats, z: Floats, level: float) -> Point:
    i, j, direction = side
    k, m = (i, j + 1) if direction == 0 else (i + 1, j)
    low, high = float(z[i, j]), float(z[k, m])
    share = 0.5 if high == low else (level - low) / (high - low)
    return float(x[j] + share * (x[m] - x[j])), float(y[i] + share * (y[k] - y[i]))
