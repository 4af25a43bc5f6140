"""Covariances of rows of codes: a joint Matern 5/2 kernel, and a sum of one per column.

*Paper*: Rasmussen and Williams 2006, eq. 4.17, for the kernel; Duvenaud, Nickisch and Rasmussen 2011 (NeurIPS,
arXiv:1112.4394) for sums of kernels over single inputs, of which this is the first order plus the joint one.

*Differs*: every row of codes becomes a point in a Euclidean space: an ordered column one coordinate, a categorical
column a corner of a simplex (so two unequal choices are at distance 1), a column that is switched off a point off
the line. The length scales of the sum are those of the joint kernel times one common factor.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tunewright.models.warp import OFFSET

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

_INACTIVE = 0.1
_ROOT5 = 5.0**0.5


@dataclass(frozen=True, slots=True)
class Columns:
    """How rows of codes become points in a Euclidean space.

    Attributes:
        ordered: Indices of the ordered columns.
        categorical: Pairs (index, number of choices) of the categorical columns.
        owner: For each coordinate of the space, the column it comes from, shape ``(p,)``.
        d: Number of columns.
    """

    ordered: IntArray
    categorical: tuple[tuple[int, int], ...]
    owner: IntArray
    d: int

    def embed(self, x: FloatArray) -> FloatArray:
        """Points of the rows of codes ``x`` of shape ``(n, d)``, before weighting; shape ``(n, p)``."""
        out = np.zeros((len(x), len(self.owner)))
        m = len(self.ordered)
        codes = x[:, self.ordered]
        active = ~np.isnan(codes)
        out[:, :m] = np.where(active, codes, 0.5)
        out[:, m : 2 * m] = _INACTIVE * active
        at = 2 * m
        for column, k in self.categorical:
            code = x[:, column]
            rows = np.flatnonzero(~np.isnan(code))
            # Corners of a simplex with edge 1.
            out[rows, at + np.minimum((code[rows] * k).astype(np.int64), k - 1)] = 0.5**0.5
            at += k
        return out


def columns_of(levels: IntArray, categorical: BoolArray) -> Columns:
    """Reads the layout of a space.

    Args:
        levels: Number of levels per column, 0 where continuous, shape ``(d,)``.
        categorical: Which columns have no order, shape ``(d,)``.
    """
    ordered = np.flatnonzero(~categorical).astype(np.int64)
    choices = tuple((int(j), int(levels[j])) for j in np.flatnonzero(categorical))
    owner = [ordered, ordered, *(np.full(k, j, dtype=np.int64) for j, k in choices)]
    return Columns(ordered, choices, np.concatenate(owner), len(levels))


@dataclass(frozen=True, slots=True)
class Hyper:
    """Hyperparameters of the process, natural logarithms, for warped losses.

    Attributes:
        length: Log length scale per column, in codes, shape ``(d,)``.
        scale: Log variance of the process, unitless.
        noise: Log variance of the noise of one observation, unitless.
        share: Logit of the additive part's share of the variance; minus infinity where there is no such part.
        factor: Log of the additive part's length scales over the joint ones.
        offset: Of the warp that the losses go through, see ``models.warp``.
    """

    length: FloatArray
    scale: float
    noise: float
    share: float = -np.inf
    factor: float = 0.0
    offset: float = OFFSET

    @property
    def additive(self) -> float:
        """The additive part's share of the variance, within [0, 1]."""
        return float(1.0 / (1.0 + np.exp(-self.share)))


def squared_distances(a: FloatArray, b: FloatArray) -> FloatArray:
    """Squared Euclidean distances of points ``(n, p)`` and ``(m, p)``, shape ``(n, m)``."""
    out: FloatArray = -2.0 * (a @ b.T)
    out += np.einsum("ij,ij->i", a, a)[:, None]
    out += np.einsum("ij,ij->i", b, b)
    return np.maximum(out, 0.0, out=out)


