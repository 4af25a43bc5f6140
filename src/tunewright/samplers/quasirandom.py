"""Scrambled Sobol points: the space covered more evenly than by independent draws.

*Use when* a space is looked at for the first time, or trials run in one large batch. *Do not use when* losses should
guide the search, or most parameters sit in one of many branches: each branch then sees only a thin part of the points.

*Paper*: Sobol 1967; direction numbers of Joe and Kuo 2008; scrambling of Matousek 1998.

*Differs*: each trial takes the next point, whoever started it, so workers never share a point and a restart repeats
none. Options are equal bins of a coordinate. Points that break a constraint are skipped; ``why`` counts them. Guesses
are ignored: a design that leans to one side is no longer even.

*Cost*: ask O(d log n); tell O(1), and with constraints O(d log n) per point skipped; memory O(d^2).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tunewright.core.algorithm import Action, Start
from tunewright.core.events import Edited, Event, Started
from tunewright.core.problem import Problem
from tunewright.core.space import Space
from tunewright.numerics.sequences import Sobol, sobol

_SKIPS = 2048


@dataclass(slots=True)
class QuasiRandomState:
    """How far the sequence has come.

    Attributes:
        problem: The problem, with the newest version of its space.
        points: The sequence; None for a space without parameters.
        next: Number of the next point.
    """

    problem: Problem
    points: Sobol | None
    next: int = 0


@dataclass(frozen=True, slots=True)
class QuasiRandom:
    """Quasi-random search."""

    def init(self, problem: Problem) -> QuasiRandomState:
        """The state before the first event."""
        d = problem.space.d
        return QuasiRandomState(problem, sobol(d, (problem.seed, d)) if d else None)

    def tell(self, state: QuasiRandomState, events: Sequence[Event]) -> QuasiRandomState:
        """Moves on by one point per trial, and past those that break a constraint."""
        for event in events:
            if isinstance(event, Started):
                taken = _find(state, state.next)[0] if state.problem.space.constraints else state.next
                state.next = taken + 1
            elif isinstance(event, Edited):
                number = state.next
                state = self.init(state.problem.revised(event.space))
                state.next = number
        return state

    def ask(self, state: QuasiRandomState, slots: int, rng: np.random.Generator) -> tuple[Action, ...]:
        """The next points of the sequence, one per slot."""
        space, number = state.problem.space, state.next
        actions: list[Action] = []
        for _ in range(slots):
            found, config = _find(state, number)
            why: dict[str, Any] = {"point": found}
            if found > number:
                why["skipped"] = found - number
            if config is None:
                # The feasible part is tiny: the prior finds it or says that it cannot.
                why["drawn"] = True
                config = space.decode(space.sample(rng, 1)[0])
            actions.append(Start(config, why=why))
            number = found + 1
        return tuple(actions)


def _find(state: QuasiRandomState, number: int) -> tuple[int, dict[str, Any] | None]:
    """Number and configuration of the first allowed point from ``number`` on; None after too many skips."""
    space, points = state.problem.space, state.points
    if points is None:
        return number, {}
    if not space.constraints:
        return number, _config(space, points, number)
    for i in range(number, number + _SKIPS):
        config = _config(space, points, i)
        if space.feasible(config):
            return i, config
    return number + _SKIPS - 1, None


def _config(space: Space, points: Sobol, number: int) -> dict[str, Any]:
    """The configuration at a point."""
    row = points.point(number)
    return space.decode(space.snap(row[None, :])[0] if space.conditional else row)
