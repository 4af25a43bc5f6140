"""First the few configurations that together served earlier studies best, then any sampler.

*Use when* earlier studies of related tasks exist and the budget is small: the first five to ten trials are the ones
that gain most. *Do not use when* the earlier tasks have nothing to do with the new one: the picks are then wasted.

*Paper*: Wistuba, Schilling and Schmidt-Thieme 2015, "Sequential model-free hyperparameter tuning", ICDM, section IV
(greedy minimum of the average best loss), with surrogates of the sources in place of missing entries as in Winkelmolen,
Ivkin, Bozkurt and Karnin 2020, "Practical and sample efficient zero-shot HPO", arXiv:2007.13382, Algorithm 1.

*Differs*: losses of a source are those that its Gaussian process predicts, warped to unit spread (``models.warp``);
candidates are the best configurations of every source; picks that break a constraint are repaired, and those
that somebody tried already are left out.

*Cost*: ``tell`` that of the sampler; the first ``ask`` one Gaussian process of at most 100 trials per source, later ones
that of the sampler.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tunewright.core.algorithm import Action, Algorithm, Start, generator
from tunewright.core.events import Event
from tunewright.core.history import History
from tunewright.core.problem import Problem
from tunewright.errors import ConfigError
from tunewright.models import gp
from tunewright.models.sources import Source, complete, fitted, sources_of, tables

FloatArray = NDArray[np.float64]

_PER_SOURCE = 10
_SAME = 1e-9
_PURPOSE = 17


@dataclass(slots=True)
class PortfolioState:
    """What ``Portfolio`` remembers.

    Attributes:
        history: The trials.
        inner: State of the sampler.
        memo: Picks already found, by digest of the space; a cache, not a fact.
    """

    history: History
    inner: Any
    memo: dict[str, FloatArray] = field(default_factory=dict, compare=False, repr=False)


def greedy(losses: FloatArray, size: int) -> list[int]:
    """Picks columns one by one so that the mean over rows of the lowest loss picked falls most.

    Args:
        losses: Loss of every candidate on every task, shape ``(tasks, candidates)``.
        size: Most picks; it ends earlier when no candidate lowers the mean any more.

    Source: Wistuba et al. 2015, ICDM, section IV.
    """
    best = np.full(len(losses), np.inf)
    picks: list[int] = []
    while len(picks) < min(size, losses.shape[1]):
        after = np.minimum(best[:, None], losses)
        means = after.mean(axis=0)
        pick = int(np.argmin(means))
        if picks and means[pick] >= best.mean():
            break
        picks.append(pick)
        best = after[:, pick]
    return picks


@dataclass(frozen=True, slots=True)
class Portfolio:
    """A zero-shot portfolio from earlier studies, then a sampler.

    Args:
        sampler: Proposes configurations once every pick was tried; it learns from the picks.
        sources: Earlier studies; without any the sampler is alone.
        size: Number of picks.

    Raises:
        ConfigError: If a setting is out of range.
    """

    sampler: Algorithm[Any]
    sources: tuple[Source, ...] = ()
    size: int = 8

    deliberate = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "sources", sources_of("Portfolio", self.sources))
        if self.size < 1:
            raise ConfigError(f"Portfolio needs size >= 1; got {self.size}. Use 8.")

    def init(self, problem: Problem) -> PortfolioState:
        """The state before the first event.

        Raises:
            UnsupportedError: If the sampler refuses the problem.
        """
        return PortfolioState(History(problem), self.sampler.init(problem))

    def tell(self, state: PortfolioState, events: Sequence[Event]) -> PortfolioState:
        """Takes in events; the sampler hears all of them."""
        for event in events:
            state.history.apply(event)
        state.inner = self.sampler.tell(state.inner, events)
        return state

    def ask(self, state: PortfolioState, slots: int, rng: np.random.Generator) -> tuple[Action, ...]:
        """Picks that nobody tried yet, then what the sampler wants."""
        space = state.history.problem.space
        actions: list[Action] = []
        if slots and self.sources and space.d:
            for i, row in enumerate(self._untried(state)[:slots]):
                actions.append(Start(space.decode(row), why={"portfolio": float(i)}))
        if len(actions) < slots or not slots:
            actions += self.sampler.ask(state.inner, slots - len(actions), rng)
        return tuple(actions)

    def _untried(self, state: PortfolioState) -> list[FloatArray]:
        picks = self.picks(state)
        tried = np.nan_to_num(state.history.codes, nan=-1.0)
        gaps = np.abs(np.nan_to_num(picks, nan=-1.0)[:, None, :] - tried[None]).max(axis=2, initial=0.0)
        return [row for row, gap in zip(picks, gaps, strict=True) if not np.any(gap < _SAME)]

    def picks(self, state: PortfolioState) -> FloatArray:
        """Codes of the portfolio in the present space, in the order in which they are tried; shape ``(q, d)``."""
        problem = state.history.problem
        space = problem.space
        if space.digest not in state.memo:
            data = tables(self.sources, space)
            found = np.empty((0, space.d))
            if data:
                best = [x[np.argsort(y, kind="stable")[:_PER_SOURCE]] for x, y in data]
                rng = generator(problem.seed, 0, _PURPOSE)
                rows = np.unique(complete(np.concatenate(best), space, rng), axis=0)
                models = [fitted(x, y, space) for x, y in data]
                losses = np.array([gp.predict(m, rows)[0] - m.y.min() for m in models])
                found = rows[greedy(losses, self.size)]
            state.memo.clear()
            state.memo[space.digest] = found
        return state.memo[space.digest]
