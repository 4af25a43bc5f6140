"""Population-based training: the worst of a population go on from copies of the best, with other hyperparameters.

*Use when* the best setting changes while training goes on (learning rates, exploration, augmentation), trainings can
save checkpoints, and about ten or more can be afforded. *Do not use when* parameters cannot change in the middle of a
training (``Asha``), there are only a few full trainings to spend (``Pb2`` learns from fewer), or a single configuration
for the whole training is wanted, unless its schedule can be replayed.

*Paper*: Jaderberg, Dalibard, Osindero, Czarnecki, Donahue, Razavi, Vinyals, Green, Dunning, Simonyan, Fernando and
Kavukcuoglu 2017, "Population Based Training of Neural Networks", arXiv:1711.09846, Algorithm 1.

*Differs*: a copy is a trial of its own, forked from its donor's checkpoint, so that the tree of trials shows the
lineage and ``analysis.lineage`` the schedule; the one it replaces is stopped. Copies do not count against a limit of
trials: the limit says how many trainings are begun from scratch, and copying goes on when it is reached. Workers fewer
than members take whoever rests at the lowest step; members are compared by the newest results of their checkpoints,
whatever their steps. A copy of a member that is running begins from its newest checkpoint and counts from its last rest.
One that diverged counts as the worst and is always replaced; one that failed is replaced by a copy of a good one. A
worker that would be idle begins another generation, whose members are compared among themselves; the sampler that
proposes them hears of trainings from scratch. When trainings are made longer, members that had come to the end go on
by forks. Several objectives are compared by front and crowding distance.

*Cost*: ``tell`` O(1) per event, plus the sampler's; ``ask`` O(s log s) for s members, and that of the sampler.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tunewright.core.algorithm import Action, Algorithm, Pause, Start
from tunewright.core.events import Event
from tunewright.core.problem import Problem
from tunewright.core.rungs import checked_count, steps_of
from tunewright.errors import ConfigError
from tunewright.models.explore import explored, settled
from tunewright.models.firsthand import Firsthand
from tunewright.models.flock import Flock, Selection

_RESTS = 20


@dataclass(slots=True)
class PbtState:
    """What ``Pbt`` remembers.

    Attributes:
        flock: The members.
        panel: The sampler, which hears about trainings from scratch.
    """

    flock: Flock
    panel: Firsthand


@dataclass(frozen=True, slots=True)
class Pbt:
    """Population-based training.

    Args:
        sampler: Proposes the configurations that a population begins with.
        size: Members.
        interval: Steps between comparisons; by default a twentieth of a full training.
        share: Part of the population that is replaced, and that is copied.
        exploit: ``truncation`` replaces the worst share by copies of the best; ``tournament`` compares each member with
            one other drawn at random.
        low: Numbers are multiplied by this or by ``high``.
        high: See ``low``.
        resample: Probability that a parameter is drawn anew instead.
        fixed: Names of parameters that copies have from their donors, such as sizes of layers: what cannot change while a
            training goes on. Parameters that decide which others there are never change.

    Raises:
        ConfigError: If a setting is out of range.
    """

    sampler: Algorithm[Any]
    size: int = 20
    interval: int | None = None
    share: float = 0.2
    exploit: Selection = "truncation"
    low: float = 0.8
    high: float = 1.2
    resample: float = 0.25
    fixed: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        checked_count("Pbt", "size", self.size, 2)
        if self.interval is not None:
            checked_count("Pbt", "interval", self.interval, 1)
        if not 0.0 < self.share <= 0.5:
            raise ConfigError(f"Pbt needs 0 < share <= 0.5; got {self.share!r}. Use the default.")
        if self.exploit not in ("truncation", "tournament"):
            raise ConfigError(
                f"Pbt needs exploit to be 'truncation' or 'tournament'; got {self.exploit!r}. Use the default."
            )
        if not 0.0 < self.low < 1.0 < self.high < math.inf:
            raise ConfigError(
                f"Pbt needs 0 < low < 1 < high; got low={self.low!r}, high={self.high!r}. Use the defaults."
            )
        if not 0.0 <= self.resample <= 1.0:
            raise ConfigError(f"Pbt needs resample in [0, 1]; got {self.resample!r}. Use the default.")

    @property
    def deliberate(self) -> bool:
        """Whether the sampler thinks for more than a millisecond or so."""
        return bool(getattr(self.sampler, "deliberate", False))

    def init(self, problem: Problem) -> PbtState:
        """The state before the first event.

        Raises:
            UnsupportedError: If trials have no steps, or the sampler refuses the problem.
        """
        fidelity = steps_of("Pbt", problem)
        settled(problem.space, self.fixed)
        interval = self.interval or max(fidelity.low, math.ceil(fidelity.high / _RESTS))
        flock = Flock(problem, fidelity, self.size, interval)
        return PbtState(flock, Firsthand.of(self.sampler, problem, fidelity.high))

    def tell(self, state: PbtState, events: Sequence[Event]) -> PbtState:
        """Follows the members; the sampler hears of trainings from scratch."""
        for event in events:
            state.flock.apply(event)
        state.panel.apply(self.sampler, events)
        return state

    def ask(self, state: PbtState, slots: int, rng: np.random.Generator) -> tuple[Action, ...]:
        """New members until all places are taken, then exploitation and exploration of those that rest."""
        flock = state.flock
        actions: list[Action] = [Pause(trial) for trial in flock.late]
        if slots == 0:
            return tuple(actions)
        moves = flock.plan(slots, self.share, self.exploit, rng, slots)
        new = sum(m.kind == "new" for m in moves)
        wishes = state.panel.ask(self.sampler, new, rng) if new else []
        if len(wishes) < new:
            moves = flock.plan(slots, self.share, self.exploit, rng, len(wishes))
        for move in moves:
            if move.kind == "new":
                wish = wishes.pop(0)
                actions.append(Start(wish.config, move.until, wish.parent, wish.why))
            elif move.donor is None:
                actions.append(flock.accepted(move, rng))
            else:
                actions += flock.replaced(move, self._explored(flock, move.donor, rng))
        return tuple(actions)

    def _explored(self, flock: Flock, donor: int, rng: np.random.Generator) -> dict[str, Any]:
        space, config = flock.problem.space, flock.members[donor].config
        factors = (self.low, self.high)
        row = explored(space, config, rng, factors=factors, resample=self.resample, fixed=self.fixed)
        return space.decode(row)
