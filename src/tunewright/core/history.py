"""The log as columns: what models read. One row per trial, grown geometrically, appended to and never rebuilt."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tunewright.core.domains import Codes
from tunewright.core.events import Amended, Edited, Ended, Event, Paused, Reported, Resumed, Started
from tunewright.core.problem import Problem

RUNNING, PAUSED, COMPLETED, STOPPED, FAILED, INVALID = range(6)
_OUTCOMES = {"completed": COMPLETED, "stopped": STOPPED, "invalid": INVALID}

_ARRAYS = ("_codes", "_losses", "_steps", "_status", "_costs", "_violation", "_margins")


class History:
    """Trials as arrays; row ``i`` is trial ``i``.

    Attributes:
        problem: The problem; its space has the newest version folded so far.
        n: Number of trials, ``n``.
    """

    __slots__ = (
        "_codes",
        "_configs",
        "_costs",
        "_losses",
        "_margins",
        "_status",
        "_steps",
        "_violation",
        "n",
        "problem",
    )

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.n = 0
        self._configs: list[dict[str, Any]] = []
        self._codes: Codes = np.empty((16, problem.space.d))
        self._losses = np.empty((16, problem.m))
        self._steps = np.zeros(16, dtype=np.int64)
        self._status = np.zeros(16, dtype=np.int8)
        self._costs = np.empty(16)
        self._violation = np.empty(16)
        self._margins = np.empty((16, len(problem.limits)))

    @property
    def codes(self) -> Codes:
        """Codes of every trial, shape ``(n, d)``; NaN where inactive. A row of a version of the space that no
        longer fits is NaN throughout."""
        return self._codes[: self.n]

    @property
    def losses(self) -> NDArray[np.float64]:
        """Latest minimised losses, shape ``(n, m)``; NaN where none is known or the trial failed."""
        return self._losses[: self.n]

    @property
    def loss(self) -> NDArray[np.float64]:
        """Latest minimised loss of the first objective, shape ``(n,)``."""
        return self._losses[: self.n, 0]

    @property
    def steps(self) -> NDArray[np.int64]:
        """Step of the latest loss, shape ``(n,)``."""
        return self._steps[: self.n]

    @property
    def status(self) -> NDArray[np.int8]:
        """``RUNNING``, ``PAUSED``, ``COMPLETED``, ``STOPPED``, ``FAILED`` or ``INVALID``, shape ``(n,)``."""
        return self._status[: self.n]

    @property
    def costs(self) -> NDArray[np.float64]:
        """Total cost of each finished trial, NaN where unknown, shape ``(n,)``."""
        return self._costs[: self.n]

    @property
    def violation(self) -> NDArray[np.float64]:
        """How far each trial exceeds the outcome limits, 0 where it meets them, shape ``(n,)``."""
        return self._violation[: self.n]

    @property
    def margins(self) -> NDArray[np.float64]:
        """Each limited metric minus its limit, NaN where it is not known, shape ``(n, number of limits)``."""
        return self._margins[: self.n]

    @property
    def configs(self) -> list[dict[str, Any]]:
        """Configuration of each trial."""
        return self._configs

    @property
    def usable(self) -> NDArray[np.bool_]:
        """Which trials have a loss that a model can learn from, shape ``(n,)``."""
        good: NDArray[np.bool_] = ~np.isnan(self.loss) & (self.status < FAILED)
        return good

    @property
    def pending(self) -> NDArray[np.bool_]:
        """Which trials run and have no loss yet, shape ``(n,)``."""
        waiting: NDArray[np.bool_] = (self.status == RUNNING) & np.isnan(self.loss)
        return waiting

    def apply(self, event: Event) -> None:
        """Takes in one event, in O(1) except for a new version of the space."""
        if isinstance(event, Started):
            self._start(event)
        elif isinstance(event, Reported):
            self._measure(event.trial, event.metrics, event.step)
        elif isinstance(event, Ended):
            status = _OUTCOMES.get(event.outcome, FAILED)
            self._status[event.trial] = status
            self._costs[event.trial] = np.nan if event.cost is None else event.cost
            if status in (FAILED, INVALID):
                self._losses[event.trial] = np.nan
            elif event.metrics is not None:
                self._measure(event.trial, event.metrics, event.step)
        elif isinstance(event, Paused):
            self._status[event.trial] = PAUSED
        elif isinstance(event, Amended):
            self._configs[event.trial] = event.config
            self._codes[event.trial] = self._project(event.config)
        elif isinstance(event, Edited):
            self._edit(self.problem.revised(event.space))
        elif isinstance(event, Resumed):
            self._status[event.trial] = RUNNING

    def copy(self) -> History:
        """The same trials, which further events do not change."""
        other = History(self.problem)
        other.n, other._configs = self.n, list(self._configs)
        for name in _ARRAYS:
            setattr(other, name, getattr(self, name).copy())
        return other

    def _start(self, event: Started) -> None:
        i = self.n
        if i == len(self._steps):
            self._grow()
        self.n = i + 1
        self._configs.append(event.config)
        self._codes[i] = self._project(event.config)
        self._losses[i] = np.nan
        self._steps[i] = 0
        self._status[i] = RUNNING
        self._costs[i] = np.nan
        self._violation[i] = 0.0
        self._margins[i] = np.nan

    def _measure(self, trial: int, metrics: dict[str, float], step: int) -> None:
        losses = self.problem.losses(metrics)
        if losses is not None:
            self._losses[trial] = losses
            self._steps[trial] = step
            if self.problem.limits:
                self._violation[trial] = self.problem.violation(metrics)
                self._margins[trial] = [
                    metrics.get(limit.name, np.nan) - limit.upper for limit in self.problem.limits
                ]

    def _project(self, config: dict[str, Any]) -> Codes:
        space = self.problem.space
        try:
            return space.encode(config)
        except (KeyError, ValueError):
            codes = space.project(config)
            return np.full(space.d, np.nan) if codes is None else codes

    def _edit(self, problem: Problem) -> None:
        self.problem = problem
        codes = np.empty((len(self._steps), problem.space.d))
        self._codes = codes
        for i, config in enumerate(self._configs):
            codes[i] = self._project(config)

    def _grow(self) -> None:
        for name in _ARRAYS:
            old = getattr(self, name)
            new = np.empty((2 * len(old), *old.shape[1:]), dtype=old.dtype)
            new[: len(old)] = old
            setattr(self, name, new)
