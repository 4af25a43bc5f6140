"""Rungs: how far trials have been trained, and who is among the best at each level.

The one engine behind every successive-halving scheduler. It folds events, keeps one sorted list per level, and
answers who belongs to the best ``k``; what to do about it is up to the scheduler. A failed trial counts as the
worst on the rung it was heading for, so that nobody waits for it; one that ends well before its last step counts
as having reached every higher rung.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tunewright.core.algorithm import Resume, Start
from tunewright.core.events import Ended, Event, Extended, Paused, Reported, Resumed, Started
from tunewright.core.problem import Fidelity, Problem
from tunewright.errors import ConfigError, UnsupportedError

_PEERS = 32
Entry = tuple[float, ...]
Order = Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.int64]]


def checked_eta(name: str, eta: Any) -> None:
    """Refuses a reduction factor that reduces nothing.

    Raises:
        ConfigError: If ``eta`` is not a finite number above 1.
    """
    if isinstance(eta, bool) or not isinstance(eta, int | float) or not 1.0 < eta < math.inf:
        raise ConfigError(f"{name} needs a finite eta > 1; got eta={eta!r}. Use 3, or 2 to be gentler.")


def checked_count(name: str, setting: str, value: Any, least: int) -> None:
    """Refuses what is not a whole number of at least ``least``.

    Raises:
        ConfigError: If it is not.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ConfigError(
            f"{name} needs a whole number {setting} >= {least}; got {value!r}. Use {least} or more."
        )


def steps_of(name: str, problem: Problem) -> Fidelity:
    """The fidelity of a problem.

    Raises:
        UnsupportedError: If its trials have no steps.
    """
    if problem.fidelity is None:
        raise UnsupportedError(
            f"{name} needs trials that report by step; got a problem without steps. Say how many steps a full "
            f"training has, or use a sampler alone."
        )
    return problem.fidelity


def levels(low: int, high: int, eta: float) -> tuple[int, ...]:
    """Steps at which trials are compared: ``high / eta^k`` for every k that stays at or above ``low``, ascending.

    Source: Li et al. 2018, JMLR 18(185), Algorithm 1 (``r_i = R eta^(i - s)``), rounded to whole steps.
    """
    found = {high}
    k = 1
    while high / eta**k >= low - 1e-9:
        found.add(max(low, round(high / eta**k)))
        k += 1
    return tuple(sorted(found))


def share(n: int, eta: float) -> int:
    """How many of ``n`` trials may go on: ``floor(n / eta)``, safe against rounding."""
    return int(n / eta + 1e-9)


def ranked_by_then(n: int) -> int:
    """How many of ``n`` arrivals the last ranking saw: all of up to 63, then ranked anew with every 32nd to 64th part.

    Fronts cost more than a sorted list, and this way each arrival pays for a few dozen of them in all.
    """
    return n - n % (1 << max(0, n.bit_length() - 6))


