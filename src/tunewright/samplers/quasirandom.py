"""Scrambled Sobol points: the space covered more evenly than by independent draws.

*Use when* a space is looked at for the first time, or trials run in one large batch. *Do not use when* losses should
guide the search, or most parameters sit in one of many branches: each branch then sees only a thin part of the points.

*Paper*: Sobol 1967; direction numbers of Joe and Kuo 2008; scrambling of Matousek 1998.

*Differs*: each trial takes the next point, whoever started it, so workers never share a point and a restart repeats
none. Options are equal bins of a coordinate. Points that break a constraint are skipped; ``why`` counts them. In finite
spaces so are configurations that were tried, and the search ends when all were. Guesses are ignored: a design that
leans to one side is no longer even.

*Cost*: ask O(d log n); tell O(1), and with constraints or in finite spaces O(d log n) per point skipped; memory O(d^2),
in finite spaces O(n d).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tunewright.core.algorithm import Action, Start
from tunewright.core.events import Edited, Event, Started
from tunewright.core.novelty import first_new, is_finite
from tunewright.core.problem import Problem
from tunewright.core.space import Space
from tunewright.numerics.sequences import Sobol, sobol

_SKIPS = 2048
_SKIPS_TRIED = 64


@dataclass(slots=True)
class QuasiRandomState:
    """How far the sequence has come.

    Attributes:
        problem: The problem, with the newest version of its space.
        points: The sequence; None for a space without parameters.
        next: Number of the next point.
        tried: Configurations and their codes as bytes, in finite spaces; else None.
    """

    problem: Problem
    points: Sobol | None
    next: int = 0
    tried: dict[bytes, dict[str, Any]] | None = None


@dataclass(frozen=True, slots=True)
class QuasiRandom:
    """Quasi-random search."""

    def init(self, problem: Problem) -> QuasiRandomState:
        """The state before the first event."""
        d = problem.space.d
        points = sobol(d, (problem.seed, d)) if d else None
        return QuasiRandomState(problem, points, tried={} if is_finite(problem.space) else None)

    def shortcut(self, problem: Problem, trials: int, edited: bool) -> QuasiRandomState | None:
        """The state without the log: one point per trial, where none are skipped."""
        state = self.init(problem)
        if edited or problem.space.constraints or state.tried is not None:
            return None
        state.next = trials
        return state

    def tell(self, state: QuasiRandomState, events: Sequence[Event]) -> QuasiRandomState:
        """Moves on by one point per trial, and past those that break a constraint."""
        for event in events:
            if isinstance(event, Started):
                skips = state.problem.space.constraints or state.tried is not None
                state.next = 1 + (_find(state, state.next, ())[0] if skips else state.next)
                _mark(state, event.config)
            elif isinstance(event, Edited):
                number, tried = state.next, state.tried or {}
                state = self.init(state.problem.revised(event.space))
                state.next = number
                for config in tried.values():
                    _mark(state, config)
        return state

    def ask(self, state: QuasiRandomState, slots: int, rng: np.random.Generator) -> tuple[Action, ...]:
        """The next points of the sequence, one per slot."""
        space, number = state.problem.space, state.next
        actions: list[Action] = []
        awaited: list[bytes] = []
        for _ in range(slots):
            found, config = _find(state, number, awaited)
            why: dict[str, Any] = {"point": found}
            if found > number:
                why["skipped"] = found - number
            if config is None:
                # The feasible part is tiny, or little is left: the prior finds it or says that it cannot.
                why["drawn"] = True
                keys = [*(state.tried or ()), *awaited]
                taken = np.frombuffer(b"".join(keys), dtype=np.float64).reshape(-1, space.d)
                row = first_new(space, taken, np.empty((0, space.d)), rng)
                if row is None:
                    break
                config = space.decode(row)
            if state.tried is not None:
                awaited.append(space.encode(config).tobytes())
            actions.append(Start(config, why=why))
            number = found + 1
        return tuple(actions)


def _mark(state: QuasiRandomState, config: dict[str, Any]) -> None:
    """Remembers what was tried where that matters."""
    codes = state.problem.space.project(config) if state.tried is not None else None
    if state.tried is not None and codes is not None:
        state.tried[codes.tobytes()] = config


def _find(
    state: QuasiRandomState, number: int, awaited: Collection[bytes]
) -> tuple[int, dict[str, Any] | None]:
    """Number and configuration of the first point to use from ``number`` on; None after too many skips."""
    space, points = state.problem.space, state.points
    if points is None:
        return number, {}
    if not space.constraints and state.tried is None:
        return number, _config(space, points, number)
    most = _SKIPS if space.constraints else _SKIPS_TRIED
    for i in range(number, number + most):
        config = _config(space, points, i)
        if space.feasible(config) and not _is_tried(state, config, awaited):
            return i, config
    return number + most - 1, None


def _is_tried(state: QuasiRandomState, config: dict[str, Any], awaited: Collection[bytes]) -> bool:
    if state.tried is None:
        return False
    codes = state.problem.space.encode(config).tobytes()
    return codes in state.tried or codes in awaited


def _config(space: Space, points: Sobol, number: int) -> dict[str, Any]:
    """The configuration at a point."""
    row = points.point(number)
    return space.decode(space.snap(row[None, :])[0] if space.conditional else row)
