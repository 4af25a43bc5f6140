"""Functional analysis of variance: how much of the variation of the loss each parameter, and each pair, explains.

*Use when* the question is what moves the loss over the whole space, and which parameters act together. *Do not use when* the
question is what decides among good configurations; PED-ANOVA (``importance``) answers that.

*Paper*: Hutter, Hoos and Leyton-Brown 2014, "An Efficient Approach for Assessing Hyperparameter Importance", ICML, Algorithms 1
and 2: marginals of a tree are sums over its leaves.

*Differs*: marginals are taken over a grid of at most 24 cells per column, which loses 0.2 % of the variance of a straight line;
conditional parameters are judged among the configurations in which they are active and weighted by their share of all, with the
space split by which parameters are active; intervals are over the trees, each grown on its own bootstrap sample.

*Cost*: O(trees patterns leaves d cells), and as much again times cells for each pair.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tunewright.analysis.shares import HasHistory, Importance, labels, parameters
from tunewright.analysis.surrogate import Surrogate, surrogate
from tunewright.core.history import History
from tunewright.core.space import Space
from tunewright.models.forest import Forest

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
_CELLS, _DRAWS, _PATTERNS = 24, 4000, 24
_LEVEL_MOST = 24


@dataclass(frozen=True, slots=True)
class Interaction:
    """What two parameters explain together beyond what each explains alone.

    Attributes:
        names: The two parameters.
        columns: Their columns in the space.
        value: Share of the variance, in [0, 1].
        low: Lower end of the 90 % interval over trees.
        high: Upper end.
    """

    names: tuple[str, str]
    columns: tuple[int, int]
    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Variance:
    """Shares of the variance.

    Attributes:
        single: Of every parameter alone, largest first.
        pairs: Of the pairs that were asked for, largest first.
        model: The forest that they come from.
    """

    single: list[Importance]
    pairs: list[Interaction]
    model: Surrogate


@dataclass(frozen=True, slots=True)
class _Pattern:
    """Configurations with the same active parameters.

    ``share`` of all configurations; ``mass[j]`` how they spread over the cells of column ``j``, empty where inactive.
    """

    share: float
    mass: tuple[Floats, ...]


def fanova(
    study_or_history: HasHistory | History, *, pairs: int = 0, seed: int = 0, model: Surrogate | None = None
) -> Variance:
    """Shares of the variance of the loss over the space, where configurations are drawn from its prior.

    Args:
        study_or_history: A study, or its history; the first objective counts.
        pairs: Number of parameters, most important first, whose pairs are looked at.
        seed: For the forest.
        model: The forest, where it is there already.

    Raises:
        ConfigError: If fewer than 20 trials have a result, or all losses are equal.
    """
    model = surrogate(study_or_history, "fANOVA", seed) if model is None else model
    space = model.space
    patterns = _patterns(space, np.random.default_rng([seed, 63]))
    trees = [_Tree(model.forest, root, space, patterns) for root in model.forest.roots.tolist()]
    alone = np.array([[t.single(j) for j in range(space.d)] for t in trees])
    total = np.array([t.variance for t in trees])
    share = np.divide(alone, total[:, None], out=np.zeros_like(alone), where=total[:, None] > 0)
    grouped = np.add.reduceat(share, [e.first for e in space.entries], axis=1)
    single = [Importance(name, *_over_trees(grouped[:, j])) for j, name in enumerate(parameters(space))]
    top = np.argsort(-share.mean(axis=0), kind="stable")[:pairs].tolist()
    names = labels(space)
    found = []
    for a, j in enumerate(sorted(top)):
        for k in sorted(top)[a + 1 :]:
            both = np.array([t.pair(j, k) for t in trees])
            shares = np.divide(both, total, out=np.zeros_like(both), where=total > 0)
            found.append(Interaction((names[j], names[k]), (j, k), *_over_trees(shares)))
    return Variance(
        sorted(single, key=lambda i: (-i.value, -i.high, i.name)),
        sorted(found, key=lambda i: -i.value),
        model,
    )


def _over_trees(shares: Floats) -> tuple[float, float, float]:
    """Mean and 90 % interval, within [0, 1]."""
    value = float(np.clip(shares.mean(), 0.0, 1.0))
    low, high = np.clip(np.quantile(shares, [0.05, 0.95]), 0.0, 1.0).tolist()
    return value, min(low, value), max(high, value)


def cells_of(space: Space, j: int) -> Floats:
    """Codes of the middles of a column's cells."""
    levels = space.columns[j].domain.levels
    count = levels if 0 < levels <= _LEVEL_MOST or space.columns[j].domain.categorical else _CELLS
    out: Floats = (np.arange(count) + 0.5) / count
    return out


