"""The median stopping rule: a trial ends when its best loss so far is worse than the others' usual loss by then.

*Use when* mild early stopping is wanted with hardly anything to set, and trials cannot be resumed; around any sampler,
or around another scheduler. *Do not use when*
most of the time is to be saved (``Asha``, ``Halting``), or there are several objectives.

*Paper*: Golovin, Solnik, Moitra, Kochanski, Karro and Sculley 2017, "Google Vizier", KDD, section 3.2.2.

*Differs*: nothing is stopped before some trials have completed, nor before the fewest steps after which a result
means something; trials are compared with those that reported at the same step.

*Cost*: ``ask`` that of the wrapped method; ``tell`` O(log n) per report, and O(s log n) for a completed trial of s reports.
"""

from __future__ import annotations

import math
from bisect import insort
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from tunewright.core.algorithm import Action, Algorithm
from tunewright.core.events import Ended, Event, Reported, Started
from tunewright.core.problem import Problem
from tunewright.core.rungs import checked_count, steps_of
from tunewright.core.verdicts import Verdicts
from tunewright.errors import UnsupportedError


@dataclass(slots=True)
class Course:
    """A trial that is not over: its best loss, and the running average of its losses at each step."""

    best: float = math.inf
    total: float = 0.0
    averages: list[tuple[int, float]] = field(default_factory=list)


@dataclass(slots=True)
class MedianState:
    """What ``Median`` remembers.

    Attributes:
        verdicts: The wrapped method, and whom to stop.
        courses: Trials that are not over.
        usual: Running averages of completed trials by step, each list sorted.
    """

    verdicts: Verdicts
    courses: dict[int, Course] = field(default_factory=dict)
    usual: dict[int, list[float]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Median:
    """The median stopping rule.

    Args:
        sampler: Proposes configurations; may be a scheduler.
        after: Completed trials before anything is stopped.

    Raises:
        ConfigError: If ``after`` is not a whole number of at least 1.
    """

    sampler: Algorithm[Any]
    after: int = 5

    adds_stops: ClassVar[bool] = True

    def __post_init__(self) -> None:
        checked_count("Median", "after", self.after, 1)

    @property
    def deliberate(self) -> bool:
        """Whether the wrapped method thinks for more than a millisecond or so."""
        return bool(getattr(self.sampler, "deliberate", False))

    def init(self, problem: Problem) -> MedianState:
        """The state before the first event.

        Raises:
            UnsupportedError: If trials have no steps, there are several objectives, or the sampler refuses.
        """
        steps_of("Median", problem)
        if problem.m > 1:
            raise UnsupportedError(
                f"Median needs one objective, since several have no median; got {problem.m}. Use Halting or Asha."
            )
        return MedianState(Verdicts(problem, self.sampler.init(problem)))

    def tell(self, state: MedianState, events: Sequence[Event]) -> MedianState:
        """Compares each report with the median at its step; the wrapped method learns from everything."""
        for event in events:
            if isinstance(event, Reported):
                self._report(state, event)
            elif isinstance(event, Started):
                state.courses[event.trial] = Course()
            else:
                state.verdicts.settle(event)
                if isinstance(event, Ended):
                    course = state.courses.pop(event.trial, None)
                    if course is not None and event.outcome == "completed":
                        for step, average in course.averages:
                            insort(state.usual.setdefault(step, []), average)
        state.verdicts.inner = self.sampler.tell(state.verdicts.inner, events)
        return state

    def _report(self, state: MedianState, event: Reported) -> None:
        course = state.courses.get(event.trial)
        losses = state.verdicts.problem.losses(event.metrics)
        if course is None or losses is None:
            return
        loss = losses[0]
        course.best = min(course.best, loss)
        course.total += loss
        course.averages.append((event.step, course.total / (len(course.averages) + 1)))
        others = state.usual.get(event.step, ())
        fidelity = state.verdicts.problem.fidelity
        if fidelity is None or len(others) < self.after or not fidelity.low <= event.step < fidelity.high:
            return
        n = len(others)
        median = others[n // 2] if n % 2 else 0.5 * others[n // 2 - 1] + 0.5 * others[n // 2]
        if course.best > median:
            state.verdicts.doomed[event.trial] = {"step": event.step, "best": course.best, "median": median}

    def ask(self, state: MedianState, slots: int, rng: np.random.Generator) -> tuple[Action, ...]:
        """Stops what is worse than the median; else what the wrapped method wants."""
        return state.verdicts.joined(self.sampler.ask(state.verdicts.inner, slots, rng))