@dataclass(slots=True)
class Rung:
    """The trials that were trained to one level.

    Attributes:
        level: Steps of training.
        order: Ranks several objectives; None for one.
        entries: An entry ``(violation, loss of each objective, trial)`` per trial that came here: sorted for one
            objective, as they came for several.
        waiting: The entries of those paused here, sorted.
    """

    level: int
    order: Order | None = field(default=None, compare=False, repr=False)
    entries: list[Entry] = field(default_factory=list)
    waiting: list[Entry] = field(default_factory=list)
    _memo: tuple[NDArray[np.float64], list[int]] | None = field(default=None, compare=False, repr=False)

    @property
    def n(self) -> int:
        """Number of trials that came here, failed ones included."""
        return len(self.entries)

    def add(self, entry: Entry, waiting: bool) -> None:
        """Records a trial, in O(log n) comparisons."""
        if self.order is None:
            insort(self.entries, entry)
        else:
            self.entries.append(entry)
        if waiting:
            insort(self.waiting, entry)

    def forget(self) -> None:
        """Ranks anew when asked next, since entries were taken out."""
        self._memo = None

    def release(self, entry: Entry) -> None:
        """Takes a trial off the waiting list, in O(log n) comparisons."""
        del self.waiting[bisect_left(self.waiting, entry)]

    def top(self, k: int, *, lagging: bool = False) -> Iterator[int]:
        """Trials that wait here and are among the best ``k``, best first; O(1) each for one objective.

        Args:
            k: How many.
            lagging: For several objectives, leave out those that came after the last ranking, to rank less often.
        """
        k = min(k, self.n)
        if k <= 0 or not self.waiting:
            return
        if self.order is None:
            bar = self.entries[k - 1]
            for entry in self.waiting:
                if entry > bar:
                    return
                yield int(entry[-1])
            return
        paused = {int(e[-1]) for e in self.waiting}
        _, trials = self._ranked(ranked_by_then(self.n) if lagging else self.n)
        yield from (t for t in trials[:k] if t in paused)

    def rank(self, entry: Entry) -> int:
        """How many trials are better than the one that came last; for one objective, equal losses do not count.

        For several, the place of one that came after the last ranking is estimated: behind the last trial there that
        dominates it, before the next that it dominates, and between them as among a few of those.
        """
        if self.order is None:
            return bisect_left(self.entries, entry[:-1])
        then = ranked_by_then(self.n)
        table, trials = self._ranked(then)
        if then == self.n:
            return trials.index(int(entry[-1]))
        own = np.array(entry[:-1])
        behind = np.flatnonzero(_dominates(table, own))
        low = int(behind[-1]) + 1 if len(behind) else 0
        ahead = np.flatnonzero(_dominates(own, table[low:]))
        high = low + int(ahead[0]) if len(ahead) else then
        peers = np.linspace(low, high - 1, min(high - low, _PEERS)).astype(np.int64)
        few = np.vstack([table[peers], own])
        place = int(np.flatnonzero(self.order(few[:, 1:], few[:, 0]) == len(peers))[0])
        return low + (high - low) * (2 * place + 1) // (2 * len(few))

    def _ranked(self, n: int) -> tuple[NDArray[np.float64], list[int]]:
        """Results and trials of the first ``n`` that came, best first; remembered until ``n`` changes."""
        if self._memo is None or len(self._memo[1]) != n:
            assert self.order is not None
            table = np.array(self.entries[:n]).reshape(n, -1)
            table = table[self.order(table[:, 1:-1], table[:, 0])]
            self._memo = (table[:, :-1], table[:, -1].astype(np.int64).tolist())
        return self._memo


