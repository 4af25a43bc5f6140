"""Hypervolume Bayesian optimisation: tries where the volume dominated by the front is expected to grow most.

*Use when* two to four objectives are minimised together and a trial costs seconds or more. *Do not use when* there is one
objective (``Bayes``), more than four, or thousands of cheap trials (``Nsga2``).

*Paper*: Emmerich, Deutz and Klinkenberg 2011 (CEC), eq. 2, maximised as in Daulton, Balandat and Bakshy 2020
(arXiv:2006.05078), section 3; its logarithm, Ament et al. 2023 (arXiv:2310.20708), section 4.

*Differs*: the improvement is exact for any number of objectives (``models.hypervolume``). The front is that of the processes'
means, which smooths noise. Awaited trials join it with their means and narrow the processes, in place of a joint integral.
Failed trials count as the worst loss known in every objective; outcome limits multiply by the probability of meeting them.
The reference point moves with the front unless given. One objective gives expected improvement.

*Cost*: ``tell`` O(1) per event; ``ask`` a Gaussian process of at most 300 rows per objective and about 900 candidates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import isfinite

import numpy as np
from numpy.typing import NDArray

from tunewright.core.algorithm import Action, Start
from tunewright.core.events import Event
from tunewright.core.history import History
from tunewright.core.novelty import first_new
from tunewright.core.problem import Problem
from tunewright.errors import ConfigError
from tunewright.models.belief import log_belief
from tunewright.models.design import design_row
from tunewright.models.hypervolume import (
    free_boxes,
    log_expected_hypervolume_improvement,
    reference_point,
    thinned,
)
from tunewright.models.kernel import columns_of
from tunewright.models.metric import Metric, log_feasible, metric_of, outcomes
from tunewright.models.refit import Memo
from tunewright.models.search import best_rows
from tunewright.numerics.pareto import nondominated

FloatArray = NDArray[np.float64]

_ROUNDS = 5
_AROUND = 12


@dataclass(slots=True)
class EhviState:
    """What ``Ehvi`` remembers.

    Attributes:
        history: The trials.
        memo: Hyperparameters already found, by objective, limits below zero; a cache.
    """

    history: History
    memo: dict[int, Memo] = field(default_factory=dict, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Ehvi:
    """Bayesian optimisation by expected hypervolume improvement.

    Args:
        initial: Trials before the first model.
        candidates: Random configurations compared in every decision.
        reference: Worst acceptable value of each objective, in the metrics' units; None follows the front.
        belief: Weight of the guesses, as a number of trials after which they count as much as one result.

    Raises:
        ConfigError: If a setting is out of range.
    """

    initial: int = 8
    candidates: int = 400
    reference: tuple[float, ...] | None = None
    belief: float = 5.0

    deliberate = True

    def __post_init__(self) -> None:
        if self.initial < 1 or self.candidates < 1 or self.belief < 0.0:
            raise ConfigError(
                f"Ehvi needs initial >= 1, candidates >= 1 and belief >= 0; got initial={self.initial}, "
                f"candidates={self.candidates}, belief={self.belief}. Use the defaults or larger numbers."
            )
        if self.reference is not None and not all(isfinite(v) for v in self.reference):
            raise ConfigError(
                f"Ehvi needs a finite reference; got reference={self.reference}. Leave it out to follow the front."
            )

    def init(self, problem: Problem) -> EhviState:
        """The state before the first event.

        Raises:
            ConfigError: If the reference has not one value per objective.
        """
        if self.reference is not None and len(self.reference) != problem.m:
            raise ConfigError(
                f"Ehvi needs a reference value for each of {problem.m} objectives; got {len(self.reference)}. "
                "Give as many, in the order of the objectives."
            )
        return EhviState(History(problem))

    def tell(self, state: EhviState, events: Sequence[Event]) -> EhviState:
        """Takes in events, O(1) each."""
        for event in events:
            state.history.apply(event)
        return state

    def ask(self, state: EhviState, slots: int, rng: np.random.Generator) -> tuple[Action, ...]:
        """At most ``slots`` new configurations, each chosen with the earlier ones awaited."""
        history = state.history
        space = history.problem.space
        awaited: list[FloatArray] = list(history.codes[history.pending])
        out: list[Action] = []
        for slot in range(slots):
            number = history.n + slot
            rows, losses, _ = outcomes(history)
            if number < self.initial or not space.d or len(np.unique(losses, axis=0)) < 2:
                wanted = design_row(history.problem, number, self.initial, rng)[None]
                why = {"design": float(number)}
            else:
                wanted, gain = self._model(state, history.codes[rows], losses, np.array(awaited), rng)
                why = {"log_ehvi": round(gain, 3)}
            taken = np.concatenate((history.codes, np.reshape(awaited, (len(awaited), space.d))))
            new = first_new(space, taken, wanted, rng)
            if new is None:
                break
            awaited.append(new)
            out.append(Start(space.decode(new), why=why))
        return tuple(out)

    def _model(
        self,
        state: EhviState,
        x: FloatArray,
        losses: FloatArray,
        awaited: FloatArray,
        rng: np.random.Generator,
    ) -> tuple[FloatArray, float]:
        """Rows, best first, and the log expected hypervolume improvement of the first."""
        history = state.history
        space = history.problem.space
        columns = columns_of(space.layout.levels, space.layout.categorical)
        metrics = [
            metric_of(state.memo.setdefault(k, {}), columns, x, losses[:, k]) for k in range(losses.shape[1])
        ]
        front_rows, lows, highs = self._front(history, metrics, x, awaited)
        narrowed = [m.given(awaited) for m in metrics] if len(awaited) else metrics
        prior = log_belief(space)
        weight = self.belief / len(losses)

        def score(rows: FloatArray) -> FloatArray:
            both = [metric.predict(rows) for metric in narrowed]
            mean, std = (np.column_stack(part) for part in zip(*both, strict=True))
            value = log_feasible(state.memo, columns, history, rows, awaited)
            if len(lows):
                value = value + log_expected_hypervolume_improvement(mean, std, lows, highs)
            return value if prior is None else value + weight * prior(rows)

        rows, values = best_rows(score, space, front_rows, rng, candidates=self.candidates, rounds=_ROUNDS)
        return rows[:50], float(values[0])

    def _front(
        self, history: History, metrics: list[Metric], x: FloatArray, awaited: FloatArray
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Codes around which to search, and the boxes that the front leaves free; no boxes where nothing is allowed."""
        rows, losses, good = outcomes(history)
        violation = history.violation[rows]
        allowed = good & (violation <= 0.0)
        if not allowed.any():
            nearest = np.argsort(np.where(good, violation, np.inf), kind="stable")[:5]
            none = np.empty((0, losses.shape[1]))
            return x[nearest], none, none
        known = np.column_stack([m.predict(x[allowed])[0] for m in metrics])
        points = known
        if len(awaited):
            points = np.concatenate([known, np.column_stack([m.predict(awaited)[0] for m in metrics])])
        front = np.unique(points[nondominated(points)], axis=0)
        if self.reference is None:
            corner = reference_point(front, points)
        else:
            signs = [o.sign for o in history.problem.objectives]
            corner = np.array(
                [float(m.standard(s * v)) for m, s, v in zip(metrics, signs, self.reference, strict=True)]
            )
        lows, highs = free_boxes(thinned(front), corner)
        best = np.flatnonzero(nondominated(known))
        return x[allowed][best[-_AROUND:]], lows, highs
