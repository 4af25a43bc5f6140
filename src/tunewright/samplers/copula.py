"""Transfer by quantiles: losses of every task become normal scores, and earlier tasks give the prior of the new one.

*Use when* earlier studies of related tasks exist whose losses have other scales, units or tails. *Do not use when* there
are none (``Bayes``), or when only one of many sources resembles the new task (``Rgpe`` weighs them).

*Paper*: Salinas, Shen and Perrone 2020, "A quantile-based approach for hyperparameter transfer learning", ICML,
arXiv:1909.13595: section 4.1 (copula transform, winsorised), section 4.2 (parametric prior), Algorithm 1 (Thompson
sampling, CTS) and section 4.3 (Gaussian process on the residuals with expected improvement, GCP with prior).

*Differs*: the residual process is the mixed-space one of ``models.gp`` with a mean of zero; candidates are searched
locally as well as drawn; awaited trials are believed; the first ``initial`` trials follow Thompson sampling from the
prior also in the ``"gp"`` mode; failed trials count as the worst loss known.

*Cost*: ``tell`` O(1) per event; the first ``ask`` trains the network (half a second); then one factorisation of n^3 and
predictions of some 700 rows.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tunewright.core.algorithm import Action, Start
from tunewright.core.events import Event
from tunewright.core.history import History
from tunewright.core.novelty import first_new
from tunewright.core.problem import Problem
from tunewright.errors import ConfigError
from tunewright.models import gp as model
from tunewright.models import perceptron
from tunewright.models.acquisition import log_expected_improvement
from tunewright.models.data import training_set
from tunewright.models.design import design_row
from tunewright.models.refit import Memo, hyper_of, tuning_size
from tunewright.models.search import best_rows
from tunewright.models.sources import Source, sources_of, tables, thinned
from tunewright.numerics.distributions import normal_quantile
from tunewright.numerics.linalg import solve_cholesky
from tunewright.numerics.statistics import ranks

FloatArray = NDArray[np.float64]
Prior = Callable[[FloatArray], tuple[FloatArray, FloatArray]]

_ALONE = 8
_PER_SOURCE = 1000


def winsor(n: int) -> float:
    """Distance that empirical quantiles of ``n`` losses keep from 0 and 1.

    Source: Salinas et al. 2020, section 4.1 (after Liu et al. 2009): ``1 / (4 n^(1/4) sqrt(pi log n))``.
    """
    return 0.25 if n < 2 else min(0.25, 1.0 / (4.0 * n**0.25 * (np.pi * np.log(n)) ** 0.5))


def normal_scores(losses: FloatArray) -> FloatArray:
    """Losses as standard normal quantiles of their ranks, shape ``(n,)``; equal losses get equal scores.

    Source: Salinas et al. 2020, section 4.1.
    """
    n = len(losses)
    cut = winsor(n)
    share = (ranks(losses) - 0.5) / n
    out: FloatArray = np.asarray(normal_quantile(np.clip(share, cut, 1.0 - cut)), dtype=np.float64)
    return out


@functools.lru_cache(maxsize=32)
def _trained(features: bytes, scores: bytes, n: int) -> perceptron.Perceptron:
    # A fact about immutable data; studies that share their sources train it once.
    return perceptron.fit(np.frombuffer(features).reshape(n, -1), np.frombuffer(scores))


@dataclass(slots=True)
class CopulaState:
    """What ``Copula`` remembers.

    Attributes:
        history: The trials.
        memo: Hyperparameters already found; a cache, not a fact.
        priors: The network, by digest of the space; a cache, not a fact.
    """

    history: History
    memo: Memo = field(default_factory=dict, compare=False, repr=False)
    priors: dict[str, Prior | None] = field(default_factory=dict, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Copula:
    """Quantile-based transfer from earlier studies.

    Args:
        sources: Earlier studies; without any it is a Gaussian process on normal scores.
        mode: ``"gp"`` learns from the new trials too; ``"thompson"`` samples from the sources' prior alone.
        initial: Trials drawn from the prior before the process is asked.
        candidates: Random configurations compared in every decision.

    Raises:
        ConfigError: If a setting is out of range.
    """

    sources: tuple[Source, ...] = ()
    mode: Literal["gp", "thompson"] = "gp"
    initial: int = 4
    candidates: int = 400

    deliberate = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "sources", sources_of("Copula", self.sources))
        if self.mode not in ("gp", "thompson") or self.initial < 1 or self.candidates < 1:
            raise ConfigError(
                f"Copula needs mode 'gp' or 'thompson', initial >= 1 and candidates >= 1; got mode={self.mode!r}, "
                f"initial={self.initial}, candidates={self.candidates}. Use the defaults."
            )

    def init(self, problem: Problem) -> CopulaState:
        """The state before the first event."""
        return CopulaState(History(problem))

    def tell(self, state: CopulaState, events: Sequence[Event]) -> CopulaState:
        """Takes in events, O(1) each."""
        for event in events:
            state.history.apply(event)
        return state

    def ask(self, state: CopulaState, slots: int, rng: np.random.Generator) -> tuple[Action, ...]:
        """At most ``slots`` new configurations, each chosen with the earlier ones awaited."""
        history = state.history
        space = history.problem.space
        if not slots:
            return ()
        prior = self._prior(state)
        awaited: list[FloatArray] = list(history.codes[history.pending])
        out: list[Action] = []
        for slot in range(slots):
            number = history.n + slot
            x, losses = training_set(history, rng)
            if prior is None and (number < _ALONE or len(np.unique(losses)) < 2 or not space.d):
                rows, why = design_row(history.problem, number, _ALONE, rng)[None], {"design": float(number)}
            elif prior is not None and (
                self.mode == "thompson" or len(losses) < self.initial or len(np.unique(losses)) < 2
            ):
                rows, value = self._thompson(state, prior, rng)
                why = {"drawn_score": round(value, 3)}
            else:
                rows, value = self._improve(state, prior, x, losses, awaited, rng)
                why = {"log_ei": round(value, 3)}
            taken = np.concatenate((history.codes, np.reshape(awaited, (len(awaited), space.d))))
            new = first_new(space, taken, rows[:50], rng)
            if new is None:
                break
            awaited.append(new)
            out.append(Start(space.decode(new), why=why))
        return tuple(out)

    def _prior(self, state: CopulaState) -> Prior | None:
        """Mean and deviation of the normal score, from the sources; None without usable ones."""
        space = state.history.problem.space
        if space.digest not in state.priors:
            state.priors.clear()
            state.priors[space.digest] = None
            data = tables(self.sources, space) if space.d else []
            if data:
                columns = model.columns_of(space.layout.levels, space.layout.categorical)
                kept = [thinned(x, normal_scores(y), _PER_SOURCE) for x, y in data]
                features = columns.embed(np.concatenate([x for x, _ in kept]))
                scores = np.concatenate([z for _, z in kept])
                net = _trained(features.tobytes(), scores.tobytes(), len(scores))
                state.priors[space.digest] = lambda rows: net.predict(columns.embed(rows))
        return state.priors[space.digest]

    def _thompson(
        self, state: CopulaState, prior: Prior, rng: np.random.Generator
    ) -> tuple[FloatArray, float]:
        """Candidates by a draw of their score, lowest first (Algorithm 1)."""
        rows = state.history.problem.space.sample(rng, self.candidates)
        mean, std = prior(rows)
        drawn = mean + std * rng.standard_normal(len(rows))
        order = np.argsort(drawn, kind="stable")
        return rows[order], float(drawn[order[0]])

    def _improve(
        self,
        state: CopulaState,
        prior: Prior | None,
        x: FloatArray,
        losses: FloatArray,
        awaited: list[FloatArray],
        rng: np.random.Generator,
    ) -> tuple[FloatArray, float]:
        """Rows by expected improvement of the score, with a process on what the prior leaves unexplained."""
        space = state.history.problem.space
        layout = space.layout
        columns = model.columns_of(layout.levels, layout.categorical)
        known: Prior = prior if prior is not None else lambda rows: (np.zeros(len(rows)), np.ones(len(rows)))
        scores = normal_scores(losses)
        mean, std = known(x)
        rest = (scores - mean) / std
        # Ranks of all trials change with each new one; those of the trials that are tuned on do not.
        size = tuning_size(len(x))
        first = (normal_scores(losses[:size]) - mean[:size]) / std[:size]
        hyper = hyper_of(state.memo, columns, x[:size], first, warped=True)
        if len(x) > model.MAX_EXACT:
            keep = np.argsort(scores, kind="stable")[: model.MAX_EXACT]
            x, rest, mean, std = x[keep], rest[keep], mean[keep], std[keep]
        residual = model.update(columns, hyper, x, rest)
        # The process is one of residuals: no warping, and a mean of zero.
        residual = replace(residual, y=rest, mean=0.0, alpha=solve_cholesky(residual.factor, rest))
        if awaited:
            residual = model.condition_on(residual, np.array(awaited))
        best = float(scores.min())

        def score(rows: FloatArray) -> FloatArray:
            m, s = known(rows)
            r, t = model.predict(residual, rows)
            return log_expected_improvement(m + s * r, s * t, best)

        top = x[np.argsort(rest * std + mean, kind="stable")[:5]]
        rows, values = best_rows(score, space, top, rng, candidates=self.candidates)
        return rows, float(values[0])
