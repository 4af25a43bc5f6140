"""Asynchronous successive halving: every rung's best third goes on as soon as a worker is free.

*Use when* trials report by step, can save checkpoints, and there are one or many workers. *Do not use when* trials
cannot be resumed (``Halting``), or early results say little about late ones (``Hyperband``).

*Paper*: Li, Jamieson, Rostamizadeh, Gonina, Ben-tzur, Hardt, Recht and Talwalkar 2020, "A System for Massively
Parallel Hyperparameter Tuning", MLSys, arXiv:1810.05934, Algorithm 2 (``get_job``).

*Differs*: configurations come from any sampler, by the results of the highest rung that has enough of them
(``core.panel``); levels are counted down from the full training, so that the last promotion has the full factor; a
failed trial counts as the worst of the rung it was heading for; several objectives are ranked by non-dominated fronts,
within a front by crowding or as the epsilon-net of Schmucker et al. 2021 (MO-ASHA, arXiv:2106.12639), with many trials
not anew for every newcomer, and no more than the share of a rung go on; trials that exceed the outcome limits come last;
when the sampler has nothing more to propose and nothing runs, the best trial is promoted even from a rung too
small to spare one.

*Cost*: ``ask`` O(k) for k rungs, plus the sampler's when no trial can be promoted; ``tell`` O(log n) per event, plus
the sampler's for each rung. Several objectives: also the fronts, once per 32nd to 64th part of newcomers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np

from tunewright.core.algorithm import Action, Algorithm, Start
from tunewright.core.events import Event
from tunewright.core.panel import Panel
from tunewright.core.problem import Problem
from tunewright.core.rungs import Ladder, checked_count, checked_eta, levels, steps_of
from tunewright.numerics.ranking import Ranking, ranked_by


@dataclass(slots=True)
class AshaState:
    """What ``Asha`` remembers.

    Attributes:
        ladder: The rungs.
        panel: The sampler, at each level.
    """

    ladder: Ladder
    panel: Panel


@dataclass(frozen=True, slots=True)
class Asha:
    """Asynchronous successive halving by promotion.

    Args:
        sampler: Proposes configurations.
        eta: One trial in so many is promoted, to as many times the steps.
        skip: Rungs left out at the bottom (``s``, the minimum early-stopping rate, in the paper).
        ranking: How several objectives are ranked within a front: by crowding, or as an epsilon-net.

    Raises:
        ConfigError: If a setting is out of range.
    """

    sampler: Algorithm[Any]
    eta: float = 3
    skip: int = 0
    ranking: Ranking = "fronts"

    def __post_init__(self) -> None:
        checked_eta("Asha", self.eta)
        ranked_by("Asha", self.ranking)
        checked_count("Asha", "skip", self.skip, 0)

    @property
    def deliberate(self) -> bool:
        """Whether the sampler thinks for more than a millisecond or so."""
        return bool(getattr(self.sampler, "deliberate", False))

    def init(self, problem: Problem) -> AshaState:
        """The state before the first event.

        Raises:
            UnsupportedError: If trials have no steps, or the sampler refuses the problem.
        """
        fidelity = steps_of("Asha", problem)
        steps = levels(fidelity.low, fidelity.high, self.eta)
        steps = steps[min(self.skip, len(steps) - 1) :]
        return AshaState(
            Ladder.of(problem, steps, ranked_by("Asha", self.ranking)), Panel.of(self.sampler, problem, steps)
        )

    def tell(self, state: AshaState, events: Sequence[Event]) -> AshaState:
        """Moves trials along the rungs; the sampler learns the results of each."""
        for event in events:
            state.ladder.apply(event)
        state.panel.apply(self.sampler, events)
        return state

    def ask(self, state: AshaState, slots: int, rng: np.random.Generator) -> tuple[Action, ...]:
        """Promotions from the highest rung down, then new configurations."""
        if slots == 0:
            return ()
        ladder = state.ladder
        actions: list[Action] = list(islice(ladder.promotions(self.eta), slots))
        if len(actions) < slots:
            first = ladder.rungs[0].level
            wishes = state.panel.ask(self.sampler, slots - len(actions), rng)
            actions += [Start(w.config, first, w.parent, w.why) for w in wishes]
        if not actions and ladder.idle:
            actions += islice(ladder.leftovers(), 1)
        return tuple(actions)
