"""Bayesian optimisation: a Gaussian process over the whole conditional space, and log expected improvement.

*Use when* a trial costs more than a tenth of a second and there will be up to some hundreds of them. *Do not use
when* thousands of cheap trials are planned (``Tpe`` or an evolution strategy) or a trial costs milliseconds.

*Paper*: Jones, Schonlau and Welch 1998 (EGO), with log expected improvement of Ament et al. 2023
(arXiv:2310.20708) and length-scale priors of Hvarfner et al. 2024 (arXiv:2402.02229); awaited trials as in
Ginsbourger et al. 2010 (kriging believer); several objectives as in Knowles 2006 (ParEGO, eq. 1 and 2); guesses as
in Hvarfner et al. 2022 (piBO, arXiv:2204.11051, eq. 6).

*Differs*: losses are warped (``models.warp``), failed trials count as the worst loss known, trials that exceed an
outcome limit as worse than every one that does not (Deb 2000), and hyperparameters are found anew at a growing
interval, always from the same start, so that a decision depends on the log alone.

*Cost*: ``tell`` O(1) per event; ``ask`` one factorisation of n^3 (n at most 500), plus some twenty when
hyperparameters are due, and one prediction of 600 candidates.
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
from tunewright.models.acquisition import maximize_acquisition
from tunewright.models.belief import log_belief
from tunewright.models.criteria import NAMES, Name, criterion
from tunewright.models.data import training_set
from tunewright.models.design import design_row

FloatArray = NDArray[np.float64]

_DENSE = 30
_GROWTH = 1.1
_TIE, _MOST_TIES = 0.1, 10


@dataclass(slots=True)
class BayesState:
    """What ``Bayes`` remembers.

    Attributes:
        history: The trials.
        memo: Hyperparameters already found, keyed by the data they were found on; a cache, not a fact.
    """

    history: History
    memo: dict[tuple[bytes, bytes], model.Hyper] = field(default_factory=dict, compare=False, repr=False)


def tuning_size(n: int) -> int:
    """How many of ``n`` trials the hyperparameters are found on: all at first, then in steps of a tenth."""
    size = min(n, _DENSE)
    while size >= _DENSE and (larger := int(np.ceil(size * _GROWTH))) <= n:
        size = larger
    return size


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

    Raises:
        ConfigError: If a setting is out of range.
    """

    initial: int = 5
    candidates: int = 400
    belief: float = 5.0
    acquisition: Name = "log_ei"

    deliberate = True

    def __post_init__(self) -> None:
        if self.initial < 1 or self.candidates < 1 or self.belief < 0.0:
            raise ConfigError(
                f"Bayes needs initial >= 1, candidates >= 1 and belief >= 0; got initial={self.initial}, "
                f"candidates={self.candidates}, belief={self.belief}. Use the defaults or larger numbers."
            )
        if self.acquisition not in NAMES:
            raise ConfigError(
                f"The acquisition must be one of {', '.join(NAMES)}; got {self.acquisition!r}. Choose one of them."
            )

    def init(self, problem: Problem) -> BayesState:
        """The state before the first event."""
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
        out: list[Action] = []
        for slot in range(slots):
            number = history.n + slot
            x, losses = training_set(history, rng)
            if number < self.initial or len(np.unique(losses)) < 2:
                row = design_row(history.problem, number, self.initial, rng)
                why = {"design": float(number)}
            else:
                row, gain = self._model(state, x, losses, np.array(awaited), rng)
                why = {self.acquisition: round(gain, 3)}
            taken = np.concatenate((history.codes, np.reshape(awaited, (len(awaited), space.d))))
            new = first_new(space, taken, row[None], rng)
            if new is None:
                break
            awaited.append(new)
            out.append(Start(space.decode(new), why=why))
        return tuple(out)

    def _hyper(
        self, state: BayesState, columns: model.Columns, x: FloatArray, losses: FloatArray
    ) -> model.Hyper:
        size = tuning_size(len(losses))
        x, losses = x[:size], losses[:size]
        key = (x.tobytes(), losses.tobytes())
        if key not in state.memo:
            state.memo.clear()
            state.memo[key] = model.learn(columns, x, losses)
        return state.memo[key]

    def _model(
        self,
        state: BayesState,
        x: FloatArray,
        losses: FloatArray,
        awaited: FloatArray,
        rng: np.random.Generator,
    ) -> tuple[FloatArray, float]:
        space = state.history.problem.space
        layout = space.layout
        columns = model.columns_of(layout.levels, layout.categorical)
        gp = model.update(columns, self._hyper(state, columns, x, losses), x, losses)
        best = float(gp.y.min()) - _TIE * tied(losses)
        order = np.argsort(losses, kind="stable")[:5]
        if len(awaited):
            gp = model.condition_on(gp, awaited)
        prior = log_belief(space)
        weight = self.belief / len(losses)
        candidates = space.sample(rng, self.candidates)
        return maximize_acquisition(
            criterion(self.acquisition, gp, best, candidates, rng),
            layout.levels,
            layout.categorical,
            candidates,
            x[order],
            lambda codes: space.repair(codes, rng),
            rng,
            terms=() if prior is None else (lambda codes: weight * prior(codes),),
        )
