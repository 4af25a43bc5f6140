"""A smaller search space from earlier studies: the box around their best configurations, for any sampler.

*Use when* earlier studies of related tasks searched a wide space and any sampler is to profit from them. *Do not use
when* the new task may need values that no earlier one liked: what lies outside the box is not tried while anything
inside is left (``Rgpe`` and ``Portfolio`` only prefer what was good).

*Paper*: Perrone, Shen, Seeger, Archambeau and Jenatton 2019, "Learning search spaces for Bayesian optimization:
Another view of hyperparameter transfer learning", NeurIPS, arXiv:1909.12552, section 4.1 (eq. 3: the box of lowest
volume that holds every earlier optimum).

*Differs*: ordered values give a contiguous range and categories the union of those that were best, as the paper's
boxes are for numbers only; a range has at least ``margin`` of the full width, so that few sources do not collapse it;
parameters that conditions look at keep their domain; the box is taken in the codes of the space, so it does
not depend on the unit; a box in which the constraints leave nothing is not used; when everything in a finite box was
tried, the rest of the space is.

*Cost*: ``tell`` and ``ask`` those of the sampler; the box O(d) per source, once per version of the space.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tunewright.core.algorithm import Action, Algorithm, Start
from tunewright.core.domains import Domain
from tunewright.core.events import Edited, Event
from tunewright.core.history import History
from tunewright.core.novelty import first_new, is_finite
from tunewright.core.problem import Problem
from tunewright.core.space import Space
from tunewright.errors import ConfigError, SpaceError
from tunewright.models.reshape import deciders, narrowed, reshaped
from tunewright.models.sources import Source, sources_of


@dataclass(slots=True)
class BoxState:
    """What ``BoundingBox`` remembers.

    Attributes:
        history: The trials in the full space.
        inner: State of the sampler, which knows the box only.
    """

    history: History
    inner: Any


@dataclass(frozen=True, slots=True)
class BoundingBox:
    """A sampler in the box around the best configurations of earlier studies.

    Args:
        sampler: Proposes configurations inside the box.
        sources: Earlier studies; none leaves the space as it is.
        best: How many of the best configurations of each source the box holds; 1 in the paper.
        margin: Least width of a range of numbers, as a share of the full range in codes.

    Raises:
        ConfigError: If a setting is out of range.
    """

    sampler: Algorithm[Any]
    sources: tuple[Source, ...] = ()
    best: int = 1
    margin: float = 0.1

    def __post_init__(self) -> None:
        object.__setattr__(self, "sources", sources_of("BoundingBox", self.sources))
        if self.best < 1 or not 0.0 < self.margin <= 1.0:
            raise ConfigError(
                f"BoundingBox needs best >= 1 and 0 < margin <= 1; got best={self.best}, margin={self.margin}. "
                f"Use the defaults."
            )

    @property
    def deliberate(self) -> bool:
        """Whether the sampler thinks for more than a millisecond or so."""
        return bool(getattr(self.sampler, "deliberate", False))

    def init(self, problem: Problem) -> BoxState:
        """The state before the first event.

        Raises:
            UnsupportedError: If the sampler refuses the problem.
        """
        return BoxState(History(problem), self.sampler.init(problem.with_space(self.box(problem.space))))

    def tell(self, state: BoxState, events: Sequence[Event]) -> BoxState:
        """Takes in events; the sampler hears of them in its box."""
        heard: list[Event] = []
        for event in events:
            state.history.apply(event)
            if isinstance(event, Edited):
                heard.append(Edited(self.box(state.history.problem.space).to_dict(), event.by))
            else:
                heard.append(event)
        state.inner = self.sampler.tell(state.inner, heard)
        return state

    def ask(self, state: BoxState, slots: int, rng: np.random.Generator) -> tuple[Action, ...]:
        """Actions of the sampler; what lies outside the box once a finite box is used up."""
        actions = self.sampler.ask(state.inner, slots, rng)
        history = state.history
        space = history.problem.space
        if actions or not slots or not is_finite(space) or history.pending.any():
            return actions
        row = first_new(space, history.codes, np.empty((0, space.d)), rng)
        return () if row is None else (Start(space.decode(row), why={"outside": 1.0}),)

    def box(self, space: Space) -> Space:
        """The space that the sampler sees: the box, or the space itself where no box can be made."""
        values: dict[str, list[Any]] = {}
        for source in self.sources:
            order = sorted(range(len(source.losses)), key=source.losses.__getitem__)
            for i in order[: self.best]:
                for name, value in source.configs[i].items():
                    values.setdefault(name, []).append(value)
        if not values:
            return space
        fixed = deciders(space)

        def change(name: str, domain: Domain) -> Domain:
            seen = values.get(name)
            return domain if seen is None or name in fixed else narrowed(domain, seen, self.margin)

        try:
            return reshaped(space, change)
        except SpaceError:
            return space
