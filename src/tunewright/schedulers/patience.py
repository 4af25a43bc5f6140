"""Stops a trial that has not improved for some steps, unless no other has come as low.

*Use when* a full training is longer than most configurations need: trials that have converged, or overfit, make room
for others; around any sampler, or around another scheduler. *Do not use when* losses stall before they fall
again, as with restarts of a cyclic learning rate, or there are several objectives.

*Paper*: Goodfellow, Bengio and Courville 2016, "Deep Learning", MIT Press, Algorithm 7.1 (early stopping with patience);
Prechelt 1998, "Early Stopping - But When?", in Neural Networks: Tricks of the Trade, section 2.

*Differs*: a stopped trial counts as stopped, not as completed, and only completed ones compete for the best of the study;
therefore the trial with the lowest loss of all so far is never stopped, and trained to its end. Patience is counted in
steps, not in reports; a report that is not finite or lacks the objective is no improvement. With outcome
limits, coming closer to them is an improvement.

*Cost*: ``ask`` and ``tell`` those of the wrapped method, and O(1).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from tunewright.core.algorithm import Action, Algorithm
from tunewright.core.events import Ended, Event, Reported, Started
from tunewright.core.problem import Problem
from tunewright.core.rungs import checked_count, steps_of
from tunewright.core.verdicts import Verdicts
from tunewright.errors import ConfigError, UnsupportedError

_NOTHING = (math.inf, math.inf)


@dataclass(slots=True)
class Course:
    """A trial that is not over: its best ``(violation, loss)``, what was last seen as an improvement, and when."""

    best: tuple[float, float] = _NOTHING
    mark: tuple[float, float] = _NOTHING
    at: int = 0


@dataclass(slots=True)
class PatienceState:
    """What ``Patience`` remembers.

    Attributes:
        verdicts: The wrapped method, and whom to stop.
        courses: Trials that are not over.
        lowest: Best ``(violation, loss)`` of all trials so far.
    """

    verdicts: Verdicts
    courses: dict[int, Course] = field(default_factory=dict)
    lowest: tuple[float, float] = _NOTHING


@dataclass(frozen=True, slots=True)
class Patience:
    """Patience with trials that do not improve.

    Args:
        sampler: Proposes configurations; may be a scheduler.
        patience: Steps without improvement after which a trial is stopped.
        min_delta: By how much a loss must fall to count as an improvement, in the unit of the objective.

    Raises:
        ConfigError: If ``patience`` is not a whole number of at least 1, or ``min_delta`` is negative or not finite.
    """

    sampler: Algorithm[Any]
    patience: int = 5
    min_delta: float = 0.0

    adds_stops: ClassVar[bool] = True

    def __post_init__(self) -> None:
        checked_count("Patience", "patience", self.patience, 1)
        value: Any = self.min_delta
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0.0 <= value < math.inf:
            raise ConfigError(
                f"Patience needs a finite min_delta >= 0; got {value!r}. Use 0 to count every improvement."
            )

    @property
    def deliberate(self) -> bool:
        """Whether the wrapped method thinks for more than a millisecond or so."""
        return bool(getattr(self.sampler, "deliberate", False))

    def init(self, problem: Problem) -> PatienceState:
        """The state before the first event.

        Raises:
            UnsupportedError: If trials have no steps, there are several objectives, or the sampler refuses.
        """
        steps_of("Patience", problem)
        if problem.m > 1:
            raise UnsupportedError(
                f"Patience needs one objective, whose improvement it waits for; got {problem.m}. Use Halting or Asha."
            )
        return PatienceState(Verdicts(problem, self.sampler.init(problem)))

    def tell(self, state: PatienceState, events: Sequence[Event]) -> PatienceState:
        """Follows the best loss of every trial; the wrapped method learns from everything."""
        for event in events:
            if isinstance(event, Reported):
                self._report(state, event)
            elif isinstance(event, Started):
                at = event.parent[1] if event.parent is not None else 0
                state.courses[event.trial] = Course(at=at)
            else:
                state.verdicts.settle(event)
                if isinstance(event, Ended):
                    state.courses.pop(event.trial, None)
        state.verdicts.inner = self.sampler.tell(state.verdicts.inner, events)
        return state

    def _report(self, state: PatienceState, event: Reported) -> None:
        course, problem = state.courses.get(event.trial), state.verdicts.problem
        if course is None:
            return
        losses = problem.losses(event.metrics)
        if losses is not None:
            violation = problem.violation(event.metrics) if problem.limits else 0.0
            course.best = min(course.best, (violation, losses[0]))
            state.lowest = min(state.lowest, course.best)
            delta = self.min_delta if violation == course.mark[0] else 0.0
            if (violation, losses[0] + delta) < course.mark:
                course.mark, course.at = (violation, losses[0]), event.step
                return
        fidelity = steps_of("Patience", problem)
        waited = event.step - course.at
        leads = course.best == state.lowest < _NOTHING
        if waited >= self.patience and fidelity.low <= event.step < fidelity.high and not leads:
            state.verdicts.doomed[event.trial] = {
                "step": event.step,
                "best": course.best[1],
                "since": course.at,
            }

    def ask(self, state: PatienceState, slots: int, rng: np.random.Generator) -> tuple[Action, ...]:
        """Stops what has not improved; else what the wrapped method wants."""
        return state.verdicts.joined(self.sampler.ask(state.verdicts.inner, slots, rng))
