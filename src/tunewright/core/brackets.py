"""The brackets of Hyperband: how many trials are trained how long, at each rate of early stopping."""

from __future__ import annotations

import math
from dataclasses import dataclass

from tunewright.core.rungs import levels


@dataclass(frozen=True, slots=True)
class Plan:
    """One bracket as planned.

    Attributes:
        sizes: Trials on each rung, shape ``(k,)``.
        steps: Steps of each rung, shape ``(k,)``.
    """

    sizes: tuple[int, ...]
    steps: tuple[int, ...]


def brackets(low: int, high: int, eta: float) -> tuple[Plan, ...]:
    """The brackets of one round, the most aggressive first.

    Source: Li et al. 2018, Algorithm 1: ``n = ceil((s_max + 1) eta^s / (s + 1))``, ``n_i = floor(n eta^-i)``.

    Example:
        >>> [(p.sizes, p.steps) for p in brackets(1, 9, 3)]
        [((9, 3, 1), (1, 3, 9)), ((5, 1), (3, 9)), ((3,), (9,))]
    """
    steps = levels(low, high, eta)
    out = []
    for s in range(len(steps) - 1, -1, -1):
        n = math.ceil(len(steps) * eta**s / (s + 1) - 1e-9)
        sizes = tuple(max(1, int(n / eta**i + 1e-9)) for i in range(s + 1))
        out.append(Plan(sizes, steps[-s - 1 :]))
    return tuple(out)
