"""Iterative-deepening Hyperband: the length of a full training may grow, and nothing that was paid for is lost.

*Use when* it is not known how long a full training should be: begin with short ones, and make them longer when they turn out
to be too short (``Study.open(..., steps=more)``). *Do not use when* the length is known and stays (``Hyperband``, which is
the same as long as it does).

*Paper*: Brandt, Wever, Iliadis, Bengs and Hüllermeier 2023, "Iterative Deepening Hyperband", arXiv:2302.00511, Algorithms 1
and 2; Brandt, Wever, Bengs and Hüllermeier 2024, "Best Arm Identification with Retroactively Increased Sampling Budget for
More Resource-Efficient HPO", IJCAI, for successive halving alone.

*Differs*: the length may grow in any ratio; with a power of ``eta`` the rungs stay where they are, else a trial goes on to
the next rung above it. Rounds of brackets follow each other as in ``Hyperband``: when trainings become longer, trials of
all rounds so far top up the first brackets. Free workers fill the next bracket while a rung is waited for. A
trial that had its full training goes on as a fork of it, from its checkpoint.

*Cost*: as ``Hyperband``; when trainings become longer, once O(n log n) for n events, as everything is told anew. Discarding
is O(n) per ``ask`` for n trials in a bracket.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Literal, get_args

import numpy as np

from tunewright.core.algorithm import Action, Algorithm, Start
from tunewright.core.brackets import Bracket, Pick, Plan, best_of_rung, brackets
from tunewright.core.events import Ended, Event, Extended, Paused, Reported, Resumed, Started
from tunewright.core.panel import Panel
from tunewright.core.problem import Problem
from tunewright.core.rungs import Entry, Ladder, Rung, checked_eta, steps_of
from tunewright.errors import ConfigError
from tunewright.numerics.ranking import best_first

Variant = Literal["efficient", "preserving", "discarding"]
Key = tuple[int, int]
"""Round of a bracket, and the index of the level of its first rung: the order in which brackets take trials."""


def efficient(bracket: Bracket, sizes: tuple[int, ...], rung: int) -> Iterable[int]:
    """The best that wait, as far as those that went on before leave places.

    Source: Brandt et al. 2023, section 4 (efficient): earlier promotions are not revised.
    """
    spare = sizes[rung + 1] - bracket.ladder.passed(rung)
    here = bracket.ladder.rungs[rung]
    return islice(here.top(here.n), max(0, spare))


def discarding(bracket: Bracket, sizes: tuple[int, ...], rung: int) -> Iterable[int]:
    """Those that wait among the best of a rung, where only those count that would have come there with the present sizes.

    Source: Brandt et al. 2023, section 4 (discarding): results of earlier promotions that would not be made now are set aside.
    """
    kept: set[int] | None = None
    best: list[int] = []
    for i in range(rung + 1):
        order = _ranking(bracket.ladder.rungs[i])
        if kept is not None:
            order = [t for t in order if bracket.origins.get(t, t) in kept]
        best = order[: sizes[i + 1]]
        kept = {bracket.origins.get(t, t) for t in best}
    here = bracket.ladder.rungs[rung]
    waiting = set(here.top(here.n))
    return [t for t in best if t in waiting]


PICKS: dict[Variant, Pick] = {
    "efficient": efficient,
    # Among the best of all that ever came to the rung, as in Hyperband: a former promotion may still hold its place.
    "preserving": best_of_rung,
    "discarding": discarding,
}


def _ranking(rung: Rung) -> list[int]:
    """All trials that came to a rung, best first."""
    entries: Sequence[Entry] = rung.entries
    if rung.order is None:
        return [int(e[-1]) for e in entries]
    table = np.array(entries).reshape(len(entries), -1)
    found: list[int] = table[rung.order(table[:, 1:-1], table[:, 0]), -1].astype(np.int64).tolist()
    return found


@dataclass(slots=True)
class DeepeningState:
    """What ``Deepening`` remembers.

    Attributes:
        problem: Says what a loss is.
        panel: The sampler, at each level.
        plans: Brackets of one round, by the index of the level of their first rung.
        opened: Brackets opened so far at each of these levels.
        open: Brackets that are not over, in the order in which they take trials.
        done: Brackets that are over, unless trainings become longer.
        member: Bracket of each trial in one of them.
    """

    problem: Problem
    panel: Panel
    plans: tuple[Plan, ...]
    opened: list[int]
    open: dict[Key, Bracket] = field(default_factory=dict)
    done: dict[Key, Bracket] = field(default_factory=dict)
    member: dict[int, Key] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Deepening:
    """Hyperband whose full training may become longer.

    Args:
        sampler: Proposes configurations.
        eta: One trial in so many is promoted, to as many times the steps.
        variant: What counts when a rung that was judged gets more trials: ``"efficient"`` lets former promotions stand and fills
            the other places, ``"preserving"`` takes the best of all that ever came to a rung, and ``"discarding"`` the best
            of those that would have come there by now.

    Raises:
        ConfigError: If a setting is out of range.
    """

    sampler: Algorithm[Any]
    eta: float = 3
    variant: Variant = "efficient"

    def __post_init__(self) -> None:
        checked_eta("Deepening", self.eta)
        if self.variant not in get_args(Variant):
            raise ConfigError(
                f"Deepening needs a variant among {', '.join(get_args(Variant))}; got {self.variant!r}. Choose one."
            )

    @property
    def deliberate(self) -> bool:
        """Whether the sampler thinks for more than a millisecond or so."""
        return bool(getattr(self.sampler, "deliberate", False))

    def init(self, problem: Problem) -> DeepeningState:
        """The state before the first event.

        Raises:
            UnsupportedError: If trials have no steps, or the sampler refuses the problem.
        """
        fidelity = steps_of("Deepening", problem)
        plans = brackets(fidelity.low, fidelity.high, self.eta)
        panel = Panel.of(self.sampler, problem, plans[0].steps)
        return DeepeningState(problem, panel, plans, [0] * len(plans))

    def tell(self, state: DeepeningState, events: Sequence[Event]) -> DeepeningState:
        """Moves trials along the rungs of their brackets; the sampler learns the results of each."""
        for event in events:
            if isinstance(event, Started):
                _join(state, event)
            elif isinstance(event, Reported | Paused | Resumed | Ended):
                key = state.member.get(event.trial)
                if key is not None and key in state.open:
                    ladder = state.open[key].ladder
                    if ladder.apply(event) or event.trial not in ladder.climbs:
                        self._close(state, key)
            elif isinstance(event, Extended):
                state.open = dict(sorted({**state.done, **state.open}.items()))
                state.done = {}
                for bracket in state.open.values():
                    bracket.ladder.apply(event)
        state.panel.apply(self.sampler, events)
        return state

    def _close(self, state: DeepeningState, key: Key) -> None:
        """Sets a bracket aside in which nothing can go on, and forgets it unless that may change."""
        if not state.open[key].over(PICKS[self.variant]):
            return
        bracket = state.open.pop(key)
        if bracket.ladder.formers:
            state.done[key] = bracket
            return
        for trial in [t for t, k in state.member.items() if k == key]:
            del state.member[trial]

    def ask(self, state: DeepeningState, slots: int, rng: np.random.Generator) -> tuple[Action, ...]:
        """Continues and fills open brackets in their order; then opens the next ones.

        When the sampler has nothing more to propose, brackets are judged by those that came.
        """
        if slots == 0:
            return ()
        pick = PICKS[self.variant]
        actions: list[Action] = []
        for bracket in state.open.values():
            actions += islice(bracket.promotions(pick), slots - len(actions))
        if len(actions) < slots:
            wishes = state.panel.ask(self.sampler, slots - len(actions), rng)
            places = _places(state)
            actions += [Start(w.config, next(places), w.parent, w.why) for w in wishes]
        if len(actions) < slots:
            leftovers = (p for b in state.open.values() for p in b.leftovers(pick))
            actions += islice(leftovers, slots - len(actions))
        return tuple(actions)


def _places(state: DeepeningState) -> Iterator[int]:
    """First rung of every place that new trials may take, in order; endless."""
    room = {key: bracket.room for key, bracket in state.open.items() if bracket.room > 0}
    opened = list(state.opened)
    while True:
        base = min(range(len(opened)), key=lambda b: (opened[b], b))
        key = min(room, default=(opened[base], base))
        if key >= (opened[base], base):
            key = (opened[base], base)
            opened[base] += 1
            room[key] = state.plans[base].sizes[0]
        steps = state.plans[key[1]].steps[0]
        yield from (steps for _ in range(room.pop(key)))


def _join(state: DeepeningState, event: Started) -> None:
    """Puts a trial into the bracket of what it continues, or a new one into the first with room at its level.

    Trials that somebody enqueued run to their end on their own.
    """
    if event.parent is not None and event.parent[0] in state.member:
        key = state.member[event.parent[0]]
        bracket = state.open.get(key)
        if bracket is not None:
            origin = event.parent[0]
            bracket.origins[event.trial] = bracket.origins.get(origin, origin)
            bracket.ladder.apply(event)
            state.member[event.trial] = key
        return
    steps = state.plans[0].steps
    if event.until is None or event.until > steps[-1]:
        return
    # Before trainings became longer, rungs may have lain elsewhere.
    base = bisect_left(steps, event.until)
    key = next((k for k, b in state.open.items() if k[1] == base and b.room > 0), (state.opened[base], base))
    bracket = state.open.get(key)
    if bracket is None:
        plan = state.plans[base]
        bracket = Bracket(plan, Ladder.of(state.problem, plan.steps, best_first))
        state.opened[base] += 1
        state.open = dict(sorted({**state.open, key: bracket}.items()))
    bracket.started += 1
    bracket.ladder.apply(event)
    state.member[event.trial] = key
