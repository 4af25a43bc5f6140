"""Scrambled Sobol points: the space covered more evenly than by independent draws.

*Use when* a space is looked at for the first time, or trials run in one large batch. *Do not use when* losses should
guide the search, or most parameters sit in one of many branches: each branch then sees only a thin part of the points.

*Paper*: Sobol 1967; direction numbers of Joe and Kuo 2008; scrambling of Matousek 1998.

*Differs*: trial `i` gets point `i`, so workers never share a point and a restart repeats none. Options are equal bins
of a coordinate. A configuration that breaks a constraint is moved towards one that does not. Guesses are ignored.

*Cost*: ask O(d log n); tell O(1), O(d^2) memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tunewright.core.algorithm import Action, Start
from tunewright.core.events import Edited, Event, Started
from tunewright.core.problem import Problem
from tunewright.core.space import Space
from tunewright.numerics.sequences import Sobol, sobol


@dataclass(slots=True)
class QuasiRandomState:
    """How far the sequence has come.

    Attributes:
        problem: The problem, with the newest version of its space.
        points: The sequence; None for a space without parameters.
        n: Number of trials.
    """

    problem: Problem
    points: Sobol | None
    n: int = 0


@dataclass(frozen=True, slots=True)
class QuasiRandom:
    """Quasi-random search."""

    def init(self, problem: Problem) -> QuasiRandomState:
        """The state before the first event."""
        d = problem.space.d
        return QuasiRandomState(problem, sobol(d, (problem.seed, d)) if d else None)

    def tell(self, state: QuasiRandomState, events: Sequence[Event]) -> QuasiRandomState:
        """Counts trials, O(1) each."""
        for event in events:
            if isinstance(event, Started):
                state.n += 1
            elif isinstance(event, Edited):
                n = state.n
                state = self.init(state.problem.with_space(Space.from_dict(event.space)))
                state.n = n
        return state

    def ask(self, state: QuasiRandomState, slots: int, rng: np.random.Generator) -> tuple[Action, ...]:
        """The next points of the sequence, one per slot."""
        space = state.problem.space
        points = state.points
        if points is None:
            return tuple(Start({}) for _ in range(slots))
        if space.constraints:
            rows = space.repair(points.block(state.n, slots), rng)
            return tuple(Start(space.decode(row)) for row in rows)
        return tuple(Start(space.decode(points.point(state.n + i))) for i in range(slots))
