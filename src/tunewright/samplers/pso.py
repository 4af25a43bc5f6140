"""Particle swarm: every particle is pulled towards its own best place and the best of all.

*Use when* trials are cheap and some hundred, most parameters are numbers, and many workers run. *Do not use when* most
parameters are options without order, or trials are expensive; ``Tpe`` and ``Bayes`` find more.

*Paper*: Kennedy and Eberhart 1995 (ICNN), with the constriction of Clerc and Kennedy 2002 (IEEE Trans. Evol. Comput. 6(1)),
section V and eq. 15: chi = 0.7298 and both accelerations 1.49618 (phi = 4.1).

*Differs*: asynchronous: trial ``t`` is the next place of particle ``t mod size``, whether its last place was measured or
not. A velocity is the distance between the last two places, so whoever hits a bound stops there. An ordered level is rounded
up or down by chance, in proportion, so that slow particles still move. An option is kept, or taken from the particle's best
or the swarm's, with chances in proportion to inertia and pulls, and redrawn once in twenty times. Several objectives: the
swarm's best is drawn from the first front of the particles' bests.

*Cost*: tell O(1) per event; ask O(size log size + d).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tunewright.core.algorithm import Action
from tunewright.core.columns import Layout
from tunewright.core.events import Edited, Event, Started
from tunewright.core.history import History
from tunewright.core.problem import Problem
from tunewright.errors import ConfigError
from tunewright.models.breeding import filled, other_options
from tunewright.models.design import design_row
from tunewright.models.population import Population, best_first, known, lost, starts
from tunewright.numerics.pareto import nondominated

FloatArray = NDArray[np.float64]

INERTIA = 0.7298
PULL = 1.49618
_REDRAW = 0.05


@dataclass(slots=True)
class PsoState:
    """What ``Pso`` remembers.

    Attributes:
        population: The trials.
        last: Newest trial of each particle, -1 before there is one.
        before: The trial before that, -1 before there is one.
        best: Best trial of each particle, -1 before one succeeded.
    """

    population: Population
    last: list[int]
    before: list[int]
    best: list[int]


def moved(
    x: FloatArray, velocity: FloatArray, own: FloatArray, swarm: FloatArray, rng: np.random.Generator
) -> FloatArray:
    """The next place of a particle, cut to the unit cube; all shapes ``(d,)``.

    Source: Clerc and Kennedy 2002, eq. 3 with the constants of section V.
    """
    r1, r2 = rng.random((2, len(x)))
    step = INERTIA * velocity + PULL * r1 * (own - x) + PULL * r2 * (swarm - x)
    out: FloatArray = np.clip(x + step, 0.0, 1.0)
    return out


def rounded(codes: FloatArray, layout: Layout, rng: np.random.Generator) -> FloatArray:
    """Codes ``(d,)`` with ordered levels rounded to a neighbouring centre, in proportion to its distance."""
    k = np.maximum(layout.levels, 1)
    place = codes * k - 0.5
    level = np.clip(np.floor(place + rng.random(len(codes))), 0, k - 1)
    ordered = (layout.levels > 0) & ~layout.categorical
    out: FloatArray = np.where(ordered, (level + 0.5) / k, codes)
    return out


@dataclass(frozen=True, slots=True)
class Pso:
    """Particle swarm optimisation with constriction.

    Args:
        size: Particles.

    Raises:
        ConfigError: If a setting is out of range.
    """

    size: int = 10

    def __post_init__(self) -> None:
        if self.size < 2:
            raise ConfigError(f"Pso needs size >= 2; got size={self.size}. Use the default.")

    def init(self, problem: Problem) -> PsoState:
        """The state before the first event."""
        none = [-1] * self.size
        return PsoState(Population(History(problem)), none.copy(), none.copy(), none.copy())

    def tell(self, state: PsoState, events: Sequence[Event]) -> PsoState:
        """Takes in events; a particle moves when its trial begins and learns when that ends."""
        history = state.population.history
        for event in events:
            back = state.population.take(event)
            if isinstance(event, Started):
                place = event.trial % self.size
                state.before[place], state.last[place] = state.last[place], event.trial
            elif isinstance(event, Edited):
                for trials in (state.last, state.before, state.best):
                    fits = set(known(history, [t for t in trials if t >= 0]))
                    trials[:] = [t if t in fits else -1 for t in trials]
            elif back is not None and known(history, [back]) and not lost(history, np.array([back]))[0]:
                place = back % self.size
                held = state.best[place]
                if held < 0 or int(best_first(history, [held, back])[0]) == back:
                    state.best[place] = back
        return state

    def ask(self, state: PsoState, slots: int, rng: np.random.Generator) -> tuple[Action, ...]:
        """The next place of the particle whose turn it is, one per slot; a Sobol design first."""
        history = state.population.history
        leaders = self._leaders(state)

        def propose(number: int, attempt: int) -> FloatArray:
            last = state.last[number % self.size]
            if number < self.size or not leaders or last < 0:
                return design_row(history.problem, number, self.size, rng)
            return self._next(state, number, leaders[int(rng.integers(len(leaders)))], rng)

        return starts(history, slots, rng, propose, {"leader": float(leaders[0]) if leaders else -1.0})

    def _leaders(self, state: PsoState) -> list[int]:
        """The best of the particles' bests; with several objectives, all that no other dominates."""
        history = state.population.history
        present = [t for t in state.best if t >= 0]
        if not present:
            return []
        ranked = best_first(history, present)
        if history.problem.m == 1 or history.violation[ranked[0]] > 0.0:
            return [int(ranked[0])]
        fits = ranked[history.violation[ranked] <= 0.0]
        front: list[int] = fits[nondominated(history.losses[fits])].tolist()
        return front

    def _next(self, state: PsoState, number: int, leader: int, rng: np.random.Generator) -> FloatArray:
        history = state.population.history
        layout = history.problem.space.layout
        place = number % self.size
        swarm = filled(history.codes[leader], rng)
        x = filled(history.codes[state.last[place]], rng, swarm)
        held = state.best[place]
        own = filled(history.codes[held], rng, x) if held >= 0 else x
        previous = state.before[place]
        velocity = np.zeros(len(x)) if previous < 0 else x - history.codes[previous]
        # A parameter that was inactive a step ago has no speed.
        velocity = np.where(np.isnan(velocity), 0.0, velocity)
        numbers = rounded(moved(x, velocity, own, swarm, rng), layout, rng)
        weights = np.array([INERTIA, PULL, PULL]) * (1.0, rng.random(), rng.random())
        which = np.searchsorted(np.cumsum(weights / weights.sum()), rng.random(len(x)))
        option = np.where(which == 0, x, np.where(which == 1, own, swarm))
        redrawn = np.where(rng.random(len(x)) < _REDRAW, other_options(option, layout, rng), option)
        out: FloatArray = np.where(layout.categorical, redrawn, numbers)
        return out
