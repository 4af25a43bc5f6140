"""Successive halving by stopping, with rungs in units of cost: seconds, money or energy instead of steps.

*Use when* some configurations are much dearer per step than others, and it is the cost that runs out: a slow trial is
compared with what fast ones reached for the same money. Trials report what each step cost
(``trial.report(step, loss=..., cost=seconds)``). *Do not use when* steps cost about the same (``Halting``, or ``Asha`` if
trials can be resumed), or slow configurations are the ones that are wanted in the end, whatever they cost.

*Paper*: the rungs and the rule of Li et al. 2020, MLSys, arXiv:1810.05934, in its stopping form (Klein et al. 2020,
arXiv:2003.10865), on the resource of Li et al. 2018, JMLR 18, taken to be cost. Ivkin, Karnin, Perrone and Zappella 2021,
"Cost-aware Adversarial Best Arm Identification", weigh the share of a rung by cost instead.

*Differs*: a trial is judged by the first report at or after each level of its summed cost; a report without a cost is
charged its steps at the mean cost per step of all reports that told theirs, or 1 per step while none has, so
that without any costs the levels are in steps; a trial that ends well before a level counts as having reached it; failed
trials count as the worst of their next rung; the sampler proposes by the results of the highest level that has
enough of them (``core.panel``).

*Cost*: ``ask`` that of the sampler; ``tell`` O(log n) per event, plus the sampler's for each level.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np

from tunewright.core.algorithm import Action, Algorithm
from tunewright.core.events import Ended, Event, Extended, Paused, Reported, Resumed, Started
from tunewright.core.panel import Panel
from tunewright.core.problem import Problem
from tunewright.core.rungs import Ladder, checked_count, checked_eta, share, steps_of
from tunewright.core.verdicts import Verdicts
from tunewright.errors import ConfigError
from tunewright.numerics.ranking import Ranking, ranked_by


@dataclass(slots=True)
class Account:
    """What a trial has cost.

    Attributes:
        step: Its last report.
        spent: Cost until then.
    """

    step: int
    spent: float = 0.0


@dataclass(slots=True)
class CostHaltingState:
    """What ``CostHalting`` remembers.

    Attributes:
        ladder: The rungs; its steps are numbers of levels passed, and its last one is the full training.
        verdicts: The sampler at each level, and whom to stop.
        accounts: Trials that are not over.
        told: Sum of the costs that were told.
        steps: Steps that they were told for.
    """

    ladder: Ladder
    verdicts: Verdicts
    accounts: dict[int, Account] = field(default_factory=dict)
    told: float = 0.0
    steps: int = 0


@dataclass(frozen=True, slots=True)
class CostHalting:
    """Successive halving in units of cost.

    Args:
        sampler: Proposes configurations.
        low: Cost of a trial at which it is first judged, in the unit of the reported costs.
        eta: One trial in so many goes on at each rung, to as many times the cost.
        rungs: Number of levels, at ``low``, ``low * eta``, ``low * eta**2`` and so on.
        ranking: How several objectives are ranked within a front: by crowding, or as an epsilon-net.

    Raises:
        ConfigError: If a setting is out of range.
    """

    sampler: Algorithm[Any]
    low: float = 1.0
    eta: float = 3
    rungs: int = 5
    ranking: Ranking = "fronts"

    def __post_init__(self) -> None:
        checked_eta("CostHalting", self.eta)
        checked_count("CostHalting", "rungs", self.rungs, 1)
        ranked_by("CostHalting", self.ranking)
        value: Any = self.low
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0.0 < value < math.inf:
            raise ConfigError(
                f"CostHalting needs a finite low > 0; got {value!r}. Give the cost after which a result means "
                f"something."
            )

    @property
    def deliberate(self) -> bool:
        """Whether the sampler thinks for more than a millisecond or so."""
        return bool(getattr(self.sampler, "deliberate", False))

    def init(self, problem: Problem) -> CostHaltingState:
        """The state before the first event.

        Raises:
            UnsupportedError: If trials have no steps, or the sampler refuses the problem.
        """
        steps_of("CostHalting", problem)
        places = tuple(range(1, self.rungs + 2))
        ladder = Ladder.of(problem, places, ranked_by("CostHalting", self.ranking))
        return CostHaltingState(ladder, Verdicts(problem, Panel.of(self.sampler, problem, places)))

    def tell(self, state: CostHaltingState, events: Sequence[Event]) -> CostHaltingState:
        """Judges trials as they come to a level; the sampler learns the results of each."""
        heard = []
        for event in events:
            placed = self._placed(state, event)
            heard.append(placed)
            reached = () if isinstance(event, Extended) else state.ladder.apply(placed)
            if isinstance(event, Reported):
                for height in reached:
                    self._judge(state, event.trial, height)
            else:
                state.verdicts.settle(event)
        mixed = getattr(self.sampler, "mixes_levels", False)
        state.verdicts.inner.apply(self.sampler, events if mixed else heard)
        return state

    def _placed(self, state: CostHaltingState, event: Event) -> Event:
        """The same event with the number of levels that the trial's cost has passed in place of its step."""
        if isinstance(event, Started):
            first = event.parent[1] if event.parent is not None else 0
            state.accounts[event.trial] = Account(first)
            parent = None if event.parent is None else (event.parent[0], 0)
            return msgspec.structs.replace(event, until=None, parent=parent)
        if not isinstance(event, Reported | Paused | Resumed | Ended):
            return event
        account = state.accounts.get(event.trial)
        if account is None:
            return event
        if isinstance(event, Reported):
            _charge(state, account, event)
        elif isinstance(event, Ended):
            del state.accounts[event.trial]
        place = self._place(account.spent)
        if isinstance(event, Resumed):
            return msgspec.structs.replace(event, step=place, until=None)
        return msgspec.structs.replace(event, step=place)

    def _place(self, spent: float) -> int:
        """Number of levels at or below a cost."""
        return bisect_right(range(self.rungs), spent * (1.0 + 1e-9), key=lambda k: self.low * self.eta**k)

    def _judge(self, state: CostHaltingState, trial: int, height: int) -> None:
        rung = state.ladder.rungs[height]
        result = state.ladder.climbs[trial].result
        better = rung.rank((*result, trial))
        if better >= max(1, share(rung.n, self.eta)) or result[-1] == math.inf:
            cost = self.low * self.eta**height
            state.verdicts.doomed[trial] = {"cost": cost, "better": better, "of": rung.n}

    def ask(self, state: CostHaltingState, slots: int, rng: np.random.Generator) -> tuple[Action, ...]:
        """Stops what got too little for its cost, then starts new configurations."""
        wishes = state.verdicts.inner.ask(self.sampler, slots, rng) if slots else ()
        return state.verdicts.joined(wishes)


def _charge(state: CostHaltingState, account: Account, event: Reported) -> None:
    """Adds what the steps since the trial's last report cost, as far as anybody knows."""
    steps = event.step - account.step
    cost = event.cost
    if cost is not None and 0.0 <= cost < math.inf:
        state.told += cost
        state.steps += steps
    else:
        cost = steps * (state.told / state.steps if state.steps else 1.0)
    account.step = event.step
    account.spent += cost
