"""Constrained Bayesian optimisation by optimism: the best that may still be allowed, or the finding that nothing is.

*Use when* outcome limits are tight, exceeding them in a trial is bearable, and it matters to learn whether they can be met
at all. *Do not use when* there are no limits (``Bayes``), or a trial beyond a limit does harm.

*Paper*: Xu, Jiang, Svetozarevic and Jones 2023 (CONFIG, arXiv:2211.00162), Algorithm 1: minimise the lower confidence
bound of the objective subject to the lower confidence bounds of all limited metrics being within their limits; declare
infeasibility when no point satisfies these.

*Differs*: hyperparameters are estimated, so the confidence is that of a model, and infeasibility is declared only after
``initial`` trials and where no trial met all limits; the auxiliary problem is solved by draws, mutations and their
mutations instead of on a grid; the width of the bounds is a constant number of standard deviations; awaited trials narrow
the bounds, but are left out where infeasibility is judged. The search then proposes nothing more, which ends the study.

*Cost*: ``tell`` O(1) per event; ``ask`` one Gaussian process of at most 300 rows for the objective and for each limit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from tunewright.core.algorithm import Action, Start
from tunewright.core.events import Event
from tunewright.core.history import History
from tunewright.core.novelty import first_new
from tunewright.core.problem import Problem
from tunewright.errors import ConfigError
from tunewright.models import gp as model
from tunewright.models.acquisition import lower_confidence_bound
from tunewright.models.data import scalarise
from tunewright.models.design import design_row
from tunewright.models.evidence import centre
from tunewright.models.refit import Memo, hyper_of
from tunewright.models.search import best_rows

FloatArray = NDArray[np.float64]

_ROWS = 300
_HUGE = 1e6
_LARGEST = 1e150


@dataclass(frozen=True, slots=True)
class Bound:
    """A process of one metric, and where its threshold lies on the process's scale.

    Attributes:
        process: Of the standardised metric.
        threshold: The limit, standardised; 0 for the objective.
    """

    process: model.GP
    threshold: float

    def lower(self, rows: FloatArray, deviations: float) -> FloatArray:
        """Lower confidence bound above the threshold, standardised, shape ``(q,)``."""
        mean, std = model.predict(self.process, rows)
        return lower_confidence_bound(mean, std, deviations**2) - self.threshold


def bound_of(memo: Memo, columns: model.Columns, x: FloatArray, values: FloatArray) -> Bound:
    """A process without warping, which keeps the sign of a margin.

    Args:
        memo: Remembers hyperparameters; a cache.
        columns: The embedding.
        x: Rows of codes, shape ``(n, d)`` with ``n >= 1``.
        values: Finite values of the metric, minus its limit where it has one, shape ``(n,)``.
    """
    x, values = x[-_ROWS:], np.clip(values[-_ROWS:], -_LARGEST, _LARGEST)
    mean = float(values.mean())
    std = float(values.std())
    scale = std if std > 1e-12 * max(1.0, abs(mean)) else max(1.0, abs(mean))
    y = (values - mean) / scale
    hyper = hyper_of(memo, columns, x, y, warped=True)
    gp = model.update(columns, hyper, x, y)
    level, alpha = centre(gp.factor, y)
    return Bound(replace(gp, y=y, mean=level, alpha=alpha), -mean / scale)


@dataclass(slots=True)
class ConfigState:
    """What ``Config`` remembers.

    Attributes:
        history: The trials.
        memo: Hyperparameters already found, by metric; a cache.
    """

    history: History
    memo: dict[int, Memo] = field(default_factory=dict, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Config:
    """Constrained Bayesian optimisation by optimism.

    Args:
        initial: Trials before the first model.
        deviations: Half-width of the confidence bounds, in standard deviations.
        candidates: Random configurations compared in every decision.

    Raises:
        ConfigError: If a setting is out of range.
    """

    initial: int = 8
    deviations: float = 2.0
    candidates: int = 400

    deliberate = True

    def __post_init__(self) -> None:
        if self.initial < 1 or self.candidates < 1 or not 0.0 < self.deviations < float("inf"):
            raise ConfigError(
                f"Config needs initial >= 1, candidates >= 1 and finite deviations > 0; got "
                f"initial={self.initial}, candidates={self.candidates}, deviations={self.deviations}. "
                "Use the defaults."
            )

    def init(self, problem: Problem) -> ConfigState:
        """The state before the first event."""
        return ConfigState(History(problem))

    def tell(self, state: ConfigState, events: Sequence[Event]) -> ConfigState:
        """Takes in events, O(1) each."""
        for event in events:
            state.history.apply(event)
        return state

    def ask(self, state: ConfigState, slots: int, rng: np.random.Generator) -> tuple[Action, ...]:
        """At most ``slots`` new configurations; none once the limits are found to be out of reach."""
        history = state.history
        space = history.problem.space
        awaited: list[FloatArray] = list(history.codes[history.pending])
        out: list[Action] = []
        for slot in range(slots):
            number = history.n + slot
            modelled = number >= self.initial and int(history.usable.sum()) >= 2 and space.d > 0
            bounds = self._bounds(state, rng) if modelled else None
            if bounds is None:
                rows = design_row(history.problem, number, self.initial, rng)[None]
                why = {"design": float(number)}
            else:
                found, why = self._solve(history, *bounds, np.array(awaited), rng)
                if found is None:
                    break
                rows = found
            taken = np.concatenate((history.codes, np.reshape(awaited, (len(awaited), space.d))))
            new = first_new(space, taken, rows, rng)
            if new is None:
                break
            awaited.append(new)
            out.append(Start(space.decode(new), why=why))
        return tuple(out)

    def _bounds(self, state: ConfigState, rng: np.random.Generator) -> tuple[Bound, list[Bound]] | None:
        """Processes of the objective and of every limited metric; None where too little is known."""
        history = state.history
        layout = history.problem.space.layout
        columns = model.columns_of(layout.levels, layout.categorical)
        rows = history.usable & ~np.isnan(history.codes).all(axis=1)
        rows &= np.isfinite(history.losses).all(axis=1)
        if int(rows.sum()) < 2:
            return None
        losses = history.losses[rows]
        values = losses[:, 0] if losses.shape[1] == 1 else scalarise(losses, rng)
        objective = bound_of(state.memo.setdefault(-1, {}), columns, history.codes[rows], values)
        limits = []
        for k, margin in enumerate(history.margins.T):
            known = rows & np.isfinite(margin)
            if int(known.sum()) < 2:
                return None
            memo = state.memo.setdefault(k, {})
            limits.append(bound_of(memo, columns, history.codes[known], margin[known]))
        return objective, limits

    def _solve(
        self,
        history: History,
        objective: Bound,
        limits: list[Bound],
        awaited: FloatArray,
        rng: np.random.Generator,
    ) -> tuple[FloatArray | None, dict[str, float]]:
        """The optimistic problem: rows, best first, or None where no row may meet the limits."""
        space = history.problem.space
        wide = self.deviations

        def excess(rows: FloatArray, given: list[Bound]) -> FloatArray:
            total = np.zeros(len(rows))
            for bound in given:
                total += np.maximum(bound.lower(rows, wide), 0.0)
            return total

        narrowed, tight = objective, limits
        if len(awaited):
            narrowed = replace(objective, process=model.condition_on(objective.process, awaited))
            tight = [replace(b, process=model.condition_on(b.process, awaited)) for b in limits]

        def score(rows: FloatArray) -> FloatArray:
            beyond = excess(rows, tight)
            return np.where(beyond > 0.0, -_HUGE * (1.0 + beyond), -narrowed.lower(rows, wide))

        usable = np.flatnonzero(history.usable)
        order = np.lexsort((history.loss[usable], history.violation[usable]))[:5]
        known = history.codes[usable[order]]
        incumbents = known[~np.isnan(known).all(axis=1)]
        rows, values = best_rows(score, space, incumbents, rng, candidates=self.candidates)
        met = bool(np.any(history.usable & (history.violation == 0.0)))
        least = float(excess(rows, limits).min())
        if limits and not met and least > 0.0:
            return None, {}
        return rows[:50], {"optimistic": round(float(-values[0]), 3), "excess": round(least, 3)}
