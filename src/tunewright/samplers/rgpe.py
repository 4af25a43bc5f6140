"""An ensemble of Gaussian processes, one per earlier study, weighted by how well each ranks the trials of this one.

*Use when* earlier studies exist of which some, perhaps few, resemble the new task; weights find out which. *Do not use
when* there are none (``Bayes``), or hundreds of sources (``Copula`` learns one model of all).

*Paper*: Feurer, Letham and Bakshy 2018, "Scalable meta-learning for Bayesian optimization using ranking-weighted
Gaussian process ensembles", AutoML workshop at ICML, arXiv:1802.02219: section 4 (eq. 3 to 5: mean and variance of the
ensemble, ranking loss, leave-one-out loss of the target) and section 4.3 (a source is left out while the median of its
loss is above the 95th percentile of the target's: weight dilution).

*Differs*: losses are warped (``models.warp``) instead of standardised; leave-one-out draws of the target are
independent; ranks are compared on at most 50 trials, spread over the losses; the incumbent is the least ensemble
mean at a known trial; sources with less than 0.02 of the weight are left out; until ``initial`` trials have a
loss, each new one is the best of a source drawn at random, by its process.

*Cost*: ``tell`` O(1) per event; the first ``ask`` one fit of at most 100 trials per source; then one factorisation of
n^3, 256 draws per source, and predictions of some 700 rows by every source with a weight.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tunewright.core.algorithm import Action, Start
from tunewright.core.events import Event
from tunewright.core.history import History
from tunewright.core.novelty import first_new
from tunewright.core.problem import Problem
from tunewright.errors import ConfigError
from tunewright.models import gp as model
from tunewright.models.acquisition import log_expected_improvement
from tunewright.models.data import training_set
from tunewright.models.design import design_row
from tunewright.models.refit import Memo, hyper_of
from tunewright.models.search import best_rows
from tunewright.models.sources import Source, complete, fitted, sources_of, tables
from tunewright.numerics.linalg import inverse_from_cholesky

FloatArray = NDArray[np.float64]

_ALONE = 8
_COMPARED = 50
_GUARD = 95.0
_NEGLIGIBLE = 0.02


@dataclass(slots=True)
class RgpeState:
    """What ``Rgpe`` remembers.

    Attributes:
        history: The trials.
        memo: Hyperparameters already found; a cache, not a fact.
        models: One process per source, by digest of the space; a cache, not a fact.
    """

    history: History
    memo: Memo = field(default_factory=dict, compare=False, repr=False)
    models: dict[str, list[model.GP]] = field(default_factory=dict, compare=False, repr=False)


def ranking_losses(draws: FloatArray, losses: FloatArray) -> FloatArray:
    """Pairs that each draw puts in the wrong order, shape ``(draws,)``.

    Args:
        draws: Predicted losses, shape ``(draws, n)``.
        losses: Losses that came true, shape ``(n,)``.

    Source: Feurer et al. 2018, eq. 4; every pair counts twice.
    """
    wrong = (draws[:, :, None] < draws[:, None, :]) ^ (losses[:, None] < losses[None, :])
    out: FloatArray = wrong.sum(axis=(1, 2)).astype(np.float64)
    return out


def ensemble_weights(base: FloatArray, target: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Weights of the sources and, last, of the target: how often each has the lowest loss.

    Args:
        base: Ranking losses of the sources, shape ``(sources, draws)``.
        target: Ranking losses of the target by leave-one-out, shape ``(draws,)``.
        rng: Breaks ties among the sources; the target wins its ties.

    Source: Feurer et al. 2018, eq. 5 and section 4.3.
    """
    diluting = np.median(base, axis=1) > np.percentile(target, _GUARD)
    every = np.vstack([np.where(diluting[:, None], np.inf, base), target])
    lowest = every == every.min(axis=0)
    lowest[:-1] &= ~lowest[-1]
    chosen = np.argmax(lowest * rng.random(every.shape), axis=0)
    out: FloatArray = np.bincount(chosen, minlength=len(every)) / every.shape[1]
    return out


def leave_one_out(gp: model.GP) -> tuple[FloatArray, FloatArray]:
    """Mean and deviation of every known value given all others, shape ``(n,)`` each.

    Source: Rasmussen and Williams 2006, eq. 5.12.
    """
    diagonal = np.diagonal(inverse_from_cholesky(gp.factor))
    return gp.y - gp.alpha / diagonal, np.sqrt(1.0 / diagonal)


