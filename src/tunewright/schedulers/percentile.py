"""The percentile rule: a trial ends when its best loss so far is not among the best share of the others' at that step.

*Use when* early stopping is to be as severe as a share says, and trials cannot be resumed; around any sampler, or
around another scheduler. *Do not use when* trials can be resumed (``Asha`` never gives up a good trial for coming
early), or there are several objectives.

*Paper*: Golovin, Solnik, Moitra, Kochanski, Karro and Sculley 2017, "Google Vizier", KDD, section 3.2.2, with any
quantile instead of the median; Akiba, Sano, Yanase, Ohta and Koyama 2019, "Optuna", KDD, has it as a pruner.

*Differs*: compared are losses at the same step, not running averages (``Median`` has those); only completed trials
count as others; nothing is stopped before the fewest steps after which a result means something; a
report that is not finite counts as infinite.

*Cost*: ``ask`` that of the wrapped method; ``tell`` O(1) per report, O(s log n) for a completed trial of s reports.
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
from tunewright.errors import ConfigError, UnsupportedError


@dataclass(slots=True)
class Course:
    """A trial that is not over: its best loss, its losses by step, and the last interval in which it was judged."""

    best: float = math.inf
    losses: list[tuple[int, float]] = field(default_factory=list)
    judged: int = -1


@dataclass(slots=True)
class PercentileState:
    """What ``Percentile`` remembers.

    Attributes:
        verdicts: The wrapped method, and whom to stop.
        courses: Trials that are not over.
        others: Losses of completed trials by step, each list sorted.
    """

    verdicts: Verdicts
    courses: dict[int, Course] = field(default_factory=dict)
    others: dict[int, list[float]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Percentile:
    """The percentile rule.

    Args:
        sampler: Proposes configurations; may be a scheduler.
        percentile: The best so many percent go on, above 0 and below 100.
        after: Completed trials with a loss at a step before anything is stopped there.
        warmup: Steps before which nothing is stopped.
        interval: A trial is judged at its first report in every so many steps.

    Raises:
        ConfigError: If a setting is out of range.
    """

    sampler: Algorithm[Any]
    percentile: float = 25.0
    after: int = 5
    warmup: int = 0
    interval: int = 1

    adds_stops: ClassVar[bool] = True

    def __post_init__(self) -> None:
        checked_count("Percentile", "after", self.after, 1)
        checked_count("Percentile", "warmup", self.warmup, 0)
        checked_count("Percentile", "interval", self.interval, 1)
        value: Any = self.percentile
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0.0 < value < 100.0:
            raise ConfigError(
                f"Percentile needs 0 < percentile < 100; got {value!r}. Use 25 to keep the best quarter."
            )

    @property
    def deliberate(self) -> bool:
        """Whether the wrapped method thinks for more than a millisecond or so."""
        return bool(getattr(self.sampler, "deliberate", False))

    def init(self, problem: Problem) -> PercentileState:
        """The state before the first event.

        Raises:
            UnsupportedError: If trials have no steps, there are several objectives, or the sampler refuses.
        """
        steps_of("Percentile", problem)
        if problem.m > 1:
            raise UnsupportedError(
                f"Percentile needs one objective, since several have no percentiles; got {problem.m}. Use Halting or "
                f"Asha."
            )
        return PercentileState(Verdicts(problem, self.sampler.init(problem)))

    def tell(self, state: PercentileState, events: Sequence[Event]) -> PercentileState:
        """Compares reports with those of completed trials; the wrapped method learns from everything."""
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
                        for step, loss in course.losses:
                            insort(state.others.setdefault(step, []), loss)
        state.verdicts.inner = self.sampler.tell(state.verdicts.inner, events)
        return state

    def _report(self, state: PercentileState, event: Reported) -> None:
        course, problem = state.courses.get(event.trial), state.verdicts.problem
        losses = problem.losses(event.metrics)
        if course is None or (losses is None and problem.objectives[0].name not in (event.bad or ())):
            return
        loss = math.inf if losses is None else losses[0]
        course.best = min(course.best, loss)
        course.losses.append((event.step, loss))
        fidelity = steps_of("Percentile", problem)
        first = max(fidelity.low, self.warmup)
        interval = (event.step - first) // self.interval
        if not first <= event.step < fidelity.high or interval <= course.judged:
            return
        course.judged = interval
        others = state.others.get(event.step, [])
        if len(others) >= self.after and course.best > (bar := _quantile(others, self.percentile / 100.0)):
            state.verdicts.doomed[event.trial] = {"step": event.step, "best": course.best, "bar": bar}

    def ask(self, state: PercentileState, slots: int, rng: np.random.Generator) -> tuple[Action, ...]:
        """Stops what is outside the best share; else what the wrapped method wants."""
        return state.verdicts.joined(self.sampler.ask(state.verdicts.inner, slots, rng))


def _quantile(ascending: list[float], q: float) -> float:
    """The ``q``-quantile of a sorted list, linear between its values."""
    place = q * (len(ascending) - 1)
    below = int(place)
    low, high = ascending[below], ascending[min(below + 1, len(ascending) - 1)]
    return low if place == below or low == high else low + (place - below) * (high - low)
