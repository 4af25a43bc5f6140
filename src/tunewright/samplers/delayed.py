"""Rounds of pure exploration with elimination: for results that come late, in any order.

*Use when* many trials run at a time or results arrive long after their trial began, and the number of trials is known.
*Do not use when* results come one by one and soon: ``Bayes`` uses each of them at once.

*Paper*: Vakili, Ahmed, Bernacchia and Pike-Burke 2023 (arXiv:2302.00392), Algorithm 1 (BPE-Delay): within a round every
trial goes where the posterior deviation is largest, which needs no results; after a round, what is surely worse than
something else is eliminated, by that round's results alone. Round lengths as in Li and Scarlett 2022
(arXiv:2110.08393): ``N_i = ceil(sqrt(T N_(i-1)))``, ``N_0 = 1``.

*Differs*: a round lasts until as many of its trials ended as it is long, in place of a bound on the delay's quantile; what
arrives later still sharpens its round's bounds. Eliminations are tests that any configuration can be put to, so the
domain is the whole space and not a grid. Hyperparameters are those of the earlier rounds' results; the width of the
bounds is a constant number of standard deviations.

*Cost*: ``tell`` O(1) per event; ``ask`` one factorisation of n^3 per round (n its trials) and a prediction of the candidates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import ceil, log, sqrt

import numpy as np
from numpy.typing import NDArray

from tunewright.core.algorithm import Action, Start
from tunewright.core.events import Ended, Event, Started
from tunewright.core.history import History
from tunewright.core.novelty import first_new
from tunewright.core.problem import Problem
from tunewright.errors import ConfigError
from tunewright.models import gp as model
from tunewright.models.acquisition import mutations
from tunewright.models.data import training_set, training_trials
from tunewright.models.refit import Memo, hyper_of

FloatArray = NDArray[np.float64]

_LEADERS = 10


def round_length(number: int, horizon: int) -> int:
    """Trials of round ``number``, from 0, of a study of ``horizon`` trials.

    Source: Li and Scarlett 2022, arXiv:2110.08393, Algorithm 1.
    """
    length = 1
    for _ in range(number + 1):
        length = ceil(sqrt(horizon * length))
    return length


@dataclass(slots=True)
class DelayedState:
    """What ``Delayed`` remembers.

    Attributes:
        history: The trials.
        rounds: Round of each trial.
        present: Number of the present round.
        ended: Trials of the present round that ended.
        memo: Hyperparameters already found; a cache.
    """

    history: History
    rounds: list[int] = field(default_factory=list)
    present: int = 0
    ended: int = 0
    memo: Memo = field(default_factory=dict, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Delayed:
    """Batched pure exploration with elimination.

    Args:
        horizon: Number of trials planned; sets the length of the rounds.
        deviations: Half-width of the confidence bounds, in standard deviations.
        candidates: Random configurations compared in every decision.

    Raises:
        ConfigError: If a setting is out of range.
    """

    horizon: int = 100
    deviations: float = 1.5
    candidates: int = 400

    deliberate = True

    def __post_init__(self) -> None:
        if self.horizon < 1 or self.candidates < 1 or not 0.0 < self.deviations < float("inf"):
            raise ConfigError(
                f"Delayed needs horizon >= 1, candidates >= 1 and finite deviations > 0; got "
                f"horizon={self.horizon}, candidates={self.candidates}, deviations={self.deviations}. "
                "Set horizon to the number of trials planned."
            )

    def init(self, problem: Problem) -> DelayedState:
        """The state before the first event."""
        return DelayedState(History(problem))

    def tell(self, state: DelayedState, events: Sequence[Event]) -> DelayedState:
        """Takes in events, O(1) each; a round ends when enough of its trials have."""
        for event in events:
            state.history.apply(event)
            if isinstance(event, Started):
                state.rounds.append(state.present)
            elif isinstance(event, Ended) and state.rounds[event.trial] == state.present:
                state.ended += 1
                if state.ended >= round_length(state.present, self.horizon):
                    state.present, state.ended = state.present + 1, 0
        return state

    def ask(self, state: DelayedState, slots: int, rng: np.random.Generator) -> tuple[Action, ...]:
        """At most ``slots`` new configurations, each where the round knows least."""
        history = state.history
        space = history.problem.space
        if not slots:
            return ()
        columns = model.columns_of(space.layout.levels, space.layout.categorical)
        every, losses = training_set(history, rng)
        rounds = np.array(state.rounds, dtype=np.int64)
        trained = rounds[training_trials(history)]
        earlier = trained < state.present
        hyper = self._hyper(state, columns, every[earlier], losses[earlier])
        rows = self._candidates(history, every[earlier], losses[earlier], rng)
        bounds = [(every[trained == r], losses[trained == r]) for r in range(state.present)]
        rows = self._survivors(rows, columns, hyper, bounds)
        here = history.codes[(rounds == state.present) | history.pending]
        here = here[~np.isnan(here).all(axis=1)]
        taken = history.codes
        out: list[Action] = []
        for _ in range(slots):
            order = np.arange(len(rows))
            if len(here) and space.d:
                gp = model.update(columns, hyper, here, np.zeros(len(here)))
                order = np.argsort(-model.predict(gp, rows)[1], kind="stable")
            new = first_new(space, taken, rows[order[:50]], rng)
            if new is None:
                break
            taken, here = np.vstack([taken, new]), np.vstack([here, new])
            out.append(
                Start(space.decode(new), why={"round": float(state.present), "left": float(len(rows))})
            )
        return tuple(out)

    def _hyper(
        self, state: DelayedState, columns: model.Columns, x: FloatArray, losses: FloatArray
    ) -> model.Hyper:
        if len(np.unique(losses)) >= 3:
            return hyper_of(state.memo, columns, x, losses)
        # Nothing is known yet; the deviation's order hardly depends on the scale.
        return model.Hyper(np.full(columns.d, 0.5 * log(max(columns.d, 1)) - 1.0), 0.0, -5.0)

    def _candidates(
        self, history: History, x: FloatArray, losses: FloatArray, rng: np.random.Generator
    ) -> FloatArray:
        """Draws from the prior, and changes of the best trials of earlier rounds."""
        space = history.problem.space
        rows = space.sample(rng, self.candidates)
        if not len(x) or not space.d:
            return rows
        best = x[np.argsort(losses, kind="stable")[:_LEADERS]]
        layout = space.layout
        beside = mutations(best, self.candidates, layout.levels, layout.categorical, rng)
        return np.vstack([rows, space.repair(beside, rng)])

    def _survivors(
        self,
        rows: FloatArray,
        columns: model.Columns,
        hyper: model.Hyper,
        bounds: list[tuple[FloatArray, FloatArray]],
    ) -> FloatArray:
        """Rows that no round has shown to be worse than another; the least bad one where all are."""
        excess = np.zeros(len(rows))
        for x, losses in bounds:
            if len(np.unique(losses)) < 2:
                continue
            gp = model.update(columns, hyper, x, losses)
            mean, std = model.predict(gp, np.vstack([rows, x]))
            width = self.deviations * std
            least = float((mean + width).min())
            excess += np.maximum((mean - width)[: len(rows)] - least, 0.0)
        left: FloatArray = rows[excess <= excess.min()]
        return left
