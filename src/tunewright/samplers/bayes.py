"""Bayesian optimisation: a Gaussian process over the whole conditional space, and log expected improvement.

*Use when* a trial costs more than a tenth of a second and there will be up to some hundreds of them. *Do not use
when* thousands of cheap trials are planned (``Tpe`` or an evolution strategy) or a trial costs milliseconds.

*Paper*: Jones, Schonlau and Welch 1998 (EGO), with log expected improvement of Ament et al. 2023
(arXiv:2310.20708) and length-scale priors of Hvarfner et al. 2024 (arXiv:2402.02229); awaited trials as in
Ginsbourger et al. 2010 (kriging believer); several objectives as in Knowles 2006 (ParEGO, eq. 1 and 2); guesses as
in Hvarfner et al. 2022 (piBO, arXiv:2204.11051, eq. 6); outcome limits as in Gardner et al. 2014 (ICML, section 3) and
failures as in Gelbart et al. 2014 (arXiv:1403.5607, section 3): the improvement is weighed by the probability that a trial
does not fail and keeps the limits, learned by a process of failures and one per limit (``models.invalid``); improvement per cost as in Snoek et
al. 2012 (arXiv:1206.2944, section 3.2), with the cooling of Lee et al. 2020 (arXiv:2003.10870, eq. 4). The other
acquisitions and their papers: ``models.criteria``.

*Differs*: losses are warped (``models.warp``), and hyperparameters are found anew at a growing interval, always from the
same start, so that a decision depends on the log alone. Trials of the same configuration are one observation, with the
noise divided by their number. While no two allowed losses differ, failed trials count as the worst loss known, and as long
as nothing keeps the limits, the excess stands for the loss.

*Cost*: ``tell`` O(1) per event; ``ask`` one factorisation of n^3 (n at most 500), plus some twenty when
hyperparameters are due, and one prediction of 600 candidates. Failures, every outcome limit that was exceeded, and
``cost`` take one more process each, of at most 300 rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import inf
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
from tunewright.models.acquisition import Value, maximize_acquisition
from tunewright.models.belief import log_belief
from tunewright.models.cost import cost_objective, cost_term
from tunewright.models.criteria import DRAWS, NAMES, Name, criterion
from tunewright.models.data import Observations, observations
from tunewright.models.design import design_row
from tunewright.models.invalid import log_validity
from tunewright.models.refit import Memo, tuning_size

FloatArray = NDArray[np.float64]

_TIE, _MOST_TIES = 0.1, 10
_COST = 0


@dataclass(slots=True)
class BayesState:
    """What ``Bayes`` remembers.

    Attributes:
        history: The trials.
        memo: Hyperparameters already found, keyed by the data they were found on; a cache, not a fact.
        memos: The same of other processes: 0 the cost, 1 the failures, limits below zero; a cache.
    """

    history: History
    memo: dict[tuple[bytes, bytes], model.Hyper] = field(default_factory=dict, compare=False, repr=False)
    memos: dict[int, Memo] = field(default_factory=dict, compare=False, repr=False)


def tied(losses: FloatArray) -> int:
    """How many trials have exactly the lowest loss, beyond the first: so often did trying the same place not help.

    Args:
        losses: Finite losses, shape ``(n,)`` with ``n >= 1``.
    """
    return min(int(np.sum(losses == losses.min())) - 1, _MOST_TIES)


@dataclass(frozen=True, slots=True)
class Bayes:
    """Bayesian optimisation with a Gaussian process.

    Args:
        initial: Trials before the first model: scrambled Sobol points, or draws around the guesses.
        candidates: Random configurations compared in every decision.
        belief: Weight of the guesses, as a number of trials after which they count as much as one result.
        acquisition: ``"log_ei"`` expected improvement, ``"lcb"`` confidence bound, ``"thompson"`` one draw of the process,
            ``"mes"`` max-value entropy search, ``"jes"`` joint entropy search. Trials that run at the same time see the
            earlier ones as awaited whatever the acquisition.
        draws: Draws of the minimum that ``"mes"`` and ``"jes"`` average over.
        incumbent: What is to be improved on: ``"observed"`` the lowest loss, or ``"mean"`` the lowest posterior mean of a tried
            configuration, which chance results do not lower.
        cost: ``"seconds"``, what trials are measured to take, or the name of one of several objectives: the acquisition is
            divided by the expected cost, and that objective is no longer a loss. None: all trials cost the same.
        budget: Cost that all trials together may have, in the unit of ``cost``: as it is used up, the cost of a trial counts
            less. None: it counts in full.

    Raises:
        ConfigError: If a setting is out of range.
    """

    initial: int = 5
    candidates: int = 400
    belief: float = 5.0
    acquisition: Name = "log_ei"
    draws: int = DRAWS
    incumbent: Literal["observed", "mean"] = "observed"
    cost: str | None = None
    budget: float | None = None

    deliberate = True

    def __post_init__(self) -> None:
        if self.initial < 1 or self.candidates < 1 or self.belief < 0.0:
            raise ConfigError(
                f"Bayes needs initial >= 1, candidates >= 1 and belief >= 0; got initial={self.initial}, "
                f"candidates={self.candidates}, belief={self.belief}. Use the defaults or larger numbers."
            )
        if self.acquisition not in NAMES or self.draws < 1:
            raise ConfigError(
                f"Bayes needs acquisition to be one of {', '.join(NAMES)}, and draws >= 1; got "
                f"acquisition={self.acquisition!r}, draws={self.draws}. Choose one of these, or use the defaults."
            )
        if self.incumbent not in ("observed", "mean"):
            raise ConfigError(
                f"Bayes needs incumbent to be 'observed' or 'mean'; got incumbent={self.incumbent!r}. Choose one of these."
            )
        if self.budget is not None and (self.cost is None or not 0.0 < self.budget < inf):
            raise ConfigError(
                f"Bayes needs a positive budget and a cost that it is counted in; got budget={self.budget}, "
                f"cost={self.cost!r}. Leave the budget out, or pass cost='seconds'."
            )

    def init(self, problem: Problem) -> BayesState:
        """The state before the first event.

        Raises:
            ConfigError: If the cost is not an objective that can be one.
        """
        self._cost_objective(problem)
        return BayesState(History(problem))

    def tell(self, state: BayesState, events: Sequence[Event]) -> BayesState:
        """Takes in events, O(1) each."""
        for event in events:
            state.history.apply(event)
        return state

    def ask(self, state: BayesState, slots: int, rng: np.random.Generator) -> tuple[Action, ...]:
        """At most ``slots`` new configurations, each chosen with the earlier ones awaited."""
        history = state.history
        space = history.problem.space
        awaited: list[FloatArray] = list(history.codes[history.pending])
        without = self._cost_objective(history.problem)
        out: list[Action] = []
        for slot in range(slots):
            number = history.n + slot
            seen = observations(history, rng, without)
            if number < self.initial or len(np.unique(seen.losses)) < 2:
                row = self._design(state, number, np.array(awaited), rng)
                why = {"design": float(number)}
            else:
                row, gain = self._model(state, seen, np.array(awaited), rng)
                why = {self.acquisition: round(gain, 3)}
            taken = np.concatenate((history.codes, np.reshape(awaited, (len(awaited), space.d))))
            new = first_new(space, taken, row[None], rng)
            if new is None:
                break
            awaited.append(new)
            out.append(Start(space.decode(new), why=why))
        return tuple(out)

    def _cost_objective(self, problem: Problem) -> int | None:
        return None if self.cost is None else cost_objective(problem, self.cost)

    def _design(
        self, state: BayesState, number: int, awaited: FloatArray, rng: np.random.Generator
    ) -> FloatArray:
        """A row of the design; beyond it the one of some draws that fails least, once some failed."""
        problem = state.history.problem
        space = problem.space
        valid = None
        if number >= self.initial and space.d:
            columns = model.columns_of(space.layout.levels, space.layout.categorical)
            valid = log_validity(state.memos, columns, state.history, awaited)
        if valid is None:
            return design_row(problem, number, self.initial, rng)
        rows = space.sample(rng, self.candidates)
        row: FloatArray = rows[int(np.argmax(valid(rows)))]
        return row

    def _hyper(self, state: BayesState, columns: model.Columns, seen: Observations) -> model.Hyper:
        size = tuning_size(len(seen.losses))
        x, losses, weights = seen.rows[:size], seen.losses[:size], seen.weights
        key = (x.tobytes(), losses.tobytes() + (b"" if weights is None else weights[:size].tobytes()))
        if key not in state.memo:
            state.memo.clear()
            state.memo[key] = model.learn(
                columns, x, losses, weights=None if weights is None else weights[:size]
            )
        return state.memo[key]

    def _terms(self, state: BayesState, columns: model.Columns, awaited: FloatArray, n: int) -> list[Value]:
        """What is added to the acquisition: belief, validity, cost."""
        history = state.history
        out: list[Value] = []
        prior, weight = log_belief(history.problem.space), self.belief / n
        if prior is not None:
            out.append(lambda rows: weight * prior(rows))
        valid = log_validity(state.memos, columns, history, awaited)
        if valid is not None:
            out.append(valid)
        if self.cost is not None:
            memo = state.memos.setdefault(_COST, {})
            objective = self._cost_objective(history.problem)
            term = cost_term(memo, columns, history, objective, self.budget, self.initial)
            out.extend([] if term is None else [term])
        return out

    def _model(
        self,
        state: BayesState,
        seen: Observations,
        awaited: FloatArray,
        rng: np.random.Generator,
    ) -> tuple[FloatArray, float]:
        history = state.history
        space = history.problem.space
        layout = space.layout
        columns = model.columns_of(layout.levels, layout.categorical)
        gp = model.update(columns, self._hyper(state, columns, seen), seen.rows, seen.losses, seen.weights)
        allowed = seen.losses[seen.allowed]
        known_values = (
            model.predict(gp, seen.rows[seen.allowed])[0] if self.incumbent == "mean" else gp.warp(allowed)
        )
        best = float(known_values.min()) - _TIE * tied(allowed)
        order = np.argsort(np.where(seen.allowed, seen.losses, inf), kind="stable")[:5]
        terms = self._terms(state, columns, awaited, len(seen.losses))
        known = history.codes
        if len(awaited):
            gp = model.condition_on(gp, awaited)
            known = np.concatenate((known, awaited))
        candidates = space.sample(rng, self.candidates)
        return maximize_acquisition(
            criterion(self.acquisition, gp, best, candidates, rng, self.draws),
            known,
            layout.levels,
            layout.categorical,
            candidates,
            seen.rows[order],
            lambda codes: space.repair(codes, rng),
            rng,
            terms=terms,
        )
