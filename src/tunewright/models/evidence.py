"""The log posterior of a process's hyperparameters, and its gradient.

*Paper*: Rasmussen and Williams 2006, eq. 5.8 and 5.9; length-scale prior of Hvarfner et al. 2024 (arXiv:2402.02229),
scaled with the number of active columns, with a lower location (0.35 for sqrt(2) on the log scale).

*Cost*: one factorisation of n^3, and O(d n^2) for the covariance and each of its derivatives, per evaluation.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from tunewright.models.kernel import Columns, Hyper, gaps, matern
from tunewright.models.warp import OFFSET
from tunewright.numerics.linalg import inverse_from_cholesky, jittered_cholesky, solve_cholesky

FloatArray = NDArray[np.float64]

_LENGTH_MEAN, _LENGTH_STD = 0.35, 3.0**0.5
_SCALE_MEAN, _SCALE_STD = 0.0, 1.0
_NOISE_MEAN, _NOISE_STD = -9.0, 2.0
_SHARE_MEAN, _SHARE_STD = -1.5, 1.5
_FACTOR_STD = 0.7
_ROOT5 = 5.0**0.5
# Bounds and first guesses of log variance, log noise, logit share and log factor.
_LOW = np.array([-4.0, -14.0, -6.0, -3.0])
_HIGH = np.array([4.0, 1.0, 6.0, 3.0])
_NOISE_START = -5.0


def centre(factor: FloatArray, y: FloatArray) -> tuple[float, FloatArray]:
    """Posterior mode of a constant mean under a unit normal prior, and the weights of the centred data.

    Args:
        factor: Lower Cholesky factor of the covariance, shape ``(n, n)``.
        y: Warped losses, shape ``(n,)``.
    """
    both = solve_cholesky(factor, np.column_stack([np.ones(len(y)), y]))
    mean = float(both[:, 1].sum() / (both[:, 0].sum() + 1.0))
    return mean, both[:, 1] - mean * both[:, 0]


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the posterior of hyperparameters depends on.

    A vector of hyperparameters holds the log length scales ``(d,)``, then log variance and log noise, then, with an
    additive part, the logit of its share and the log factor of its length scales.

    Attributes:
        y: Warped losses, unitless, shape ``(n,)``.
        weights: Variance of each row's noise over that of one observation, shape ``(n,)``.
        pairs: Indices of the pairs of different rows, two arrays of shape ``(n (n - 1) / 2,)``.
        apart: Distance of each pair within each column, shape ``(d, n (n - 1) / 2)``.
        squared: The same, squared.
        location: Means of the normal prior of the vector.
        spread: Its standard deviations.
        additive: Whether there is an additive part.
        scratch: Room for intermediate results, shape ``(3, d, n (n - 1) / 2)``; fresh memory for each evaluation would
            take longer than the arithmetic.
    """

    y: FloatArray
    weights: FloatArray
    pairs: tuple[NDArray[np.intp], NDArray[np.intp]]
    apart: FloatArray
    squared: FloatArray
    location: FloatArray
    spread: FloatArray
    additive: bool
    scratch: FloatArray = field(compare=False, repr=False)

    @property
    def d(self) -> int:
        """Number of columns."""
        return len(self.apart)

    def bounds(self) -> tuple[FloatArray, FloatArray]:
        """Lowest and highest vector allowed."""
        k = len(self.location) - self.d
        low, high = np.full(self.d, -5.0), np.full(self.d, 8.0)
        return np.concatenate([low, _LOW[:k]]), np.concatenate([high, _HIGH[:k]])

    def start(self) -> FloatArray:
        """Where to begin: near the mode of the prior, with shorter length scales and more noise."""
        out = self.location.copy()
        out[: self.d] -= 1.0
        out[self.d + 1] = _NOISE_START
        return out

    def loss(self, v: FloatArray) -> tuple[float, FloatArray]:
        """Negative log posterior of a vector, up to a constant, and its gradient."""
        d, n = self.d, len(self.y)
        scale, noise = float(np.exp(v[d])), float(np.exp(v[d + 1]))
        inverse = np.exp(-2.0 * v[:d])
        joint, slope = matern(inverse @ self.squared)
        correlation, share = joint, 0.0
        if self.additive:
            share = float(1.0 / (1.0 + np.exp(-v[d + 2])))
            correlation = joint + share * (self._single(v) - joint)
        full = np.empty((n, n))
        full[self.pairs] = full[self.pairs[::-1]] = scale * correlation
        np.einsum("ii->i", full)[:] = scale + noise * self.weights
        factor = jittered_cholesky(full)
        mean, alpha = centre(factor, self.y)
        value = (
            0.5 * float((self.y - mean) @ alpha) + float(np.log(np.diagonal(factor)).sum()) + 0.5 * mean**2
        )
        pull = inverse_from_cholesky(factor)
        pull -= np.outer(alpha, alpha)
        diagonal = np.diagonal(pull)
        # Both halves of the symmetric matrix at once.
        p = scale * pull[self.pairs]
        gradient = np.empty_like(v)
        gradient[d] = p @ correlation + 0.5 * scale * diagonal.sum()
        gradient[d + 1] = 0.5 * noise * float(diagonal @ self.weights)
        gradient[:d] = (5.0 / 3.0) * (1.0 - share) * inverse * (self.squared @ (p * slope))
        if self.additive:
            by_length = (share / d / 3.0) * self._single_slopes(p)
            gradient[:d] += by_length
            gradient[d + 2] = (1.0 - share) * float(p @ (correlation - joint))
            gradient[d + 3] = by_length.sum()
        away = (v - self.location) / self.spread**2
        return value + 0.5 * float((v - self.location) @ away), gradient + away

    def _single(self, v: FloatArray) -> FloatArray:
        """Correlations of the additive part by pair; leaves scaled distances and their decay in ``scratch``."""
        d = self.d
        r, decay, out = self.scratch
        np.multiply(self.apart, (_ROOT5 * np.exp(-v[:d] - v[d + 3]))[:, None], out=r)
        np.exp(np.negative(r, out=decay), out=decay)
        np.multiply(r, 1.0 / 3.0, out=out)
        out += 1.0
        out *= r
        out += 1.0
        out *= decay
        mean: FloatArray = np.mean(out, axis=0)
        return mean

    def _single_slopes(self, weights: FloatArray) -> FloatArray:
        """Derivatives by the log length scales, times 3, summed over pairs with ``weights``; after ``_single``."""
        r, decay, out = self.scratch
        np.add(r, 1.0, out=out)
        out *= r
        out *= r
        out *= decay
        total: FloatArray = out @ weights
        return total

    def given(self, y: FloatArray) -> Evidence:
        """The posterior after other warped losses of the same rows, shape ``(n,)``."""
        return replace(self, y=y)

    def hyper(self, v: FloatArray, offset: float = OFFSET) -> Hyper:
        """A vector by name, and the offset of the warp that it was found for."""
        d = self.d
        extra = (float(v[d + 2]), float(v[d + 3])) if self.additive else (-np.inf, 0.0)
        return Hyper(v[:d].copy(), float(v[d]), float(v[d + 1]), *extra, offset)

    def vector(self, hyper: Hyper) -> FloatArray:
        """Hyperparameters as a vector."""
        share = max(hyper.share, float(_LOW[2]))
        extra = [share, hyper.factor] if self.additive else []
        return np.concatenate([hyper.length, [hyper.scale, hyper.noise, *extra]])


