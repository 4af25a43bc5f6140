"""NSGA-II: breeds from the better fronts, and on a front from where it is thinly settled.

*Use when* there are two or three objectives and some hundred trials, with limits or without. *Do not use when* trials are
expensive, or there are more than three objectives: then nearly everything lies on the first front.

*Paper*: Deb, Pratap, Agarwal and Meyarivan 2002 (IEEE Trans. Evol. Comput. 6(2)), sections III (fronts, crowding distance, main
loop) and VI (limits); crossover and mutation with distribution index 20, chances 0.9 and 1/d, as in section V.

*Differs*: asynchronous: a generation is the next ``size`` trials that end, whoever their parents were. 20 members in place of
100. Options without order are exchanged evenly and redrawn; a level moves by at least one. A tournament of one objective goes
by loss. Members are ordered by limits, front and crowding; failed trials come last.

*Cost*: tell O(1) per event, O(size log size) at the end of a generation (size^2 beyond two objectives); ask O(d).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tunewright.core.algorithm import Action
from tunewright.core.events import Edited, Event
from tunewright.core.history import History
from tunewright.core.problem import Problem
from tunewright.errors import ConfigError
from tunewright.models.breeding import offspring
from tunewright.models.design import design_row
from tunewright.models.population import Population, best_first, known, starts

FloatArray = NDArray[np.float64]


@dataclass(slots=True)
class Nsga2State:
    """What ``Nsga2`` remembers.

    Attributes:
        population: The trials.
        members: Parents, best first.
        children: Trials of the present generation that ended.
        generations: Number of full generations.
    """

    population: Population
    members: list[int] = field(default_factory=list)
    children: list[int] = field(default_factory=list)
    generations: int = 0


@dataclass(frozen=True, slots=True)
class Nsga2:
    """Non-dominated sorting genetic algorithm II.

    Args:
        size: Members, and trials per generation.
        eta: Distribution index of crossover and mutation; the larger, the nearer children are to their parents.

    Raises:
        ConfigError: If a setting is out of range.
    """

    size: int = 20
    eta: float = 20.0

    def __post_init__(self) -> None:
        if self.size < 2 or not 0.0 < self.eta <= 1000.0:
            raise ConfigError(
                f"Nsga2 needs size >= 2 and 0 < eta <= 1000; got size={self.size}, eta={self.eta}. Use the defaults."
            )

    def init(self, problem: Problem) -> Nsga2State:
        """The state before the first event."""
        return Nsga2State(Population(History(problem)))

    def tell(self, state: Nsga2State, events: Sequence[Event]) -> Nsga2State:
        """Takes in events; a full generation competes with its parents."""
        history = state.population.history
        for event in events:
            back = state.population.take(event)
            if isinstance(event, Edited):
                state.members = known(history, state.members)
                state.children = known(history, state.children)
            elif back is not None and known(history, [back]):
                state.children.append(back)
                if len(state.children) >= self.size:
                    ranked = best_first(history, state.members + state.children)
                    state.members = ranked[: self.size].tolist()
                    state.children = []
                    state.generations += 1
        return state

    def ask(self, state: Nsga2State, slots: int, rng: np.random.Generator) -> tuple[Action, ...]:
        """One child per slot; a Sobol design before the first generation is full."""
        history = state.population.history
        problem = history.problem
        members = state.members

        def propose(number: int, attempt: int) -> FloatArray:
            if not members:
                return design_row(problem, number, self.size, rng)
            a, b = (members[_winner(len(members), rng)] for _ in range(2))
            return offspring(history.codes[a], history.codes[b], problem.space.layout, self.eta, rng)

        return starts(history, slots, rng, propose, {"generation": float(state.generations)})


def _winner(n: int, rng: np.random.Generator) -> int:
    """Place of the better of two members drawn at random, when they are ordered best first."""
    return int(rng.integers(n, size=2).min())
