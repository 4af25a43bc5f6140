"""What a rule that stops trials asks for, next to what the method that it wraps asks for.

Such a rule adds stops to any method, also to another scheduler, so that rules can be put around each other. It says
so with a class attribute ``adds_stops = True``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from tunewright.core.algorithm import Action, Start, Stop
from tunewright.core.events import Ended, Event, Signalled
from tunewright.core.problem import Problem

Why = dict[str, Any]


@dataclass(slots=True)
class Verdicts:
    """What every stopping rule remembers.

    Attributes:
        problem: Says what a loss is.
        inner: State of the method that it wraps.
        doomed: Trials to be stopped, with the reason.
    """

    problem: Problem
    inner: Any
    doomed: dict[int, Why] = field(default_factory=dict)

    def settle(self, event: Event) -> None:
        """Forgets a verdict that was carried out, or has come too late."""
        if isinstance(event, Signalled | Ended):
            self.doomed.pop(event.trial, None)

    def joined(self, actions: Iterable[Action]) -> tuple[Action, ...]:
        """The stops, then the actions of the wrapped method that do not concern the same trials."""
        stops = [Stop(trial, why) for trial, why in self.doomed.items()]
        rest = [a for a in actions if isinstance(a, Start) or a.trial not in self.doomed]
        return (*stops, *rest)
