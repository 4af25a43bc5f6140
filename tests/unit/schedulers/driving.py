"""A tiny world for schedulers: constant losses per trial, one event at a time."""

from __future__ import annotations

from typing import Any

from tunewright.core.algorithm import Pause, Resume, Start, Stop, generator
from tunewright.core.domains import Float
from tunewright.core.events import Ended, Event, Paused, Reported, Resumed, Signalled, Started
from tunewright.core.problem import Fidelity, Problem
from tunewright.core.space import Space

LINE = Space(x=Float(0, 1))


def problem(high: int = 9, low: int = 1, **more: Any) -> Problem:
    """A line to be searched with trials of up to ``high`` steps."""
    return Problem(LINE, fidelity=Fidelity(high, low), **more)


class Drive:
    """Runs a scheduler by hand."""

    def __init__(self, algorithm: Any, of: Problem | None = None) -> None:
        self.algorithm = algorithm
        self.problem = of or problem()
        self.state = algorithm.init(self.problem)
        self.untils: list[int] = []
        self.turn = 0

    def tell(self, *events: Event) -> None:
        self.state = self.algorithm.tell(self.state, events)

    def ask(self, slots: int = 1) -> tuple[Any, ...]:
        self.turn += 1
        return tuple(self.algorithm.ask(self.state, slots, generator(0, self.turn)))

    def begin(self, slots: int = 1) -> list[int]:
        """Asks and accepts; returns the trials that began or go on."""
        out = []
        for action in self.ask(slots):
            if isinstance(action, Start):
                out.append(len(self.untils))
                self.untils.append(action.until or 0)
                self.tell(Started(out[-1], action.config, action.until, action.parent))
            elif isinstance(action, Resume):
                self.untils[action.trial] = action.until or 0
                self.tell(Resumed(action.trial, 0, action.until))
                out.append(action.trial)
            elif isinstance(action, Pause | Stop):
                self.tell(Signalled(action.trial, "stop"))
        return out

    def finish(self, trial: int, loss: float | None) -> None:
        """Ends a segment with a loss, or with a failure."""
        until = self.untils[trial]
        if loss is None:
            self.tell(Ended(trial, 1, "failed"))
            return
        self.tell(Reported(trial, 1, until, {"loss": loss}))
        high = self.problem.fidelity.high if self.problem.fidelity else 0
        if until == high:
            self.tell(Ended(trial, 1, "completed", {"loss": loss}, until))
        else:
            self.tell(Paused(trial, 1, until))
