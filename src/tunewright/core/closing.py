"""A scheduler at the end of its study: no trial may be begun any more, those that wait may go on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tunewright.core.algorithm import Action, Algorithm, Start
from tunewright.core.events import Event
from tunewright.core.problem import Problem


@dataclass(frozen=True, slots=True)
class Silent:
    """A sampler that learns as the one it stands for, and proposes nothing.

    A scheduler that is wrapped by another still continues its trials, also by forks of them.

    Args:
        sampler: The one it stands for; states are the same.
    """

    sampler: Algorithm[Any]

    def init(self, problem: Problem) -> Any:
        """The state before the first event."""
        return self.sampler.init(problem)

    def tell(self, state: Any, events: Sequence[Event]) -> Any:
        """The state after more events."""
        return self.sampler.tell(state, events)

    def ask(self, state: Any, slots: int, rng: np.random.Generator) -> tuple[Action, ...]:
        """What continues or ends trials; nothing that begins one from scratch."""
        inner = closed(self.sampler)
        if inner is self.sampler:
            return ()
        wishes = inner.ask(state, slots, rng)
        return tuple(
            a for a in wishes if not isinstance(a, Start) or (a.parent is not None and a.parent[1] > 0)
        )


def closed(algorithm: Algorithm[Any]) -> Algorithm[Any]:
    """The same scheduler, over the same state, around a sampler that has nothing left to propose.

    A study that has all its trials asks this one, so that rungs are judged that will never be full. A method that
    proposes by itself says what it does then with a method ``closed()`` of its own; one that has neither is returned as
    it is.
    """
    made: Any = algorithm
    if hasattr(made, "closed"):
        own: Algorithm[Any] = made.closed()
        return own
    if "sampler" not in getattr(made, "__dataclass_fields__", {}) or not hasattr(made.sampler, "ask"):
        return algorithm
    if isinstance(made, Silent) or isinstance(made.sampler, Silent):
        return algorithm
    out: Algorithm[Any] = replace(made, sampler=Silent(made.sampler))
    return out
