"""What evolutionary methods share: counting the trials that came back, their order, and beginning new ones.

*Use when* a method breeds configurations from earlier trials. *Do not use when* a model ranks candidates.

*Paper*: Deb et al. 2002 (IEEE TEC 6(2)), section III-B, for the order by front and crowding, and section VI-A for that of
trials that exceed their limits.

*Differs*: failed trials come after all others, and partly trained ones are ordered by how far they got before their loss.

*Cost*: counting O(1) per event; ordering ``n`` trials O(n log n) with one or two objectives.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tunewright.core.algorithm import Action, Start
from tunewright.core.events import Ended, Event, Paused
from tunewright.core.history import COMPLETED, FAILED, History
from tunewright.core.novelty import first_new, is_finite
from tunewright.numerics.pareto import crowding_distance, fronts

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]
Propose = Callable[[int, int], FloatArray]
"""Codes ``(d,)`` for the trial of a number, not yet repaired; the second argument counts repeated attempts."""

ATTEMPTS = 4


@dataclass(slots=True)
class Population:
    """The trials, and which of them have come back.

    Attributes:
        history: Every trial.
        counted: Trials that ended, or paused, at least once.
    """

    history: History
    counted: set[int] = field(default_factory=set)

    def take(self, event: Event) -> int | None:
        """Takes in an event; returns the trial that came back by it for the first time, if one did. O(1)."""
        self.history.apply(event)
        if isinstance(event, Ended | Paused) and event.trial not in self.counted:
            self.counted.add(event.trial)
            return event.trial
        return None


def lost(history: History, trials: IntArray) -> BoolArray:
    """Which of some trials have no result that can be compared, shape ``(k,)``."""
    bad = np.isnan(history.losses[trials]).any(axis=1)
    out: BoolArray = bad | (history.status[trials] >= FAILED)
    return out


def known(history: History, trials: Sequence[int]) -> list[int]:
    """Those of some trials whose configuration still fits the space."""
    codes = history.codes
    return [t for t in trials if not np.isnan(codes[t]).all()]


def best_first(history: History, trials: Sequence[int]) -> IntArray:
    """Some trials, shape ``(k,)``, best first; equal ones keep their order.

    Those that meet the limits, ordered by how far they got, then by loss, or by front and crowding distance; then those
    that exceed the limits, the least first; then those that failed.
    """
    rows = np.asarray(trials, dtype=np.int64).reshape(-1)
    failed = lost(history, rows)
    excess = np.where(failed, 0.0, history.violation[rows])
    tier = np.where(failed, 2, np.where(excess > 0.0, 1, 0))
    steps = np.where(history.status[rows] == COMPLETED, np.inf, history.steps[rows].astype(np.float64))
    depth = np.where(tier == 0, steps, 0.0)
    first, second = np.zeros(len(rows)), np.zeros(len(rows))
    good = np.flatnonzero(tier == 0)
    losses = history.losses[rows]
    if history.problem.m == 1:
        first[good] = losses[good, 0]
    else:
        for level in set(depth[good].tolist()):
            group = good[depth[good] == level]
            first[group] = fronts(losses[group])
            for number in set(first[group].tolist()):
                front = group[first[group] == number]
                second[front] = -crowding_distance(losses[front])
    order = np.lexsort((second, first, excess, -depth, tier))
    out: IntArray = rows[order]
    return out


def starts(
    history: History, slots: int, rng: np.random.Generator, propose: Propose, why: dict[str, float]
) -> tuple[Action, ...]:
    """Begins trials: each proposal repaired and, in finite spaces, new; none when everything was tried.

    Args:
        history: Every trial; the next one has the number ``history.n``.
        slots: At most so many.
        rng: Source of randomness of repairs.
        propose: Codes of the trial with a given number; not called in a space without parameters.
        why: Explains the decision.
    """
    space = history.problem.space
    finite = is_finite(space)
    awaited: list[FloatArray] = []
    out: list[Action] = []
    for slot in range(slots):
        number = history.n + slot
        row: FloatArray | None
        if not space.d:
            row = space.sample(rng, 1)[0]
        else:
            wanted = np.array([propose(number, i) for i in range(ATTEMPTS if finite else 1)])
            rows = space.repair(wanted, rng)
            row = rows[0]
            if finite:
                taken = np.concatenate((history.codes, np.reshape(awaited, (len(awaited), space.d))))
                row = first_new(space, taken, rows, rng)
        if row is None:
            break
        out.append(Start(space.decode(row), why=why))
        awaited.append(row)
    return tuple(out)
