"""Success-history adaptive differential evolution: members move by differences of others, with factors that succeeded.

*Use when* trials are cheap and some hundred, most parameters are numbers, and many workers run. *Do not use when* a trial
is expensive or most parameters are options without order; ``Bayes`` and ``Tpe`` find more.

*Paper*: Tanabe and Fukunaga 2013 (SHADE, CEC), sections III and IV (current-to-pbest/1 with archive, equations 6 to 14), over
Storn and Price 1997 (J. Global Optim. 11), whose DE/rand/1/bin is ``adaptive=False`` with F = 0.5 and CR = 0.9.

*Differs*: asynchronous: trial ``t`` challenges member ``t mod size`` whenever it ends, and the memory learns after every
``size`` ended trials. A member is 16 trials and the memory 5 entries, for budgets of some hundred. Options without order
cannot be added: each comes from the better member with chance F, else from the random one with chance F, else it stays;
one in ``4 size`` is redrawn. Where improvements cannot be measured, all successes weigh the same. With several objectives
a trial wins if it ranks higher among all members, by front and crowding.

*Cost*: tell O(1) per event, O(size log size) when a trial ends with several objectives; ask O(size log size + d).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import isfinite, tan

import numpy as np
from numpy.typing import NDArray

from tunewright.core.algorithm import Action, generator
from tunewright.core.events import Edited, Event, Started
from tunewright.core.history import History
from tunewright.core.problem import Problem
from tunewright.errors import ConfigError
from tunewright.models.breeding import filled, other_options
from tunewright.models.design import design_row
from tunewright.models.population import Population, best_first, known, lost, starts

FloatArray = NDArray[np.float64]

_PURPOSE = 0xDE
_LEAST = 4
_WIDTH = 0.1
_GREEDY = 0.2
_CLASSIC = (0.5, 0.9)


@dataclass(slots=True)
class DeState:
    """What ``De`` remembers.

    Attributes:
        population: The trials.
        members: Trial that holds each place; -1 where there is none yet.
        archive: Trials that were replaced, the oldest first.
        memory_f: Means of F that succeeded, shape ``(h,)``.
        memory_cr: Means of CR that succeeded, shape ``(h,)``.
        turn: Entry of the memory that is written next.
        factors: F and CR of each trial not yet counted.
        successes: F, CR and improvement of each success since the memory was written.
        ended: Trials counted since then.
    """

    population: Population
    members: list[int]
    memory_f: FloatArray
    memory_cr: FloatArray
    archive: list[int] = field(default_factory=list)
    turn: int = 0
    factors: dict[int, tuple[float, float]] = field(default_factory=dict)
    successes: list[tuple[float, float, float]] = field(default_factory=list)
    ended: int = 0


@dataclass(frozen=True, slots=True)
class De:
    """Differential evolution with success-history adaptation.

    Args:
        size: Members.
        memory: Entries of the memory of factors.
        adaptive: Whether factors adapt and members move towards the best; else classic DE/rand/1/bin.

    Raises:
        ConfigError: If a setting is out of range.
    """

    size: int = 16
    memory: int = 5
    adaptive: bool = True

    def __post_init__(self) -> None:
        if self.size < _LEAST or self.memory < 1:
            raise ConfigError(
                f"De needs size >= 4 and memory >= 1; got size={self.size}, memory={self.memory}. Use the defaults."
            )

    def init(self, problem: Problem) -> DeState:
        """The state before the first event."""
        half = np.full(self.memory, 0.5)
        return DeState(Population(History(problem)), [-1] * self.size, half.copy(), half.copy())

    def tell(self, state: DeState, events: Sequence[Event]) -> DeState:
        """Takes in events; an ended trial challenges the member of its place."""
        for event in events:
            back = state.population.take(event)
            if isinstance(event, Started):
                state.factors[event.trial] = self._factors(state, event.trial)
            elif isinstance(event, Edited):
                kept = set(known(state.population.history, [t for t in state.members if t >= 0]))
                state.members = [t if t in kept else -1 for t in state.members]
                state.archive = known(state.population.history, state.archive)
            elif back is not None:
                self._challenge(state, back)
        return state

    def ask(self, state: DeState, slots: int, rng: np.random.Generator) -> tuple[Action, ...]:
        """One trial vector per slot; before there are four members, points of a Sobol design."""
        history = state.population.history
        present = [t for t in state.members if t >= 0]
        ranked = best_first(history, present).tolist() if len(present) >= _LEAST else []

        def propose(number: int, attempt: int) -> FloatArray:
            if number < self.size or not ranked:
                return design_row(history.problem, number, self.size, rng)
            return self._vector(state, ranked, number, rng)

        return starts(history, slots, rng, propose, {"members": float(len(present))})

    def _factors(self, state: DeState, number: int) -> tuple[float, float]:
        """F and CR of a trial, the same each time until the memory changes. Source: SHADE, eq. 9 to 11."""
        if not self.adaptive:
            return _CLASSIC
        rng = generator(state.population.history.problem.seed, number, _PURPOSE)
        entry = int(rng.integers(self.memory))
        cr = float(np.clip(rng.normal(state.memory_cr[entry], _WIDTH), 0.0, 1.0))
        f = 0.0
        while f <= 0.0:
            f = float(state.memory_f[entry]) + _WIDTH * tan(np.pi * (float(rng.random()) - 0.5))
        return min(f, 1.0), cr

    def _vector(self, state: DeState, ranked: list[int], number: int, rng: np.random.Generator) -> FloatArray:
        """The trial vector of a number. Source: SHADE, eq. 6 (mutation) and 2 (binomial crossover)."""
        history = state.population.history
        layout = history.problem.space.layout
        f, cr = self._factors(state, number)
        own = state.members[number % self.size]
        target = own if own >= 0 else ranked[int(rng.integers(len(ranked)))]
        others = [t for t in ranked if t != target]
        picks = [others[i] for i in rng.permutation(len(others))[:3]]
        if self.adaptive:
            share = rng.uniform(2.0 / self.size, _GREEDY) if self.size > 2.0 / _GREEDY else _GREEDY
            best = ranked[int(rng.integers(max(2, round(share * len(ranked)))))]
            pool = [t for t in ranked + state.archive if t not in (target, picks[0])]
            last = pool[int(rng.integers(len(pool)))]
            x, better, r1, r2 = (filled(history.codes[t], rng) for t in (target, best, picks[0], last))
            donor = x + f * (better - x) + f * (r1 - r2)
        else:
            x, better, r1, r2 = (filled(history.codes[t], rng) for t in (target, *picks))
            donor = better + f * (r1 - r2)
        # Halfway between the target and the bound, as in JADE.
        donor = np.where(donor < 0.0, 0.5 * x, np.where(donor > 1.0, 0.5 * (1.0 + x), donor))
        d = len(x)
        option = np.where(rng.random(d) < f, better, np.where(rng.random(d) < f, r1, x))
        donor = np.where(layout.categorical, option, donor)
        crossed = rng.random(d) < cr
        crossed[int(rng.integers(d))] = True
        child = np.where(crossed, donor, x)
        redrawn = layout.categorical & (rng.random(d) < 1.0 / (4 * self.size))
        out: FloatArray = np.where(redrawn, other_options(child, layout, rng), child)
        return out

    def _challenge(self, state: DeState, trial: int) -> None:
        """Selection between a trial and the member of its place. Source: Storn and Price 1997, step 4; SHADE, eq. 7."""
        history = state.population.history
        factors = state.factors.pop(trial, None)
        if not known(history, [trial]):
            return
        place = trial % self.size
        held = state.members[place]
        if held < 0:
            state.members[place] = trial
            return
        rivals = [t for t in state.members if t >= 0 and t != held] if history.problem.m > 1 else []
        order = best_first(history, [trial, *rivals, held]).tolist()
        if order.index(trial) < order.index(held):
            state.members[place] = trial
            gain = float(history.loss[held] - history.loss[trial])
            if lost(history, np.array([held]))[0]:
                gain = float("nan")
            # A member that merely equals the old one teaches nothing.
            if gain != 0.0:
                state.archive = [*state.archive, held][-self.size :]
                if factors is not None:
                    state.successes.append((*factors, gain))
        state.ended += 1
        if state.ended >= self.size:
            self._learn(state)

    def _learn(self, state: DeState) -> None:
        """Writes one entry of the memory. Source: SHADE, algorithm 1 and eq. 12 to 14."""
        state.ended = 0
        if not state.successes:
            return
        f, cr, gains = np.array(state.successes).T
        total = float(gains.sum())
        fair = bool((gains > 0.0).all()) and isfinite(total)
        weights = gains / total if fair else np.full(len(f), 1.0 / len(f))
        state.memory_cr[state.turn] = weights @ cr
        state.memory_f[state.turn] = (weights @ f**2) / (weights @ f)
        state.turn = (state.turn + 1) % self.memory
        state.successes = []
