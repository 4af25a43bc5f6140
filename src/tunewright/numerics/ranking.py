"""One order among points with several objectives, for schedulers that must say who is better.

Points that meet the limits come first, by non-dominated front; the others follow by how far they exceed the limits.
Within a front either the least crowded come first (``best_first``), or each next one is the farthest from those before
it (``spread_first``), so that any number of the first ones covers the front. Equal points keep their given order.

*Paper*: Deb, Pratap, Agarwal, Meyarivan (2002), "NSGA-II", sections III-A, III-B and VI-A (constraint domination);
Schmucker, Donini, Zafar, Salinas, Archambeau (2021), "Multi-objective Asynchronous Successive Halving",
arXiv:2106.12639, section 3 (epsilon-net), after Clarkson (2006), "Nearest-Neighbor Searching and Metric Space
Dimensions", on greedy permutations.

*Differs*: the greedy permutation of a front begins with the point that is lowest in the first objective, not a random
one, and distances are between losses scaled to [0, 1] by the range of all points that meet the limits.

*Cost*: that of the fronts, O(n log n) for two objectives; ``spread_first`` also O(f^2 m) for a front of f points.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tunewright.errors import ConfigError
from tunewright.numerics.pareto import crowding_distance, fronts

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Ranking = Literal["fronts", "epsilon_net"]
Order = Callable[[Floats, Floats], Ints]


def ranked_by(name: str, ranking: Any) -> Order:
    """The order of that name.

    Args:
        name: Who asks, for the error.
        ranking: ``"fronts"`` is ``best_first``, ``"epsilon_net"`` is ``spread_first``.

    Raises:
        ConfigError: If there is none of that name.
    """
    if ranking == "fronts":
        return best_first
    if ranking == "epsilon_net":
        return spread_first
    raise ConfigError(f"{name} needs ranking='fronts' or 'epsilon_net'; got {ranking!r}. Choose one of them.")


def best_first(losses: Floats, violation: Floats) -> Ints:
    """Indexes of the points, best first; within a front by crowding distance, largest first.

    Args:
        losses: Shape (n, m), minimised; rows that are not finite come last.
        violation: How far each point exceeds the limits, shape (n,); 0 where it meets them.

    Returns:
        A permutation, shape (n,).
    """
    return _ordered(losses, violation, lambda front, _: -crowding_distance(front))


def spread_first(losses: Floats, violation: Floats) -> Ints:
    """Indexes of the points, best first; within a front each next one is the farthest from those before it.

    Args:
        losses: Shape (n, m), minimised; rows that are not finite come last.
        violation: How far each point exceeds the limits, shape (n,); 0 where it meets them.

    Returns:
        A permutation, shape (n,).
    """
    return _ordered(losses, violation, _places)


def _ordered(losses: Floats, violation: Floats, key: Callable[[Floats, Floats], Floats]) -> Ints:
    """Sorts by what is missing, excess, front, and a key of each front's points and the scale of all, ascending."""
    n = len(losses)
    front = np.zeros(n, dtype=np.int64)
    within = np.zeros(n)
    known = np.isfinite(losses).all(axis=1)
    rows = np.flatnonzero(known & (violation <= 0.0))
    if len(rows):
        front[rows] = fronts(losses[rows])
        scale = np.maximum(
            losses[rows].max(axis=0) / 2.0 - losses[rows].min(axis=0) / 2.0, np.finfo(float).tiny
        )
        for number in range(int(front[rows].max()) + 1):
            members = rows[front[rows] == number]
            within[members] = key(losses[members], scale)
    excess = np.where(known, violation, np.inf)
    order: Ints = np.lexsort((within, front, excess, ~known)).astype(np.int64)
    return order


def _places(points: Floats, scale: Floats) -> Floats:
    """Place of each point in the greedy permutation, shape (n,), from half the range of each objective."""
    at = (points / 2.0 - points.min(axis=0) / 2.0) / scale
    places = np.empty(len(points))
    gaps = np.full(len(points), np.inf)
    chosen = int(np.lexsort(points.T[::-1])[0])
    for place in range(len(points)):
        places[chosen] = place
        gaps = np.minimum(gaps, ((at - at[chosen]) ** 2).sum(axis=1))
        gaps[chosen] = -1.0
        chosen = int(gaps.argmax())
    return places
