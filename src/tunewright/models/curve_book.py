"""The learning curves of a study as the rows of one table; a fold over events, O(1) each."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tunewright.core.algorithm import Resume, Start
from tunewright.core.events import Ended, Event, Extended, Paused, Reported, Resumed, Started
from tunewright.core.history import COMPLETED, PAUSED, History
from tunewright.core.problem import Problem
from tunewright.models.curve_tokens import LAST, PARTS, PICKS, RECENT, SHARES

Array = NDArray[np.float64]
Ints = NDArray[np.int64]

_BINS = 50
_WORST = ("failed", "invalid", "out_of_memory", "timed_out")
_ROWS = 16


@dataclass(slots=True)
class Curve:
    """Reports of one trial, thinned to one per fiftieth of a training.

    Attributes:
        steps: Steps of the reports kept, increasing.
        losses: Their minimised losses; infinite where one diverged or broke a limit.
        lowest: Lowest loss of all reports.
        step: Last step heard of.
        until: Step at which its segment ends.
        parent: Trial that it continues, or -1.
    """

    steps: list[int] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    lowest: float = math.inf
    step: int = 0
    until: int = 0
    parent: int = -1

    def add(self, step: int, loss: float, unit: int) -> None:
        """Takes in a report; it replaces the one before it in the same bin of ``unit`` steps."""
        self.lowest = min(self.lowest, loss)
        if self.steps and (self.steps[-1] - 1) // unit == (step - 1) // unit:
            self.steps[-1], self.losses[-1] = step, loss
        else:
            self.steps.append(step)
            self.losses.append(loss)

    def picks(self, high: int) -> list[float]:
        """What ``curve_tokens.picked`` says of it, with its true minimum."""
        steps, losses = self.steps, self.losses
        last, n = steps[-1], len(steps)
        out = [losses[max(0, bisect_right(steps, p * high + 1e-9) - 1)] for p in _PARTS]
        out += [losses[max(0, bisect_right(steps, p * last + 1e-9) - 1)] for p in _SHARES]
        out += [losses[max(0, n - 1 - i)] for i in range(RECENT)]
        out.append(self.lowest)
        return out


_PARTS, _SHARES = tuple(PARTS.tolist()), tuple(SHARES.tolist())


@dataclass(slots=True)
class CurveBook:
    """All curves of a study.

    Attributes:
        history: Codes and status of every trial.
        high: Steps of a full training.
        unit: Steps per bin of a curve.
        curves: One per trial.
        picks: Their readings, shape ``(rows, PICKS)``; infinite where nothing was seen.
        seen: Step of the last result, shape ``(rows,)``; 0 where nothing was seen.
        over: Trials that another one continues.
        lengths: Steps that full trainings had before.
        configs: Every configuration begun, as text.
    """

    history: History
    high: int
    unit: int
    curves: list[Curve] = field(default_factory=list)
    picks: Array = field(default_factory=lambda: np.full((_ROWS, PICKS), np.inf))
    seen: Ints = field(default_factory=lambda: np.zeros(_ROWS, dtype=np.int64))
    over: set[int] = field(default_factory=set)
    lengths: set[int] = field(default_factory=set)
    configs: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, problem: Problem) -> CurveBook:
        """An empty book; the problem has a fidelity and one objective."""
        assert problem.fidelity is not None
        high = problem.fidelity.high
        return cls(History(problem), high, max(1, high // _BINS))

    @property
    def n(self) -> int:
        """Number of trials."""
        return len(self.curves)

    def apply(self, event: Event) -> None:
        """Takes in one event."""
        self.history.apply(event)
        if isinstance(event, Reported):
            self._report(event.trial, event.step, event.metrics, event.bad)
        elif isinstance(event, Started):
            self._start(event)
        elif isinstance(event, Ended):
            self._end(event)
        elif isinstance(event, Extended):
            self.lengths.add(event.before)
        elif isinstance(event, Paused):
            curve = self.curves[event.trial]
            curve.step = max(curve.step, event.step)
        elif isinstance(event, Resumed):
            self.curves[event.trial].until = event.until or self.high

    def begun(self, config: Mapping[str, Any]) -> bool:
        """Whether a trial has this very configuration."""
        return repr(config) in self.configs

    def idle(self) -> Ints:
        """Trials that can be continued: paused ones, and those that had a full training when that was shorter.

        Not those that diverged, nor those that the space has no place for any more; in order of their numbers.
        """
        n, status = self.n, self.history.status
        rows = np.flatnonzero((status == PAUSED) & ~(np.isinf(self.picks[:n, LAST]) & (self.seen[:n] > 0)))
        old = [
            t for t in np.flatnonzero((status == COMPLETED) & (self.seen[:n] < self.high)) if self._former(int(t))
        ] if self.lengths else []  # fmt: skip
        rows = np.sort(np.concatenate([rows, np.array(old, dtype=np.int64)]))
        out: Ints = rows[self.fits(rows)]
        return out

    def fits(self, rows: Ints) -> NDArray[np.bool_]:
        """Which trials have codes in the newest version of the space, shape ``(r,)``."""
        if not self.history.problem.space.d:
            return np.ones(len(rows), dtype=np.bool_)
        return np.asarray((~np.isnan(self.history.codes[rows])).any(axis=1), dtype=np.bool_)

    def continued(self, trial: int, until: int, why: dict[str, Any]) -> Resume | Start:
        """Trains a trial further: one that is over, since trainings were shorter, by a fork of it."""
        if self.history.status[trial] == PAUSED:
            return Resume(trial, until, why)
        step = self.curves[trial].step
        return Start(self.history.configs[trial], until, (trial, step), {**why, "continues": trial})

    def _former(self, trial: int) -> bool:
        return trial not in self.over and self.curves[trial].step in self.lengths

    def _start(self, event: Started) -> None:
        curve = Curve(until=event.until or self.high)
        trial = len(self.curves)
        self.curves.append(curve)
        self.configs.add(repr(event.config))
        if trial == len(self.seen):
            self.picks = np.concatenate([self.picks, np.full_like(self.picks, np.inf)])
            self.seen = np.concatenate([self.seen, np.zeros_like(self.seen)])
        if event.parent is None or not event.parent[1]:
            return
        donor, step = event.parent
        old = self.curves[donor]
        curve.parent, curve.step = donor, step
        if old.step == step and old.steps:
            curve.steps, curve.losses, curve.lowest = list(old.steps), list(old.losses), old.lowest
            self._read(trial)
            self.over.add(donor)

    def _report(
        self, trial: int, step: int, metrics: Mapping[str, float], bad: Mapping[str, str] | None
    ) -> None:
        curve = self.curves[trial]
        loss = self._loss(metrics, bad)
        if loss is None or step <= curve.step:
            curve.step = max(curve.step, step)
            return
        curve.step = step
        curve.add(step, loss, self.unit)
        self._read(trial)

    def _loss(self, metrics: Mapping[str, float], bad: Mapping[str, str] | None) -> float | None:
        """The loss of a report; infinite when it is not finite or a limit is exceeded, None when it is missing."""
        problem = self.history.problem
        losses = problem.losses(metrics)
        if losses is None:
            return math.inf if bad and problem.objectives[0].name in bad else None
        broken = any(metrics.get(limit.name, -math.inf) > limit.upper for limit in problem.limits)
        return math.inf if broken else losses[0]

    def _read(self, trial: int) -> None:
        curve = self.curves[trial]
        self.picks[trial] = curve.picks(self.high)
        self.seen[trial] = min(curve.steps[-1], self.high)

    def _end(self, event: Ended) -> None:
        curve = self.curves[event.trial]
        if event.outcome in _WORST:
            curve.add(max(curve.step, 1), math.inf, self.unit)
            self._read(event.trial)
        elif event.outcome == "completed":
            at = max(event.step, curve.step) or self.high
            if event.metrics and at > curve.step:
                self._report(event.trial, at, event.metrics, None)
            curve.step = at
