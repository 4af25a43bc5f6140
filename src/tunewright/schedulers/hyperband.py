"""Hyperband: brackets of successive halving, from many short trainings to a few full ones.

*Use when* it is unclear how well early results predict late ones. *Do not use when* they clearly do: ``Asha``, or ``sha``,
spends everything on the most aggressive bracket.

*Paper*: Li, Jamieson, DeSalvo, Rostamizadeh and Talwalkar 2018, JMLR 18(185), Algorithm 1. With ``most=1``, listed as
``sha``, it is successive halving: Jamieson and Talwalkar 2016, AISTATS, arXiv:1502.07943, Figure 3. Around a blend of ``Tpe``
with random draws, listed as ``bohb``, it is BOHB: Falkner, Klein and Hutter 2018, ICML, arXiv:1807.01774, Algorithm 2.

*Differs*: a rung is judged when all its trials have come or failed, and meanwhile free workers fill the next bracket,
so that none is idle with any number of them; brackets repeat from the most aggressive one; a bracket that will never be
full, because the sampler has nothing left or the study has all its trials, goes on with the same shares of fewer;
steps are rounded to whole ones; a failed trial counts as the worst of its rung; the sampler proposes by the results of
the highest level that has enough of them (``core.panel``), as BOHB does; ``bohb`` uses the kernel densities of ``Tpe``
instead of BOHB's.
Algorithm 1's ``n = ceil((s_max + 1) eta^s / (s + 1))`` is followed: for R = 81 and eta = 3 that is 81, 34, 15, 8 and 5
configurations; a widely used code rounds ``(s_max + 1) / (s + 1)`` down first and has 81, 27, 9, 6 and 5.

*Cost*: ``ask`` O(b k) for b open brackets of k rungs, plus the sampler's; ``tell`` O(log n) per event, plus the
sampler's for each level.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np

from tunewright.core.algorithm import Action, Algorithm, Start
from tunewright.core.brackets import Bracket, Plan, best_of_rung, brackets
from tunewright.core.events import Ended, Event, Paused, Reported, Resumed, Started
from tunewright.core.panel import Panel
from tunewright.core.problem import Problem
from tunewright.core.rungs import Ladder, checked_count, checked_eta, levels, steps_of
from tunewright.numerics.ranking import Ranking, ranked_by


@dataclass(slots=True)
class HyperbandState:
    """What ``Hyperband`` remembers.

    Attributes:
        problem: Says what a loss is.
        panel: The sampler, at each level.
        opened: Brackets opened so far.
        open: Brackets that are not over, by number, oldest first.
        member: Bracket of each trial in an open bracket.
    """

    problem: Problem
    panel: Panel
    opened: int = 0
    open: dict[int, Bracket] = field(default_factory=dict)
    member: dict[int, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Hyperband:
    """Hyperband.

    Args:
        sampler: Proposes configurations.
        eta: One trial in so many is promoted, to as many times the steps.
        most: Use only so many brackets, the most aggressive ones; 1 is successive halving; None uses all.
        ranking: How several objectives are ranked within a front: by crowding, or as an epsilon-net.

    Raises:
        ConfigError: If a setting is out of range.
    """

    sampler: Algorithm[Any]
    eta: float = 3
    most: int | None = None
    ranking: Ranking = "fronts"

    def __post_init__(self) -> None:
        checked_eta("Hyperband", self.eta)
        ranked_by("Hyperband", self.ranking)
        if self.most is not None:
            checked_count("Hyperband", "most", self.most, 1)

    @property
    def deliberate(self) -> bool:
        """Whether the sampler thinks for more than a millisecond or so."""
        return bool(getattr(self.sampler, "deliberate", False))

    def _plan(self, problem: Problem, index: int) -> Plan:
        fidelity = steps_of("Hyperband", problem)
        plans = brackets(fidelity.low, fidelity.high, self.eta)[: self.most]
        return plans[index % len(plans)]

    def init(self, problem: Problem) -> HyperbandState:
        """The state before the first event.

        Raises:
            UnsupportedError: If trials have no steps, or the sampler refuses the problem.
        """
        fidelity = steps_of("Hyperband", problem)
        steps = levels(fidelity.low, fidelity.high, self.eta)
        return HyperbandState(problem, Panel.of(self.sampler, problem, steps))

    def tell(self, state: HyperbandState, events: Sequence[Event]) -> HyperbandState:
        """Moves trials along the rungs of their brackets; the sampler learns the results of each."""
        for event in events:
            if isinstance(event, Started):
                self._join(state, event)
            elif isinstance(event, Reported | Paused | Resumed | Ended):
                number = state.member.get(event.trial)
                if number is not None:
                    ladder = state.open[number].ladder
                    if ladder.apply(event) or event.trial not in ladder.climbs:
                        _close(state, number)
        state.panel.apply(self.sampler, events)
        return state

    def _join(self, state: HyperbandState, event: Started) -> None:
        """Puts a new trial into the first bracket with room, if it runs to that bracket's first rung.

        Trials that somebody enqueued run to their end on their own.
        """
        number = next((n for n, b in state.open.items() if b.room > 0), state.opened)
        bracket = state.open.get(number)
        if bracket is None:
            plan = self._plan(state.problem, number)
            bracket = Bracket(
                plan, Ladder.of(state.problem, plan.steps, ranked_by("Hyperband", self.ranking))
            )
        if event.until != bracket.plan.steps[0]:
            return
        state.open[number] = bracket
        state.opened = max(state.opened, number + 1)
        bracket.started += 1
        bracket.ladder.apply(event)
        state.member[event.trial] = number

    def ask(self, state: HyperbandState, slots: int, rng: np.random.Generator) -> tuple[Action, ...]:
        """Continues and fills open brackets, oldest first; then opens the next ones.

        When the sampler has nothing more to propose, brackets are judged by those that came.
        """
        if slots == 0:
            return ()
        actions: list[Action] = []
        for bracket in state.open.values():
            actions += islice(bracket.promotions(best_of_rung), slots - len(actions))
        if len(actions) < slots:
            wishes = state.panel.ask(self.sampler, slots - len(actions), rng)
            places = self._places(state)
            actions += [Start(w.config, next(places), w.parent, w.why) for w in wishes]
        if len(actions) < slots:
            leftovers = (p for b in state.open.values() for p in b.leftovers(best_of_rung))
            actions += islice(leftovers, slots - len(actions))
        return tuple(actions)

    def _places(self, state: HyperbandState) -> Iterator[int]:
        """First rung of every place that new trials may take, in order; endless."""
        for bracket in state.open.values():
            yield from (bracket.plan.steps[0] for _ in range(bracket.room))
        number = state.opened
        while True:
            plan = self._plan(state.problem, number)
            yield from (plan.steps[0] for _ in range(plan.sizes[0]))
            number += 1


def _close(state: HyperbandState, number: int) -> None:
    """Forgets a bracket in which nothing can go on."""
    if state.open[number].over(best_of_rung):
        del state.open[number]
        gone = [t for t, n in state.member.items() if n == number]
        for trial in gone:
            del state.member[trial]
