"""What a sampler hears about a population: trainings from scratch and their full results, under numbers of its own.

A copy has the parameters of one trial and the weights of others; its result would mislead a model of the parameters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np

from tunewright.core.algorithm import Algorithm, Start
from tunewright.core.events import Event, Started
from tunewright.core.panel import Panel
from tunewright.core.problem import Problem


@dataclass(slots=True)
class Firsthand:
    """State of a sampler that is told of trainings from scratch only; a fold over events, at the sampler's cost.

    Attributes:
        panel: The sampler.
        trials: Trial behind each number that the sampler knows.
        numbers: The number of each such trial.
    """

    panel: Panel
    trials: list[int] = field(default_factory=list)
    numbers: dict[int, int] = field(default_factory=dict)

    @classmethod
    def of(cls, sampler: Algorithm[Any], problem: Problem, high: int) -> Firsthand:
        """A fresh state; results count after ``high`` steps.

        Raises:
            UnsupportedError: If the sampler refuses the problem.
        """
        return cls(Panel.of(sampler, problem, (high,)))

    def apply(self, sampler: Algorithm[Any], events: Sequence[Event]) -> None:
        """Passes on what concerns trainings from scratch."""
        heard: list[Event] = []
        for event in events:
            if isinstance(event, Started) and (event.parent is None or not event.parent[1]):
                self.numbers[event.trial] = len(self.trials)
                self.trials.append(event.trial)
            trial = getattr(event, "trial", None)
            if trial is None:
                heard.append(event)
            elif trial in self.numbers:
                changes: dict[str, Any] = {"trial": self.numbers[trial]}
                if isinstance(event, Started) and event.parent is not None:
                    changes["parent"] = (self.numbers.get(event.parent[0], changes["trial"]), 0)
                heard.append(msgspec.structs.replace(event, **changes))
        self.panel.apply(sampler, heard)

    def ask(self, sampler: Algorithm[Any], slots: int, rng: np.random.Generator) -> list[Start]:
        """Configurations from the sampler."""
        wishes = self.panel.ask(sampler, slots, rng)
        return [w if w.parent is None else _named(w, self.trials) for w in wishes]


def _named(wish: Start, trials: Sequence[int]) -> Start:
    """The same wish, its parent under the number that everybody knows."""
    assert wish.parent is not None
    return Start(wish.config, wish.until, (trials[wish.parent[0]], wish.parent[1]), wish.why)
