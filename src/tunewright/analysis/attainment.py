"""What fronts attain: hypervolume by trial, and the surfaces that some, half or all of several studies reach.

*Paper*: Fonseca and Fleming 1996 ("On the performance assessment and comparison of stochastic multiobjective optimizers", PPSN
IV) for attainment surfaces: the ``k``-th is the border of what at least ``k`` of the studies dominate. Zitzler and Thiele 1998
for the hypervolume.

*Cost*: surfaces O(studies points log points); the hypervolume is computed anew where the front changes, at most 300 times.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tunewright.numerics.pareto import hypervolume, nondominated

Floats = NDArray[np.float64]
_MOST = 300


def surfaces(fronts: Sequence[Floats]) -> list[Floats]:
    """Attainment surfaces of several sets of two losses.

    Args:
        fronts: Losses of each study, shape ``(n, 2)``.

    Returns:
        By ``k = 1 .. len(fronts)``: corners ``(x, y)`` of the surface that at least ``k`` studies attain, ascending in ``x`` and
        descending in ``y``; empty where none do.
    """
    sorted_ = [f[nondominated(f)] for f in fronts]
    sorted_ = [f[np.argsort(f[:, 0], kind="stable")] for f in sorted_]
    places = np.unique(np.concatenate([f[:, 0] for f in sorted_]))
    reached = np.full((len(sorted_), len(places)), np.inf)
    for row, front in zip(reached, sorted_, strict=True):
        last = np.searchsorted(front[:, 0], places, side="right") - 1
        row[last >= 0] = front[last[last >= 0], 1]
    reached.sort(axis=0)
    out = []
    for row in reached:
        known = np.isfinite(row)
        turn = np.logical_and(known, np.r_[True, row[1:] < row[:-1]])
        out.append(np.column_stack([places, row])[turn])
    return out


def volume_by_trial(losses: Floats, reference: Floats) -> Floats:
    """Hypervolume after each trial, shape ``(n,)``; NaN rows add nothing.

    Args:
        losses: In order, shape ``(n, m)``.
        reference: Worst corner, shape ``(m,)``.
    """
    inside: NDArray[np.bool_] = np.asarray((losses < reference).all(axis=1))
    changes = []
    front = np.empty((0, losses.shape[1]))
    for i in np.flatnonzero(inside).tolist():
        point = losses[i]
        if not (front <= point).all(axis=1).any():
            front = np.vstack([front[~(point <= front).all(axis=1)], point])
            changes.append(i)
    keep = sorted({*changes[:: max(1, -(-len(changes) // _MOST))], *changes[-1:]})
    out = np.zeros(len(losses))
    for i in keep:
        seen = losses[: i + 1][inside[: i + 1]]
        out[i] = hypervolume(seen[nondominated(seen)], reference)
    grown: Floats = np.maximum.accumulate(out)
    return grown
