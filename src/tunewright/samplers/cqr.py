"""Conformal quantile regression: draws a plausible loss for every candidate from its quantiles, and takes the lowest.

*Use when* losses are noisy, and more so in some places, or their scale is odd; and inside a scheduler that ends trials
early. *Do not use when* there will be fewer than 30 trials, or losses are smooth and exact: ``Bayes`` needs fewer trials.

*Paper*: Salinas, Golebiowski, Klein, Seeger and Archambeau 2023 (arXiv:2305.03623), Algorithm 1 and section 4; the
correction of Romano, Patterson and Candes 2019 (arXiv:1905.03222).

*Differs*: a quantile forest (Meinshausen 2006) takes the place of boosted trees, at a tenth of the cost. Its quantiles are
losses that were seen, so draws tie; the lowest median among them goes first. Inside a scheduler one model learns from the last
loss of every trial, however far it was trained, as in the paper's section on several fidelities. Awaited trials are left
out: every draw is another. Several objectives are scalarised anew for each proposal; failed trials count as the worst loss.
Guesses move the draws by their log density times belief / n, in units of the spread. Beyond 500 trials the forest learns from
the best 250 and as many of the rest, evenly spaced by rank.

*Cost*: tell O(1) per event; ask one forest of 20 trees, O(n d log n), and O(20 n) additions for each of 2,000 candidates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tunewright.core.algorithm import Action, Start
from tunewright.core.events import Event
from tunewright.core.history import History
from tunewright.core.novelty import first_new
from tunewright.core.problem import Problem
from tunewright.core.space import Space
from tunewright.errors import ConfigError
from tunewright.models import quantile as model
from tunewright.models.belief import log_belief
from tunewright.models.data import training_set
from tunewright.models.design import design_row

FloatArray = NDArray[np.float64]

_BELIEF = 10.0
_LEAF = 2
_LARGEST = 500


@dataclass(slots=True)
class CqrState:
    """What ``Cqr`` remembers.

    Attributes:
        history: The trials.
    """

    history: History


@dataclass(frozen=True, slots=True)
class Cqr:
    """Thompson sampling from conformal quantiles.

    Args:
        initial: Trials before the first model: scrambled Sobol points, or draws around the guesses.
        quantiles: Number of quantiles, odd, so that the median is among them.
        candidates: Random configurations compared in every decision.
        held: Share of the trials that correct the quantiles and are not learned from, in (0, 1).

    Raises:
        ConfigError: If a setting is out of range.
    """

    initial: int = 10
    quantiles: int = 5
    candidates: int = 2000
    held: float = 0.1

    deliberate = True
    mixes_levels = True

    def __post_init__(self) -> None:
        odd = self.quantiles >= 3 and self.quantiles % 2 == 1
        if self.initial < 1 or not odd or self.candidates < 2 or not 0.0 < self.held < 1.0:
            raise ConfigError(
                f"Cqr needs initial >= 1, an odd number of quantiles >= 3, candidates >= 2 and 0 < held < 1; got "
                f"initial={self.initial}, quantiles={self.quantiles}, candidates={self.candidates}, "
                f"held={self.held}. Use the defaults."
            )

    def init(self, problem: Problem) -> CqrState:
        """The state before the first event."""
        return CqrState(History(problem))

    def tell(self, state: CqrState, events: Sequence[Event]) -> CqrState:
        """Takes in events, O(1) each."""
        for event in events:
            state.history.apply(event)
        return state

    def ask(self, state: CqrState, slots: int, rng: np.random.Generator) -> tuple[Action, ...]:
        """At most ``slots`` new configurations; every draw from the quantiles is another, so a batch differs."""
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
                rows, drawn = self._draw(space, x, losses, rng)
                why = {"drawn": drawn}
            taken = np.concatenate((history.codes, np.reshape(awaited, (len(awaited), space.d))))
            new = first_new(space, taken, rows, rng)
            if new is None:
                break
            awaited.append(new)
            out.append(Start(space.decode(new), why=why))
        return tuple(out)

    def _draw(
        self, space: Space, x: FloatArray, losses: FloatArray, rng: np.random.Generator
    ) -> tuple[FloatArray, float]:
        """Candidates by rising draw, and the draw of the first as a share of the range of the losses."""
        least, most = float(losses.min()), float(losses.max())
        # Half the range first: the difference of two huge losses may not be a number.
        y = (losses / 2.0 - least / 2.0) / (most / 2.0 - least / 2.0)
        layout = space.layout
        if len(y) > _LARGEST:
            order = np.argsort(y, kind="stable")
            half = _LARGEST // 2
            rest = order[half:][np.linspace(0, len(y) - half - 1, half).astype(np.int64)]
            keep = np.concatenate((order[:half], rest))
            x, y = x[keep], y[keep]
        fitted = model.fit_conformal(
            x,
            y,
            layout.levels,
            layout.categorical,
            model.fan(self.quantiles),
            rng,
            held=self.held,
            leaf=_LEAF,
        )
        rows = space.sample(rng, self.candidates)
        quantiles = model.predict(fitted, rows)
        drawn = quantiles[np.arange(len(rows)), rng.integers(self.quantiles, size=len(rows))]
        prior = log_belief(space)
        if prior is not None:
            spread = float(np.mean(quantiles[:, -1] - quantiles[:, 0]))
            drawn = drawn - spread * _BELIEF / len(losses) * prior(rows)
        # Quantiles of a forest are losses that were seen, so draws tie; the lower median goes first.
        best = np.lexsort((quantiles[:, self.quantiles // 2], drawn))
        return rows[best], round(float(drawn[best[0]]), 4)
