"""MOEA/D: one single-objective problem per direction of trade-off, neighbours helping each other.

*Use when* there are two or more objectives, some hundreds of cheap trials, and the trade-offs should be covered evenly.
*Do not use when* trials are few and dear (``Ehvi``), or the front is far from convex and its ends matter (``Nsga2``).

*Paper*: Zhang and Li 2007, IEEE Trans. Evol. Comput. 11(6): general framework (III-B) with the Tchebycheff approach
(II-B, eq. 2), objective normalisation (V-E); differential variation as in Li and Zhang 2009, IEEE Trans. Evol.
Comput. 13(2), eq. 5.

*Differs*: trial ``i`` belongs to subproblem ``i mod N``; the present solution of a subproblem is the best of all finished
trials of its neighbourhood, which is what one replacement after another comes to when the ideal point stands still, and
needs no barrier. Limits come first, as in constrained domination. 20 subproblems by default, because trials are dear.

*Cost*: ``tell`` O(1) per event; ``ask`` O(n N m).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from math import comb
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tunewright.core.algorithm import Action, Start
from tunewright.core.events import Event
from tunewright.core.history import History
from tunewright.core.novelty import first_new
from tunewright.core.problem import Problem
from tunewright.errors import ConfigError
from tunewright.models.breeding import filled, mutated, offspring, reflected
from tunewright.models.design import design_row
from tunewright.numerics.pareto import nondominated

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

_LARGEST = 1e150
_LEAST = 1e-6
_FACTOR = 0.5


def lattice(m: int, size: int) -> FloatArray:
    """Evenly spread weights that add up to one: the finest simplex lattice of at most ``size``, or the coarsest.

    Args:
        m: Number of objectives.
        size: Weights wanted.

    Returns:
        Shape ``(N, m)``.

    Source: Das and Dennis 1998, SIAM J. Optimization 8(3), as used by Zhang and Li 2007, section IV-C.
    """
    if m == 1:
        return np.ones((size, 1))
    parts = 1
    while comb(parts + m, m - 1) <= size:
        parts += 1
    bars = np.array(list(combinations(range(parts + m - 1), m - 1)))
    edges = np.column_stack([np.full(len(bars), -1), bars, np.full(len(bars), parts + m - 1)])
    out: FloatArray = (np.diff(edges, axis=1) - 1) / parts
    return out


def chebyshev(losses: FloatArray, weights: FloatArray) -> FloatArray:
    """Largest weighted distance from the ideal point, shape ``(n, N)``.

    Args:
        losses: Shape ``(n, m)``.
        weights: Shape ``(N, m)``.

    Source: Zhang and Li 2007, eq. 2, with the normalisation of section V-E; weights of zero count as 1e-6.
    """
    ideal = losses.min(axis=0)
    span = losses[nondominated(losses)].max(axis=0) - ideal
    # Where all of the front shares an objective, the spread of the others tells its unit.
    span = np.where(span > 0.0, span, losses.max(axis=0) - ideal)
    scaled = (losses - ideal) / np.where(span > 0.0, span, 1.0)
    out: FloatArray = (scaled[:, None, :] * np.maximum(weights, _LEAST)[None]).max(axis=2)
    return out


def neighbourhoods(weights: FloatArray, size: int) -> IntArray:
    """Each weight's nearest ones, itself first, shape ``(N, size)``."""
    apart = ((weights[:, None] - weights[None]) ** 2).sum(axis=2)
    np.einsum("ii->i", apart)[:] = -1.0
    return np.argsort(apart, axis=1, kind="stable")[:, :size]


def solutions(values: FloatArray, owners: IntArray, near: IntArray) -> IntArray:
    """The trial that solves each subproblem best among those of its neighbourhood, or of all where it has none.

    Args:
        values: Scalarised losses, shape ``(n, N)`` with ``n >= 1``.
        owners: Subproblem of each trial, shape ``(n,)``.
        near: Neighbourhoods, shape ``(N, T)``.

    Returns:
        Indices of trials, shape ``(N,)``.
    """
    member = np.zeros((len(near), len(near)), dtype=bool)
    member[np.arange(len(near))[:, None], near] = True
    masked = np.where(member.T[owners], values, np.inf)
    out: IntArray = np.where(np.isfinite(masked).any(axis=0), masked.argmin(axis=0), values.argmin(axis=0))
    return out


