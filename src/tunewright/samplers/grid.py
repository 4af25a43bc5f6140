"""Every combination once, in an order that survives interruption.

Use when      parameters are few and discrete, and every combination is wanted.
Do not use    when one parameter matters much more than the others: a grid repeats its few values again and again.
Paper         full factorial design; Fisher 1935, The Design of Experiments.
Differs       continuous parameters get ``resolution`` values; inactive parameters of a branch are not varied.
Cost          ask O(d); tell O(1); memory O(points x d).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tunewright.core.algorithm import Action, Start, generator
from tunewright.core.domains import Codes
from tunewright.core.events import Edited, Event, Started
from tunewright.core.problem import Problem
from tunewright.errors import ConfigError

_ORDER = 5


@dataclass(slots=True)
class GridState:
    """The points that are left to try.

    Attributes:
        problem: The problem, with the newest version of its space.
        points: Codes of every point, shape ``(n, d)``, in the order in which they are tried.
        where: Position of each point by its place.
        tried: Which points were started, shape ``(n,)``.
        next: First point that may not have been started.
    """

    problem: Problem
    points: Codes
    where: dict[bytes, int]
    tried: np.ndarray[tuple[int], np.dtype[np.bool_]]
    next: int = 0


@dataclass(frozen=True, slots=True)
class Grid:
    """Grid search.

    Args:
        resolution: Values of each continuous parameter, both ends included.
        shuffle: Try the points in an order drawn from the study's seed instead of the order of the space.
        limit: Most points that the grid may have.

    Raises:
        ConfigError: If the resolution is below 2.
    """

    resolution: int = 10
    shuffle: bool = False
    limit: int = 100_000

    def __post_init__(self) -> None:
        if self.resolution < 2 or self.limit < 1:
            raise ConfigError(
                f"Grid needs resolution >= 2 and limit >= 1; got {self.resolution} and {self.limit}. Correct them."
            )

    def init(self, problem: Problem) -> GridState:
        """Lists the points.

        Raises:
            SpaceError: If there are more than ``limit``.
        """
        points = problem.space.grid(self.resolution, self.limit)
        if self.shuffle:
            points = generator(problem.seed, 0, _ORDER).permutation(points)
        where = {_place(row): i for i, row in enumerate(points)}
        return GridState(problem, points, where, np.zeros(len(points), dtype=np.bool_))

    def tell(self, state: GridState, events: Sequence[Event]) -> GridState:
        """Marks what was started, whoever proposed it."""
        for event in events:
            if isinstance(event, Started):
                codes = state.problem.space.project(event.config)
                index = state.where.get(_place(codes)) if codes is not None else None
                if index is not None:
                    state.tried[index] = True
            elif isinstance(event, Edited):
                state = self._edited(state, event)
        while state.next < len(state.tried) and state.tried[state.next]:
            state.next += 1
        return state

    def _edited(self, state: GridState, event: Edited) -> GridState:
        fresh = self.init(state.problem.revised(event.space))
        old = state.problem.space
        for row in state.points[state.tried]:
            codes = fresh.problem.space.project(old.decode(row))
            index = fresh.where.get(_place(codes)) if codes is not None else None
            if index is not None:
                fresh.tried[index] = True
        return fresh

    def ask(self, state: GridState, slots: int, rng: np.random.Generator) -> tuple[Action, ...]:
        """The next points; none when all were tried."""
        actions: list[Action] = []
        index = state.next
        while index < len(state.tried) and len(actions) < slots:
            if not state.tried[index]:
                actions.append(Start(state.problem.space.decode(state.points[index])))
            index += 1
        return tuple(actions)


def _place(codes: Codes) -> bytes:
    """Key of a point; coarse enough that coding a value and back cannot change it.

    Codes of a continuous parameter are ``i / (resolution - 1)`` up to a few units in the last place of 64 bits. A
    point where rounding to 32 bits jumps is a multiple of ``2**-25``, and with ``resolution <= 2**25`` no such
    quotient lies nearer to one than ``1e-15``.
    """
    return codes.astype(np.float32).tobytes()