def evidence(
    columns: Columns, x: FloatArray, y: FloatArray, weights: FloatArray | None, additive: bool
) -> Evidence:
    """Prepares the posterior of hyperparameters.

    Args:
        columns: The embedding.
        x: Rows of codes, shape ``(n, d)``.
        y: Warped losses, unitless, shape ``(n,)``.
        weights: Variance of each row's noise over that of one observation, shape ``(n,)``; None for equal ones.
        additive: Whether the kernel has an additive part.
    """
    active = max(1.0, float(np.mean(np.sum(~np.isnan(x), axis=1))))
    d, n = columns.d, len(x)
    location = np.concatenate([np.full(d, _LENGTH_MEAN + 0.5 * np.log(active)), [_SCALE_MEAN, _NOISE_MEAN]])
    spread = np.concatenate([np.full(d, _LENGTH_STD), [_SCALE_STD, _NOISE_STD]])
    if additive:
        location = np.concatenate([location, [_SHARE_MEAN, -0.5 * np.log(active)]])
        spread = np.concatenate([spread, [_SHARE_STD, _FACTOR_STD]])
    points = columns.embed(x)
    pairs = np.triu_indices(n, 1)
    apart = gaps(columns, points, points)[:, pairs[0], pairs[1]]
    noise = np.ones(n) if weights is None else weights
    scratch = np.empty((3, *apart.shape) if additive else (3, 0, 0))
    return Evidence(y, noise, pairs, apart, apart * apart, location, spread, additive, scratch)
