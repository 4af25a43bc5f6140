"""A random forest of regression trees that says how unsure it is, grown for all trees at once.

*Use when* columns are mixed or conditional, there are many trials, or responses jump. *Do not use when* there are few
trials of a smooth response; a Gaussian process needs fewer of them.

*Paper*: Hutter, Xu, Hoos and Leyton-Brown 2014 (Artificial Intelligence 206, arXiv:1211.0906), section 4.3.2 for the mean
and variance over trees and the random place of a cut between two neighbours; Breiman 2001 for the forest; Fisher 1958 (JASA
53) for ordering options by their mean.

*Differs*: options without order are ordered once per tree, by the mean of its sample, not in every node; options that the
sample does not hold are put at random places. Inactive parameters count as lower than every value, with a cut between.

*Cost*: fit O(trees n d) per level of depth, about ``2 log2 n`` levels; prediction O(trees q) per level.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

_OFF = -1.0
_BELOW_ALL = -0.5
_PURE = 1e-12
_TIE = 1e-9
_SMALL = 65_536


@dataclass(frozen=True, slots=True)
class Forest:
    """Trees in flat arrays; the right child of a node follows its left child.

    Attributes:
        roots: First node of each tree, shape ``(t,)``.
        feature: Column that a node cuts, -1 in a leaf, shape ``(nodes,)``.
        cut: Rows with at most this value go left, shape ``(nodes,)``.
        child: Left child of a node, itself in a leaf, shape ``(nodes,)``.
        mean: Mean of the values in each node, shape ``(nodes,)``.
        variance: Their variance, with divisor ``count``, shape ``(nodes,)``.
        ranks: Place of each option in a tree's order, shape ``(t, c, largest number of options)``.
        named: The ``c`` columns without order.
        levels: Number of levels per column, shape ``(d,)``.
    """

    roots: IntArray
    feature: IntArray
    cut: FloatArray
    child: IntArray
    mean: FloatArray
    variance: FloatArray
    ranks: FloatArray
    named: IntArray
    levels: IntArray


class _Front(NamedTuple):
    """The nodes of one depth that are still to be cut, with their rows side by side.

    ``order`` holds, per column, the rows sorted by node and then by value, shape ``(d, r)``.
    """

    nodes: IntArray
    counts: IntArray
    order: IntArray


class _Cuts(NamedTuple):
    """Where each node of a front is cut, if at all; shapes ``(s,)``."""

    good: BoolArray
    feature: IntArray
    cut: FloatArray


class _Rules(NamedTuple):
    leaf: int
    split: int
    share: float


class _Store:
    """Nodes in the order of their making."""

    def __init__(self) -> None:
        self.mean: list[FloatArray] = []
        self.variance: list[FloatArray] = []
        self.feature: list[IntArray] = []
        self.cut: list[FloatArray] = []
        self.child: list[IntArray] = []
        self.count = 0

    def add(self, mean: FloatArray, variance: FloatArray) -> IntArray:
        """Adds leaves; returns their numbers."""
        k = len(mean)
        numbers = np.arange(self.count, self.count + k)
        self.count += k
        self.mean.append(mean)
        self.variance.append(variance)
        return numbers


def fit(
    x: FloatArray,
    y: FloatArray,
    levels: IntArray,
    categorical: BoolArray,
    rng: np.random.Generator,
    *,
    trees: int = 10,
    leaf: int = 1,
    split: int = 2,
    share: float = 1.0,
    bootstrap: bool = True,
    logs: bool = False,
) -> Forest:
    """A forest for rows of codes.

    Args:
        x: Rows of codes, NaN where inactive, shape ``(n, d)`` with ``n >= 1``.
        y: A finite value each, shape ``(n,)``.
        levels: Number of levels per column, 0 where continuous, shape ``(d,)``.
        categorical: Which columns have no order, shape ``(d,)``.
        rng: Draws samples, columns and places of cuts.
        trees: Number of trees, ``t``.
        leaf: Least number of rows in a leaf.
        split: Least number of rows of a node that is cut.
        share: Share of the columns that a node chooses among, drawn anew for each.
        bootstrap: Whether every tree sees a sample with replacement; else all see every row.
        logs: Whether values are logarithms whose leaves average on the original scale (SMAC's option).
    """
    n, d = x.shape
    named = np.flatnonzero(categorical)
    chosen = rng.integers(n, size=(trees, n)) if bootstrap else np.tile(np.arange(n), (trees, 1))
    ranks = _orders(x, y, named, levels, chosen, rng)
    values = np.empty((d, trees, n))
    filled = np.where(np.isnan(x), _OFF, x)
    values[:] = filled.T[:, chosen]
    for place, j in enumerate(named):
        every = _ranked(x[:, j], int(levels[j]), ranks[:, place])
        values[j] = np.take_along_axis(every, chosen, axis=1)
    order = np.argsort(values, axis=2, kind="stable") + (np.arange(trees) * n)[:, None]
    flat, target = values.reshape(d, trees * n), y[chosen.ravel()]
    store = _Store()
    front = _Front(np.empty(0, np.int64), np.full(trees, n), order.reshape(d, trees * n))
    return _grow(store, front, flat, target, ranks, named, levels, rng, _Rules(leaf, split, share), logs)


def _orders(
    x: FloatArray,
    y: FloatArray,
    named: IntArray,
    levels: IntArray,
    chosen: IntArray,
    rng: np.random.Generator,
) -> FloatArray:
    """Place in [0, 1) of every option by the mean of a tree's sample, shape ``(t, c, k)``."""
    trees, n = chosen.shape
    most = int(levels[named].max(initial=1))
    out = np.zeros((trees, len(named), most))
    for place, j in enumerate(named):
        k = int(levels[j])
        level = _level(x[:, j], k)
        flat = (np.arange(trees)[:, None] * (k + 1) + level[chosen]).ravel()
        size = trees * (k + 1)
        count = np.bincount(flat, minlength=size).reshape(trees, k + 1)[:, :k]
        total = np.bincount(flat, y[chosen.ravel()], minlength=size).reshape(trees, k + 1)[:, :k]
        unseen = y[rng.integers(n, size=(trees, k))]
        mean = np.where(count > 0, total / np.maximum(count, 1), unseen)
        out[:, place, :k] = np.argsort(np.argsort(mean, axis=1, kind="stable"), axis=1) / k
    return out


def _level(column: FloatArray, k: int) -> IntArray:
    """Level of each code; ``k`` where inactive."""
    off = np.isnan(column)
    return np.where(off, k, np.minimum((np.where(off, 0.0, column) * k).astype(np.int64), k - 1))


def _ranked(column: FloatArray, k: int, ranks: FloatArray) -> FloatArray:
    """Places of a column's options in every tree, shape ``(t, n)``."""
    level = _level(column, k)
    out: FloatArray = np.where(level == k, _OFF, ranks[:, np.minimum(level, k - 1)])
    return out


def _grow(
    store: _Store,
    front: _Front,
    values: FloatArray,
    target: FloatArray,
    ranks: FloatArray,
    named: IntArray,
    levels: IntArray,
    rng: np.random.Generator,
    rules: _Rules,
    logs: bool,
) -> Forest:
    """Cuts the nodes of one depth after the other."""
    trees = len(front.counts)
    # Sums over long rows stay exact only around zero, and squares finite only of small numbers.
    low, high = float(target.min()), float(target.max())
    shift, scale = low / 2.0 + high / 2.0, 1.0
    if not logs and high > low:
        scale = high / 2.0 - low / 2.0
    target = (target - shift) / scale
    floor = _PURE * float(target.var())
    front, _ = _entered(store, front, target, rules, floor, logs)
    children: list[tuple[IntArray, IntArray, FloatArray, IntArray]] = []
    while len(front.nodes):
        cuts = _best_cuts(front, values, target, rng, rules)
        segment = np.repeat(np.arange(len(front.nodes)), front.counts)
        rows = front.order[0]
        side = values[cuts.feature[segment], rows] > cuts.cut[segment]
        number = np.cumsum(cuts.good) - 1
        place = np.full(values.shape[1], -1)
        place[rows] = np.where(cuts.good[segment], 2 * number[segment] + side, -1)
        order = _sorted_by(front.order, place)
        count = int(cuts.good.sum())
        counts = np.bincount(place[place >= 0], minlength=2 * count)
        nodes = front.nodes[cuts.good]
        front, made = _entered(
            store, _Front(np.empty(0, np.int64), counts, order), target, rules, floor, logs
        )
        children.append((nodes, cuts.feature[cuts.good], cuts.cut[cuts.good], made[::2]))
    feature, cut = np.full(store.count, -1), np.zeros(store.count)
    child = np.arange(store.count)
    for nodes, by, at, left in children:
        feature[nodes], cut[nodes], child[nodes] = by, at, left
    mean = np.concatenate(store.mean) * scale + shift
    variance = np.concatenate(store.variance) * scale**2
    return Forest(np.arange(trees), feature, cut, child, mean, variance, ranks, named, levels)


def _sorted_by(order: IntArray, place: IntArray) -> IntArray:
    """Rows that have a place, per column, sorted by it and otherwise as before."""
    keep = place[order] >= 0
    order = order[keep].reshape(len(order), -1)
    key = place[order]
    # NumPy sorts 16-bit numbers by radix, in linear time.
    small = key.astype(np.uint16) if key.size and int(key.max()) < _SMALL else key
    return np.take_along_axis(order, np.argsort(small, axis=1, kind="stable"), axis=1)


def _entered(
    store: _Store, front: _Front, target: FloatArray, rules: _Rules, floor: float, logs: bool
) -> tuple[_Front, IntArray]:
    """Stores the nodes, and keeps those that may be cut; also the numbers of all."""
    counts = front.counts
    if not len(counts):
        return front, front.nodes
    starts = np.cumsum(counts) - counts
    rows = front.order[0] if len(front.order) else np.arange(len(target))
    here = target[rows]
    mean = np.add.reduceat(here, starts) / counts
    variance = np.add.reduceat((here - np.repeat(mean, counts)) ** 2, starts) / counts
    shown = mean
    if logs:
        top = np.maximum.reduceat(here, starts)
        shown = top + np.log(np.add.reduceat(np.exp(here - np.repeat(top, counts)), starts) / counts)
    nodes = store.add(shown, variance)
    open_ = (counts >= max(rules.split, 2 * rules.leaf)) & (variance > floor) & (len(front.order) > 0)
    order = front.order
    if not open_.all():
        order = order[:, :0]
        if open_.any():
            place = np.full(len(target), -1)
            place[rows] = np.repeat(np.where(open_, np.cumsum(open_) - 1, -1), counts)
            order = front.order[place[front.order] >= 0].reshape(len(front.order), -1)
    return _Front(nodes[open_], counts[open_], order), nodes


def _best_cuts(
    front: _Front, values: FloatArray, target: FloatArray, rng: np.random.Generator, rules: _Rules
) -> _Cuts:
    """The cut of every node that explains the most variance."""
    counts, order = front.counts, front.order
    d, s = len(order), len(counts)
    starts = np.cumsum(counts) - counts
    held = np.take_along_axis(values, order, axis=1)
    sums = np.cumsum(target[order], axis=1)
    ends = starts + counts - 1
    before = np.where(starts > 0, sums[:, starts - 1], 0.0)
    total = (sums[:, ends] - before)[0]
    left = np.arange(order.shape[1]) - np.repeat(starts, counts) + 1.0
    right = np.repeat(counts, counts) - left
    sums -= np.repeat(before, counts, axis=1)
    legal = np.zeros(held.shape, dtype=np.bool_)
    np.greater(held[:, 1:], held[:, :-1], out=legal[:, :-1])
    legal &= (left >= rules.leaf) & (right >= rules.leaf) & (right > 0)
    # With n_l and n_r rows and the node's mean, what is explained is (s_l - n_l mean)^2 n / (n_l n_r).
    away = sums - left * np.repeat(total / counts, counts)
    away *= away
    away *= np.repeat(counts, counts) / (left * np.maximum(right, 1.0))
    gain = np.where(legal, away, -1.0)
    best = np.maximum.reduceat(gain, starts, axis=1)
    # Many columns cut a small node equally well; chance decides, else the first ones would always win.
    score = best * (1.0 + _TIE * rng.random((d, s)))
    if rules.share < 1.0:
        wanted = max(1, round(rules.share * d))
        lot = rng.random((d, s))
        score = np.where(lot <= np.sort(lot, axis=0)[wanted - 1], score, -1.0)
    feature = np.argmax(score, axis=0)
    column = np.arange(s)
    good = score[feature, column] > 0.0
    segment = np.repeat(column, counts)
    hits = np.flatnonzero(gain[feature[segment], np.arange(len(segment))] == best[feature, column][segment])
    first = hits[np.unique(segment[hits], return_index=True)[1]]
    low = held[feature, first]
    high = held[feature, np.minimum(first + 1, ends)]
    cut = low + (high - low) * rng.random(s)
    cut = np.where(cut >= high, low, cut)
    return _Cuts(good, feature, np.where(low < 0.0, _BELOW_ALL, cut))


def leaves(forest: Forest, x: FloatArray) -> IntArray:
    """The leaf that every row falls into, in every tree; rows ``(q, d)``, leaves ``(t, q)``."""
    q, d = x.shape
    trees = len(forest.roots)
    node = np.repeat(forest.roots[:, None], q, axis=1)
    if not d:
        return node
    filled = np.where(np.isnan(x), _OFF, x)
    if len(forest.named):
        values = np.broadcast_to(filled, (trees, q, d)).copy()
        for place, j in enumerate(forest.named):
            values[:, :, j] = _ranked(x[:, j], int(forest.levels[j]), forest.ranks[:, place])
        flat, start = values.ravel(), np.arange(trees * q).reshape(trees, q) * d
    else:
        flat, start = filled.ravel(), np.broadcast_to(np.arange(q) * d, (trees, q))
    at, start = node.ravel(), start.ravel()
    going = np.arange(len(at))
    while len(going):
        here = at[going]
        feature = forest.feature[here]
        inner = feature >= 0
        if not inner.all():
            going, here, feature = going[inner], here[inner], feature[inner]
        at[going] = forest.child[here] + (flat[start[going] + feature] > forest.cut[here])
    return at.reshape(trees, q)


def predict(forest: Forest, x: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Mean and variance over the trees and within their leaves.

    Args:
        forest: The forest.
        x: Rows of codes, shape ``(q, d)``.

    Returns:
        Means ``(q,)`` and variances ``(q,)``, unit of the values and its square: the mean of the leaves' variances plus the
        variance of their means (Hutter et al. 2014, eq. 3: the law of total variance).
    """
    at = leaves(forest, x)
    means = forest.mean[at]
    mean: FloatArray = means.mean(axis=0)
    variance: FloatArray = forest.variance[at].mean(axis=0) + means.var(axis=0)
    return mean, variance
