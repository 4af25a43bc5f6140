"""Ridge regression on n-grams of decisions: what a configuration has in common with others, wherever in its tree.

*Use when* configurations are of different length, such as architectures, and parts of them mean the same in several places.
*Do not use when* there are few numbers that act smoothly; a Gaussian process uses them better.

*Paper*: Negrinho and Gordon 2017 (arXiv:1704.08792), surrogate of the sequential model-based search: ridge regression on the
length of a model and the counts of its n-grams of modules. Up to four in a row, of which at least three were seen, as in the
authors' published experiments.

*Differs*: a word is a parameter with its value, in the order of the tree, where the paper takes the names of modules; numbers
set apart by a dot or underscore are dropped from its name, so that copies of a part share their words. Single words count
with their full names too, and ordered parameters also by their code and its square. The penalty is the one with the least
error of leaving one out (Allen 1974, PRESS), in place of 1,000.

*Cost*: features O(n d) per length; fit O(n^3 + n^2 features).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tunewright.core.domains import Bool, Choice, Order
from tunewright.core.space import Space

FloatArray = NDArray[np.float64]
Hashes = NDArray[np.uint64]

PENALTIES = tuple(10.0**e for e in range(-2, 5))
_CELLS = 8
_FACTOR = np.uint64(0x9E3779B97F4A7C15)
_PLACE = re.compile(r"(^|[._])\d+(?=$|[._\[])")


@dataclass(frozen=True, slots=True)
class Words:
    """The words of a space.

    Attributes:
        cells: Number of values, or groups of neighbouring values, that each column tells apart, shape ``(d,)``.
        first: Number of the first word of each column, shape ``(d,)``; the words of a column follow each other.
        shared: Number of the word that a word becomes without its place, for every word.
        ordered: Columns whose code itself counts, shape ``(d,)``.
    """

    cells: NDArray[np.int64]
    first: NDArray[np.int64]
    shared: NDArray[np.int64]
    ordered: NDArray[np.bool_]


def without_place(name: str) -> str:
    """A parameter's name without the numbers that say which copy of a part it belongs to.

    Example:
        >>> without_place("depth.2.conv_3.filters")
        'depth.conv.filters'
    """
    return _PLACE.sub("", name).strip("._")


def words_of(space: Space) -> Words:
    """The words of a space: every option, and at most eight groups of the values of an ordered parameter."""
    layout = space.layout
    few = (layout.levels > 0) & (layout.categorical | (layout.levels <= _CELLS))
    cells = np.where(few, layout.levels, _CELLS)
    known: dict[tuple[str, str], int] = {}
    shared: list[int] = []
    for column, k in zip(space.columns, cells.tolist(), strict=True):
        name, domain = without_place(column.name), column.domain
        values: list[str] = [f"{i} of {k}" for i in range(k)]
        if isinstance(domain, Choice | Order | Bool) and len(domain.options) == k:
            values = [repr(o) for o in domain.options]
        shared += [known.setdefault((name, value), len(known)) for value in values]
    first = np.concatenate(([0], np.cumsum(cells)[:-1])).astype(np.int64) if len(cells) else cells
    return Words(cells, first, np.array(shared, dtype=np.int64), ~layout.categorical & (cells > 1))


def grams(words: Words, rows: FloatArray, longest: int) -> Hashes:
    """Every single word and every n-gram of words without their places, as hashes.

    Args:
        words: The words of the space.
        rows: Rows of codes, NaN where inactive, shape ``(n, d)``.
        longest: Longest n-gram.

    Returns:
        Shape ``(n, d (longest + 1))``; 0 where there is none.
    """
    n, d = rows.shape
    active = ~np.isnan(rows)
    cell = np.minimum(np.floor(np.nan_to_num(rows) * words.cells), words.cells - 1).astype(np.int64)
    word = words.first + cell
    plain = np.where(active, word + 1, 0).astype(np.uint64)
    out = [plain * _FACTOR]
    # Active words move to the left, in their order.
    order = np.argsort(~active, axis=1, kind="stable")
    packed = np.take_along_axis(words.shared[word] + 1, order, axis=1).astype(np.uint64)
    there = np.take_along_axis(active, order, axis=1)
    sums = np.zeros((n, d), dtype=np.uint64)
    for length in range(1, min(longest, d) + 1):
        reach = d - length + 1
        sums = sums[:, :reach] * _FACTOR + packed[:, length - 1 :]
        mixed = (sums ^ (sums >> np.uint64(29))) * _FACTOR + np.uint64(length)
        found = np.zeros((n, d), dtype=np.uint64)
        found[:, :reach] = np.where(there[:, length - 1 :], mixed, np.uint64(0))
        out.append(found)
    return np.concatenate(out, axis=1)


@dataclass(frozen=True, slots=True)
class Ridge:
    """A fitted model.

    Attributes:
        words: The words of the space.
        longest: Longest n-gram.
        vocabulary: Hashes of the n-grams that count, ascending, shape ``(v,)``.
        centre: Mean feature, shape ``(p,)``.
        weights: One per feature, shape ``(p,)``.
        offset: Mean target.
        penalty: The penalty found.
    """

    words: Words
    longest: int
    vocabulary: Hashes
    centre: FloatArray
    weights: FloatArray
    offset: float
    penalty: float


def counted(found: Hashes, vocabulary: Hashes) -> FloatArray:
    """How often each n-gram of a vocabulary, shape ``(v,)``, occurs in each row of hashes; shape ``(n, v)``."""
    n, v = len(found), len(vocabulary)
    if not v:
        return np.zeros((n, 0))
    place = np.minimum(np.searchsorted(vocabulary, found), v - 1)
    hit = vocabulary[place] == found
    flat = (np.arange(n)[:, None] * v + place)[hit]
    out: FloatArray = np.bincount(flat, minlength=n * v).reshape(n, v).astype(np.float64)
    return out


def features(words: Words, rows: FloatArray, longest: int, vocabulary: Hashes) -> FloatArray:
    """Features of rows of codes ``(n, d)``: length, codes and squares of ordered columns, counts; shape ``(n, p)``."""
    active = ~np.isnan(rows)
    codes = np.where(active, rows - 0.5, 0.0)[:, words.ordered]
    length = active.mean(axis=1, keepdims=True) if rows.shape[1] else np.zeros((len(rows), 1))
    return np.concatenate(
        (length, codes, 4.0 * codes**2, counted(grams(words, rows, longest), vocabulary)), axis=1
    )


def fit(words: Words, rows: FloatArray, targets: FloatArray, longest: int = 4, least: int = 3) -> Ridge:
    """Fits targets to rows.

    Args:
        words: The words of the space.
        rows: Rows of codes, NaN where inactive, shape ``(n, d)``; at least one.
        targets: A finite number each, shape ``(n,)``.
        longest: Longest n-gram.
        least: Rows and places together in which an n-gram must occur to count.
    """
    found, times = np.unique(grams(words, rows, longest), return_counts=True)
    vocabulary = found[(times >= least) & (found > 0)]
    x = features(words, rows, longest, vocabulary)
    centre, offset = x.mean(axis=0), float(targets.mean())
    x, y = x - centre, targets - offset
    values, vectors = np.linalg.eigh(x @ x.T)
    values = np.maximum(values, 0.0)
    turned = vectors.T @ y
    best, chosen = np.inf, PENALTIES[-1]
    for penalty in PENALTIES:
        shrunk = values / (values + penalty)
        left = 1.0 - 1.0 / len(y) - (vectors**2) @ shrunk
        press = float(np.mean(((y - vectors @ (shrunk * turned)) / np.maximum(left, 1e-9)) ** 2))
        if press < best:
            best, chosen = press, penalty
    weights = x.T @ (vectors @ (turned / (values + chosen)))
    return Ridge(words, longest, vocabulary, centre, weights, offset, chosen)


def predict(model: Ridge, rows: FloatArray) -> FloatArray:
    """Predicted targets of rows of codes, shape ``(q, d)`` to ``(q,)``."""
    x = features(model.words, rows, model.longest, model.vocabulary)
    out: FloatArray = (x - model.centre) @ model.weights + model.offset
    return out
