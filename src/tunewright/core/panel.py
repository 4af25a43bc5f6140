"""One sampler per level of training, each told the results of that level only, so that it compares like with like.

A loss after one epoch and a loss after eighty say different things; a model of both at once believes that long
training makes a good configuration. Every level has its own state of the wrapped sampler. All hear what begins, rests
and ends, but each hears one loss per trial: the first at or after its level. The sampler of the highest level with enough
results is the one to ask. A sampler with ``mixes_levels = True`` has one state instead, which hears everything.

Source: Falkner, Klein and Hutter 2018 (BOHB, arXiv:1807.01774), section 3.1 and Algorithm 2: the model is that of the
largest budget with at least ``d + 1`` observations.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tunewright.core.algorithm import Algorithm, Start
from tunewright.core.events import Ended, Event, Reported, Started
from tunewright.core.problem import Problem

_LEAST = 5


@dataclass(slots=True)
class Panel:
    """States of one sampler, by level; a fold over events, at the sampler's cost times the number of levels.

    Attributes:
        levels: Steps, ascending; the last is the full training.
        need: Results that a level must have before its sampler is asked.
        states: State of the sampler at each level; only one of a sampler that mixes levels.
        results: Number of results at each level.
        steps: Last reported step of every trial that is not over.
    """

    levels: tuple[int, ...]
    need: int
    states: list[Any]
    results: list[int]
    steps: dict[int, int] = field(default_factory=dict)

    @classmethod
    def of(cls, sampler: Algorithm[Any], problem: Problem, levels: tuple[int, ...]) -> Panel:
        """Fresh states for the given levels.

        Raises:
            UnsupportedError: If the sampler refuses the problem.
        """
        need = max(problem.space.d + 1, _LEAST)
        heard = levels[-1:] if getattr(sampler, "mixes_levels", False) else levels
        return cls(levels, need, [sampler.init(problem) for _ in heard], [0] * len(levels))

    def apply(self, sampler: Algorithm[Any], events: Sequence[Event]) -> None:
        """Passes events on to the sampler, each at the levels that it concerns."""
        if len(self.states) < len(self.levels):
            self.states[0] = sampler.tell(self.states[0], events)
            return
        shared: list[list[Event]] = [[] for _ in self.levels]
        for event in events:
            if isinstance(event, Reported):
                self._report(event, shared)
            elif isinstance(event, Ended):
                self._end(event, shared)
            else:
                if isinstance(event, Started):
                    self.steps[event.trial] = event.parent[1] if event.parent is not None else 0
                for heard in shared:
                    heard.append(event)
        for level, heard in enumerate(shared):
            if heard:
                self.states[level] = sampler.tell(self.states[level], heard)

    def _report(self, event: Reported, shared: list[list[Event]]) -> None:
        before = bisect_right(self.levels, self.steps.get(event.trial, 0))
        after = bisect_right(self.levels, event.step)
        self.steps[event.trial] = event.step
        for level in range(before, after):
            self._hear(level, event.trial, event.token, event.metrics, event.bad, shared)

    def _hear(
        self,
        level: int,
        trial: int,
        token: int,
        metrics: dict[str, float],
        bad: dict[str, str] | None,
        shared: list[list[Event]],
    ) -> None:
        """One result at one level, at exactly its step, so that all of them look equally far trained."""
        self.results[level] += 1
        shared[level].append(Reported(trial, token, self.levels[level], metrics, bad))

    def _end(self, event: Ended, shared: list[list[Event]]) -> None:
        reached = bisect_right(self.levels, self.steps.pop(event.trial, 0))
        top = len(self.levels) - 1
        done = event.outcome == "completed"
        # Below the top, a full training must not count for more than the loss that it had at that level.
        bare = Ended(event.trial, event.token, "stopped" if done else event.outcome, step=event.step)
        for level, heard in enumerate(shared):
            if done and event.metrics and level >= reached:
                self._hear(level, event.trial, event.token, event.metrics, None, shared)
            heard.append(event if done and level == top else bare)

    def ask(self, sampler: Algorithm[Any], slots: int, rng: np.random.Generator) -> list[Start]:
        """Configurations from the sampler at the highest level with enough results."""
        level = max((i for i, n in enumerate(self.results) if n >= self.need), default=0)
        wishes = sampler.ask(self.states[level], slots, rng)
        return [w for w in wishes if isinstance(w, Start)]