def _dominates(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether each row ``(violation, losses)`` of ``a`` dominates that of ``b``, limits first."""
    losses, others = a[..., 1:], b[..., 1:]
    better = (losses <= others).all(axis=-1) & (losses < others).any(axis=-1)
    out: NDArray[np.bool_] = (a[..., 0] < b[..., 0]) | ((a[..., 0] == b[..., 0]) & better)
    return out


@dataclass(slots=True)
class Climb:
    """A trial that is not over.

    Attributes:
        target: Step at which its present segment ends.
        height: Number of rungs behind it.
        step: Its last report.
        result: Its latest ``(violation, loss of each objective)``; infinite while none is known or it diverged.
        paused: Whether it rests on a rung, not on its way to one.
        entry: Its entry on the rung where it waits to go on, or None.
        config: Its parameters.
    """

    target: int
    height: int
    step: int
    result: tuple[float, ...]
    paused: bool = False
    entry: Entry | None = None
    config: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Former:
    """A trial that had its full training when that was shorter; a fork of it may go on.

    Attributes:
        step: Steps done.
        config: Its parameters.
        place: Index of the rung where it waits, and its entry there; None until a training was made longer.
    """

    step: int
    config: dict[str, Any]
    place: tuple[int, Entry] | None = None


@dataclass(slots=True)
class Ladder:
    """Rungs at ascending levels, and the trials on them; a fold over events, O(log n) each.

    Args:
        problem: Says what a loss is.
        rungs: One per level; the last level is the full training.

    Attributes:
        climbs: Trials that are not over, by number.
        heading: Number of trials on their way to each rung, and beyond the last.
        cut: Trials paused short of their rung, with the step they were to reach.
        formers: Trials that were completed below the last rung, which is no full training by now.
        lengths: Steps that full trainings had before.
    """

    problem: Problem
    rungs: list[Rung]
    climbs: dict[int, Climb] = field(default_factory=dict)
    heading: list[int] = field(default_factory=list)
    cut: dict[int, int] = field(default_factory=dict)
    formers: dict[int, Former] = field(default_factory=dict)
    lengths: set[int] = field(default_factory=set)

    @classmethod
    def of(cls, problem: Problem, steps: tuple[int, ...], order: Order) -> Ladder:
        """Empty rungs at the given steps; ``order`` is used for several objectives only."""
        several = order if problem.m > 1 else None
        return cls(problem, [Rung(s, several) for s in steps], heading=[0] * (len(steps) + 1))

    def passed(self, i: int) -> int:
        """Number of trials that went on from rung ``i``, which is not the last, and were not stopped on the way."""
        return self.rungs[i + 1].n + self.heading[i + 1]

    @property
    def idle(self) -> bool:
        """Whether no trial is on its way to any rung."""
        return not any(self.heading)

    def apply(self, event: Event) -> tuple[int, ...]:
        """Takes in one event.

        Returns:
            Indexes of the rungs on which the trial was recorded by this event.
        """
        if isinstance(event, Reported):
            climb = self.climbs.get(event.trial)
            return () if climb is None else self._report(climb, event)
        if isinstance(event, Started):
            self._start(event)
        elif isinstance(event, Paused):
            climb = self.climbs.get(event.trial)
            return () if climb is None else self._pause(climb, event)
        elif isinstance(event, Resumed):
            self._resume(event)
        elif isinstance(event, Ended):
            return self._end(event)
        elif isinstance(event, Extended):
            self.lengths.add(event.before)
            for trial in self.formers:
                self._reopen(trial)
        return ()

    def promotions(self, eta: float, first: int = 0) -> Iterator[Resume | Start]:
        """Trials to continue now, from the highest rung down: those cut short, then the best ``1 / eta`` of each rung.

        Args:
            eta: One trial in so many goes on.
            first: Lowest rung that is judged.

        Source: Li et al. 2020, arXiv:1810.05934, Algorithm 2 (``get_job``).
        """
        for trial, target in self.cut.items():
            yield Resume(trial, target)
        for i in range(len(self.rungs) - 2, first - 1, -1):
            below, above = self.rungs[i], self.rungs[i + 1]
            best = share(below.n, eta)
            # Who is among the best of a wide front changes with every newcomer; more than the share must not go on.
            spare = best if self.problem.m == 1 else max(0, best - self.passed(i))
            for trial in islice(below.top(best, lagging=True), spare):
                yield self.go_on(trial, above.level, {"rung": below.level, "of": below.n})

    def leftovers(self) -> Iterator[Resume | Start]:
        """The best trial of each rung, from the highest down, where it still waits: for when no other will come."""
        for below, above in zip(self.rungs[-2::-1], self.rungs[:0:-1], strict=True):
            for trial in below.top(1):
                yield self.go_on(trial, above.level, {"rung": below.level, "of": below.n})

    def go_on(self, trial: int, until: int, why: dict[str, Any] | None = None) -> Resume | Start:
        """Trains a trial further: one that is over, since trainings were shorter, by a fork of it."""
        former = self.formers.get(trial)
        if former is None:
            return Resume(trial, until, why)
        return Start(former.config, until, (trial, former.step), {**(why or {}), "continues": trial})

    def _reopen(self, trial: int) -> None:
        """A trial that had its full training of old waits on the highest rung that it came to by itself."""
        former = self.formers[trial]
        index = bisect_right(self.rungs, former.step, key=lambda r: r.level) - 1
        if former.place is not None or former.step not in self.lengths or index < 0:
            return
        for rung in self.rungs[index + 1 :]:
            rung.entries[:] = [e for e in rung.entries if e[-1] != trial]
            rung.forget()
        rung = self.rungs[index]
        entry = next((e for e in rung.entries if e[-1] == trial), None)
        if entry is not None and entry[-2] < math.inf:
            insort(rung.waiting, entry)
            self.formers[trial] = Former(former.step, former.config, (index, entry))

    def _start(self, event: Started) -> None:
        step = event.parent[1] if event.parent is not None else 0
        height = bisect_right(self.rungs, step, key=lambda r: r.level)
        worst = (math.inf,) * (self.problem.m + 1)
        target = event.until or self.rungs[-1].level
        self.climbs[event.trial] = Climb(target, height, step, worst, config=event.config)
        self.heading[height] += 1
        former = self.formers.pop(event.parent[0], None) if event.parent is not None and step else None
        if former is not None and former.place is not None:
            self.rungs[former.place[0]].release(former.place[1])

    def _report(self, climb: Climb, event: Reported) -> tuple[int, ...]:
        climb.step = event.step
        self._measure(climb, event.metrics, event.bad)
        first = climb.height
        while self._reached(climb, event.step) and self.rungs[climb.height].level < climb.target:
            self._record(event.trial, climb, waiting=False)
        return tuple(range(first, climb.height))

    def _measure(self, climb: Climb, metrics: dict[str, float], bad: dict[str, str] | None) -> None:
        problem = self.problem
        losses = problem.losses(metrics)
        if losses is not None:
            climb.result = (problem.violation(metrics) if problem.limits else 0.0, *losses)
        elif bad and any(o.name in bad for o in problem.objectives):
            climb.result = (math.inf,) * (problem.m + 1)

    def _reached(self, climb: Climb, step: int) -> bool:
        return climb.height < len(self.rungs) and step >= self.rungs[climb.height].level

    def _record(self, trial: int, climb: Climb, *, waiting: bool) -> None:
        entry = (*climb.result, trial)
        # A trial that diverged stays where it is: it may be the best of a bad lot, but never goes on.
        waits = waiting and climb.result[-1] < math.inf
        self.rungs[climb.height].add(entry, waits)
        climb.entry = entry if waits else None
        self.heading[climb.height] -= 1
        climb.height += 1
        climb.paused = waiting
        if not waiting:
            self.heading[climb.height] += 1

    def _pause(self, climb: Climb, event: Paused) -> tuple[int, ...]:
        step = max(event.step, climb.step)
        first = climb.height
        while self._reached(climb, step):
            last = climb.height + 1 >= len(self.rungs) or step < self.rungs[climb.height + 1].level
            self._record(event.trial, climb, waiting=last)
        if climb.height == first and (step < climb.target or first == 0):
            self.cut[event.trial] = climb.target if step < climb.target else self.rungs[0].level
        elif climb.height == first:
            self._rest(event.trial, climb)
        return tuple(range(first, climb.height))

    def _rest(self, trial: int, climb: Climb) -> None:
        """Its segment was planned for rungs that lay elsewhere, when trainings were shorter: it waits on its last one."""
        rung = self.rungs[climb.height - 1]
        entry = next((e for e in rung.entries if e[-1] == trial), None)
        self.heading[climb.height] -= 1
        climb.paused = True
        if entry is not None and entry[-2] < math.inf:
            insort(rung.waiting, entry)
            climb.entry = entry

    def _resume(self, event: Resumed) -> None:
        climb = self.climbs.get(event.trial)
        if climb is None:
            return
        self.cut.pop(event.trial, None)
        if climb.paused:
            if climb.entry is not None:
                self.rungs[climb.height - 1].release(climb.entry)
            self.heading[climb.height] += 1
        climb.paused, climb.entry = False, None
        climb.target = event.until or self.rungs[-1].level

    def _end(self, event: Ended) -> tuple[int, ...]:
        climb = self.climbs.pop(event.trial, None)
        if climb is None:
            return ()
        self.cut.pop(event.trial, None)
        here = climb.height
        if climb.entry is not None:
            self.rungs[here - 1].release(climb.entry)
        if not climb.paused:
            self.heading[here] -= 1
        if event.outcome == "completed":
            self._measure(climb, event.metrics or {}, None)
            for rung in self.rungs[here:]:
                rung.add((*climb.result, event.trial), waiting=False)
            step = max(climb.step, event.step)
            if step < self.rungs[-1].level:
                self.formers[event.trial] = Former(step, climb.config)
                self._reopen(event.trial)
            return tuple(range(here, len(self.rungs)))
        if event.outcome != "stopped" and not climb.paused and here < len(self.rungs):
            worst = (math.inf,) * (self.problem.m + 1)
            self.rungs[here].add((*worst, event.trial), waiting=False)
            return (here,)
        return ()
