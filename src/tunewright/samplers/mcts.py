"""Monte-Carlo tree search: treats a configuration as a path of decisions and follows the branches that did well so far.

*Use when* the space is a tree, such as of architectures, and there are some hundred trials. Declare first what matters most: a
parameter counts from the time on when the tree has grown down to it, one decision per trial. *Do not use when* parameters act jointly and smoothly, or there are few trials: every branch is tried before any is
trusted, and a model (``TreeSmbo``, ``Smac``) carries over what it learned from one branch to another.

*Paper*: Negrinho and Gordon 2017 (DeepArchitect, arXiv:1704.08792), the section on model search algorithms: UCT (Kocsis
and Szepesvari 2006, ECML, eq. 1) with random rollouts, and tree restructuring by bisection. The exploration constant is that
of the authors' published experiments, 0.5.

*Differs*: a trial is rewarded by its rank among all, from 0 for the worst to 1, where the paper takes accuracies: ranks need
no range, and order failed trials, outcome limits and several objectives too. A number with too many values to list is
divided into 32 cells, and any value within the cell may be drawn; bisection halves ordered parameters, and those without an
order that have more than eight options. Rollouts draw from the prior, so guesses count. Running trials count as visits
without a reward (Liu et al. 2020, WU-UCT, arXiv:1810.11755, eq. 4). Branches in which rollouts find only forbidden or known
configurations are left out.

*Cost*: tell O(depth) per trial; ask O(n depth), and a walk of O(d) decisions.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tunewright.core.algorithm import Action, Start
from tunewright.core.events import Amended, Edited, Event, Started
from tunewright.core.history import RUNNING, History
from tunewright.core.novelty import first_new, is_finite
from tunewright.core.problem import Problem
from tunewright.core.space import Space
from tunewright.errors import ConfigError
from tunewright.models.breeding import filled
from tunewright.models.decisions import Spot, decide, spots_of
from tunewright.models.population import best_first, lost

FloatArray = NDArray[np.float64]

_ROLLOUTS = 8
_ATTEMPTS = 64


@dataclass(slots=True)
class MctsState:
    """What ``Mcts`` remembers.

    Attributes:
        history: The trials.
        spots: The parameters in the order in which they are decided.
        children: For every node, the nodes that its options lead to.
        grown: For every node, whether a trial went on from it.
        nodes: A node that a trial went through, for every pair of them.
        trials: The trial of each such pair.
    """

    history: History
    spots: tuple[Spot, ...] = field(compare=False)
    children: list[dict[int, int]] = field(default_factory=lambda: [{}])
    grown: list[bool] = field(default_factory=lambda: [False])
    nodes: array[int] = field(default_factory=lambda: array("q"))
    trials: array[int] = field(default_factory=lambda: array("q"))


def uct(mean: float, visits: float, parent: float, exploration: float) -> float:
    """Upper confidence bound of an option.

    Args:
        mean: Mean reward of its trials.
        visits: Number of its trials, at least 1.
        parent: Number of trials of all options of the node.
        exploration: Weight of the bound's width.

    Source: Kocsis and Szepesvari 2006, eq. 1, with the constant written as ``exploration sqrt(2)``.
    """
    return mean + exploration * math.sqrt(2.0 * math.log(max(parent, 1.0)) / visits)


def rewards(history: History) -> FloatArray:
    """Reward of every trial in [0, 1], shape ``(n,)``, by rank, equal ones alike; NaN for those that are awaited."""
    out = np.full(history.n, np.nan)
    rows = np.flatnonzero((history.status != RUNNING) | ~np.isnan(history.loss))
    k = len(rows)
    if k == 0:
        return out
    order = best_first(history, rows.tolist())
    failed = lost(history, order)
    # Where nothing is known, nothing differs.
    keys = np.column_stack((history.losses[order], history.violation[order]))
    keys[failed] = 0.0
    new = np.any(keys[1:] != keys[:-1], axis=1) | (failed[1:] != failed[:-1])
    group = np.concatenate(([0], np.cumsum(new)))
    ranks = np.bincount(group, np.arange(k)) / np.bincount(group)
    out[order] = 1.0 - ranks[group] / (k - 1) if k > 1 else 0.5
    return out


def _take(state: MctsState, trial: int) -> None:
    """Adds a trial to the nodes that it goes through; the last of them grows."""
    codes = state.history.codes[trial]
    if len(codes) and np.isnan(codes).all():
        return
    node = 0
    walk = decide(state.spots, codes)
    step = next(walk, None)
    while True:
        state.nodes.append(node)
        state.trials.append(trial)
        if step is None:
            return
        if not state.grown[node]:
            state.grown[node] = True
            return
        option = step[1]
        if option not in state.children[node]:
            state.children[node][option] = len(state.children)
            state.children.append({})
            state.grown.append(False)
        node = state.children[node][option]
        try:
            step = walk.send(option)
        except StopIteration:
            step = None


@dataclass(slots=True)
class _Tree:
    """The tree with its numbers, and what one decision adds to them.

    Attributes:
        state: The trials and nodes.
        visits: Trials of each node, with those that are awaited.
        known: Trials of each node that have a reward.
        total: Sum of their rewards.
        added: Proposals of this decision, by node and option.
        closed: Options that lead nowhere, by node.
        failures: Rollouts in vain, by node and option where they began.
    """

    state: MctsState
    visits: FloatArray
    known: FloatArray
    total: FloatArray
    exploration: float
    added: dict[tuple[int, int], int] = field(default_factory=dict)
    closed: dict[int, set[int]] = field(default_factory=dict)
    failures: dict[tuple[int, int], int] = field(default_factory=dict)

    @classmethod
    def of(cls, state: MctsState, exploration: float) -> _Tree:
        size = len(state.children)
        nodes = np.array(state.nodes, dtype=np.int64)
        earned = rewards(state.history)[np.array(state.trials, dtype=np.int64)]
        there = ~np.isnan(earned)
        return cls(
            state,
            np.bincount(nodes, minlength=size).astype(np.float64),
            np.bincount(nodes[there], minlength=size).astype(np.float64),
            np.bincount(nodes[there], earned[there], minlength=size).astype(np.float64),
            exploration,
        )

    def mean(self, node: int, otherwise: float) -> float:
        """Mean reward of a node, or something else where none is known."""
        return float(self.total[node] / self.known[node]) if self.known[node] else otherwise

    def choose(self, node: int, k: int, wanted: int, rng: np.random.Generator) -> int | None:
        """An option of a node: one never tried, else that of the largest bound; None where all are closed."""
        kids = self.state.children[node]
        closed = self.closed.get(node, set())
        tried = {o for o in kids if o not in closed}
        tried |= {o for n, o in self.added if n == node and o not in closed}
        if len(tried) + len(closed) < k:
            if wanted not in tried and wanted not in closed:
                return wanted
            fresh = [o for o in range(k) if o not in tried and o not in closed]
            return fresh[int(rng.integers(len(fresh)))]
        if not tried:
            return None
        here = self.mean(node, 0.5)
        counts = {
            o: (self.visits[kids[o]] if o in kids else 0.0) + self.added.get((node, o), 0) for o in tried
        }
        parent = sum(counts.values())
        bounds = {
            o: uct(self.mean(kids[o], here) if o in kids else here, counts[o], parent, self.exploration)
            for o in sorted(tried)
        }
        top = max(bounds.values())
        best = [o for o, b in bounds.items() if b == top]
        return best[0] if len(best) == 1 else best[int(rng.integers(len(best)))]

    def walk(
        self, known: FloatArray, rng: np.random.Generator
    ) -> tuple[list[float] | None, list[tuple[int, int]]]:
        """A configuration and the options taken within the tree; None where the tree ends in closed options."""
        taken: list[tuple[int, int]] = []
        node: int | None = 0
        walk = decide(self.state.spots, known)
        try:
            k, wanted = next(walk)
            while True:
                if node is not None and self.state.grown[node]:
                    option = self.choose(node, k, wanted, rng)
                    if option is None:
                        return None, taken
                    taken.append((node, option))
                    node = self.state.children[node].get(option)
                else:
                    option, node = wanted, None
                k, wanted = walk.send(option)
        except StopIteration as end:
            row: list[float] = end.value
            return row, taken

    def give_up(self, taken: list[tuple[int, int]], *, at_once: bool) -> bool:
        """Notes a walk in vain; returns whether the whole tree is closed."""
        if not taken:
            return at_once or self._failed((-1, 0)) >= _ROLLOUTS
        node, option = taken[-1]
        if at_once or self._failed((node, option)) >= _ROLLOUTS:
            self.closed.setdefault(node, set()).add(option)
        return False

    def _failed(self, place: tuple[int, int]) -> int:
        count = self.failures[place] = self.failures.get(place, 0) + 1
        return count


@dataclass(frozen=True, slots=True)
class Mcts:
    """Monte-Carlo tree search over the tree of decisions, by default with large sets of options halved.

    Args:
        exploration: Weight of the width of the confidence bound, for rewards in [0, 1].
        bisect: Whether sets of options are halved again and again; else a node has a child per option.
        cells: Into how many cells a number is divided that has too many values to list.

    Raises:
        ConfigError: If a setting is out of range.
    """

    exploration: float = 0.5
    bisect: bool = True
    cells: int = 32

    def __post_init__(self) -> None:
        if not 0.0 <= self.exploration < math.inf or self.cells < 2:
            raise ConfigError(
                f"Mcts needs a finite exploration >= 0 and cells >= 2; got exploration={self.exploration}, "
                f"cells={self.cells}. Use the defaults."
            )

    def init(self, problem: Problem) -> MctsState:
        """The state before the first event."""
        return MctsState(History(problem), spots_of(problem.space, self.cells, self.bisect))

    def tell(self, state: MctsState, events: Sequence[Event]) -> MctsState:
        """Takes in events; a trial that begins adds at most one node, a changed one grows the tree anew."""
        for event in events:
            state.history.apply(event)
            if isinstance(event, Started):
                _take(state, event.trial)
            elif isinstance(event, Edited | Amended):
                history = state.history
                state = MctsState(history, spots_of(history.problem.space, self.cells, self.bisect))
                for trial in range(history.n):
                    _take(state, trial)
        return state

    def ask(self, state: MctsState, slots: int, rng: np.random.Generator) -> tuple[Action, ...]:
        """One path per slot; the earlier ones count as visits."""
        if not slots:
            return ()
        space = state.history.problem.space
        tree = _Tree.of(state, self.exploration)
        seen = {row.tobytes() for row in state.history.codes} if is_finite(space) else None
        awaited: list[FloatArray] = []
        out: list[Action] = []
        for _ in range(slots):
            row, depth = _propose(tree, space, seen, rng)
            if row is None:
                taken = np.concatenate((state.history.codes, np.reshape(awaited, (len(awaited), space.d))))
                row = first_new(space, taken, np.empty((0, space.d)), rng)
            if row is None:
                break
            if seen is not None:
                seen.add(row.tobytes())
            awaited.append(row)
            out.append(Start(space.decode(row), why={"depth": float(depth)}))
        return tuple(out)


def _propose(
    tree: _Tree, space: Space, seen: set[bytes] | None, rng: np.random.Generator
) -> tuple[FloatArray | None, int]:
    """A legal configuration that was not tried, and how far the tree led; None where walks did not find one."""
    draws = filled(space.sample(rng, 1), rng)
    for attempt in range(_ATTEMPTS):
        if attempt == 1:
            draws = filled(space.sample(rng, _ROLLOUTS), rng)
        walked, taken = tree.walk(draws[attempt % len(draws)], rng)
        if walked is not None:
            row: FloatArray = space.snap(np.array([walked]).reshape(1, space.d))[0]
            config = space.decode(row)
            row = space.encode(config)
            if (seen is None or row.tobytes() not in seen) and (
                not space.constraints or space.feasible(config)
            ):
                for place in taken:
                    tree.added[place] = tree.added.get(place, 0) + 1
                return row, len(taken)
        if tree.give_up(taken, at_once=walked is None):
            break
    return None, 0
