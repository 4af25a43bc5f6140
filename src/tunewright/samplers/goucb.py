"""Optimism over inputs and weights: a small network, and the lowest loss that any plausible weights predict.

*Use when* there are 20 or more ordered parameters and a parametric model suits them. *Do not use when* there are few
parameters or few trials: ``Bayes`` learns faster there.

*Paper*: Liu and Wang 2023 (GO-UCB, arXiv:2211.09100), Algorithm 1: a first phase of uniform draws and a regression; then
the trial that is best under the most favourable weights within a ball around a linearised estimate.

*Differs*: the network is in NumPy with derivatives in closed form, so no further package is needed; it is fitted again at a
growing interval, not once; the inner problem over the weights is solved with the network linearised at its fit, where it has a closed form;
losses are warped (``models.warp``); awaited trials count as what the network predicts for them.

*Cost*: ``tell`` O(1) per event; ``ask`` n^2 p for the ball (n at most 300, p weights) and p n per candidate, plus some 100
passes over the data when the network is due.
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
from tunewright.models.data import training_set
from tunewright.models.design import design_row
from tunewright.models.kernel import columns_of
from tunewright.models.parametric import Network, ball
from tunewright.models.refit import tuning_size
from tunewright.models.search import best_rows
from tunewright.models.warp import fit_warp

FloatArray = NDArray[np.float64]

_ROWS = 300


@dataclass(slots=True)
class GoUcbState:
    """What ``GoUcb`` remembers.

    Attributes:
        history: The trials.
        memo: Weights already found, keyed by the data they were found on; a cache.
    """

    history: History
    memo: dict[bytes, FloatArray] = field(default_factory=dict, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class GoUcb:
    """Global optimisation by upper confidence bounds of a parametric model.

    Args:
        initial: Trials of the first phase.
        hidden: Hidden units of the network.
        deviations: Radius of the ball of weights, in standard deviations.
        candidates: Random configurations compared in every decision.

    Raises:
        ConfigError: If a setting is out of range.
    """

    initial: int = 10
    hidden: int = 12
    deviations: float = 0.3
    candidates: int = 200

    deliberate = True

    def __post_init__(self) -> None:
        if min(self.initial, self.hidden, self.candidates) < 1 or not 0.0 <= self.deviations < float("inf"):
            raise ConfigError(
                f"GoUcb needs initial, hidden and candidates >= 1 and finite deviations >= 0; got "
                f"initial={self.initial}, hidden={self.hidden}, candidates={self.candidates}, "
                f"deviations={self.deviations}. Use the defaults."
            )

    def init(self, problem: Problem) -> GoUcbState:
        """The state before the first event."""
        return GoUcbState(History(problem))

    def tell(self, state: GoUcbState, events: Sequence[Event]) -> GoUcbState:
        """Takes in events, O(1) each."""
        for event in events:
            state.history.apply(event)
        return state

    def ask(self, state: GoUcbState, slots: int, rng: np.random.Generator) -> tuple[Action, ...]:
        """At most ``slots`` new configurations, each chosen with the earlier ones awaited."""
        history = state.history
        space = history.problem.space
        awaited: list[FloatArray] = list(history.codes[history.pending])
        out: list[Action] = []
        for slot in range(slots):
            number = history.n + slot
            x, losses = training_set(history, rng)
            if number < self.initial or len(np.unique(losses)) < 2:
                rows = design_row(history.problem, number, self.initial, rng)[None]
                why = {"design": float(number)}
            else:
                rows, value = self._optimistic(state, x, losses, np.array(awaited), rng)
                why = {"optimistic": round(value, 3)}
            taken = np.concatenate((history.codes, np.reshape(awaited, (len(awaited), space.d))))
            new = first_new(space, taken, rows, rng)
            if new is None:
                break
            awaited.append(new)
            out.append(Start(space.decode(new), why=why))
        return tuple(out)

    def _optimistic(
        self,
        state: GoUcbState,
        x: FloatArray,
        losses: FloatArray,
        awaited: FloatArray,
        rng: np.random.Generator,
    ) -> tuple[FloatArray, float]:
        """Rows by their lowest plausible loss, and that of the first, on the warped scale."""
        space = state.history.problem.space
        columns = columns_of(space.layout.levels, space.layout.categorical)

        def features(rows: FloatArray) -> FloatArray:
            return 2.0 * columns.embed(rows) - 1.0

        size = tuning_size(len(losses))
        network = Network(len(columns.owner), self.hidden)
        key = x[:size].tobytes() + losses[:size].tobytes()
        if key not in state.memo:
            few, targets = x[:size][-_ROWS:], fit_warp(losses[:size])(losses[:size])[-_ROWS:]
            state.memo.clear()
            state.memo[key] = network.fit(features(few), targets)
        weights = state.memo[key]
        y = fit_warp(losses)(losses)
        order = np.argsort(losses, kind="stable")
        kept = np.sort(order[:_ROWS])
        points, y = features(x[kept]), y[kept]
        plausible = ball(network, weights, points, y)
        if len(awaited):
            more = features(awaited)
            points = np.vstack([points, more])
            y = np.concatenate([y, plausible.estimate(more)])
            plausible = ball(network, weights, points, y)

        def score(rows: FloatArray) -> FloatArray:
            return -plausible.optimistic(features(rows), self.deviations)

        top = x[order[:5]]
        found, values = best_rows(score, space, top, rng, candidates=self.candidates)
        return found[:50], float(-values[0])
