"""DEHB: Hyperband whose new configurations are evolved, with one population for each length of training.

*Use when* trials report by step and there are many parameters, numbers or options, and many cheap short trainings.
*Do not use when* there are several objectives (``Asha``), or only some dozen trainings in all: evolution starts slowly, and
a model (``Tpe`` within ``Hyperband``) learns more from few.

*Paper*: Awad, Mallik and Hutter 2021, IJCAI, arXiv:2105.09821, Algorithms 1 to 3: rand/1 mutation and binomial crossover of
Storn and Price 1997, F = 0.5, CR = 0.5.

*Differs*: within the first round of brackets, where the paper promotes as Hyperband does, a promoted trial resumes from its
checkpoint; afterwards each evolved configuration is trained from scratch to the length of its rung. The first
configurations come from a sampler. Members of a population that were not evaluated yet are drawn when they are needed. The
target of a slot is no parent of its own mutant, unless there are too few others. Codes of evaluated configurations are
those of the levels and options that were trained; inactive parameters are drawn anew. Free workers open the next bracket. In finite spaces nothing is
trained twice. When the study has all its trials, partly filled brackets of the first round go on with the same shares of fewer.

*Cost*: ``ask`` O(p d) for p members in all populations; ``tell`` O(1) per report, O(p log p) when a rung is complete.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from tunewright.core.algorithm import Action, Algorithm, Resume, Start
from tunewright.core.brackets import Plan, brackets
from tunewright.core.closing import Silent
from tunewright.core.events import Edited, Ended, Event, Paused, Reported, Resumed, Started
from tunewright.core.history import PAUSED, History
from tunewright.core.panel import Panel
from tunewright.core.problem import Problem
from tunewright.core.rungs import checked_eta, steps_of
from tunewright.errors import ConfigError, UnsupportedError
from tunewright.models.breeding import filled
from tunewright.models.population import known, starts

FloatArray = NDArray[np.float64]
Entry = tuple[float, float, int]
"""Violation, loss and number of a trial; the lower the better."""

_WORST = (math.inf, math.inf)
_PARENTS = 3


def rand1(a: FloatArray, b: FloatArray, c: FloatArray, f: float) -> FloatArray:
    """The mutant of three parents, shape ``(d,)``: ``a + f (b - c)``. Source: Storn and Price 1997, eq. 2."""
    out: FloatArray = a + f * (b - c)
    return out


def binomial(
    target: FloatArray, mutant: FloatArray, rate: float, draws: FloatArray, forced: int
) -> FloatArray:
    """The child of a target and a mutant, shape ``(d,)``.

    Args:
        target: Gives a column wherever its draw is above ``rate``.
        mutant: Gives the others, and the forced one in any case.
        rate: Chance of a column to come from the mutant, within [0, 1].
        draws: Uniform draws, shape ``(d,)``.
        forced: Column that the mutant always gives.

    Source: Storn and Price 1997, eq. 4 and 5.
    """
    crossed = draws <= rate
    crossed[forced] = True
    out: FloatArray = np.where(crossed, mutant, target)
    return out


def within(codes: FloatArray, draws: FloatArray) -> FloatArray:
    """Codes with those outside [0, 1] replaced by draws; any shape. Source: Awad et al. 2021, section 3."""
    out: FloatArray = np.where((codes < 0.0) | (codes > 1.0), draws, codes)
    return out


def sizes_of(plans: Sequence[Plan]) -> dict[int, int]:
    """Members of the population of each length of training: the most that any bracket trains to it.

    Source: Awad et al. 2021, section 4.2.

    Example:
        >>> from tunewright.core.brackets import brackets
        >>> sizes_of(brackets(1, 81, 3))
        {1: 81, 3: 34, 9: 15, 27: 8, 81: 5}
    """
    out: dict[int, int] = {}
    for plan in plans:
        for size, step in zip(plan.sizes, plan.steps, strict=True):
            out[step] = max(out.get(step, 0), size)
    return out


@dataclass(slots=True)
class Course:
    """A bracket under way.

    Attributes:
        sizes: Trials on each of its rungs; fewer where fewer could be promoted.
        base: Index of the level of its first rung.
        promotes: Whether its higher rungs get promoted trials, not evolved ones.
        rung: The present rung.
        begun: Trials begun on it.
        results: Results on it.
        going: Trials to be promoted to it that have not gone on yet.
    """

    sizes: list[int]
    base: int
    promotes: bool
    rung: int = 0
    begun: int = 0
    results: list[Entry] = field(default_factory=list)
    going: list[int] = field(default_factory=list)

    @property
    def level(self) -> int:
        """Index of the level of the present rung."""
        return self.base + self.rung

    @property
    def room(self) -> int:
        """New configurations that the present rung still takes."""
        return 0 if self.promotes and self.rung else self.sizes[self.rung] - self.begun


@dataclass(slots=True)
class Job:
    """A trial on its way to a rung: its bracket, its level and place there, where its segment ends, what it reported."""

    bracket: int
    level: int
    place: int
    until: int
    step: int = 0
    result: tuple[float, float] = _WORST


@dataclass(slots=True)
class DehbState:
    """What ``Dehb`` remembers.

    Attributes:
        history: Every trial.
        first: The sampler of the first configurations.
        levels: Steps of each level, ascending.
        plans: Brackets of one round.
        populations: Members by level and place; None where there is none yet.
        turns: Slots taken so far at each level.
        ahead: Trials that were promoted from each level.
        opened: Brackets opened so far.
        open: Brackets that are not over, by number.
        jobs: Trials on their way.
        cut: Trials paused on their way.
    """

    history: History
    first: Panel
    levels: tuple[int, ...]
    plans: tuple[Plan, ...]
    populations: list[list[Entry | None]]
    turns: list[int]
    ahead: list[set[int]]
    opened: int = 0
    open: dict[int, Course] = field(default_factory=dict)
    jobs: dict[int, Job] = field(default_factory=dict)
    cut: dict[int, int] = field(default_factory=dict)

    def course(self, number: int) -> Course:
        """A bracket, as it is or as it will be opened."""
        if number in self.open:
            return self.open[number]
        plan = self.plans[number % len(self.plans)]
        return Course(list(plan.sizes), len(self.levels) - len(plan.sizes), promotes=number < len(self.plans))

    def numbers(self) -> Iterator[int]:
        """Brackets in the order in which they take trials; endless."""
        yield from self.open
        number = self.opened
        while True:
            yield number
            number += 1

    def members(self, level: int) -> list[Entry]:
        """The evaluated members of a population, best first."""
        return sorted(e for e in self.populations[level] if e is not None)


@dataclass(frozen=True, slots=True)
class Dehb:
    """Hyperband with differential evolution.

    Args:
        sampler: Proposes the configurations of the first bracket.
        eta: The next rung trains one in so many to as many times the steps.
        f: Scale of the difference of two parents, within (0, 1].
        cr: Chance of a parameter to come from the mutant, within [0, 1].

    Raises:
        ConfigError: If a setting is out of range.
    """

    sampler: Algorithm[Any]
    eta: float = 3
    f: float = 0.5
    cr: float = 0.5

    def __post_init__(self) -> None:
        checked_eta("Dehb", self.eta)
        if not 0.0 < self.f <= 1.0 or not 0.0 <= self.cr <= 1.0:
            raise ConfigError(
                f"Dehb needs 0 < f <= 1 and 0 <= cr <= 1; got f={self.f!r}, cr={self.cr!r}. Use the defaults."
            )

    @property
    def deliberate(self) -> bool:
        """Whether the sampler thinks for more than a millisecond or so."""
        return bool(getattr(self.sampler, "deliberate", False))

    def init(self, problem: Problem) -> DehbState:
        """The state before the first event.

        Raises:
            UnsupportedError: If trials have no steps, there are several objectives, or the sampler refuses.
        """
        fidelity = steps_of("Dehb", problem)
        if problem.m > 1:
            raise UnsupportedError(
                f"Dehb needs one objective, since a member is replaced by a better one; got {problem.m}. Use Asha."
            )
        plans = brackets(fidelity.low, fidelity.high, self.eta)
        sizes = sizes_of(plans)
        levels = tuple(sorted(sizes))
        places: list[list[Entry | None]] = [[None] * sizes[s] for s in levels]
        panel = Panel.of(self.sampler, problem, levels[:1])
        return DehbState(
            History(problem), panel, levels, plans, places, [0] * len(levels), [set() for _ in levels]
        )

    def tell(self, state: DehbState, events: Sequence[Event]) -> DehbState:
        """Takes in results; one that ends a slot challenges the member of its place."""
        for event in events:
            if isinstance(event, Resumed):
                # Before the history, for which it runs from then on: only those that wait are promoted.
                _resume(state, event)
            state.history.apply(event)
            if isinstance(event, Reported):
                job = state.jobs.get(event.trial)
                if job is not None:
                    job.step = event.step
                    _measure(state, job, event.metrics, event.bad)
            elif isinstance(event, Started):
                _join(state, event)
            elif isinstance(event, Paused):
                _pause(state, event)
            elif isinstance(event, Ended):
                _end(state, event)
            elif isinstance(event, Edited):
                _forget_strangers(state)
        state.first.apply(self.sampler, events)
        return state

    def ask(self, state: DehbState, slots: int, rng: np.random.Generator) -> tuple[Action, ...]:
        """Promotions of the first round, then new configurations for the oldest brackets."""
        if slots == 0:
            return ()
        actions: list[Action] = [*islice(_continued(state), slots)]
        slots -= len(actions)
        if slots == 0:
            return tuple(actions)
        closed = isinstance(self.sampler, Silent)
        begun: list[Action] = []
        first = state.course(0) if not state.opened or 0 in state.open else None
        if first is not None and first.room:
            wishes = state.first.ask(self.sampler, min(slots, first.room), rng)
            begun = [Start(w.config, state.levels[0], w.parent, w.why) for w in wishes]
        if not begun and not closed:
            begun = self._evolved(state, slots, rng)
        if not begun and not actions:
            begun += islice(_leftovers(state), slots)
        return (*actions, *begun)

    def _evolved(self, state: DehbState, slots: int, rng: np.random.Generator) -> list[Action]:
        """One evolved configuration per slot, each for the place that ``tell`` will give it."""
        takes = list(islice(_slots(state), slots))
        turns = list(state.turns)
        places = []
        for course in takes:
            places.append(turns[course.level] % len(state.populations[course.level]))
            turns[course.level] += 1
        first = state.history.n

        def propose(number: int, attempt: int) -> FloatArray:
            return self._vector(state, takes[number - first], places[number - first], rng)

        made = starts(state.history, slots, rng, propose, {})
        return [
            msgspec.structs.replace(a, until=state.levels[c.level], why={"budget": state.levels[c.level]})
            for a, c in zip(made, takes, strict=False)
            if isinstance(a, Start)
        ]

    def _vector(self, state: DehbState, course: Course, place: int, rng: np.random.Generator) -> FloatArray:
        """The child for a place, shape ``(d,)``. Source: Awad et al. 2021, Algorithms 2 and 3."""
        codes = state.history.codes
        space = state.history.problem.space
        held = state.populations[course.level][place]
        fresh: FloatArray = space.sample(rng, 1)[0]
        target = filled(codes[held[-1]] if held is not None else fresh, rng)
        pool = _pool(state, course, held[-1] if held is not None else -1, rng)
        if len(pool) < _PARENTS:
            return fresh
        a, b, c = (filled(codes[pool[i]], rng) for i in rng.permutation(len(pool))[:_PARENTS])
        mutant = within(rand1(a, b, c, self.f), rng.random(len(target)))
        return binomial(target, mutant, self.cr, rng.random(len(target)), int(rng.integers(len(target))))


def _continued(state: DehbState) -> Iterator[Resume]:
    """Trials that were cut short, then those that were promoted."""
    for trial, until in state.cut.items():
        yield Resume(trial, until)
    for course in state.open.values():
        for trial in course.going:
            yield Resume(trial, state.levels[course.level], {"rung": state.levels[course.level - 1]})


def _pool(state: DehbState, course: Course, target: int, rng: np.random.Generator) -> list[int]:
    """Trials that may be parents of a mutant: the population itself on the first rung of a bracket, else the best of
    the level below; with too few of them, also others from all levels.

    Source: Awad et al. 2021, section 4.3 (parent pool and global population pool).
    """
    own = state.members(course.level - bool(course.rung))
    pool = [e[-1] for e in (own[: course.sizes[course.rung]] if course.rung else own) if e[-1] != target]
    if len(pool) < _PARENTS:
        everyone = {e[-1] for members in state.populations for e in members if e is not None}
        others = sorted(everyone - set(pool) - {target})
        pool += [others[i] for i in rng.permutation(len(others))[: _PARENTS - len(pool)]]
        if len(pool) < _PARENTS and target in everyone:
            pool.append(target)
    return pool


def _slots(state: DehbState) -> Iterator[Course]:
    """The bracket of every place that new configurations may take, in order; endless."""
    for number in state.numbers():
        course = state.course(number)
        yield from (course for _ in range(course.room))


def _join(state: DehbState, event: Started) -> None:
    """Gives a new trial a place; trials that somebody enqueued run to their end on their own."""
    wanted = ((n, state.course(n)) for n in (*state.open, state.opened))
    found = next(((n, c) for n, c in wanted if c.room and event.until == state.levels[c.level]), None)
    if found is None:
        return
    number, course = found
    state.open[number] = course
    state.opened = max(state.opened, number + 1)
    _take_slot(state, number, event.trial)


def _take_slot(state: DehbState, number: int, trial: int) -> None:
    course = state.open[number]
    level = course.level
    place = state.turns[level] % len(state.populations[level])
    state.turns[level] += 1
    course.begun += 1
    state.jobs[trial] = Job(number, level, place, state.levels[level])


def _measure(state: DehbState, job: Job, metrics: dict[str, float], bad: dict[str, str] | None) -> None:
    problem = state.history.problem
    losses = problem.losses(metrics)
    if losses is not None:
        job.result = (problem.violation(metrics) if problem.limits else 0.0, losses[0])
    elif bad and problem.objectives[0].name in bad:
        job.result = _WORST


def _pause(state: DehbState, event: Paused) -> None:
    job = state.jobs.get(event.trial)
    if job is None:
        return
    if max(event.step, job.step) < job.until:
        state.cut[event.trial] = job.until
        return
    _select(state, job.level, job.place, (*job.result, event.trial))
    _close(state, event.trial)


def _resume(state: DehbState, event: Resumed) -> None:
    if event.trial in state.jobs:
        state.cut.pop(event.trial, None)
        return
    for number, course in list(state.open.items()):
        if event.trial in course.going or event.trial in _fewer(state, course):
            if event.trial not in course.going:
                _shrink(state, course)
            course.going.remove(event.trial)
            state.ahead[course.level - 1].add(event.trial)
            _take_slot(state, number, event.trial)
            return


def _end(state: DehbState, event: Ended) -> None:
    state.cut.pop(event.trial, None)
    job = state.jobs.get(event.trial)
    if job is None:
        for number, course in list(state.open.items()):
            if event.trial in course.going:
                course.going.remove(event.trial)
                course.sizes[course.rung] -= 1
                _advance(state, number)
        return
    if event.outcome == "completed":
        _measure(state, job, event.metrics or {}, None)
        _select(state, job.level, job.place, (*job.result, event.trial))
        # One that ends early has had its full training: it is a member at every higher level too.
        for level in range(job.level + 1, len(state.levels)):
            _select(
                state, level, state.turns[level] % len(state.populations[level]), (*job.result, event.trial)
            )
            state.turns[level] += 1
    else:
        job.result = _WORST
    _close(state, event.trial)


def _select(state: DehbState, level: int, place: int, entry: Entry) -> None:
    """Selection: the member of a place stays unless the trial is as good. Source: Awad et al. 2021, section 3."""
    held = state.populations[level][place]
    if entry[1] < math.inf and (held is None or entry[:2] <= held[:2]):
        state.populations[level][place] = entry


def _close(state: DehbState, trial: int) -> None:
    """A slot is over."""
    job = state.jobs.pop(trial)
    state.open[job.bracket].results.append((*job.result, trial))
    _advance(state, job.bracket)


def _advance(state: DehbState, number: int) -> None:
    """Turns a bracket to its next rung when the present one is complete, and forgets it when it is over."""
    course = state.open[number]
    if len(course.results) < course.sizes[course.rung]:
        return
    if course.rung + 1 == len(course.sizes):
        del state.open[number]
        return
    _climb(state, course, course.sizes[course.rung + 1])
    if course.promotes and not course.going:
        del state.open[number]


def _climb(state: DehbState, course: Course, size: int) -> None:
    going = _promotable(state, course.level, size) if course.promotes else []
    course.rung, course.begun, course.results, course.going = course.rung + 1, 0, [], going
    course.sizes[course.rung] = len(going) if course.promotes else size


def _promotable(state: DehbState, level: int, k: int) -> list[int]:
    """Up to ``k`` members of a population to be trained on, best first: those that wait and were not promoted yet."""
    promised = {t for c in state.open.values() for t in c.going}
    gone = state.ahead[level] | promised
    waits = (
        e[-1] for e in state.members(level) if e[-1] not in gone and state.history.status[e[-1]] == PAUSED
    )
    return list(islice(waits, k))


def _fewer(state: DehbState, course: Course) -> list[int]:
    """Who is promoted from a first rung that will never be full: the same share of fewer."""
    if not course.promotes or course.rung or not course.begun or len(course.sizes) == 1:
        return []
    if not course.room or len(course.results) < course.begun:
        return []
    return _promotable(state, course.level, math.ceil(course.begun * course.sizes[1] / course.sizes[0]))


def _shrink(state: DehbState, course: Course) -> None:
    begun, full = course.begun, course.sizes[0]
    course.sizes = [begun, *(math.ceil(begun * k / full) for k in course.sizes[1:])]
    _climb(state, course, course.sizes[1])


def _leftovers(state: DehbState) -> Iterator[Resume]:
    """Promotions of brackets of the first round that will never be full."""
    for course in state.open.values():
        for trial in _fewer(state, course):
            yield Resume(trial, state.levels[course.level + 1])


def _forget_strangers(state: DehbState) -> None:
    """Drops members whose configuration no longer fits the space."""
    for members in state.populations:
        fit = set(known(state.history, [e[-1] for e in members if e is not None]))
        members[:] = [e if e is not None and e[-1] in fit else None for e in members]