def _patterns(space: Space, rng: np.random.Generator) -> list[_Pattern]:
    """The commonest sets of active parameters, with how configurations spread over cells."""
    codes = space.sample(rng, _DRAWS if space.conditional else 1000)
    active = ~np.isnan(codes)
    masks, which, counts = np.unique(active, axis=0, return_inverse=True, return_counts=True)
    common = np.argsort(-counts, kind="stable")[:_PATTERNS]
    out = []
    for p in common.tolist():
        rows = codes[which.ravel() == p]
        mass = []
        for j in range(space.d):
            if not masks[p, j]:
                mass.append(np.empty(0))
                continue
            k = len(cells_of(space, j))
            seen = np.bincount(np.minimum((rows[:, j] * k).astype(np.int64), k - 1), minlength=k)
            whole = not space.conditional and space.columns[j].domain.guess is None
            even = np.full(k, 1.0 / k)
            mass.append(even if whole else _evened(seen, len(rows)))
        out.append(_Pattern(float(counts[p] / counts[common].sum()), tuple(mass)))
    return out


def _evened(seen: NDArray[np.int64], n: int) -> Floats:
    """Mass per cell: even over the cells that occur where the draws do not speak against it."""
    occurs = seen > 0
    even = occurs / occurs.sum()
    away = np.abs(seen[occurs] - n * even[occurs]) > 4 * np.sqrt(n * even[occurs] + 1)
    out: Floats = seen / n if away.any() else even
    return out


class _Tree:
    """One tree as boxes: what its leaves cover of every cell."""

    def __init__(self, forest: Forest, root: int, space: Space, patterns: list[_Pattern]) -> None:
        low, high, leaf = _boxes(forest, root, space.d)
        self._mean = forest.mean[leaf]
        self._patterns = patterns
        self._cover = [_cover(forest, root, space, j, low[:, j], high[:, j]) for j in range(space.d)]
        off = [(low[:, j] < -1.0) & (high[:, j] >= -1.0) for j in range(space.d)]
        self._parts = [
            np.array([(c @ m) if len(m) else o for c, m, o in zip(self._cover, p.mass, off, strict=True)])
            for p in patterns
        ]
        self._volume = [np.prod(parts, axis=0) for parts in self._parts]
        self._middle = sum(
            p.share * float(v @ self._mean) for p, v in zip(patterns, self._volume, strict=True)
        )
        square = sum(p.share * float(v @ self._mean**2) for p, v in zip(patterns, self._volume, strict=True))
        self.variance = max(0.0, square - self._middle**2)

    def _without(self, pattern: int, columns: tuple[int, ...]) -> Floats:
        """Share of the space that each leaf covers in all other columns, shape ``(leaves,)``."""
        keep = np.ones(len(self._parts[pattern]), dtype=np.bool_)
        keep[list(columns)] = False
        out: Floats = np.prod(self._parts[pattern][keep], axis=0)
        return out

    def marginal(self, j: int, needs: tuple[int, ...] = ()) -> tuple[Floats, Floats]:
        """Mean loss in every cell of a column and the mass there, where ``needs`` are active, too."""
        k = self._cover[j].shape[1]
        total, mass = np.zeros(k), np.zeros(k)
        for i, p in enumerate(self._patterns):
            if not len(p.mass[j]) or any(not len(p.mass[n]) for n in needs):
                continue
            here = p.share * p.mass[j]
            total += here * ((self._mean * self._without(i, (j,))) @ self._cover[j])
            mass += here
        return np.divide(total, mass, out=np.zeros(k), where=mass > 0), mass

    def joint(self, j: int, k: int) -> tuple[Floats, Floats]:
        """The same for two columns, shape ``(cells of j, cells of k)``, where both are active."""
        shape = self._cover[j].shape[1], self._cover[k].shape[1]
        total, mass = np.zeros(shape), np.zeros(shape)
        for i, p in enumerate(self._patterns):
            if len(p.mass[j]) and len(p.mass[k]):
                here = p.share * np.outer(p.mass[j], p.mass[k])
                weight = self._mean * self._without(i, (j, k))
                total += here * ((self._cover[j] * weight[:, None]).T @ self._cover[k])
                mass += here
        return np.divide(total, mass, out=np.zeros(shape), where=mass > 0), mass

    def single(self, j: int) -> float:
        """Variance that a column explains alone, among the configurations in which it is active."""
        mean, mass = self.marginal(j)
        whole = mass.sum()
        if whole == 0:
            return 0.0
        middle = float(mean @ mass / whole)
        return float(((mean - middle) ** 2) @ mass)

    def pair(self, j: int, k: int) -> float:
        """Variance that two columns explain together beyond each alone, where both are active."""
        both, mass = self.joint(j, k)
        whole = mass.sum()
        if whole == 0:
            return 0.0
        middle = float((both * mass).sum() / whole)
        first, second = mass.sum(axis=1), mass.sum(axis=0)
        rows = np.divide((both * mass).sum(axis=1), first, out=np.full(len(first), middle), where=first > 0)
        across = np.divide(
            (both * mass).sum(axis=0), second, out=np.full(len(second), middle), where=second > 0
        )
        rest = both - rows[:, None] - across + middle
        return float((rest**2 * mass).sum())


