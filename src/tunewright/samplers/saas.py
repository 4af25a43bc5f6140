"""Bayesian optimisation under a sparse prior: finds the few parameters that matter among many.

*Use when* there are 20 to some hundred parameters, most of them perhaps without effect, and at most some hundred trials.
*Do not use when* all parameters matter (``Turbo``), or there are few of them (``Bayes``).

*Paper*: Eriksson and Jankowiak 2021 (SAASBO, arXiv:2103.00049), Algorithm 1; the prior is that of its section 4.1, in
``models.sparse``.

*Differs*: two weighed modes in place of Monte-Carlo samples of the hyperparameters, so that a decision takes
milliseconds, not minutes; log expected improvement, its mean over the modes taken inside the logarithm; awaited trials as
in ``Bayes``. A parameter that no mode uses keeps its incumbent's value in the proposals that stem from the incumbent.

*Cost*: ``tell`` O(1) per event; ``ask`` one factorisation of n^3 (n at most 500) for each mode, and up to 80 of at most
120 rows when hyperparameters are due, which is at every tenth more trials.
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
from tunewright.core.space import Space
from tunewright.errors import ConfigError
from tunewright.models import gp as model
from tunewright.models.acquisition import log_expected_improvement, log_improvement, maximize_acquisition
from tunewright.models.belief import log_belief
from tunewright.models.data import training_set
from tunewright.models.design import design_row
from tunewright.models.refit import tuning_size
from tunewright.models.sparse import Member, modes

FloatArray = NDArray[np.float64]

_LEARNED = 120
_COUNTS = 0.05
_BELIEF = 5.0


@dataclass(slots=True)
class SaasState:
    """What ``Saas`` remembers.

    Attributes:
        history: The trials.
        memo: Modes already found, keyed by the data they were found on; a cache, not a fact.
    """

    history: History
    memo: dict[bytes, tuple[Member, ...]] = field(default_factory=dict, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Saas:
    """Bayesian optimisation under a sparse prior.

    Args:
        initial: Trials before the first model.
        candidates: Random configurations compared in every decision, for each mode.

    Raises:
        ConfigError: If a setting is out of range.
    """

    initial: int = 12
    candidates: int = 300

    deliberate = True

    def __post_init__(self) -> None:
        if self.initial < 1 or self.candidates < 1:
            raise ConfigError(
                f"Saas needs initial >= 1 and candidates >= 1; got initial={self.initial}, "
                f"candidates={self.candidates}. Use the defaults."
            )

    def init(self, problem: Problem) -> SaasState:
        """The state before the first event."""
        return SaasState(History(problem))

    def tell(self, state: SaasState, events: Sequence[Event]) -> SaasState:
        """Takes in events, O(1) each."""
        for event in events:
            state.history.apply(event)
        return state

    def ask(self, state: SaasState, slots: int, rng: np.random.Generator) -> tuple[Action, ...]:
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
                row, why = self._improve(state, x, losses, np.array(awaited), rng)
            taken = np.concatenate((history.codes, np.reshape(awaited, (len(awaited), space.d))))
            new = first_new(space, taken, row[None], rng)
            if new is None:
                break
            awaited.append(new)
            out.append(Start(space.decode(new), why=why))
        return tuple(out)

    def _modes(
        self, state: SaasState, columns: model.Columns, x: FloatArray, losses: FloatArray
    ) -> tuple[Member, ...]:
        size = tuning_size(len(losses))
        x, losses = x[:size], losses[:size]
        key = x.tobytes() + losses.tobytes()
        if key not in state.memo:
            few, warped = model.for_tuning(x, losses)
            keep = np.sort(np.argsort(warped, kind="stable")[:_LEARNED])
            if len(few) > _LEARNED:
                # Half of them the best, half spread over the ranks, so that what matters is seen far from the best too.
                order = np.argsort(warped, kind="stable")
                half = _LEARNED // 2
                rest = order[half:][:: max(1, (len(order) - half) // half)][:half]
                keep = np.sort(np.concatenate([order[:half], rest]))
            state.memo.clear()
            state.memo[key] = modes(columns, few[keep], warped[keep])
        return tuple(m for m in state.memo[key] if m.weight >= _COUNTS)

    def _improve(
        self,
        state: SaasState,
        x: FloatArray,
        losses: FloatArray,
        awaited: FloatArray,
        rng: np.random.Generator,
    ) -> tuple[FloatArray, dict[str, float]]:
        """The row with the largest mean expected improvement among the best of every mode."""
        space: Space = state.history.problem.space
        layout = space.layout
        columns = model.columns_of(layout.levels, layout.categorical)
        members = self._modes(state, columns, x, losses)
        prior = log_belief(space)
        weight = _BELIEF / len(losses)
        order = np.argsort(losses, kind="stable")[:5]
        processes, rows = [], []
        for member in members:
            gp = model.update(columns, member.hyper, x, losses)
            best = float(gp.y.min())
            if len(awaited):
                gp = model.condition_on(gp, awaited)
            processes.append((gp, best, member.weight))
            row, _ = maximize_acquisition(
                log_improvement(gp, best),
                gp.x,
                layout.levels,
                layout.categorical,
                space.sample(rng, self.candidates),
                x[order],
                lambda codes: space.repair(codes, rng),
                rng,
                terms=() if prior is None else (lambda codes: weight * prior(codes),),
            )
            rows.append(row)
        found = np.array(rows)
        scores = np.full(len(found), -np.inf)
        for gp, best, share in processes:
            gain = log_expected_improvement(*model.predict(gp, found), best)
            scores = np.logaddexp(scores, gain + np.log(share))
        active = np.exp(-2.0 * members[0].hyper.length) > members[0].tau
        top = int(np.argmax(scores if prior is None else scores + weight * prior(found)))
        return found[top], {"log_ei": round(float(scores[top]), 3), "active": float(active.sum())}
