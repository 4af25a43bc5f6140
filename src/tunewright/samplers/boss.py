"""Trials that learn from earlier trials' networks: any sampler chooses the settings, good trials the start and teacher.

*Use when* every trial trains a network of one architecture, checkpoints are saved, and labels are noisy, few or hard: what
earlier trials learned is then worth more than a fresh start. *Do not use when* trials cannot load each other's
checkpoints (other shapes), or when a result must be that of its settings alone: a trial then also owes to its parents.

*Paper*: Lee, Song, Lee, Lee, Park and Yoo 2023, "Bayesian Optimization Meets Self-Distillation", ICCV,
arXiv:2304.12666, section 3.3 and Algorithm 1: after a warm-up of plain Bayesian optimisation every trial
takes two of the best ``K`` networks, one as the student's first weights and one as the teacher. Warm-up of 32 of 128
trials and ``K = 8`` as in section 4.

*Differs*: any sampler may propose the settings; the weight of the distillation is a parameter of the user's space, as in the
authors' code, and is part of the settings from the first trial on.

*Cost*: ``tell`` that of the sampler and O(1); ``ask`` that of the sampler and O(n log n).

The trial that follows gets the student's checkpoint from ``trial.checkpoint.load()`` and the teacher's from
``trial.checkpoint.load_teacher()``; ``examples/boss.py`` is a whole program.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tunewright.core.algorithm import Action, Algorithm, Start
from tunewright.core.events import Event
from tunewright.core.history import COMPLETED, History
from tunewright.core.problem import Problem
from tunewright.errors import ConfigError
from tunewright.numerics.ranking import best_first


@dataclass(slots=True)
class BossState:
    """What ``Boss`` remembers.

    Attributes:
        history: The trials.
        inner: State of the sampler.
    """

    history: History
    inner: Any


@dataclass(frozen=True, slots=True)
class Boss:
    """A sampler whose trials start from, and are taught by, the best trials so far.

    Args:
        sampler: Proposes the settings.
        warmup: Trials that are trained alone.
        top: Students and teachers are drawn from so many of the best.

    Raises:
        ConfigError: If a setting is out of range.
    """

    sampler: Algorithm[Any]
    warmup: int = 32
    top: int = 8

    def __post_init__(self) -> None:
        if self.warmup < 2 or self.top < 2:
            raise ConfigError(
                f"Boss needs warmup >= 2 and top >= 2, for a student and a teacher; got warmup={self.warmup}, "
                f"top={self.top}. Use 32 and 8."
            )

    @property
    def deliberate(self) -> bool:
        """Whether the sampler thinks for more than a millisecond or so."""
        return bool(getattr(self.sampler, "deliberate", False))

    def init(self, problem: Problem) -> BossState:
        """The state before the first event.

        Raises:
            UnsupportedError: If the sampler refuses the problem.
        """
        return BossState(History(problem), self.sampler.init(problem))

    def tell(self, state: BossState, events: Sequence[Event]) -> BossState:
        """Takes in events; the sampler hears all of them."""
        for event in events:
            state.history.apply(event)
        state.inner = self.sampler.tell(state.inner, events)
        return state

    def ask(self, state: BossState, slots: int, rng: np.random.Generator) -> tuple[Action, ...]:
        """What the sampler wants, with a student and a teacher for every new trial after the warm-up."""
        actions = self.sampler.ask(state.inner, slots, rng)
        if state.history.n < self.warmup:
            return actions
        best = self._best(state.history)
        if len(best) < 2:
            return actions
        return tuple(_taught(a, best, rng) if isinstance(a, Start) else a for a in actions)

    def _best(self, history: History) -> list[int]:
        """Completed trials, best first, at most ``top``."""
        done = np.flatnonzero((history.status == COMPLETED) & history.usable)
        order = best_first(history.losses[done], history.violation[done])
        found: list[int] = done[order[: self.top]].tolist()
        return found


def _taught(start: Start, best: list[int], rng: np.random.Generator) -> Start:
    student, teacher = rng.choice(best, size=2, replace=False).tolist()
    why = {**(start.why or {}), "student": student, "teacher": teacher}
    return Start(start.config, start.until, (student, 0), why)
