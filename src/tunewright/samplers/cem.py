"""Cross-entropy method: independent distributions, refitted to the best few of every batch, smoothly.

*Use when* a simple search is wanted that any number of workers can share, and parameters hardly depend on each other. *Do
not use when* they do (``Cmaes`` learns how), or trials are few (``Bayes``).

*Paper*: Rubinstein and Kroese 2004, The Cross-Entropy Method, sections 5.1 (dynamic smoothing: eq. 5.15 to 5.17) and 5.4 (several
good places); Li and Li 2024 (arXiv:2409.09240) for training hyperparameters: taking elites as data, a refit is the
M step of expectation maximisation, so that their likelihood cannot fall.

*Differs*: elites are the best of the batch and of the elites before it. Numbers and ordered levels are normals cut to the range,
options without order have chances of at least ``1 / (4 k)``; the sources' smoothing of the deviation, with q = 5, is kept from
starving a search of a dozen batches by a least deviation of 1/1000. Asynchronous: a batch is the next so many trials that end.
Inactive parameters teach nothing. Failed trials are never elites.

*Cost*: tell O(1) per event and O(size d) at the end of a batch; ask O(d).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import ceil

import numpy as np
from numpy.typing import NDArray

from tunewright.core.algorithm import Action
from tunewright.core.events import Edited, Event
from tunewright.core.history import History
from tunewright.core.problem import Problem
from tunewright.core.space import Space
from tunewright.errors import ConfigError
from tunewright.models.population import Population, best_first, known, lost, starts
from tunewright.numerics.distributions import truncated_normal_sample

FloatArray = NDArray[np.float64]

_FIRST = 0.3
_LEAST = 1e-3
_POWER = 5.0
_RARE = 4.0


@dataclass(slots=True)
class CemState:
    """What ``Cem`` remembers.

    Attributes:
        population: The trials.
        mean: Centre of each column in codes, shape ``(d,)``.
        std: Deviation of each column before it is cut, in codes, shape ``(d,)``.
        chances: Chances of the levels of each column without order, shape ``(k,)``; None for the others.
        batch: Trials of the present batch that ended.
        elites: The best so far that the distribution was fitted to.
        fits: Number of refits.
    """

    population: Population
    mean: FloatArray
    std: FloatArray
    chances: list[FloatArray | None]
    batch: list[int] = field(default_factory=list)
    elites: list[int] = field(default_factory=list)
    fits: int = 0


def _beginning(space: Space) -> tuple[FloatArray, FloatArray, list[FloatArray | None]]:
    """Means, deviations and chances before anything is known: wide, or around the guesses."""
    layout = space.layout
    mean, std = np.full(space.d, 0.5), np.full(space.d, _FIRST)
    chances: list[FloatArray | None] = [None] * space.d
    for j, column in enumerate(space.columns):
        guess, trust = column.domain.guess, column.domain.confidence
        code = 0.5 if guess is None else float(column.domain.coder()[0](guess))
        if layout.categorical[j]:
            k = int(layout.levels[j])
            q = np.full(k, 1.0 / k)
            if guess is not None:
                q *= 1.0 - trust
                q[min(int(code * k), k - 1)] += trust
            chances[j] = q
        elif guess is not None:
            mean[j], std[j] = code, _FIRST * (1.0 - 0.7 * trust)
    return mean, std, chances


def _drawn(state: CemState, rng: np.random.Generator) -> FloatArray:
    """One draw of the distribution, codes ``(d,)``."""
    out = truncated_normal_sample(rng, state.mean, state.std, 0.0, 1.0)
    for j, q in enumerate(state.chances):
        if q is not None:
            level = min(int(np.searchsorted(np.cumsum(q), rng.random())), len(q) - 1)
            out[j] = (level + 0.5) / len(q)
    return out


@dataclass(frozen=True, slots=True)
class Cem:
    """Cross-entropy method.

    Args:
        size: Trials per batch.
        elite: Share of the batch that the distribution is fitted to.
        smoothing: Weight of the new fit against the old; the deviation's falls off as batches pass.

    Raises:
        ConfigError: If a setting is out of range.
    """

    size: int = 16
    elite: float = 0.25
    smoothing: float = 0.8

    def __post_init__(self) -> None:
        if self.size < 2 or not 0.0 < self.elite <= 1.0 or not 0.0 < self.smoothing <= 1.0:
            raise ConfigError(
                f"Cem needs size >= 2, 0 < elite <= 1 and 0 < smoothing <= 1; got size={self.size}, "
                f"elite={self.elite}, smoothing={self.smoothing}. Use the defaults."
            )

    def init(self, problem: Problem) -> CemState:
        """The state before the first event."""
        return CemState(Population(History(problem)), *_beginning(problem.space))

    def tell(self, state: CemState, events: Sequence[Event]) -> CemState:
        """Takes in events; a full batch refits the distribution."""
        history = state.population.history
        for event in events:
            back = state.population.take(event)
            if isinstance(event, Edited):
                state.mean, state.std, state.chances = _beginning(history.problem.space)
                state.batch, state.elites = known(history, state.batch), known(history, state.elites)
                state.fits = 0
            elif back is not None and known(history, [back]):
                state.batch.append(back)
                if len(state.batch) >= self.size:
                    self._fit(state)
        return state

    def ask(self, state: CemState, slots: int, rng: np.random.Generator) -> tuple[Action, ...]:
        """One draw per slot."""
        return starts(
            state.population.history,
            slots,
            rng,
            lambda _n, _a: _drawn(state, rng),
            {"fits": float(state.fits)},
        )

    def _fit(self, state: CemState) -> None:
        """Moves the distribution towards the elites.

        Source: Rubinstein and Kroese 2004, eq. 5.15 (means and chances), 5.16 and 5.17 (deviations, q = 5).
        """
        history = state.population.history
        order = best_first(history, state.elites + state.batch)
        order = order[~lost(history, order)][: max(2, ceil(self.elite * self.size))]
        state.batch, state.elites = [], order.tolist()
        if len(order) < 2:
            return
        state.fits += 1
        slower = self.smoothing - self.smoothing * (1.0 - 1.0 / state.fits) ** _POWER
        rows = history.codes[order]
        told = ~np.isnan(rows)
        count = told.sum(axis=0)
        safe = np.where(told, rows, 0.0)
        centre = safe.sum(axis=0) / np.maximum(count, 1)
        spread = np.sqrt((np.where(told, rows - centre, 0.0) ** 2).sum(axis=0) / np.maximum(count, 1))
        state.mean = np.where(count > 0, state.mean + self.smoothing * (centre - state.mean), state.mean)
        std = state.std + slower * (spread - state.std)
        state.std = np.where(count > 1, np.maximum(std, _LEAST), state.std)
        for j, q in enumerate(state.chances):
            if q is not None and count[j]:
                levels = np.minimum((rows[told[:, j], j] * len(q)).astype(np.int64), len(q) - 1)
                seen = np.bincount(levels, minlength=len(q)) / count[j]
                mixed = q + self.smoothing * (seen - q)
                state.chances[j] = mixed * (1.0 - 1.0 / _RARE) + 1.0 / (_RARE * len(q))
