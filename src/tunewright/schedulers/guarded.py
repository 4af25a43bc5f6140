"""ASHA that checks whether early results can be trusted, and compares later where they cannot.

*Use when* it is unknown whether learning curves cross, and a wrong answer would be dear: as ``Asha`` where early results
tell, as full trainings where they mislead. *Do not use when* early results are known to tell (``Asha`` saves the
share for checking), trials cannot be resumed, or there are several objectives (``Hyperband`` hedges by fixed shares).

*Paper*: rungs and promotions of Li et al. 2020, MLSys, arXiv:1810.05934, Algorithm 2; the danger of misleading low
budgets and the hedge against it: Li et al. 2018, JMLR 18, section 3. The check is ours.

*Differs*: about a fifth of all steps goes to audits, trials that are trained to the end whatever they look like. Unlike
promoted trials they are no selection, so that the order of their early losses can fairly be compared with their final
order. A rung is trusted while pairs of audits that it sorts rightly, plus three, outnumber those that it sorts wrongly;
comparing begins above the highest rung that is not trusted. With no trusted rung every trial is a full training, and an
audit, by which trust can be won back. Trials that somebody enqueued to run through count as audits, too.

*Cost*: ``ask`` O(k) for k rungs, plus the sampler's; ``tell`` O(log n) per event, plus the sampler's for each rung, and
O(a k) once per audit for a audits before it.
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
from tunewright.errors import ConfigError, UnsupportedError
from tunewright.numerics.ranking import best_first

_CREDIT = 3
Result = tuple[float, ...]


@dataclass(slots=True)
class GuardedState:
    """What ``Guarded`` remembers.

    Attributes:
        ladder: The rungs.
        panel: The sampler, at each level.
        under_way: Results of running audits, by trial, then by rung.
        audits: Results of completed audits by rung, the full training's last.
        credit: For each rung but the last, pairs of audits in the right order minus those in the wrong one.
        spent: Steps reported by all trials.
        pledged: Steps of all audits begun so far, done or not.
        steps: Last reported step of trials that are not over.
    """

    ladder: Ladder
    panel: Panel
    credit: list[int]
    under_way: dict[int, dict[int, Result]] = field(default_factory=dict)
    audits: list[dict[int, Result]] = field(default_factory=list)
    spent: int = 0
    pledged: int = 0
    steps: dict[int, int] = field(default_factory=dict)

    @property
    def first(self) -> int:
        """Index of the lowest rung at which trials are compared."""
        bad = [i for i, credit in enumerate(self.credit) if credit + _CREDIT <= 0]
        return bad[-1] + 1 if bad else 0


@dataclass(frozen=True, slots=True)
class Guarded:
    """ASHA with audits.

    Args:
        sampler: Proposes configurations.
        eta: One trial in so many is promoted, to as many times the steps.
        share: Share of all steps that goes to audits.

    Raises:
        ConfigError: If ``eta`` is not above 1, or ``share`` is not within (0, 1].
    """

    sampler: Algorithm[Any]
    eta: float = 3
    share: float = 0.2

    def __post_init__(self) -> None:
        checked_eta("Guarded", self.eta)
        value: Any = self.share
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0.0 < value <= 1.0:
            raise ConfigError(f"Guarded needs 0 < share <= 1; got {value!r}. Use 0.2.")

    @property
    def deliberate(self) -> bool:
        """Whether the sampler thinks for more than a millisecond or so."""
        return bool(getattr(self.sampler, "deliberate", False))

    def init(self, problem: Problem) -> GuardedState:
        """The state before the first event.

        Raises:
            UnsupportedError: If trials have no steps, there are several objectives, or the sampler refuses.
        """
        fidelity = steps_of("Guarded", problem)
        if problem.m > 1:
            raise UnsupportedError(
                f"Guarded needs one objective, whose early and late order it compares; got {problem.m}. Use Hyperband."
            )
        steps = levels(fidelity.low, fidelity.high, self.eta)
        ladder = Ladder.of(problem, steps, best_first)
        return GuardedState(ladder, Panel.of(self.sampler, problem, steps), [0] * (len(steps) - 1))

    def tell(self, state: GuardedState, events: Sequence[Event]) -> GuardedState:
        """Moves trials along the rungs, and compares audits; the sampler learns the results of each rung."""
        ladder = state.ladder
        for event in events:
            reached = ladder.apply(event)
            if isinstance(event, Started):
                self._start(state, event)
            elif isinstance(event, Reported):
                state.spent += max(0, event.step - state.steps.get(event.trial, 0))
                state.steps[event.trial] = event.step
                audit = state.under_way.get(event.trial)
                if audit is not None:
                    audit.update((i, ladder.climbs[event.trial].result) for i in reached)
            elif isinstance(event, Ended):
                state.steps.pop(event.trial, None)
                audit = state.under_way.pop(event.trial, None)
                if audit is not None and event.outcome == "completed":
                    _close(state, audit, event)
        state.panel.apply(self.sampler, events)
        return state

    def _start(self, state: GuardedState, event: Started) -> None:
        high = state.ladder.rungs[-1].level
        forked = event.parent is not None and event.parent[1] > 0
        state.steps[event.trial] = event.parent[1] if forked and event.parent is not None else 0
        if not forked and (event.until is None or event.until >= high):
            state.under_way[event.trial] = {}
            state.pledged += high

    def ask(self, state: GuardedState, slots: int, rng: np.random.Generator) -> tuple[Action, ...]:
        """Promotions from the highest rung down, then new configurations, some of them as audits."""
        if slots == 0:
            return ()
        ladder, first = state.ladder, state.first
        actions: list[Action] = list(islice(ladder.promotions(self.eta, first), slots))
        if len(actions) < slots:
            pledged, high = state.pledged, ladder.rungs[-1].level
            for wish in state.panel.ask(self.sampler, slots - len(actions), rng):
                why = {**(wish.why or {}), "first": ladder.rungs[first].level}
                until = ladder.rungs[first].level
                if until < high and pledged + high / 2 <= self.share * state.spent:
                    until, pledged, why["audit"] = high, pledged + high, 1
                actions.append(Start(wish.config, until, wish.parent, why))
        if not actions and ladder.idle:
            actions += islice(ladder.leftovers(), 1)
        return tuple(actions)


def _close(state: GuardedState, audit: dict[int, Result], event: Ended) -> None:
    """Compares a completed audit with those before it, rung by rung."""
    problem, last = state.ladder.problem, len(state.credit)
    losses = problem.losses(event.metrics or {})
    if losses is None:
        return
    audit[last] = (problem.violation(event.metrics or {}) if problem.limits else 0.0, *losses)
    for other in state.audits:
        final = _sign(audit[last], other[last])
        for i in range(last):
            if i in audit and i in other:
                state.credit[i] += final * _sign(audit[i], other[i])
    state.audits.append(audit)


def _sign(a: Result, b: Result) -> int:
    return (a > b) - (a < b)
