"""Replicates: one configuration measured several times with different seeds, and what the results come to together.

A replicate is a trial of its own, from scratch: its ``parent`` is ``(original, 0)``, and its ``why`` names the original
trial as ``replicate_of`` and the number of its seed as ``seed``. Trials whose decisions name the same seed number get
the same seed, so that their results can be compared in pairs.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from tunewright.core.algorithm import generator
from tunewright.core.events import Started
from tunewright.core.problem import Problem

_OWN, _SHARED, _TEST = 3, 17, 18


def seed_of(root: int, trial: int, why: dict[str, Any] | None) -> int:
    """Seed for a trial's training: its own, or the one that its decision numbers.

    Args:
        root: Seed of the study.
        trial: Number of the trial.
        why: What explains its decision; ``seed`` in it numbers a seed that several trials share.

    Returns:
        A number in [0, 2^31).
    """
    number = (why or {}).get("seed")
    shared = isinstance(number, int) and not isinstance(number, bool) and number >= 0
    index, purpose = (number, _SHARED) if shared and number is not None else (trial, _OWN)
    return int(generator(root, index, purpose).integers(2**31))


def fresh_seeds(root: int, count: int, used: Iterable[int] = ()) -> list[int]:
    """Seeds that no trial of a study is trained with, always the same ones in the same order.

    Args:
        root: Seed of the study.
        count: How many.
        used: Seeds to leave out as well.
    """
    taken, index = set(used), 0
    out: list[int] = []
    while len(out) < count:
        seed = int(generator(root, index, _TEST).integers(2**31))
        if seed not in taken:
            taken.add(seed)
            out.append(seed)
        index += 1
    return out


def original_of(start: Started) -> int | None:
    """The trial that a trial replicates; None when it replicates none."""
    number = start.why.get("replicate_of") if start.why is not None else None
    return number if isinstance(number, int) and 0 <= number < start.trial else None


class Measured(Protocol):
    """What is read of a trial."""

    @property
    def id(self) -> int:
        """Its number."""
        ...

    @property
    def config(self) -> dict[str, Any]:
        """Its parameters."""
        ...

    @property
    def metrics(self) -> dict[str, float]:
        """Its final values."""
        ...

    start: Started
    status: Any


@dataclass(frozen=True, slots=True)
class Pool:
    """The results of one configuration together.

    Attributes:
        trial: The first trial of the configuration.
        losses: Minimised loss of every completed trial of it, in order.
        violation: Largest excess over the outcome limits; 0 when it meets them.
    """

    trial: int
    losses: tuple[float, ...]
    violation: float

    @property
    def count(self) -> int:
        """Number of results."""
        return len(self.losses)

    @property
    def mean(self) -> float:
        """Mean loss."""
        return sum(self.losses) / len(self.losses)

    @property
    def squares(self) -> float:
        """Sum of squared deviations from the mean."""
        return sum((x - self.mean) ** 2 for x in self.losses)

    @property
    def error(self) -> float:
        """Standard error of the mean; NaN for a single result."""
        n = self.count
        return math.sqrt(self.squares / (n - 1) / n) if n > 1 else math.nan


class Pools:
    """Results by configuration, grown trial by trial; one objective.

    The best configuration is among those with the most results, so that a single lucky one beats no mean.
    """

    __slots__ = ("_best", "_pools", "_problem")

    def __init__(self, problem: Problem) -> None:
        self._problem = problem
        self._pools: dict[int, Pool] = {}
        self._best: int | None = None

    def add(self, trial: Measured) -> None:
        """Takes in a completed trial; O(1), and O(n) when it replicates the best one."""
        metrics = trial.metrics
        losses = self._problem.losses(metrics)
        if losses is None:
            return
        original = original_of(trial.start)
        number = trial.id if original is None else original
        old = self._pools.get(number, Pool(number, (), 0.0))
        pool = Pool(number, (*old.losses, losses[0]), max(old.violation, self._problem.violation(metrics)))
        self._pools[number] = pool
        if number == self._best or self._best is None:
            self._best = min(self._pools, key=lambda n: _place(self._pools[n]))
        elif _place(pool) < _place(self._pools[self._best]):
            self._best = number

    @property
    def best(self) -> int | None:
        """First trial of the best configuration: within the limits, most results, lowest mean; None for none."""
        return self._best

    def __len__(self) -> int:
        return len(self._pools)

    def rows(self) -> list[tuple[int, tuple[float, ...], float | None]]:
        """Every pool as plain data; a violation without bound, which JSON cannot hold, is None."""
        return [
            (p.trial, p.losses, p.violation if math.isfinite(p.violation) else None)
            for p in self._pools.values()
        ]

    @classmethod
    def of_rows(
        cls, problem: Problem, rows: Iterable[tuple[int, tuple[float, ...], float | None]], best: int | None
    ) -> Pools:
        """The pools that ``rows`` gave, of which ``best`` is the best one."""
        pools = cls(problem)
        for trial, losses, violation in rows:
            pools._pools[trial] = Pool(trial, losses, math.inf if violation is None else violation)
        pools._best = best
        return pools


def _place(pool: Pool) -> tuple[float, int, float]:
    return pool.violation, -pool.count, pool.mean


def pools_of(trials: Iterable[Measured], problem: Problem) -> list[Pool]:
    """The results of every configuration; trials with equal parameters count as one, replicates or not.

    Args:
        trials: Trials of a study with one objective, by number.
        problem: Its problem.

    Returns:
        One pool per configuration with a completed trial, in order of the first.
    """
    first: dict[str, int] = {}
    results: dict[int, Pool] = {}
    for trial in trials:
        losses = problem.losses(trial.metrics) if trial.status == "completed" else None
        if losses is None:
            continue
        number = first.setdefault(repr(sorted(trial.config.items())), trial.id)
        old = results.get(number, Pool(number, (), 0.0))
        worst = max(old.violation, problem.violation(trial.metrics))
        results[number] = Pool(number, (*old.losses, losses[0]), worst)
    return list(results.values())


def noise_of(pools: Iterable[Pool]) -> tuple[float, int]:
    """Standard deviation of a single result around its configuration's mean, pooled, and its degrees of freedom.

    Returns:
        ``(sd, df)`` in the unit of the loss; ``(nan, 0)`` when no configuration has two results.
    """
    squares, df = 0.0, 0
    for pool in pools:
        if pool.count > 1:
            squares += pool.squares
            df += pool.count - 1
    return (math.sqrt(squares / df), df) if df else (math.nan, 0)
