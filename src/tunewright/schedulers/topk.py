"""Top-K after one epoch: everything is trained for the fewest steps, and only the best few to the end.

*Use when* a simple baseline is wanted that any scheduler has to beat, or the first epoch is known to tell good
configurations from bad ones. *Do not use when* learning curves cross: what starts slowly and ends well is never found;
``Hyperband`` hedges against that.

*Paper*: Egele, Guyon, Sun and Balaprakash 2023, "Is One Epoch All You Need For Multi-Fidelity Hyperparameter
Optimization?", ESANN, arXiv:2307.15422, section 3.

*Differs*: a study has no end that is known beforehand, so that configurations come in waves: after each wave the best
that still wait are trained to the end, those of earlier waves included. A wave is by default as large as makes its short
trainings cost as much as its full ones. Nobody waits for a wave to be complete. When the sampler has no more, or the
study has all its trials, an unfinished wave counts as a whole one. Several objectives are ranked by non-dominated fronts.

*Cost*: ``ask`` O(1), plus the sampler's; ``tell`` O(log n) per event, plus the sampler's. Several objectives: also their
fronts, once for each trial that goes on.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np

from tunewright.core.algorithm import Action, Algorithm, Resume, Start
from tunewright.core.events import Event, Extended, Resumed, Started
from tunewright.core.panel import Panel
from tunewright.core.problem import Problem
from tunewright.core.rungs import Ladder, checked_count, steps_of
from tunewright.numerics.ranking import best_first


@dataclass(slots=True)
class TopKState:
    """What ``TopK`` remembers.

    Attributes:
        ladder: Two rungs: the fewest steps and the full training; only one where they are the same.
        panel: The sampler, which learns from the short trainings.
        wave: Short trainings per wave.
        gone: Trials that went on to the full training.
    """

    ladder: Ladder
    panel: Panel
    wave: int
    gone: int = 0


@dataclass(frozen=True, slots=True)
class TopK:
    """One epoch for all, full training for the best of each wave.

    Args:
        sampler: Proposes configurations.
        k: Full trainings per wave.
        wave: Short trainings per wave, at least ``k``; None for as many as cost what the full ones cost.

    Raises:
        ConfigError: If a setting is out of range.
    """

    sampler: Algorithm[Any]
    k: int = 3
    wave: int | None = None

    def __post_init__(self) -> None:
        checked_count("TopK", "k", self.k, 1)
        if self.wave is not None:
            checked_count("TopK", "wave", self.wave, self.k)

    @property
    def deliberate(self) -> bool:
        """Whether the sampler thinks for more than a millisecond or so."""
        return bool(getattr(self.sampler, "deliberate", False))

    def init(self, problem: Problem) -> TopKState:
        """The state before the first event.

        Raises:
            UnsupportedError: If trials have no steps, or the sampler refuses the problem.
        """
        fidelity = steps_of("TopK", problem)
        steps = tuple(sorted({fidelity.low, fidelity.high}))
        ladder = Ladder.of(problem, steps, best_first)
        wave = self.wave or self.k * math.ceil(fidelity.high / fidelity.low)
        return TopKState(ladder, Panel.of(self.sampler, problem, steps[:1]), wave)

    def tell(self, state: TopKState, events: Sequence[Event]) -> TopKState:
        """Ranks short trainings; the sampler learns from them."""
        ladder = state.ladder
        for event in events:
            if isinstance(event, Resumed):
                climb = ladder.climbs.get(event.trial)
                state.gone += climb is not None and climb.paused and climb.height == 1
            elif isinstance(event, Started):
                state.gone += event.parent is not None and event.parent[0] in ladder.formers
            ladder.apply(event)
            if isinstance(event, Extended) and len(ladder.rungs) > 1:
                # What had its full training when that was shorter competes again.
                state.gone = ladder.passed(0)
        state.panel.apply(self.sampler, events)
        return state

    def ask(self, state: TopKState, slots: int, rng: np.random.Generator) -> tuple[Action, ...]:
        """Full trainings that are due, then new configurations."""
        if slots == 0:
            return ()
        ladder = state.ladder
        actions: list[Action] = [Resume(t, until) for t, until in islice(ladder.cut.items(), slots)]
        complete = ladder.rungs[0].n // state.wave
        actions += islice(_due(state, self.k * complete), slots - len(actions))
        if len(actions) < slots:
            wishes = state.panel.ask(self.sampler, slots - len(actions), rng)
            actions += [Start(w.config, ladder.rungs[0].level, w.parent, w.why) for w in wishes]
        if not actions and not ladder.heading[0]:
            begun = math.ceil(ladder.rungs[0].n / state.wave)
            actions += islice(_due(state, self.k * begun), slots)
        return tuple(actions)


def _due(state: TopKState, allowed: int) -> Iterator[Resume | Start]:
    """The best that wait, while fewer than ``allowed`` went on."""
    ladder, spare = state.ladder, allowed - state.gone
    if len(ladder.rungs) == 1 or spare <= 0:
        return
    below, above = ladder.rungs
    for trial in islice(below.top(below.n), spare):
        yield ladder.go_on(trial, above.level, {"rung": below.level, "of": below.n})
