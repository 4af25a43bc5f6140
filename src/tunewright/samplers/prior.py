"""The user's guesses for any sampler: followed at first, weighed against what was found, and given up when wrong.

*Use when* guesses are given with the space and the sampler has no use for them, or they may be wrong. *Do not use when* the
sampler is ``Bayes`` or ``Tpe`` and the guesses are sound: both weigh them inside their model already.

*Paper*: Mallik, Bergman, Hvarfner, Stoll, Janowski, Lindauer, Nardi and Hutter 2023, "PriorBand", NeurIPS,
arXiv:2306.12370, section 5 and Algorithm 2: an ensemble of random, prior and incumbent sampling, the last two
by how likely each makes the best third of the trials (eq. 2); the decay of the prior with evidence as in Hvarfner,
Stoll, Souza, Lindauer, Hutter and Nardi 2022 (piBO, arXiv:2204.11051, eq. 6).

*Differs*: any sampler stands in place of random sampling; without rungs its share grows with the number of results,
``n / (n + belief)``, instead of with the rung; the prior and the incumbent are compared in the parameters with a guess
only; the sampler does not see the guesses, so they never count twice.

*Cost*: ``tell`` and ``ask`` those of the sampler, and O(n log n) for the best third when a guess is followed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tunewright.core.algorithm import Action, Algorithm, Start
from tunewright.core.events import Edited, Event
from tunewright.core.history import History
from tunewright.core.novelty import first_new
from tunewright.core.problem import Problem
from tunewright.core.space import Space
from tunewright.errors import ConfigError
from tunewright.models.belief import log_belief
from tunewright.models.data import training_set
from tunewright.models.reshape import without_guesses

FloatArray = NDArray[np.float64]

_WIDTH = 0.25
_MOVED = 0.5
_THIRD = 3


@dataclass(slots=True)
class PriorState:
    """What ``Prior`` remembers.

    Attributes:
        history: The trials, in the space with its guesses.
        inner: State of the sampler, which sees the space without them.
    """

    history: History
    inner: Any


def _nearness(space: Space, rows: FloatArray, incumbent: FloatArray) -> FloatArray:
    """Log density around the incumbent in the columns with a guess, relative to uniform, shape ``(n,)``."""
    total = np.zeros(len(rows))
    for j, column in enumerate(space.columns):
        if column.domain.guess is None or np.isnan(incumbent[j]):
            continue
        away = rows[:, j] - incumbent[j]
        if column.domain.categorical:
            near = column.domain.levels * (np.abs(away) < 0.5 / column.domain.levels).astype(np.float64)
        else:
            near = np.exp(-0.5 * (away / _WIDTH) ** 2) / (_WIDTH * (2.0 * np.pi) ** 0.5)
        total += np.where(np.isnan(away), 0.0, np.log(1.0 - _MOVED + _MOVED * near))
    return total


def trust(space: Space, best: FloatArray) -> float:
    """Share of the prior against the incumbent, in [0, 1], from the best trials.

    Args:
        space: The space with its guesses.
        best: Rows of codes of the best trials, best first, shape ``(k, d)`` with ``k >= 1``.

    Source: Mallik et al. 2023, eq. 2: scores are sums over the best trials of their density, weighted by rank.
    """
    belief = log_belief(space)
    if belief is None:
        return 0.0
    log_rank = np.log(np.arange(len(best), 0, -1.0))
    prior = np.logaddexp.reduce(belief(best) + log_rank)
    incumbent = np.logaddexp.reduce(_nearness(space, best, best[0]) + log_rank)
    return float(1.0 / (1.0 + np.exp(np.clip(incumbent - prior, -700.0, 700.0))))


@dataclass(frozen=True, slots=True)
class Prior:
    """A sampler that follows the user's guesses as long as they prove right.

    Args:
        sampler: Proposes the other configurations, and in the end all of them.
        belief: Number of results after which the sampler proposes every second configuration.

    Raises:
        ConfigError: If ``belief`` is not a positive number.
    """

    sampler: Algorithm[Any]
    belief: float = 10.0

    def __post_init__(self) -> None:
        if not 0.0 < self.belief < float("inf"):
            raise ConfigError(f"Prior needs a finite belief > 0; got {self.belief}. Use 10.")

    @property
    def deliberate(self) -> bool:
        """Whether the sampler thinks for more than a millisecond or so."""
        return bool(getattr(self.sampler, "deliberate", False))

    def init(self, problem: Problem) -> PriorState:
        """The state before the first event.

        Raises:
            UnsupportedError: If the sampler refuses the problem.
        """
        inner = self.sampler.init(problem.with_space(without_guesses(problem.space)))
        return PriorState(History(problem), inner)

    def tell(self, state: PriorState, events: Sequence[Event]) -> PriorState:
        """Takes in events; the sampler hears of every one, without the guesses."""
        heard: list[Event] = []
        for event in events:
            state.history.apply(event)
            if isinstance(event, Edited):
                plain = without_guesses(state.history.problem.space)
                heard.append(Edited(plain.to_dict(), event.by))
            else:
                heard.append(event)
        state.inner = self.sampler.tell(state.inner, heard)
        return state

    def ask(self, state: PriorState, slots: int, rng: np.random.Generator) -> tuple[Action, ...]:
        """For each slot a draw from the prior, a change of the incumbent, or what the sampler wants."""
        history = state.history
        space = history.problem.space
        if not slots or all(c.domain.guess is None for c in space.columns):
            return self.sampler.ask(state.inner, slots, rng)
        share = self.belief / (self.belief + int(history.usable.sum()))
        mine = int((rng.random(slots) < share).sum())
        out: list[Action] = []
        taken = history.codes
        for _ in range(mine):
            row, why = self._own(history, rng)
            new = first_new(space, taken, row, rng)
            if new is None:
                break
            taken = np.concatenate([taken, new[None]])
            out.append(Start(space.decode(new), why=why))
        if len(out) < slots:
            out += self.sampler.ask(state.inner, slots - len(out), rng)
        return tuple(out)

    def _own(self, history: History, rng: np.random.Generator) -> tuple[FloatArray, dict[str, float]]:
        """A row near the guesses or near the incumbent, shape ``(1, d)``."""
        space = history.problem.space
        x, losses = training_set(history, rng)
        weight = 1.0
        if len(losses) >= _THIRD:
            order = np.argsort(losses, kind="stable")
            weight = trust(space, x[order[: ceil(len(losses) / _THIRD)]])
            if rng.random() >= weight:
                return self._beside(space, x[order[0]], rng), {"trust": round(weight, 3), "incumbent": 1.0}
        return space.sample(rng, 1), {"trust": round(weight, 3), "prior": 1.0}

    def _beside(self, space: Space, incumbent: FloatArray, rng: np.random.Generator) -> FloatArray:
        """A change of the incumbent: every second parameter moves (Mallik et al. 2023, appendix)."""
        d = space.d
        draws = rng.random(d)
        base = np.where(np.isnan(incumbent), draws, incumbent)
        step = base + _WIDTH * rng.standard_normal(d)
        moved = np.where(space.layout.categorical, draws, np.clip(step, 0.0, 1.0))
        return space.repair(np.where(rng.random(d) < _MOVED, moved, base)[None], rng)
