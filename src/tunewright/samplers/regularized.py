"""Regularised evolution: mutate the best of a few drawn from the youngest trials; the oldest die, however good.

*Use when* results are noisy, many parameters are options, and there are some hundred trials. *Do not use when* most
parameters are numbers and results are exact; ``Cmaes`` uses such results better.

*Paper*: Real, Aggarwal, Huang and Le 2019 (AAAI, arXiv:1802.01548), Algorithm 1.

*Differs*: 20 members and samples of 5, in place of 100 and 25 for twenty thousand trials. A mutation changes one active
parameter: an option to another, a level or number by a normal step whose scale is drawn between 1/100 and 1/3 of the range
(the paper mutates options only). Asynchronous as in the paper: members are the youngest trials that ended. Failed trials
live and die like others but lose every tournament. Several objectives: by front and crowding within the sample.

*Cost*: tell O(1) per event; ask O(sample log sample + d).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tunewright.core.algorithm import Action
from tunewright.core.columns import Layout
from tunewright.core.events import Edited, Event
from tunewright.core.history import History
from tunewright.core.problem import Problem
from tunewright.errors import ConfigError
from tunewright.models.breeding import filled, other_options, reflected
from tunewright.models.design import design_row
from tunewright.models.population import Population, best_first, known, starts

FloatArray = NDArray[np.float64]

_SCALES = (-2.0, -0.5)


@dataclass(slots=True)
class RegularizedState:
    """What ``Regularized`` remembers.

    Attributes:
        population: The trials.
        members: Living trials, the oldest first.
    """

    population: Population
    members: deque[int] = field(default_factory=deque)


def one_change(row: FloatArray, layout: Layout, rng: np.random.Generator) -> FloatArray:
    """A copy of a row, shape ``(d,)``, with one active column changed; inactive ones are drawn anew.

    Source: Real et al. 2019, section "Search space": one mutation at a time, the kind of it uniform.
    """
    open_ = np.flatnonzero(~np.isnan(row) & (layout.levels != 1))
    out = filled(row, rng)
    if not len(open_):
        return out
    j = int(open_[int(rng.integers(len(open_)))])
    if layout.categorical[j]:
        out[j] = other_options(out, layout, rng)[j]
        return out
    step = 10.0 ** rng.uniform(*_SCALES) * rng.standard_normal()
    if layout.levels[j]:
        step = np.copysign(max(abs(step), 1.0 / layout.levels[j]), step)
    out[j] = reflected(np.array([out[j] + step]))[0]
    return out


@dataclass(frozen=True, slots=True)
class Regularized:
    """Regularised (ageing) evolution.

    Args:
        size: Living trials, P in the paper.
        sample: Trials drawn for a tournament, S in the paper.
        ageing: Whether the oldest dies; else the worst, which is plain tournament selection.

    Raises:
        ConfigError: If a setting is out of range.
    """

    size: int = 20
    sample: int = 5
    ageing: bool = True

    def __post_init__(self) -> None:
        if self.size < 2 or not 1 <= self.sample <= self.size:
            raise ConfigError(
                f"Regularized needs size >= 2 and 1 <= sample <= size; got size={self.size}, sample={self.sample}. "
                f"Use the defaults."
            )

    def init(self, problem: Problem) -> RegularizedState:
        """The state before the first event."""
        return RegularizedState(Population(History(problem)))

    def tell(self, state: RegularizedState, events: Sequence[Event]) -> RegularizedState:
        """Takes in events; an ended trial joins, and one member dies when there are too many."""
        history = state.population.history
        for event in events:
            back = state.population.take(event)
            if isinstance(event, Edited):
                state.members = deque(known(history, list(state.members)))
            elif back is not None and known(history, [back]):
                state.members.append(back)
                if len(state.members) > self.size:
                    if self.ageing:
                        state.members.popleft()
                    else:
                        state.members.remove(int(best_first(history, list(state.members))[-1]))
        return state

    def ask(self, state: RegularizedState, slots: int, rng: np.random.Generator) -> tuple[Action, ...]:
        """One mutant per slot; a Sobol design first."""
        history = state.population.history
        members = list(state.members)

        def propose(number: int, attempt: int) -> FloatArray:
            if number < self.size or len(members) < self.sample:
                return design_row(history.problem, number, self.size, rng)
            drawn = [members[i] for i in rng.permutation(len(members))[: self.sample]]
            parent = int(best_first(history, drawn)[0])
            return one_change(history.codes[parent], history.problem.space.layout, rng)

        return starts(history, slots, rng, propose, {"members": float(len(members))})
