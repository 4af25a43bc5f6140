"""MOBSTER: asynchronous halving around a joint process, whose first rung rises as steps are paid.

*Use when* trials report by step, can pause and resume, and training is dear enough for a model; with one worker or some
dozens. *Do not use when* reports must cost less than a millisecond (``Asha``), trials cannot resume (``Halting``), or losses
jump between neighbouring configurations: on LCBench's tables of 500 curves plain ``Asha`` did better early on.

*Paper*: Klein, Tiao, Lienart, Archambeau and Seeger 2020 (MOBSTER, arXiv:2003.10865), sections 3 and 4: ASHA (Li et al. 2020,
arXiv:1810.05934, Algorithm 2) around a Gaussian process of configuration and resource, here ``Joint``.

*Differs*: a new trial runs to the highest rung whose steps were paid ``rise`` times over by all trials together. Early on,
short trainings tell most per step; later the model knows what they would tell, and its best guesses are only told apart
by long ones. With ``rise=inf`` every trial begins at the lowest rung, as in the paper. When the sampler has nothing more to
propose and nothing runs, the best trial is promoted even from a rung too small to spare one.

*Cost*: ``ask`` O(k) for k rungs, plus the sampler's when no trial can be promoted; ``tell`` O(log n) per event, plus the
sampler's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np

from tunewright.core.algorithm import Action, Algorithm, Start
from tunewright.core.events import Ended, Event, Reported, Started
from tunewright.core.panel import Panel
from tunewright.core.problem import Problem
from tunewright.core.rungs import Ladder, checked_eta, levels, steps_of
from tunewright.errors import ConfigError
from tunewright.numerics.ranking import best_first


@dataclass(slots=True)
class MobsterState:
    """What ``Mobster`` remembers.

    Attributes:
        ladder: The rungs.
        panel: The sampler.
        paid: Steps that all trials reported together.
        steps: Last step of every trial that is not over.
    """

    ladder: Ladder
    panel: Panel
    paid: int = 0
    steps: dict[int, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Mobster:
    """Asynchronous halving whose first rung rises.

    Args:
        sampler: Proposes configurations.
        eta: One trial in so many is promoted, to as many times the steps.
        rise: New trials run to the highest rung whose steps were paid so many times over.

    Raises:
        ConfigError: If a setting is out of range.
    """

    sampler: Algorithm[Any]
    eta: float = 3
    rise: float = 60.0

    def __post_init__(self) -> None:
        checked_eta("Mobster", self.eta)
        if not self.rise > 0.0:
            raise ConfigError(
                f"Mobster needs rise > 0; got {self.rise!r:.80}. Use the default, or inf for plain ASHA."
            )

    @property
    def deliberate(self) -> bool:
        """Whether the sampler thinks for more than a millisecond or so."""
        return bool(getattr(self.sampler, "deliberate", False))

    def init(self, problem: Problem) -> MobsterState:
        """The state before the first event.

        Raises:
            UnsupportedError: If trials have no steps, or the sampler refuses the problem.
        """
        fidelity = steps_of("Mobster", problem)
        steps = levels(fidelity.low, fidelity.high, self.eta)
        return MobsterState(Ladder.of(problem, steps, best_first), Panel.of(self.sampler, problem, steps))

    def tell(self, state: MobsterState, events: Sequence[Event]) -> MobsterState:
        """Moves trials along the rungs and counts steps; the sampler learns the results."""
        for event in events:
            state.ladder.apply(event)
            if isinstance(event, Started):
                state.steps[event.trial] = event.parent[1] if event.parent is not None else 0
            elif isinstance(event, Reported) and event.trial in state.steps:
                state.paid += event.step - state.steps[event.trial]
                state.steps[event.trial] = event.step
            elif isinstance(event, Ended):
                state.steps.pop(event.trial, None)
        state.panel.apply(self.sampler, events)
        return state

    def first(self, state: MobsterState) -> int:
        """Step to which a new trial runs: of the highest rung that was paid ``rise`` times over, else of the lowest."""
        steps = [rung.level for rung in state.ladder.rungs]
        return max((s for s in steps if self.rise * s <= state.paid), default=steps[0])

    def ask(self, state: MobsterState, slots: int, rng: np.random.Generator) -> tuple[Action, ...]:
        """Promotions from the highest rung down, then new configurations."""
        if slots == 0:
            return ()
        ladder = state.ladder
        actions: list[Action] = list(islice(ladder.promotions(self.eta), slots))
        if len(actions) < slots:
            wishes = state.panel.ask(self.sampler, slots - len(actions), rng)
            actions += [Start(w.config, self.first(state), w.parent, w.why) for w in wishes]
        if not actions and ladder.idle:
            actions += islice(ladder.leftovers(), 1)
        return tuple(actions)