@dataclass(frozen=True, slots=True)
class Rgpe:
    """A ranking-weighted ensemble of Gaussian processes.

    Args:
        sources: Earlier studies; without any it is a Gaussian process alone.
        initial: Trials taken from the sources before the weights count.
        candidates: Random configurations compared in every decision.
        draws: Draws from which the weights are counted.

    Raises:
        ConfigError: If a setting is out of range.
    """

    sources: tuple[Source, ...] = ()
    initial: int = 3
    candidates: int = 400
    draws: int = 256

    deliberate = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "sources", sources_of("Rgpe", self.sources))
        if self.initial < 1 or self.candidates < 1 or self.draws < 1:
            raise ConfigError(
                f"Rgpe needs initial >= 1, candidates >= 1 and draws >= 1; got initial={self.initial}, "
                f"candidates={self.candidates}, draws={self.draws}. Use the defaults."
            )

    def init(self, problem: Problem) -> RgpeState:
        """The state before the first event."""
        return RgpeState(History(problem))

    def tell(self, state: RgpeState, events: Sequence[Event]) -> RgpeState:
        """Takes in events, O(1) each."""
        for event in events:
            state.history.apply(event)
        return state

    def ask(self, state: RgpeState, slots: int, rng: np.random.Generator) -> tuple[Action, ...]:
        """At most ``slots`` new configurations, each chosen with the earlier ones awaited."""
        history = state.history
        space = history.problem.space
        base = self._base(state) if slots else []
        awaited: list[FloatArray] = list(history.codes[history.pending])
        out: list[Action] = []
        for slot in range(slots):
            number = history.n + slot
            x, losses = training_set(history, rng)
            if not base and (number < _ALONE or len(np.unique(losses)) < 2 or not space.d):
                rows, why = design_row(history.problem, number, _ALONE, rng)[None], {"design": float(number)}
            elif base and (len(losses) < self.initial or len(np.unique(losses)) < 2):
                which = int(rng.integers(len(base)))
                rows = self._from_source(state, base[which], rng, drawn=number >= self.initial)
                why = {"source": float(which)}
            else:
                rows, why = self._improve(state, base, x, losses, awaited, rng)
            taken = np.concatenate((history.codes, np.reshape(awaited, (len(awaited), space.d))))
            new = first_new(space, taken, rows[:50], rng)
            if new is None:
                break
            awaited.append(new)
            out.append(Start(space.decode(new), why=why))
        return tuple(out)

    def _base(self, state: RgpeState) -> list[model.GP]:
        space = state.history.problem.space
        if space.digest not in state.models:
            data = tables(self.sources, space) if space.d else []
            state.models.clear()
            state.models[space.digest] = [fitted(x, y, space) for x, y in data]
        return state.models[space.digest]

    def _from_source(
        self, state: RgpeState, gp: model.GP, rng: np.random.Generator, *, drawn: bool
    ) -> FloatArray:
        """Rows by the mean of one source, lowest first, or by a draw from it where the mean was followed before."""
        space = state.history.problem.space
        if drawn:
            rows = space.sample(rng, self.candidates)
            return rows[np.argsort(model.sample(gp, rows, rng)[0], kind="stable")]
        top = complete(gp.x[np.argsort(gp.y, kind="stable")[:5]], space, rng)
        return best_rows(
            lambda r: -model.predict(gp, r)[0], space, top, rng, candidates=self.candidates, rounds=1
        )[0]

    def _improve(
        self,
        state: RgpeState,
        base: list[model.GP],
        x: FloatArray,
        losses: FloatArray,
        awaited: list[FloatArray],
        rng: np.random.Generator,
    ) -> tuple[FloatArray, dict[str, float]]:
        """Rows by expected improvement under the ensemble."""
        space = state.history.problem.space
        columns = model.columns_of(space.layout.levels, space.layout.categorical)
        own = model.update(columns, hyper_of(state.memo, columns, x, losses), x, losses)
        weights = self._weights(base, own, rng)
        known = own.x
        members = [(w, m) for w, m in zip(weights, [*base, own], strict=True) if w > 0.0]
        if awaited:
            members = [(w, model.condition_on(m, np.array(awaited))) for w, m in members]

        def predict(rows: FloatArray) -> tuple[FloatArray, FloatArray]:
            mean, variance = np.zeros(len(rows)), np.zeros(len(rows))
            for w, m in members:
                mu, sigma = model.predict(m, rows)
                mean += w * mu
                variance += (w * sigma) ** 2
            return mean, np.sqrt(variance)

        at_known = predict(known)[0]
        best = float(at_known.min())
        top = space.repair(known[np.argsort(at_known, kind="stable")[:5]], rng)
        rows, values = best_rows(
            lambda r: log_expected_improvement(*predict(r), best), space, top, rng, candidates=self.candidates
        )
        return rows, {"log_ei": round(float(values[0]), 3), "own_weight": round(float(weights[-1]), 3)}

    def _weights(self, base: list[model.GP], own: model.GP, rng: np.random.Generator) -> FloatArray:
        """Weights of the sources and of the target, on trials spread over the losses."""
        if not base:
            return np.ones(1)
        n = len(own.y)
        order = np.argsort(own.y, kind="stable")
        rows = order[np.linspace(0, n - 1, min(n, _COMPARED)).round().astype(np.int64)]
        x, y = own.x[rows], own.y[rows]
        losses = np.array([ranking_losses(model.sample(m, x, rng, self.draws), y) for m in base])
        mean, std = leave_one_out(own)
        own_draws = mean[rows] + std[rows] * rng.standard_normal((self.draws, len(rows)))
        weights = ensemble_weights(losses, ranking_losses(own_draws, y), rng)
        weights[:-1][weights[:-1] < _NEGLIGIBLE] = 0.0
        if not weights.any():
            weights[-1] = 1.0
        out: FloatArray = weights / weights.sum()
        return out
