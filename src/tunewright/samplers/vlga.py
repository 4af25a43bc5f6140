"""Variable-length genetic algorithm: configurations start short and grow, phase by phase, from the best shorter ones.

*Use when* a whole number, such as of layers, says how many of the other parameters count. *Do not use when* there is no such
number (it is then an ordinary genetic algorithm), or when good short configurations say nothing about long ones.

*Paper*: Xiao, Yan, Basodi, Ji and Pan 2020 (arXiv:2006.12703), section III: Algorithm 1 (the phases) and section III-B to III-D
(crossover between unequal lengths, mutation, selection).

*Differs*: the length of a configuration is the value of every whole number or order that other parameters depend on; in
phase ``i`` of ``p`` it is at most ``i / p`` of its levels, where the paper adds a layer when results stop improving. A phase
begins with the best of the last one made longer, their new genes drawn from the prior. Crossover of numbers is simulated
binary (Deb and Agrawal 1995), mutation polynomial. Asynchronous: members are the best ``size`` trials that ended. For
shorter trainings of short configurations, put a scheduler around it.

*Cost*: tell O(1) per event, O(size log size) when a trial ends; ask O(d).
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
from tunewright.core.space import Space
from tunewright.errors import ConfigError
from tunewright.models.breeding import filled, offspring
from tunewright.models.design import design_row
from tunewright.models.population import Population, best_first, known, starts

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

_ETA = 20.0
_GROWN = 0.5


@dataclass(slots=True)
class VlgaState:
    """What ``Vlga`` remembers.

    Attributes:
        population: The trials.
        lengths: Columns that say how many others count.
        members: The best trials, best first.
        ended: Trials counted so far.
    """

    population: Population
    lengths: IntArray
    members: list[int] = field(default_factory=list)
    ended: int = 0


def length_columns(space: Space) -> IntArray:
    """Ordered columns with levels that other columns depend on, shape ``(k,)``."""
    layout = space.layout
    parents = {gate.column for column in space.columns for gate in column.gates}
    found = [j for j in sorted(parents) if layout.levels[j] > 1 and not layout.categorical[j]]
    return np.array(found, dtype=np.int64)


def shortened(row: FloatArray, lengths: IntArray, levels: IntArray, share: float) -> FloatArray:
    """A copy of codes ``(d,)`` whose lengths are at most a share of their levels, and at least one."""
    out = row.copy()
    k = levels[lengths]
    most = np.maximum(1.0, np.ceil(share * k - 1e-9))
    out[lengths] = np.minimum(out[lengths], (most - 0.5) / k)
    return out


@dataclass(frozen=True, slots=True)
class Vlga:
    """Variable-length genetic algorithm.

    Args:
        size: Members.
        phases: Steps in which configurations grow to full length; 1 lets them have it from the start.
        patience: Trials per phase.

    Raises:
        ConfigError: If a setting is out of range.
    """

    size: int = 12
    phases: int = 4
    patience: int = 20

    def __post_init__(self) -> None:
        if self.size < 2 or self.phases < 1 or self.patience < 1:
            raise ConfigError(
                f"Vlga needs size >= 2, phases >= 1 and patience >= 1; got size={self.size}, phases={self.phases}, "
                f"patience={self.patience}. Use the defaults."
            )

    def init(self, problem: Problem) -> VlgaState:
        """The state before the first event."""
        return VlgaState(Population(History(problem)), length_columns(problem.space))

    def tell(self, state: VlgaState, events: Sequence[Event]) -> VlgaState:
        """Takes in events; an ended trial joins the members if it is among the best."""
        history = state.population.history
        for event in events:
            back = state.population.take(event)
            if isinstance(event, Edited):
                state.lengths = length_columns(history.problem.space)
                state.members = known(history, state.members)
            elif back is not None:
                state.ended += 1
                if known(history, [back]):
                    state.members = best_first(history, [*state.members, back])[: self.size].tolist()
        return state

    def ask(self, state: VlgaState, slots: int, rng: np.random.Generator) -> tuple[Action, ...]:
        """One child per slot; a Sobol design of short configurations first."""
        history = state.population.history
        layout = history.problem.space.layout
        members = state.members
        phase = min(state.ended // self.patience + 1, self.phases)
        share = phase / self.phases
        fresh = phase > 1 and state.ended < (phase - 1) * self.patience + self.size

        def propose(number: int, attempt: int) -> FloatArray:
            if number < self.size or len(members) < 2:
                row = filled(design_row(history.problem, number, self.size, rng), rng)
            else:
                a, b = (members[int(rng.integers(len(members), size=2).min())] for _ in range(2))
                row = offspring(history.codes[a], history.codes[b], layout, _ETA, rng)
                if fresh and rng.random() < _GROWN:
                    # Inactive genes were drawn anew, so a longer configuration has new genes at its end.
                    row[state.lengths] = 1.0
            return shortened(row, state.lengths, layout.levels, share)

        return starts(history, slots, rng, propose, {"phase": float(phase)})
