"""Sequential search of trees with a linear model: the best predicted of many random configurations, or any of them.

*Use when* the space is a tree, such as of architectures, whose parts occur in several places, and asking must stay cheap.
*Do not use when* there are few smooth parameters; ``Bayes`` needs fewer trials.

*Paper*: Negrinho and Gordon 2017 (DeepArchitect, arXiv:1704.08792), the section on model search algorithms, sequential
model-based optimisation: random configurations, ranked by ridge regression on n-grams, and any of them with a fixed
chance. That chance, 1/4, and n-grams of up to 4 that occur 3 times are those of the authors' published experiments.

*Differs*: see ``models/ngrams.py`` for the features and the penalty. 256 candidates in place of 50. Targets are normal scores
of the losses' ranks, so failed trials, limits and outliers do no harm; several objectives are scalarised anew for each
proposal (Knowles 2006). A Sobol design comes first. Beyond 300 trials the model learns from the best 150 and as many of
the rest, evenly spaced by rank.

*Cost*: tell O(1) per event; ask one regression, O(n^3), and O(d) for each candidate.
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
from tunewright.models import ngrams
from tunewright.models.data import training_set
from tunewright.models.design import design_row
from tunewright.numerics.distributions import normal_quantile
from tunewright.numerics.statistics import ranks

FloatArray = NDArray[np.float64]

_LARGEST = 300


@dataclass(slots=True)
class TreeSmboState:
    """What ``TreeSmbo`` remembers.

    Attributes:
        history: The trials.
        words: The words of the newest space, by its digest; a cache, not a fact.
    """

    history: History
    words: dict[str, ngrams.Words] = field(default_factory=dict, compare=False, repr=False)


def scores(losses: FloatArray) -> FloatArray:
    """Losses as normal scores of their ranks, shape ``(n,)``; equal losses score the same."""
    return normal_quantile((ranks(losses) - 0.5) / len(losses))


def thinned(losses: FloatArray, most: int) -> NDArray[np.int64]:
    """At most so many rows: the better half of them the best, the others evenly over the remaining ranks."""
    order = np.argsort(losses, kind="stable")
    if len(order) <= most:
        return order
    half = most // 2
    rest = order[half:][np.linspace(0, len(order) - half - 1, most - half).astype(np.int64)]
    return np.concatenate((order[:half], rest))


@dataclass(frozen=True, slots=True)
class TreeSmbo:
    """Sequential model-based search of trees with ridge regression on n-grams.

    Args:
        initial: Trials before the first model: scrambled Sobol points, or draws around the guesses.
        candidates: Random configurations ranked in every decision.
        explore: Chance to take any of them.
        longest: Longest n-gram.
        least: Times that an n-gram must have occurred.

    Raises:
        ConfigError: If a setting is out of range.
    """

    initial: int = 10
    candidates: int = 256
    explore: float = 0.25
    longest: int = 4
    least: int = 3

    deliberate = True

    def __post_init__(self) -> None:
        whole = (self.initial, self.candidates, self.longest, self.least)
        if min(whole) < 1 or not 0.0 <= self.explore <= 1.0:
            raise ConfigError(
                f"TreeSmbo needs initial, candidates, longest and least >= 1 and 0 <= explore <= 1; got {whole} and "
                f"explore={self.explore}. Use the defaults."
            )

    def init(self, problem: Problem) -> TreeSmboState:
        """The state before the first event."""
        return TreeSmboState(History(problem))

    def tell(self, state: TreeSmboState, events: Sequence[Event]) -> TreeSmboState:
        """Takes in events, O(1) each."""
        for event in events:
            state.history.apply(event)
        return state

    def ask(self, state: TreeSmboState, slots: int, rng: np.random.Generator) -> tuple[Action, ...]:
        """At most ``slots`` new configurations; one model serves them all, unless there are several objectives."""
        history = state.history
        space = history.problem.space
        awaited: list[FloatArray] = []
        out: list[Action] = []
        model: ngrams.Ridge | None = None
        for slot in range(slots):
            number = history.n + slot
            why: dict[str, float]
            if number >= self.initial and (model is None or history.problem.m > 1):
                model = self._model(state, rng)
            if number < self.initial:
                rows = design_row(history.problem, number, self.initial, rng)[None]
                why = {"design": float(number)}
            elif model is None or rng.random() < self.explore:
                rows, why = space.sample(rng, 1), {"random": 1.0}
            else:
                rows, predicted = self._ranked(space, model, rng)
                why = {"score": round(predicted, 3)}
            taken = np.concatenate((history.codes, np.reshape(awaited, (len(awaited), space.d))))
            new = first_new(space, taken, rows, rng)
            if new is None:
                break
            awaited.append(new)
            out.append(Start(space.decode(new), why=why))
        return tuple(out)

    def _model(self, state: TreeSmboState, rng: np.random.Generator) -> ngrams.Ridge | None:
        """The model of all results; None where they do not differ."""
        x, losses = training_set(state.history, rng)
        if len(losses) < 2 or losses.min() == losses.max():
            return None
        space = state.history.problem.space
        if space.digest not in state.words:
            state.words.clear()
            state.words[space.digest] = ngrams.words_of(space)
        targets = scores(losses)
        kept = thinned(losses, _LARGEST)
        return ngrams.fit(state.words[space.digest], x[kept], targets[kept], self.longest, self.least)

    def _ranked(
        self, space: Space, model: ngrams.Ridge, rng: np.random.Generator
    ) -> tuple[FloatArray, float]:
        """Random configurations, the best predicted first, and its prediction."""
        rows = space.sample(rng, self.candidates)
        predicted = ngrams.predict(model, rows)
        order = np.argsort(predicted, kind="stable")
        return rows[order], float(predicted[order[0]])
