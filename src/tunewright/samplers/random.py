"""Independent draws from the prior: the baseline that every method has to beat.

Use when      trials are very cheap and very many, or as the comparison.
Do not use    when a trial costs more than a few milliseconds; any model-based method finds more with as many trials.
Paper         Bergstra and Bengio 2012, JMLR 13:281-305.
Differs       on finite spaces nothing is proposed twice, and the search ends when everything was tried.
Cost          ask O(d); tell O(d) on finite spaces of at most 10,000 configurations, nothing otherwise.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import numpy as np

from tunewright.core.algorithm import Action, Start
from tunewright.core.domains import Codes
from tunewright.core.events import Amended, Edited, Event, Started
from tunewright.core.problem import Problem

_FINITE = 10_000
_TRIES = 20


@dataclass(slots=True)
class RandomState:
    """What is left to try, on small finite spaces only.

    Attributes:
        problem: The problem, with the newest version of its space.
        rows: Codes of every configuration, shape ``(n, d)``; None when the space is not small and finite.
        where: Row of each configuration by its codes, as bytes; only of those not tried yet.
        open: Rows in an order of which the first ``left`` are not tried yet, shape ``(n,)``.
        place: Position of each row in ``open``, shape ``(n,)``.
        left: Number of configurations not tried yet.
        configs: Everything that was started, for a later version of the space; empty when ``rows`` is None.
    """

    problem: Problem
    rows: Codes | None = None
    where: dict[bytes, int] = field(default_factory=dict)
    open: list[int] = field(default_factory=list)
    place: list[int] = field(default_factory=list)
    left: int = 0
    configs: list[dict[str, object]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Random:
    """Random search."""

    def init(self, problem: Problem) -> RandomState:
        """The state before the first event."""
        space = problem.space
        if space.d == 0 or space.size > _FINITE:
            return RandomState(problem)
        rows = space.grid(_FINITE, _FINITE)
        n = len(rows)
        where = {row.tobytes(): i for i, row in enumerate(rows)}
        return RandomState(problem, rows, where, list(range(n)), list(range(n)), n)

    def shortcut(self, problem: Problem, trials: int, edited: bool) -> RandomState | None:
        """The state without the log: nothing is remembered but on small finite spaces."""
        state = self.init(problem)
        return state if state.rows is None else None

    def tell(self, state: RandomState, events: Sequence[Event]) -> RandomState:
        """Remembers what was tried where that matters."""
        for event in events:
            if isinstance(event, Edited):
                state = self._edited(state, event)
            elif state.rows is not None and isinstance(event, Started | Amended):
                state.configs.append(event.config)
                _mark(state, event.config)
        return state

    def _edited(self, state: RandomState, event: Edited) -> RandomState:
        fresh = self.init(state.problem.revised(event.space))
        if fresh.rows is not None:
            fresh.configs = state.configs
            for config in fresh.configs:
                _mark(fresh, config)
        return fresh

    def ask(self, state: RandomState, slots: int, rng: np.random.Generator) -> tuple[Action, ...]:
        """One draw per slot; on a small finite space none that was tried, and nothing when all were."""
        space = state.problem.space
        if state.rows is None:
            return tuple(Start(space.draw(rng)) for _ in range(slots))
        chosen: dict[int, None] = {}
        for _ in range(min(slots, state.left)):
            chosen[_untried(state, chosen, rng)] = None
        return tuple(Start(space.decode(state.rows[i])) for i in chosen)


def _mark(state: RandomState, config: dict[str, object]) -> None:
    """Takes a configuration off those left: its row changes places with the last of them."""
    codes = state.problem.space.project(config)
    row = state.where.pop(codes.tobytes(), None) if codes is not None else None
    if row is not None:
        state.left -= 1
        here, last = state.place[row], state.open[state.left]
        state.open[here], state.open[state.left] = last, row
        state.place[last], state.place[row] = here, state.left


def _untried(state: RandomState, chosen: Collection[int], rng: np.random.Generator) -> int:
    """A row not tried yet: from the prior while that finds one, else any of those left, with equal chances."""
    for codes in state.problem.space.sample(rng, _TRIES):
        row = state.where.get(codes.tobytes())
        if row is not None and row not in chosen:
            return row
    left = [i for i in state.open[: state.left] if i not in chosen]
    return left[int(rng.integers(len(left)))]
