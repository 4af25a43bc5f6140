"""Stops trials that diverge, or whose metric leaves the bounds that are set for it.

*Use when* it is known what no useful training ever shows, such as a loss above that of a constant prediction; around
any sampler, or around another scheduler. *Do not use when* nobody knows such a bound: ``Median`` or ``Percentile``
take it from the other trials.

*Paper*: none; the rule is that of a watchdog. Optuna has it as ``ThresholdPruner``, Ax as a threshold strategy.

*Differs*: without bounds it stops what reports NaN or infinity and nothing else; a report that lacks the metric is
passed over.

*Cost*: ``ask`` and ``tell`` those of the wrapped method, and O(1).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from tunewright.core.algorithm import Action, Algorithm
from tunewright.core.events import Event, Reported
from tunewright.core.problem import Problem
from tunewright.core.rungs import checked_count, steps_of
from tunewright.core.verdicts import Verdicts
from tunewright.errors import ConfigError, UnsupportedError


@dataclass(frozen=True, slots=True)
class Threshold:
    """Bounds on a metric.

    Args:
        sampler: Proposes configurations; may be a scheduler.
        upper: Largest value that goes on, in the metric's own unit and sign.
        lower: Smallest value that goes on.
        metric: Name of the metric; None is the objective.
        after: Steps up to which bounds do not count; NaN and infinity always do.

    Raises:
        ConfigError: If a bound is not a number, the bounds leave nothing between them, or ``after`` is not a whole
            number of at least 0.
    """

    sampler: Algorithm[Any]
    upper: float = math.inf
    lower: float = -math.inf
    metric: str | None = None
    after: int = 0

    adds_stops: ClassVar[bool] = True

    def __post_init__(self) -> None:
        checked_count("Threshold", "after", self.after, 0)
        numbers = all(isinstance(b, int | float) and not isinstance(b, bool) for b in self._bounds)
        if not numbers or not self.lower < self.upper:
            raise ConfigError(
                f"Threshold needs lower < upper; got lower={self.lower!r}, upper={self.upper!r}. Swap them, or leave "
                f"one out."
            )

    @property
    def _bounds(self) -> tuple[Any, Any]:
        return self.lower, self.upper

    @property
    def deliberate(self) -> bool:
        """Whether the wrapped method thinks for more than a millisecond or so."""
        return bool(getattr(self.sampler, "deliberate", False))

    def init(self, problem: Problem) -> Verdicts:
        """The state before the first event.

        Raises:
            UnsupportedError: If trials have no steps, bounds are set for one of several objectives without saying
                for which, or the sampler refuses the problem.
        """
        steps_of("Threshold", problem)
        bounded = self._bounds != (-math.inf, math.inf)
        if bounded and self.metric is None and problem.m > 1:
            names = " or ".join(f"metric='{o.name}'" for o in problem.objectives)
            raise UnsupportedError(
                f"Threshold needs the name of the metric with several objectives; got none. Pass {names}."
            )
        return Verdicts(problem, self.sampler.init(problem))

    def tell(self, state: Verdicts, events: Sequence[Event]) -> Verdicts:
        """Looks at every report; the wrapped method learns from everything."""
        for event in events:
            if isinstance(event, Reported):
                self._look(state, event)
            else:
                state.settle(event)
        state.inner = self.sampler.tell(state.inner, events)
        return state

    def _look(self, state: Verdicts, event: Reported) -> None:
        objectives = [o.name for o in state.problem.objectives]
        names = objectives if self.metric is None else [self.metric]
        for name in names:
            if event.bad and name in event.bad:
                state.doomed[event.trial] = {"step": event.step, name: event.bad[name]}
                return
        value = event.metrics.get(names[0])
        if value is not None and event.step > self.after and not self.lower <= value <= self.upper:
            state.doomed[event.trial] = {"step": event.step, names[0]: value}

    def ask(self, state: Verdicts, slots: int, rng: np.random.Generator) -> tuple[Action, ...]:
        """Stops what left the bounds; else what the wrapped method wants."""
        return state.joined(self.sampler.ask(state.inner, slots, rng))
