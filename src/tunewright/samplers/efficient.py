"""Effectiveness and efficiency: minimises a weighted sum of loss and logarithmic training time.

*Use when* a slightly worse model that trains much faster is preferred, and how much so can be said in one number. *Do not
use when* the whole trade-off is wanted (``Ehvi``, ``Carbs``), or only the search should be cheap, not its result.

*Paper*: Wang, Dernoncourt and Bui 2020 (arXiv:2008.00386): Bayesian optimisation of one objective that combines prediction
effectiveness with training efficiency.

*Differs*: the loss and the log of the time have a process each, and the utility is ``(1 - weight) loss + weight log time``, both
in units of their standard deviations over the trials so far; as a sum of independent normals it has expected improvement
in closed form. Failed trials count as the worst in both. Awaited trials count with their means and narrow
both processes.

*Cost*: ``tell`` O(1) per event; ``ask`` two Gaussian processes of at most 300 rows and about 900 candidates.
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
from tunewright.models.acquisition import log_expected_improvement
from tunewright.models.belief import log_belief
from tunewright.models.cost import cost_objective, log_costs
from tunewright.models.data import scalarise
from tunewright.models.design import design_row
from tunewright.models.kernel import columns_of
from tunewright.models.metric import log_feasible, metric_of, outcomes
from tunewright.models.refit import Memo
from tunewright.models.search import best_rows

FloatArray = NDArray[np.float64]

_ROUNDS = 4
_AROUND = 5
_BELIEF = 5.0


@dataclass(slots=True)
class EfficientState:
    """What ``Efficient`` remembers.

    Attributes:
        history: The trials.
        memo: Hyperparameters already found: 0 the loss, 1 the time, limits below zero; a cache.
    """

    history: History
    memo: dict[int, Memo] = field(default_factory=dict, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Efficient:
    """Bayesian optimisation of a loss and of what it costs.

    Args:
        weight: Share of the log cost in the utility: 0 looks at the loss only, 1 at the cost only.
        cost: ``"seconds"``, what trials are measured to take, or the name of one of several objectives.
        initial: Trials before the first model.
        candidates: Random configurations compared in every decision.

    Raises:
        ConfigError: If a setting is out of range.
    """

    weight: float = 0.3
    cost: str = "seconds"
    initial: int = 6
    candidates: int = 400

    deliberate = True

    def __post_init__(self) -> None:
        if not 0.0 <= self.weight <= 1.0 or self.initial < 1 or self.candidates < 1:
            raise ConfigError(
                f"Efficient needs weight in [0, 1], initial >= 1 and candidates >= 1; got weight={self.weight}, "
                f"initial={self.initial}, candidates={self.candidates}. Use the defaults."
            )

    def init(self, problem: Problem) -> EfficientState:
        """The state before the first event.

        Raises:
            ConfigError: If the cost is not an objective that can be one.
        """
        cost_objective(problem, self.cost)
        return EfficientState(History(problem))

    def tell(self, state: EfficientState, events: Sequence[Event]) -> EfficientState:
        """Takes in events, O(1) each."""
        for event in events:
            state.history.apply(event)
        return state

    def ask(self, state: EfficientState, slots: int, rng: np.random.Generator) -> tuple[Action, ...]:
        """At most ``slots`` new configurations, each chosen with the earlier ones awaited."""
        history = state.history
        space = history.problem.space
        awaited: list[FloatArray] = list(history.codes[history.pending])
        out: list[Action] = []
        for slot in range(slots):
            number = history.n + slot
            rows = outcomes(history)[0]
            if number < self.initial or not space.d or int(rows.sum()) < 2:
                wanted = design_row(history.problem, number, self.initial, rng)[None]
                why = {"design": float(number)}
            else:
                wanted, gain = self._model(state, np.array(awaited), rng)
                why = {"log_ei": round(gain, 3)}
            taken = np.concatenate((history.codes, np.reshape(awaited, (len(awaited), space.d))))
            new = first_new(space, taken, wanted, rng)
            if new is None:
                break
            awaited.append(new)
            out.append(Start(space.decode(new), why=why))
        return tuple(out)

    def _model(
        self, state: EfficientState, awaited: FloatArray, rng: np.random.Generator
    ) -> tuple[FloatArray, float]:
        """Rows, best first, and the log expected improvement of the first."""
        history = state.history
        space = history.problem.space
        columns = columns_of(space.layout.levels, space.layout.categorical)
        rows, losses, good = outcomes(history)
        x = history.codes[rows]
        objective = cost_objective(history.problem, self.cost)
        if objective is not None:
            losses = np.delete(losses, objective, axis=1)
        loss = losses[:, 0] if losses.shape[1] == 1 else scalarise(losses, rng)
        times = log_costs(history, rows, objective)
        times[~good] = times.max()
        both = [
            (1.0 - self.weight, metric_of(state.memo.setdefault(0, {}), columns, x, loss)),
            (self.weight, metric_of(state.memo.setdefault(1, {}), columns, x, times)),
        ]
        # The utility of the trials by the processes' means, so that noise alone makes no incumbent.
        known = np.sum([share * metric.predict(x)[0] for share, metric in both], axis=0)
        allowed = good & (history.violation[rows] <= 0.0)
        best = float(known[allowed].min()) if allowed.any() else float(known.max())
        if len(awaited):
            believed = np.sum([share * metric.predict(awaited)[0] for share, metric in both], axis=0)
            best = min(best, float(believed.min()))
        order = np.argsort(np.where(allowed, known, np.inf), kind="stable")[:_AROUND]
        narrowed = [(share, m.given(awaited) if len(awaited) else m) for share, m in both]
        prior = log_belief(space)

        def score(candidates: FloatArray) -> FloatArray:
            mean, variance = np.zeros(len(candidates)), np.zeros(len(candidates))
            for share, metric in narrowed:
                level, std = metric.predict(candidates)
                mean += share * level
                variance += (share * std) ** 2
            value = log_expected_improvement(mean, np.sqrt(variance), best)
            value = value + log_feasible(state.memo, columns, history, candidates, awaited)
            return value if prior is None else value + _BELIEF / len(x) * prior(candidates)

        found, values = best_rows(score, space, x[order], rng, candidates=self.candidates, rounds=_ROUNDS)
        return found[:50], float(values[0])