def _boxes(forest: Forest, root: int, d: int) -> tuple[Floats, Floats, NDArray[np.int64]]:
    """Bounds of the leaves of a tree, each of shape ``(leaves, d)``, and their numbers; a leaf holds ``low < code <= high``."""
    nodes = np.array([root])
    low, high = np.full((1, d), -np.inf), np.full((1, d), np.inf)
    found: list[tuple[Floats, Floats, NDArray[np.int64]]] = []
    while len(nodes):
        leaf = forest.feature[nodes] < 0
        found.append((low[leaf], high[leaf], nodes[leaf]))
        nodes, low, high = nodes[~leaf], low[~leaf], high[~leaf]
        if not len(nodes):
            break
        at, rows = forest.feature[nodes], np.arange(len(nodes))
        cut = forest.cut[nodes]
        below, above = high.copy(), low.copy()
        below[rows, at] = np.minimum(below[rows, at], cut)
        above[rows, at] = np.maximum(above[rows, at], cut)
        nodes = np.concatenate([forest.child[nodes], forest.child[nodes] + 1])
        low, high = np.concatenate([low, above]), np.concatenate([below, high])
    lows, highs, leaves = zip(*found, strict=True)
    return np.concatenate(lows), np.concatenate(highs), np.concatenate(leaves)


def _cover(forest: Forest, root: int, space: Space, j: int, low: Floats, high: Floats) -> Floats:
    """Share of every cell of a column that each leaf covers, shape ``(leaves, cells)``."""
    middles = cells_of(space, j)
    k = len(middles)
    domain = space.columns[j].domain
    if domain.categorical:
        place = int(np.flatnonzero(forest.named == j)[0])
        tree = int(np.flatnonzero(forest.roots == root)[0])
        middles = forest.ranks[tree, place, :k]
    if domain.categorical or domain.levels == k:
        return ((middles > low[:, None]) & (middles <= high[:, None])).astype(np.float64)
    edges = np.arange(k + 1) / k
    inside = np.minimum(high[:, None], edges[1:]) - np.maximum(low[:, None], edges[:-1])
    out: Floats = np.clip(inside, 0.0, None) * k
    return out


def averages(model: Surrogate, j: int, k: int, seed: int = 0) -> tuple[Floats, Floats, Floats, Floats]:
    """Mean loss over a grid of two columns, all else as in the space.

    Args:
        model: The forest.
        j: The column across.
        k: The column upwards.
        seed: For the draws that say how configurations spread.

    Returns:
        Codes of the cells of ``j`` and of ``k``; mean losses and their standard deviation over trees, shape ``(cells of k,
        cells of j)``, NaN where the two are never active together.
    """
    patterns = _patterns(model.space, np.random.default_rng([seed, 63]))
    drawn = [_Tree(model.forest, r, model.space, patterns).joint(j, k) for r in model.forest.roots.tolist()]
    every = np.array([mean.T for mean, _ in drawn])
    never = drawn[0][1].T == 0
    mean, std = every.mean(axis=0), every.std(axis=0)
    mean[never] = std[never] = np.nan
    return cells_of(model.space, j), cells_of(model.space, k), mean, std
