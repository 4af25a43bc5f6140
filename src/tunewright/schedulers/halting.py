"""Successive halving by stopping: at each rung a trial goes on only if it is among the best third so far.

*Use when* trials report by step but cannot be paused and resumed, such as scripts run unchanged. *Do not use when*
they can: ``Asha`` never gives up a good trial for coming early.

*Paper*: Li et al. 2020, MLSys, arXiv:1810.05934, for the rungs; the stopping variant as in Klein, Tiao, Lienart,
Archambeau and Seeger 2020, arXiv:2003.10865, and in Ray Tune.

*Differs*: the trial itself counts among those that came to the rung, and of fewer than ``eta`` the best goes on; a
trial that reports NaN or infinity at a rung is stopped; with several objectives and many trials a newcomer's place among
the fronts is estimated (``core.rungs``); failed trials count as the worst of their next rung; the
sampler proposes by the results of the highest rung that has enough of them (``core.panel``).

*Cost*: ``ask`` that of the sampler; ``tell`` O(log n) per event, plus the sampler's for each rung.
Several objectives: also O(n) per rung reached, and the fronts once per 32nd to 64th part of newcomers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tunewright.core.algorithm import Action, Algorithm, Stop
from tunewright.core.events import Ended, Event, Reported, Signalled
from tunewright.core.panel import Panel
from tunewright.core.problem import Problem
from tunewright.core.rungs import Ladder, checked_eta, levels, share, steps_of
from tunewright.numerics.ranking import Ranking, ranked_by


@dataclass(slots=True)
class HaltingState:
    """What ``Halting`` remembers.

    Attributes:
        ladder: The rungs.
        panel: The sampler, at each level.
        doomed: Trials to be stopped, with the reason.
    """

    ladder: Ladder
    panel: Panel
    doomed: dict[int, dict[str, float]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Halting:
    """Successive halving by stopping.

    Args:
        sampler: Proposes configurations.
        eta: One trial in so many goes on at each rung, to as many times the steps.
        ranking: How several objectives are ranked within a front: by crowding, or as an epsilon-net.

    Raises:
        ConfigError: If a setting is out of range.
    """

    sampler: Algorithm[Any]
    eta: float = 3
    ranking: Ranking = "fronts"

    def __post_init__(self) -> None:
        checked_eta("Halting", self.eta)
        ranked_by("Halting", self.ranking)

    @property
    def deliberate(self) -> bool:
        """Whether the sampler thinks for more than a millisecond or so."""
        return bool(getattr(self.sampler, "deliberate", False))

    def init(self, problem: Problem) -> HaltingState:
        """The state before the first event.

        Raises:
            UnsupportedError: If trials have no steps, or the sampler refuses the problem.
        """
        fidelity = steps_of("Halting", problem)
        steps = levels(fidelity.low, fidelity.high, self.eta)
        return HaltingState(
            Ladder.of(problem, steps, ranked_by("Halting", self.ranking)),
            Panel.of(self.sampler, problem, steps),
        )

    def tell(self, state: HaltingState, events: Sequence[Event]) -> HaltingState:
        """Judges trials as they come to a rung; the sampler learns the results of each."""
        ladder = state.ladder
        for event in events:
            reached = ladder.apply(event)
            if isinstance(event, Reported):
                for height in reached:
                    self._judge(state, event.trial, height)
            elif isinstance(event, Signalled | Ended):
                state.doomed.pop(event.trial, None)
        state.panel.apply(self.sampler, events)
        return state

    def _judge(self, state: HaltingState, trial: int, height: int) -> None:
        rung = state.ladder.rungs[height]
        result = state.ladder.climbs[trial].result
        better = rung.rank((*result, trial))
        if better >= max(1, share(rung.n, self.eta)) or result[-1] == math.inf:
            state.doomed[trial] = {"rung": rung.level, "better": better, "of": rung.n}

    def ask(self, state: HaltingState, slots: int, rng: np.random.Generator) -> tuple[Action, ...]:
        """Stops what came too late, then starts new configurations."""
        stops = tuple(Stop(trial, why) for trial, why in state.doomed.items())
        if slots == 0:
            return stops
        return (*stops, *state.panel.ask(self.sampler, slots, rng))