@dataclass(slots=True)
class MoeadState:
    """What ``Moead`` remembers.

    Attributes:
        history: The trials.
    """

    history: History


@dataclass(frozen=True, slots=True)
class Moead:
    """MOEA/D with the Tchebycheff approach.

    Args:
        subproblems: Most weightings; the lattice that is used may have fewer.
        neighbours: Subproblems that share solutions.
        variation: ``"sbx"``, simulated binary crossover, or ``"de"``, differential.
        eta: Distribution index of crossover and mutation.

    Raises:
        ConfigError: If a setting is out of range.
    """

    subproblems: int = 20
    neighbours: int = 6
    variation: Literal["sbx", "de"] = "sbx"
    eta: float = 20.0

    deliberate = True

    def __post_init__(self) -> None:
        if self.subproblems < 2 or self.neighbours < 2 or not 0.0 <= self.eta <= 1000.0:
            raise ConfigError(
                f"Moead needs subproblems >= 2, neighbours >= 2 and eta in [0, 1000]; got "
                f"subproblems={self.subproblems}, neighbours={self.neighbours}, eta={self.eta}. Use the defaults."
            )
        if self.variation not in ("sbx", "de"):
            raise ConfigError(
                f"Moead needs variation 'sbx' or 'de'; got {self.variation!r}. Choose one of them."
            )

    def init(self, problem: Problem) -> MoeadState:
        """The state before the first event."""
        return MoeadState(History(problem))

    def tell(self, state: MoeadState, events: Sequence[Event]) -> MoeadState:
        """Takes in events, O(1) each."""
        for event in events:
            state.history.apply(event)
        return state

    def ask(self, state: MoeadState, slots: int, rng: np.random.Generator) -> tuple[Action, ...]:
        """At most ``slots`` new configurations, one subproblem after another."""
        history = state.history
        space = history.problem.space
        weights = lattice(history.problem.m, self.subproblems)
        size = len(weights)
        near = neighbourhoods(weights, min(self.neighbours, size))
        present = self._present(history, weights, near)
        proposed: list[FloatArray] = []
        out: list[Action] = []
        for slot in range(slots):
            count = history.n + slot
            if count < size or present is None or not space.d:
                row = design_row(history.problem, count, size, rng)
                why = {"design": float(count)}
            else:
                own = count % size
                row = space.repair(self._child(history, present, near[own], rng)[None], rng)[0]
                why = {"weight": round(float(weights[own, 0]), 3)}
            taken = np.concatenate((history.codes, np.reshape(proposed, (len(proposed), space.d))))
            new = first_new(space, taken, row[None], rng)
            if new is None:
                break
            proposed.append(new)
            out.append(Start(space.decode(new), why=why))
        return tuple(out)

    def _present(self, history: History, weights: FloatArray, near: IntArray) -> FloatArray | None:
        """Codes of the present solution of every subproblem, shape ``(N, d)``; None without trials."""
        known = history.usable & ~np.isnan(history.codes).all(axis=1)
        rows = np.flatnonzero(known & np.isfinite(history.losses).all(axis=1))
        if not len(rows):
            return None
        values = chebyshev(np.clip(history.losses[rows], -_LARGEST, _LARGEST), weights)
        violation = history.violation[rows]
        if (violation > 0.0).any():
            worse = np.unique(violation, return_inverse=True)[1].ravel()
            values = np.where(violation[:, None] > 0.0, values.max() + 1.0 + worse[:, None], values)
        return history.codes[rows[solutions(values, rows % len(weights), near)]]

    def _child(
        self, history: History, present: FloatArray, near: IntArray, rng: np.random.Generator
    ) -> FloatArray:
        layout = history.problem.space.layout
        a, b = (present[k] for k in rng.choice(near, 2, replace=False))
        if self.variation == "sbx":
            return offspring(a, b, layout, self.eta, rng, 1.0)
        base = filled(present[near[0]], rng, a)
        a, b = filled(a, rng, base), filled(b, rng, base)
        moved = reflected(base + _FACTOR * (a - b))
        mixed = np.where(rng.random(layout.d) < 0.5, base, a)
        return mutated(np.where(layout.categorical, mixed, moved), layout, self.eta, 1.0 / layout.d, rng)