def matern(squared: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Matern 5/2 correlation of squared distances, and -6/5 of its derivative by them, of the same shape."""
    r = np.sqrt(5.0 * squared)
    # Both need the same exponential.
    decay = np.exp(-r)
    slope = (1.0 + r) * decay
    return slope + (5.0 / 3.0) * squared * decay, slope


def gaps(columns: Columns, a: FloatArray, b: FloatArray) -> FloatArray:
    """Distances of embedded points ``(n, p)`` and ``(m, p)`` within each column, shape ``(d, n, m)``."""
    m = len(columns.ordered)
    out = np.empty((columns.d, len(a), len(b)))
    apart = np.abs(a.T[:m, :, None] - b.T[:m, None, :])
    on_a, on_b = a.T[m : 2 * m], b.T[m : 2 * m]
    for i in range(m):
        if on_a[i].min(initial=_INACTIVE) < _INACTIVE or on_b[i].min(initial=_INACTIVE) < _INACTIVE:
            apart[i] = np.hypot(apart[i], on_a[i][:, None] - on_b[i][None, :])
    out[columns.ordered] = apart
    at = 2 * m
    for column, k in columns.categorical:
        out[column] = np.sqrt(squared_distances(a[:, at : at + k], b[:, at : at + k]))
        at += k
    return out


def _single(columns: Columns, a: FloatArray, b: FloatArray, closeness: FloatArray) -> FloatArray:
    """Mean over columns of Matern 5/2 correlations of ``gaps`` times ``closeness``, shape ``(n, m)``.

    A column at a time, so that little memory is touched.
    """
    m = len(columns.ordered)
    total = np.zeros((len(a), len(b)))
    gap, decay, slope = np.empty_like(total), np.empty_like(total), np.empty_like(total)
    at = {int(column): (i, 0) for i, column in enumerate(columns.ordered)}
    first = 2 * m
    for column, k in columns.categorical:
        at[column] = (first, k)
        first += k
    for column, (i, k) in sorted(at.items()):
        if k:
            gap[:] = np.sqrt(squared_distances(a[:, i : i + k], b[:, i : i + k]))
        else:
            np.abs(np.subtract(a[:, i, None], b[:, i], out=gap), out=gap)
            on_a, on_b = a[:, m + i], b[:, m + i]
            if on_a.min(initial=_INACTIVE) < _INACTIVE or on_b.min(initial=_INACTIVE) < _INACTIVE:
                np.hypot(gap, on_a[:, None] - on_b, out=gap)
        gap *= _ROOT5 * closeness[column]
        np.exp(np.negative(gap, out=decay), out=decay)
        np.multiply(gap, 1.0 / 3.0, out=slope)
        slope += 1.0
        slope *= gap
        slope += 1.0
        slope *= decay
        total += slope
    total /= columns.d
    return total


def covariance(columns: Columns, hyper: Hyper, a: FloatArray, b: FloatArray) -> FloatArray:
    """Covariance of the noiseless process at embedded points ``(n, p)`` and ``(m, p)``, shape ``(n, m)``."""
    scale, share = float(np.exp(hyper.scale)), hyper.additive
    weights = np.exp(-hyper.length)[columns.owner]
    joint = matern(squared_distances(a * weights, b * weights))[0]
    if share == 0.0:
        return scale * joint
    closeness = np.exp(-hyper.length - hyper.factor)
    single = _single(columns, a, b, closeness)
    return scale * ((1.0 - share) * joint + share * single)


def covariance_with_slopes(
    columns: Columns, hyper: Hyper, a: FloatArray, b: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """``covariance``, and its derivatives by the ordered codes of the first points, for few of these.

    Args:
        columns: The embedding.
        hyper: The hyperparameters.
        a: Embedded points, shape ``(n, p)``.
        b: Embedded points, shape ``(m, p)``.

    Returns:
        Covariances, shape ``(n, m)``, and derivatives, shape ``(n, m, o)`` for ``o`` ordered columns.
    """
    scale, share = float(np.exp(hyper.scale)), hyper.additive
    weights = np.exp(-hyper.length)[columns.owner]
    o = len(columns.ordered)
    inverse = np.exp(-2.0 * hyper.length[columns.ordered])
    correlation, slope = matern(squared_distances(a * weights, b * weights))
    pull = ((1.0 - share) * slope)[:, :, None] * inverse
    if share > 0.0:
        closeness = np.exp(-hyper.length - hyper.factor)
        r = gaps(columns, a, b)
        r *= (_ROOT5 * closeness)[:, None, None]
        decay = np.exp(-r)
        single = np.mean(decay * (1.0 + r * (1.0 + r * (1.0 / 3.0))), axis=0)
        correlation = (1.0 - share) * correlation + share * single
        if columns.categorical:
            r, decay = r[columns.ordered], decay[columns.ordered]
        r += 1.0
        r *= decay
        pull += np.moveaxis(r, 0, -1) * ((share / columns.d) * closeness[columns.ordered] ** 2)
    pull *= a[:, None, :o] - b[None, :, :o]
    pull *= (-5.0 / 3.0) * scale
    return scale * correlation, pull
