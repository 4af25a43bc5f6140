"""A sampler with a share of random draws mixed in, so that no part of the space is given up for good.

*Use when* a model is fitted to few or misleading results, such as those of short trainings; ``bohb`` is Hyperband around a
blend of TPE. *Do not use when* results are trustworthy and trials expensive: a third of them is then spent on chance.

*Paper*: Falkner, Klein and Hutter 2018 (BOHB), ICML, arXiv:1807.01774, Algorithm 2, line 1: with probability rho = 1/3 a
configuration is drawn at random.

*Differs*: draws come from the prior of the space, guesses included; in finite spaces none is a repetition.

*Cost*: ``ask`` O(d) for a draw, else that of the sampler; ``tell`` that of the sampler.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tunewright.core.algorithm import Action, Algorithm, Start
from tunewright.core.domains import Codes
from tunewright.core.events import Event
from tunewright.core.history import History
from tunewright.core.novelty import first_new, is_finite
from tunewright.core.problem import Problem
from tunewright.errors import ConfigError


@dataclass(slots=True)
class BlendState:
    """What ``Blend`` remembers: every trial, and the state of the sampler."""

    history: History
    inner: Any


@dataclass(frozen=True, slots=True)
class Blend:
    """A sampler, interrupted by draws from the prior.

    Args:
        sampler: Proposes the rest of the configurations; it learns from all of them.
        share: Chance that a configuration is drawn, within [0, 1].

    Raises:
        ConfigError: If the share is not a probability.
    """

    sampler: Algorithm[Any]
    share: float = 1 / 3

    def __post_init__(self) -> None:
        if not 0.0 <= self.share <= 1.0:
            raise ConfigError(f"Blend needs a share within [0, 1]; got {self.share!r}. Use the default, 1/3.")

    @property
    def deliberate(self) -> bool:
        """Whether the sampler thinks for more than a millisecond or so."""
        return bool(getattr(self.sampler, "deliberate", False))

    @property
    def mixes_levels(self) -> bool:
        """Whether the sampler wants the results of all lengths of training in one state."""
        return bool(getattr(self.sampler, "mixes_levels", False))

    def init(self, problem: Problem) -> BlendState:
        """The state before the first event.

        Raises:
            UnsupportedError: If the sampler refuses the problem.
        """
        return BlendState(History(problem), self.sampler.init(problem))

    def tell(self, state: BlendState, events: Sequence[Event]) -> BlendState:
        """Takes in events; the sampler hears all of them."""
        for event in events:
            state.history.apply(event)
        state.inner = self.sampler.tell(state.inner, events)
        return state

    def ask(self, state: BlendState, slots: int, rng: np.random.Generator) -> tuple[Action, ...]:
        """What the sampler wants, and a draw from the prior for the other slots."""
        drawn = int((rng.random(slots) < self.share).sum())
        actions: list[Action] = []
        if drawn < slots or not slots:
            actions += self.sampler.ask(state.inner, slots - drawn, rng)
        awaited = [a.config for a in actions if isinstance(a, Start)]
        for _ in range(drawn):
            config = _fresh(state.history, awaited, rng)
            if config is None:
                break
            awaited.append(config)
            actions.append(Start(config, why={"drawn": 1.0}))
        return tuple(actions)


def _fresh(
    history: History, awaited: list[dict[str, Any]], rng: np.random.Generator
) -> dict[str, Any] | None:
    """A draw from the prior, in finite spaces one that nobody tried; None when everything was tried."""
    space = history.problem.space
    if not is_finite(space):
        return space.draw(rng)
    proposed: Codes = np.reshape([space.encode(c) for c in awaited], (len(awaited), space.d))
    row = first_new(space, np.concatenate((history.codes, proposed)), np.empty((0, space.d)), rng)
    return None if row is None else space.decode(row)
