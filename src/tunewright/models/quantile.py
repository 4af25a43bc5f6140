"""Quantiles of a response by a random forest, corrected on rows that were held out.

*Use when* noise is heavy-tailed or differs from place to place, or a normal posterior cannot be trusted. *Do not use when*
there are fewer than some 20 rows.

*Paper*: Meinshausen 2006 (JMLR 7), section 3, for quantiles by the weights of a forest; Romano, Patterson and Candes 2019
(arXiv:1905.03222), Algorithm 1, for the conformal correction.

*Differs*: the rows of a leaf are all that fall into it, also those that its tree did not draw. An interval is corrected as in
the paper, each nominal coverage of a fan of quantiles by itself, the median never.

*Cost*: one forest; prediction O(trees q n) additions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tunewright.models import forest

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

_LEAF = 5
_TREES = 20
_LEAST_HELD = 3
_BLOCK = 2_000_000
_WHOLE = 1e-9


@dataclass(frozen=True, slots=True)
class QuantileForest:
    """Conditional quantiles.

    Attributes:
        forest: The trees.
        at: Leaf of each row that was learned from, rows by rising value, shape ``(t, n)``.
        weight: One over the number of rows in that leaf and over ``t``, shape ``(t, n)``.
        values: The values in rising order, shape ``(n,)``.
        shift: Added to each quantile of ``probabilities``, unit of the values, shape ``(p,)``.
        probabilities: Probabilities in rising order, symmetric around a half, shape ``(p,)``.
    """

    forest: forest.Forest
    at: IntArray
    weight: FloatArray
    values: FloatArray
    shift: FloatArray
    probabilities: FloatArray


def fan(count: int) -> FloatArray:
    """``1 / (count + 1)`` to ``count / (count + 1)``, shape ``(count,)``."""
    out: FloatArray = np.arange(1, count + 1) / (count + 1.0)
    return out


def fit(
    x: FloatArray,
    y: FloatArray,
    levels: IntArray,
    categorical: BoolArray,
    probabilities: FloatArray,
    rng: np.random.Generator,
    *,
    trees: int = _TREES,
    leaf: int = _LEAF,
) -> QuantileForest:
    """Quantiles without a correction.

    Args:
        x: Rows of codes, NaN where inactive, shape ``(n, d)`` with ``n >= 1``.
        y: A finite value each, shape ``(n,)``.
        levels: Number of levels per column, 0 where continuous, shape ``(d,)``.
        categorical: Which columns have no order, shape ``(d,)``.
        probabilities: In rising order, symmetric around a half, shape ``(p,)``.
        rng: Grows the trees.
        trees: Number of trees.
        leaf: Least number of rows in a leaf.
    """
    order = np.argsort(y, kind="stable")
    x, y = x[order], y[order]
    grown = forest.fit(x, y, levels, categorical, rng, trees=trees, leaf=leaf, split=2 * leaf)
    at = forest.leaves(grown, x)
    sizes = np.bincount(at.ravel(), minlength=len(grown.feature))
    return QuantileForest(
        grown, at, 1.0 / (sizes[at] * trees), y, np.zeros(len(probabilities)), probabilities
    )


def weights(model: QuantileForest, x: FloatArray) -> FloatArray:
    """Weight of every row learned from, for each of ``q`` rows; shape ``(q, n)``, each row sums to one.

    Source: Meinshausen 2006, eq. 4.
    """
    at = forest.leaves(model.forest, x)
    out = np.zeros((len(x), len(model.values)))
    for tree in range(len(at)):
        out += (at[tree][:, None] == model.at[tree]) * model.weight[tree]
    return out


def _cumulated(model: QuantileForest, x: FloatArray) -> FloatArray:
    """Running sums of ``weights``, shape ``(q, n)``; summed within leaves, of which there are fewer than rows."""
    at = forest.leaves(model.forest, x)
    n = len(model.values)
    out = np.zeros((len(x), n))
    for tree in range(len(at)):
        leaf, place = np.unique(model.at[tree], return_inverse=True)
        share = np.zeros((len(leaf), n))
        share[place, np.arange(n)] = model.weight[tree]
        out += np.cumsum(share, axis=1)[np.searchsorted(leaf, at[tree])]
    return out


def predict(model: QuantileForest, x: FloatArray) -> FloatArray:
    """Quantiles of each row, corrected and rising, shape ``(q, p)``, unit of the values."""
    block = max(1, _BLOCK // len(model.values))
    out = np.empty((len(x), len(model.probabilities)))
    for start in range(0, len(x), block):
        mass = _cumulated(model, x[start : start + block])
        for k, p in enumerate(model.probabilities):
            # Rounding must not carry a weight of exactly p over the edge.
            place = np.count_nonzero(mass < p - _WHOLE, axis=1)
            out[start : start + block, k] = model.values[np.minimum(place, len(model.values) - 1)]
    return np.sort(out + model.shift, axis=1)


def conformal_shift(quantiles: FloatArray, y: FloatArray, probabilities: FloatArray) -> FloatArray:
    """How far each quantile must move for intervals to cover as often as they say.

    Args:
        quantiles: Quantiles of rows that the model did not see, shape ``(c, p)``.
        y: Values of these rows, shape ``(c,)``.
        probabilities: In rising order, symmetric around a half, shape ``(p,)``.

    Returns:
        Shape ``(p,)``: minus the correction below the median, plus above. The correction of the interval between
        ``p`` and ``1 - p`` is the ``(1 - 2 p)(1 + 1 / c)`` quantile of the scores ``max(low - y, y - high)``.

    Source: Romano et al. 2019, eq. 6 to 8.
    """
    count = len(y)
    shift = np.zeros(len(probabilities))
    for k in range(len(probabilities) // 2):
        low, high = quantiles[:, k], quantiles[:, -1 - k]
        scores = np.sort(np.maximum(low - y, y - high))
        wanted = (1.0 - 2.0 * float(probabilities[k])) * (count + 1)
        place = min(int(np.ceil(wanted - _WHOLE)), count) - 1
        shift[k], shift[-1 - k] = -scores[place], scores[place]
    return shift


def fit_conformal(
    x: FloatArray,
    y: FloatArray,
    levels: IntArray,
    categorical: BoolArray,
    probabilities: FloatArray,
    rng: np.random.Generator,
    *,
    held: float = 0.1,
    least: int = 32,
    trees: int = _TREES,
    leaf: int = _LEAF,
) -> QuantileForest:
    """Quantiles corrected on a random part of the rows; with fewer than ``least`` rows, not corrected.

    Args:
        x: Rows of codes, NaN where inactive, shape ``(n, d)`` with ``n >= 1``.
        y: A finite value each, shape ``(n,)``.
        levels: Number of levels per column, 0 where continuous, shape ``(d,)``.
        categorical: Which columns have no order, shape ``(d,)``.
        probabilities: In rising order, symmetric around a half, shape ``(p,)``.
        rng: Chooses the rows held out, and grows the trees.
        held: Share of the rows held out; they are not learned from.
        least: Rows below which none are held out.
        trees: Number of trees.
        leaf: Least number of rows in a leaf.

    Source: Romano et al. 2019, Algorithm 1.
    """
    n = len(y)
    count = max(_LEAST_HELD, round(held * n)) if n >= least else 0
    mixed = rng.permutation(n)
    out, kept = mixed[:count], np.sort(mixed[count:])
    model = fit(x[kept], y[kept], levels, categorical, probabilities, rng, trees=trees, leaf=leaf)
    if not count:
        return model
    shift = conformal_shift(predict(model, x[out]), y[out], probabilities)
    return QuantileForest(model.forest, model.at, model.weight, model.values, shift, model.probabilities)
