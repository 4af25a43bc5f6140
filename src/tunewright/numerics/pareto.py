"""Order among points with several objectives, and the volume that they dominate.

*Use when* trials have two or more losses: ranking them, thinning a front, measuring its quality.

*Do not use when* an exact hypervolume of many objectives is needed: its cost is exponential in `m`; keep m <= 6.

*Paper*: Deb, Pratap, Agarwal, Meyarivan (2002), "NSGA-II", sections III-A (fronts) and III-B (crowding distance);
While, Bradstreet, Barone (2012), "A Fast Way of Calculating Exact Hypervolumes" (WFG), algorithm 1.

*Differs*: two objectives are handled by sorting; rows with NaN never dominate and come last. All losses are minimised.

*Cost*: fronts O(n log n) for m = 2, O(n^2 m) beyond; hypervolume O(n log n) for m = 2, exponential in m beyond.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]
    Bools = NDArray[np.bool_]


def nondominated(losses: Floats) -> Bools:
    """Marks the points that no other point dominates; equal points stay together.

    Args:
        losses: Shape (n, m), NaN rows are never marked.

    Returns:
        Shape (n,).
    """
    out: Bools = (fronts(losses, 1) == 0) & ~np.isnan(losses).any(axis=1)
    return out


def fronts(losses: Floats, limit: int | None = None, enough: int | None = None) -> Ints:
    """Number of the non-dominated front of each point.

    Args:
        losses: Shape (n, m).
        limit: Stop after so many fronts; the remaining points all get the number `limit`.
        enough: Stop after the front that brings the count to so many points; the remaining points may all get the
            next number, which saves time with three and more objectives.

    Returns:
        Front numbers from 0, shape (n,); rows with NaN get one more than the largest of the others, or 0.
    """
    n, m = losses.shape
    out = np.zeros(n, dtype=np.int64)
    valid = ~np.isnan(losses).any(axis=1)
    rows = np.flatnonzero(valid)
    if len(rows):
        points = losses[rows]
        if m == 1:
            number = np.unique(points[:, 0], return_inverse=True)[1].ravel().astype(np.int64)
        elif m == 2:
            number = _fronts_of_two(points)
        else:
            number = _fronts_by_peeling(points, limit or len(rows), enough or len(rows))
        if limit is not None:
            number = np.minimum(number, limit)
        out[rows] = number
    out[~valid] = int(out[rows].max()) + 1 if len(rows) else 0
    return out


def _fronts_of_two(points: Floats) -> Ints:
    """Sweeps by the first loss; a point joins the first front whose lowest second loss lies above its own."""
    out = np.zeros(len(points), dtype=np.int64)
    lowest: list[float] = []
    before: tuple[float, float] | None = None
    number = 0
    for row in np.lexsort((points[:, 1], points[:, 0])).tolist():
        point = (float(points[row, 0]), float(points[row, 1]))
        if point != before:
            # Fronts are visited from best to worst, so their lowest second losses ascend.
            number = bisect_right(lowest, point[1])
            if number == len(lowest):
                lowest.append(point[1])
            else:
                lowest[number] = point[1]
            before = point
        out[row] = number
    return out


def _fronts_by_peeling(points: Floats, limit: int, enough: int) -> Ints:
    """Removes one front after another."""
    out = np.zeros(len(points), dtype=np.int64)
    left = np.arange(len(points))
    for number in range(limit):
        best = _undominated_rows(points[left])
        left = left[~best]
        out[left] = number + 1
        if len(points) - len(left) >= enough:
            break
    return out


def _undominated_rows(points: Floats) -> Bools:
    """Culls dominated rows: each survivor in lexicographic order removes what it dominates."""
    order = np.lexsort(points.T[::-1])
    kept, at = points[order], 0
    while at < len(kept):
        # Whatever dominates a row precedes it in this order, so rows up to the pivot always stay.
        alive = (kept < kept[at]).any(axis=1) | (kept == kept[at]).all(axis=1)
        kept, order, at = kept[alive], order[alive], at + 1
    out = np.zeros(len(points), dtype=bool)
    out[order] = True
    return out


def crowding_distance(losses: Floats) -> Floats:
    """How far the neighbours of each point of a front lie, summed over objectives scaled to [0, 1].

    Args:
        losses: One front, shape (n, m), no NaN.

    Returns:
        Distances, shape (n,); infinite at the ends of an objective.
    """
    n, m = losses.shape
    out = np.zeros(n)
    for j in range(m):
        order = np.argsort(losses[:, j], kind="stable")
        column = losses[order, j]
        span = column[-1] - column[0] if n else 0.0
        if n:
            out[order[[0, -1]]] = np.inf
        if span > 0.0:
            out[order[1:-1]] += (column[2:] - column[:-2]) / span
    return out


def hypervolume(losses: Floats, reference: Floats) -> float:
    """Volume dominated by the points and bounded by a reference point.

    Args:
        losses: Shape (n, m); points that do not beat the reference in every objective, and NaN, count nothing.
        reference: Worst corner, shape (m,).
    """
    inside = losses[(losses < reference).all(axis=1)]
    return _volume(inside, reference)


def hypervolume_contributions(losses: Floats, reference: Floats) -> Floats:
    """Volume that would be lost without each point.

    Args:
        losses: Shape (n, m).
        reference: Worst corner, shape (m,).

    Returns:
        Exclusive volumes, shape (n,); 0 for dominated, duplicated or outside points.
    """
    out = np.zeros(len(losses))
    rows = np.flatnonzero((losses < reference).all(axis=1))
    points = losses[rows]
    # Without a point, those that it dominated may matter; the sweep only looks at neighbours of one front.
    if losses.shape[1] == 2 and len(rows) and nondominated(points).all():
        out[rows] = _contributions_of_two(points, reference)
        return out
    for i, row in enumerate(rows.tolist()):
        others = np.delete(points, i, axis=0)
        out[row] = _exclusive(points[i], others, reference)
    return out


def _contributions_of_two(points: Floats, reference: Floats) -> Floats:
    """Rectangles between neighbours of a front."""
    order = np.lexsort((points[:, 1], points[:, 0]))
    x, y = points[order, 0], points[order, 1]
    right, above = np.append(x[1:], reference[0]), np.insert(y[:-1], 0, reference[1])
    out = np.empty(len(points))
    out[order] = (right - x) * (above - y)
    return out


def _volume(points: Floats, reference: Floats) -> float:
    """Hypervolume of points that all lie inside the reference."""
    if not len(points):
        return 0.0
    m = points.shape[1]
    if m == 1:
        return float(reference[0] - points.min())
    if m == 2:
        return _area(points, reference)
    # Sorting the worst last objective first keeps the limited sets small (section III-B of the WFG paper).
    points = points[_undominated_rows(points)]
    points = points[np.argsort(-points[:, -1], kind="stable")]
    return sum(_exclusive(points[i], points[i + 1 :], reference) for i in range(len(points)))


def _area(points: Floats, reference: Floats) -> float:
    """Sweep of two objectives."""
    order = np.lexsort((points[:, 1], points[:, 0]))
    x, y = points[order, 0], np.minimum.accumulate(points[order, 1])
    return float(((np.append(x[1:], reference[0]) - x) * (reference[1] - y)).sum())


def _exclusive(point: Floats, others: Floats, reference: Floats) -> float:
    """Volume of a point that others, pushed into its box, do not cover (equation 4 of the WFG paper)."""
    box = float(np.prod(reference - point))
    if not len(others):
        return box
    limited = np.maximum(others, point)
    # Every limited point that equals `point` in the last objective allows dropping that objective.
    if len(point) > 2 and (limited[:, -1] == point[-1]).all():
        depth = float(reference[-1] - point[-1])
        return box - depth * _volume(limited[:, :-1], reference[:-1])
    return box - _volume(limited, reference)


def epsilon(losses: Floats, front: Floats) -> float:
    """Additive epsilon indicator: the least shift after which some point weakly dominates each point of a front.

    Args:
        losses: Shape (n, m), n >= 1, no NaN.
        front: What they are measured against, shape (k, m), k >= 1.

    Source: Zitzler, Thiele, Laumanns, Fonseca, Grunert da Fonseca (2003), "Performance Assessment of
    Multiobjective Optimizers", section IV-A, in its additive form.
    """
    beyond = (losses[:, None, :] - front[None, :, :]).max(axis=2)
    return float(beyond.min(axis=0).max())


def inverted_generational_distance(losses: Floats, front: Floats) -> float:
    """IGD+: mean over a front of the distance by which the nearest point is worse; 0 where all of it is attained.

    Args:
        losses: Shape (n, m), n >= 1, no NaN.
        front: What they are measured against, shape (k, m), k >= 1.

    Source: Ishibuchi, Masuda, Tanigaki, Nojima (2015), "Modified Distance Calculation in Generational Distance and
    Inverted Generational Distance", equations 17 and 18.
    """
    worse = np.maximum(losses[:, None, :] - front[None, :, :], 0.0)
    return float(np.sqrt((worse * worse).sum(axis=2)).min(axis=0).mean())
