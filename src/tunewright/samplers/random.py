"""Independent draws from the prior: the baseline that every method has to beat.

Use when      trials are very cheap and very many, or as the comparison.
Do not use    when a trial costs more than a few milliseconds; any model-based method finds more with as many trials.
Paper         Bergstra and Bengio 2012, JMLR 13:281-305.
Differs       on finite spaces nothing is proposed twice, and the search ends when everything was tried.
Cost          ask O(d); tell O(d) on small finite spaces, nothing otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from tunewright.core.algorithm import Action, Start
from tunewright.core.domains import Codes
from tunewright.core.events import Amended, Edited, Event, Started
from tunewright.core.problem import Problem
from tunewright.core.space import Space

_FINITE = 10_000
_TRIES = 20


@dataclass(slots=True)
class RandomState:
    """What was tried, on small finite spaces only.

    Attributes:
        problem: The problem, with the newest version of its space.
        seen: Codes of every configuration tried, as bytes; None when the space is not small and finite.
        left: Configurations not tried yet; meaningless when ``seen`` is None.
    """

    problem: Problem
    seen: set[bytes] | None = None
    left: int = 0
    configs: list[dict[str, object]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Random:
    """Random search."""

    def init(self, problem: Problem) -> RandomState:
        """The state before the first event."""
        space = problem.space
        if space.d > 0 and _small(space):
            return RandomState(problem, set(), len(space.grid(limit=_FINITE)))
        return RandomState(problem)

    def tell(self, state: RandomState, events: Sequence[Event]) -> RandomState:
        """Remembers what was tried where that matters."""
        if state.seen is None and not any(isinstance(e, Edited) for e in events):
            return state
        for event in events:
            if isinstance(event, Edited):
                state = self._edited(state, event)
            elif isinstance(event, Started | Amended) and state.seen is not None:
                state.configs.append(event.config)
                _mark(state, event.config)
        return state

    def _edited(self, state: RandomState, event: Edited) -> RandomState:
        fresh = self.init(state.problem.revised(event.space))
        fresh.configs = state.configs
        if fresh.seen is not None:
            for config in fresh.configs:
                _mark(fresh, config)
        return fresh

    def ask(self, state: RandomState, slots: int, rng: np.random.Generator) -> tuple[Action, ...]:
        """One draw per slot."""
        space = state.problem.space
        if state.seen is None:
            return tuple(Start(space.draw(rng)) for _ in range(slots))
        chosen: set[bytes] = set()
        actions: list[Action] = []
        for _ in range(min(slots, state.left)):
            codes = _unseen(space, state.seen, chosen, rng)
            chosen.add(codes.tobytes())
            actions.append(Start(space.decode(codes)))
        return tuple(actions)


def _small(space: Space) -> bool:
    """Whether every configuration can be listed, without listing a huge conditional space first."""
    counts = [c.domain.count for c in space.columns]
    if not all(counts):
        return False
    return (
        bool(space.size <= _FINITE)
        if not space.conditional
        else bool(np.prod(counts, dtype=float) <= _FINITE)
    )


def _mark(state: RandomState, config: dict[str, object]) -> None:
    codes = state.problem.space.project(config)
    if codes is not None and state.seen is not None:
        key = codes.tobytes()
        if key not in state.seen:
            state.seen.add(key)
            state.left = max(0, state.left - 1)


def _unseen(space: Space, seen: set[bytes], chosen: set[bytes], rng: np.random.Generator) -> Codes:
    """A configuration not tried yet: by luck while most are left, by listing them when few are."""
    codes: Codes
    for codes in space.sample(rng, _TRIES):
        key = codes.tobytes()
        if key not in seen and key not in chosen:
            return codes
    left: list[Codes] = [
        c for c in space.grid(limit=_FINITE) if c.tobytes() not in seen and c.tobytes() not in chosen
    ]
    return left[int(rng.integers(len(left)))]
