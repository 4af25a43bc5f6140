"""Losses of trials at common levels of training: what models of several fidelities read.

*Use when* a model should learn from trials of every length, with a bounded number of rows. *Do not use when* whole curves
matter.

*Differs*: a trial's loss at a level is its lowest up to its first report at or beyond the level, so that curves fall and the
noise of single reports counts less; a trial that ends completed has its lowest loss at every level that is left. A trial
that failed has none.

*Cost*: O(k m) per report that reaches a level, for k levels and m objectives; a snapshot O(n k log n) whenever the number
of results has grown by a quarter.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tunewright.core.algorithm import generator
from tunewright.core.events import Edited, Ended, Event, Reported, Started
from tunewright.core.history import FAILED, History
from tunewright.core.problem import Problem
from tunewright.core.rungs import levels
from tunewright.models.data import scalarise

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

_DENSE, _GROWTH = 2, 1.25
_PURPOSE = 7


def levels_of(problem: Problem, eta: float) -> tuple[int, ...]:
    """Levels of a problem, ascending; ``(1,)`` where trials have no steps."""
    fidelity = problem.fidelity
    return (1,) if fidelity is None else levels(fidelity.low, fidelity.high, eta)


def log_levels(steps: Sequence[int]) -> FloatArray:
    """Logarithms of the levels from 0 for the first to 1 for the last, shape ``(k,)``; 1 for a single one."""
    logs = np.log(np.asarray(steps, dtype=np.float64))
    if len(logs) == 1:
        return np.ones(1)
    out: FloatArray = (logs - logs[0]) / (logs[-1] - logs[0])
    return out


class Snapshot(NamedTuple):
    """What hyperparameters are found on.

    Attributes:
        trials: Numbers of the trials, ascending, shape ``(t,)``.
        losses: Their losses by level, NaN where not known, shape ``(t, k)``.
    """

    trials: IntArray
    losses: FloatArray


class Staged:
    """A history, the losses of its trials at common levels, and a snapshot of them at growing intervals.

    A snapshot is part of the fold: what is found on it depends on the log alone, not on when somebody asked.

    Args:
        problem: The problem.
        steps: The levels, ascending.
        most: Rows of a snapshot.

    Attributes:
        history: The trials.
        steps: The levels, ascending.
        results: Number of losses known, over all levels.
        snapshot: The last one.
    """

    __slots__ = ("_least", "_losses", "_most", "_next", "_reached", "history", "results", "snapshot", "steps")

    def __init__(self, problem: Problem, steps: tuple[int, ...], most: int) -> None:
        self.history = History(problem)
        self.steps = steps
        self.results = 0
        self.snapshot = Snapshot(np.empty(0, dtype=np.int64), np.empty((0, len(steps))))
        self._most = most
        self._next = _DENSE
        self._losses = np.full((16, len(steps), problem.m), np.nan)
        self._reached = np.zeros(16, dtype=np.int64)
        self._least = np.full((16, problem.m), np.inf)

    @property
    def losses(self) -> FloatArray:
        """Loss of every trial at every level, NaN where not known, shape ``(n, k, m)``."""
        return self._losses[: self.history.n]

    @property
    def reached(self) -> IntArray:
        """Number of levels behind each trial, shape ``(n,)``."""
        return self._reached[: self.history.n]

    def apply(self, event: Event) -> None:
        """Takes in one event."""
        self.history.apply(event)
        if isinstance(event, Started):
            if self.history.n > len(self._reached):
                self._grow()
            # A fork has no losses of its own at the levels that its parent passed.
            step = event.parent[1] if event.parent is not None else 0
            self._reached[event.trial] = bisect_right(self.steps, step)
        elif isinstance(event, Reported):
            self._measure(event.trial, event.metrics, event.step)
        elif isinstance(event, Ended) and event.outcome == "completed" and event.metrics:
            self._measure(event.trial, event.metrics, self.steps[-1])
        if self.results >= self._next or isinstance(event, Edited):
            self._next = int(max(self.results, _DENSE) * _GROWTH) + 1
            losses = self.scalar(generator(self.history.problem.seed, self.results, _PURPOSE))
            few = spread_rows(losses, self._most)
            self.snapshot = Snapshot(few, losses[few])

    def _measure(self, trial: int, metrics: dict[str, float], step: int) -> None:
        losses = self.history.problem.losses(metrics)
        if losses is None:
            return
        least = self._least[trial]
        np.minimum(least, losses, out=least)
        first, last = int(self._reached[trial]), bisect_right(self.steps, step)
        if last > first:
            self._losses[trial, first:last] = least
            self.results += last - first
            self._reached[trial] = last

    def scalar(self, rng: np.random.Generator) -> FloatArray:
        """One loss per trial and level, NaN where not known or the trial failed, shape ``(n, k)``.

        Args:
            rng: Draws the weights of several objectives.
        """
        losses = self.losses
        if losses.shape[2] == 1:
            out = losses[:, :, 0].copy()
        else:
            out = np.full(losses.shape[:2], np.nan)
            known = np.isfinite(losses).all(axis=2)
            if known.any():
                out[known] = scalarise(losses[known], rng)
        out[(self.history.status >= FAILED) | np.isnan(self.history.codes).all(axis=1)] = np.nan
        return out

    def _grow(self) -> None:
        for name, empty in (("_losses", np.nan), ("_reached", 0), ("_least", np.inf)):
            old = getattr(self, name)
            new = np.full((2 * len(old), *old.shape[1:]), empty, dtype=old.dtype)
            new[: len(old)] = old
            setattr(self, name, new)


def spread_rows(losses: FloatArray, most: int) -> IntArray:
    """The trials that a model of at most ``most`` rows is made of: the best, longest-trained first, and a spread.

    Args:
        losses: Loss of every trial at every level, NaN where not known, shape ``(n, k)``.
        most: Rows; a trial has as many as levels with a loss.

    Returns:
        Ascending numbers of trials that have a loss.
    """
    known = ~np.isnan(losses)
    rows = known.sum(axis=1)
    have = np.flatnonzero(rows)
    if int(rows.sum()) <= most:
        return have
    top = losses.shape[1] - 1 - np.argmax(known[have, ::-1], axis=1)
    order = have[np.lexsort((losses[have, top], -top))]
    best = int(np.searchsorted(np.cumsum(rows[order]), most // 2))
    rest = order[best:]
    room = most - int(rows[order[:best]].sum())
    size = max(1, int(len(rest) * room / max(1, int(rows[rest].sum()))))
    few = rest[(np.arange(size) * len(rest)) // size]
    return np.sort(np.concatenate([order[:best], few]))
