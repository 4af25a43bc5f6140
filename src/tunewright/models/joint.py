"""A Gaussian process over configuration and length of training, for curves seen at a few common levels.

*Use when* many trials were trained a little and few were trained long, and the little should say something about the
long. *Do not use when* all trials have the same length (``models.gp``).

*Paper*: Klein, Tiao, Lienart, Archambeau and Seeger 2020 (MOBSTER, arXiv:2003.10865), section 3.2, for a joint process of
configuration and resource with a product kernel; Swersky, Snoek and Adams 2014 (arXiv:1406.3896), eq. 6, for the kernel of
exponentially decaying curves.

*Differs*: the kernel is ``(s k(x, x') + g [same trial] + 1) A(r, r')``. ``k`` is that of ``models.kernel``, with its additive
part; ``g`` lets a trial be better or worse than its neighbours for good; 1 is what all trials share, so that ``A`` also
models the mean curve. ``A`` is a constant plus a Matern 5/2 kernel of log-resource, or plus the decay kernel, with a
variance that grows or shrinks with log-resource. Trials are seen at a few common levels, so ``A`` is a small matrix and its
derivatives are differences.

*Cost*: ``learn`` some 30 factorisations of n^3 and O(d t^2) for t trials each; ``condition`` one; a prediction at one level
t^2 + t d per candidate.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tunewright.models.acquisition import Acquisition, log_expected_improvement
from tunewright.models.kernel import Columns, Hyper, covariance, covariance_with_slopes, gaps, matern
from tunewright.numerics.distributions import log_normal_improvement, normal_log_cdf, normal_log_pdf
from tunewright.numerics.linalg import inverse_from_cholesky, jittered_cholesky, solve_cholesky
from tunewright.numerics.optimize import minimize_in_box

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
Shape = Literal["matern", "decay"]

_ROOT5 = 5.0**0.5
_EVALUATIONS = 30
# Length scales as in ``models.evidence``; then in order of ``_NAMES``: mean and deviation of the prior, bounds, first guess.
_LENGTH_MEAN, _LENGTH_STD = 0.35, 3.0**0.5
_MEAN = np.array([0.0, -9.0, -1.5, 0.0, -3.0, 0.0, 0.0, -0.7])
_STD = np.array([1.0, 2.0, 1.5, 0.7, 1.5, 1.5, 0.7, 0.7])
_LOW = np.array([-4.0, -14.0, -6.0, -3.0, -10.0, -6.0, -3.0, -3.0])
_HIGH = np.array([4.0, 1.0, 6.0, 3.0, 2.0, 6.0, 3.0, 3.0])
_START = np.array([0.0, -5.0, -1.5, 0.0, -3.0, 0.0, 0.0, -0.7])
_SCALE, _NOISE, _SHARE, _FACTOR, _NUGGET, _CHANGE = range(6)
_LEVEL = slice(5, 8)


@dataclass(frozen=True, slots=True)
class Rows:
    """Losses of trials at common levels.

    Attributes:
        codes: Codes of the trials, NaN where inactive, shape ``(t, d)``.
        trial: Which of them each row is of, shape ``(n,)``, ascending.
        level: Number of the level of each row, shape ``(n,)``.
        y: Warped losses, unitless, shape ``(n,)``.
        levels: Logarithms of the levels, from 0 for the lowest to 1 for the full training, shape ``(k,)``.
    """

    codes: FloatArray
    trial: IntArray
    level: IntArray
    y: FloatArray
    levels: FloatArray


def level_kernel(levels: FloatArray, v: FloatArray, shape: Shape) -> FloatArray:
    """Covariance of a curve at the levels, shape ``(k, k)``.

    Args:
        levels: Log-resource within [0, 1], shape ``(k,)``.
        v: Logit of the share that changes along the curve, growth of the log deviation, log length scale; shape ``(3,)``.
        shape: ``"matern"``, of log-resource; ``"decay"``, of resource, ``(b / (r + r' + b))^a`` with ``a = 1``.
    """
    share = 1.0 / (1.0 + np.exp(-v[0]))
    if shape == "matern":
        changing = matern((levels[:, None] - levels) ** 2 * np.exp(-2.0 * v[2]))[0]
    else:
        resource = np.expm1(4.0 * levels) / np.expm1(4.0)
        b = np.exp(v[2]) * 0.1
        changing = b / (resource[:, None] + resource + b)
    deviation = np.exp(v[1] * (levels - 0.5))
    out: FloatArray = np.outer(deviation, deviation) * (1.0 - share + share * changing)
    return out


@dataclass(frozen=True, slots=True)
class _Evidence:
    """The log posterior of the hyperparameters, with what does not depend on them."""

    rows: Rows
    shape: Shape
    pairs: tuple[NDArray[np.intp], NDArray[np.intp]]
    apart: FloatArray
    squared: FloatArray
    location: FloatArray
    spread: FloatArray
    starts: NDArray[np.intp]

    def loss(self, v: FloatArray) -> tuple[float, FloatArray]:
        """Negative log posterior and its gradient."""
        rows, d, t = self.rows, len(self.apart), len(self.rows.codes)
        w = v[d:]
        scale, noise, nugget = np.exp(w[[_SCALE, _NOISE, _NUGGET]])
        share = 1.0 / (1.0 + np.exp(-w[_SHARE]))
        inverse = np.exp(-2.0 * v[:d])
        joint, joint_slope = matern(inverse @ self.squared)
        r = self.apart * (_ROOT5 * np.exp(-v[:d] - w[_FACTOR]))[:, None]
        decay = np.exp(-r)
        single = np.mean((1.0 + r * (1.0 + r / 3.0)) * decay, axis=0)
        between = np.empty((t, t))
        correlation = joint + share * (single - joint)
        between[self.pairs] = between[self.pairs[::-1]] = scale * correlation + 1.0
        np.einsum("ii->i", between)[:] = scale + nugget + 1.0
        along = level_kernel(rows.levels, w[_LEVEL], self.shape)
        by_trial = between[rows.trial[:, None], rows.trial]
        by_level = along[rows.level[:, None], rows.level]
        full = by_trial * by_level
        np.einsum("ii->i", full)[:] += noise
        factor = jittered_cholesky(full)
        alpha = solve_cholesky(factor, rows.y)
        value = 0.5 * float(rows.y @ alpha) + float(np.log(np.diagonal(factor)).sum())
        pull = inverse_from_cholesky(factor)
        pull -= np.outer(alpha, alpha)
        by_level *= pull
        folded = np.add.reduceat(np.add.reduceat(by_level, self.starts, axis=0), self.starts, axis=1)
        gradient = np.zeros_like(v)
        own = float(np.trace(folded))
        p = scale * folded[self.pairs]
        gradient[:d] = (5.0 / 3.0) * (1.0 - share) * inverse * (self.squared @ (p * joint_slope))
        by_length = (share / d / 3.0) * ((r * r * (1.0 + r) * decay) @ p)
        gradient[:d] += by_length
        tail = gradient[d:]
        tail[_SCALE] = p @ correlation + 0.5 * scale * own
        tail[_NOISE] = 0.5 * noise * float(np.trace(pull))
        tail[_SHARE] = share * (1.0 - share) * float(p @ (single - joint))
        tail[_FACTOR] = by_length.sum()
        tail[_NUGGET] = 0.5 * nugget * own
        by_trial *= pull
        which = np.equal.outer(np.arange(len(rows.levels)), rows.level).astype(np.float64)
        tail[_LEVEL] = 0.5 * self._level_slopes(w[_LEVEL], which @ by_trial @ which.T)
        away = (v - self.location) / self.spread**2
        return value + 0.5 * float((v - self.location) @ away), gradient + away

    def _level_slopes(self, v: FloatArray, weights: FloatArray) -> FloatArray:
        out = np.empty(len(v))
        for i in range(len(v)):
            step = np.zeros(len(v))
            step[i] = 1e-5
            up, down = (level_kernel(self.rows.levels, v + s, self.shape) for s in (step, -step))
            out[i] = np.sum(weights * (up - down)) / 2e-5
        return out


def learn(
    columns: Columns, rows: Rows, shape: Shape = "matern", *, evaluations: int = _EVALUATIONS
) -> FloatArray:
    """Most probable hyperparameters, as a vector: log length scales ``(d,)``, then the eight others.

    Args:
        columns: The embedding.
        rows: The losses.
        shape: See ``level_kernel``.
        evaluations: Factorisations allowed.
    """
    d = columns.d
    active = max(1.0, float(np.mean(np.sum(~np.isnan(rows.codes), axis=1))))
    mean = _MEAN.copy()
    mean[_FACTOR] = -0.5 * np.log(active)
    location = np.concatenate([np.full(d, _LENGTH_MEAN + 0.5 * np.log(active)), mean])
    spread = np.concatenate([np.full(d, _LENGTH_STD), _STD])
    points = columns.embed(rows.codes)
    pairs = np.triu_indices(len(points), 1)
    apart = gaps(columns, points, points)[:, pairs[0], pairs[1]]
    starts = np.searchsorted(rows.trial, np.arange(len(points)))
    posterior = _Evidence(rows, shape, pairs, apart, apart * apart, location, spread, starts)
    start = np.concatenate([location[:d] - 1.0, _START])
    start[d + _FACTOR] = mean[_FACTOR]
    low = np.concatenate([np.full(d, -5.0), _LOW])
    high = np.concatenate([np.full(d, 8.0), _HIGH])
    return minimize_in_box(posterior.loss, start, low, high, max_evaluations=evaluations)[0]


@dataclass(frozen=True, slots=True)
class Joint:
    """A fitted process.

    Attributes:
        columns: The embedding.
        hyper: Hyperparameters of the kernel of configurations.
        nugget: Variance of what only one trial has.
        noise: Variance of the noise of a row.
        along: Covariance along the levels, shape ``(k, k)``.
        rows: The losses.
        points: Embedded points of the trials, shape ``(t, p)``.
        between: Covariance of the trials, shape ``(t, t)``.
        factor: Lower Cholesky factor of the covariance of the rows, shape ``(n, n)``.
        alpha: Its inverse times the losses, shape ``(n,)``.
    """

    columns: Columns
    hyper: Hyper
    nugget: float
    noise: float
    along: FloatArray
    rows: Rows
    points: FloatArray
    between: FloatArray
    factor: FloatArray
    alpha: FloatArray


def condition(columns: Columns, v: FloatArray, rows: Rows, shape: Shape = "matern") -> Joint:
    """Conditions on the data with given hyperparameters: one factorisation.

    Args:
        columns: The embedding.
        v: Hyperparameters from ``learn``.
        rows: The losses.
        shape: See ``level_kernel``.
    """
    d = columns.d
    w = v[d:]
    hyper = Hyper(v[:d], float(w[_SCALE]), float(w[_NOISE]), float(w[_SHARE]), float(w[_FACTOR]))
    nugget, noise = float(np.exp(w[_NUGGET])), float(np.exp(w[_NOISE]))
    points = columns.embed(rows.codes)
    between = covariance(columns, hyper, points, points) + 1.0
    np.einsum("ii->i", between)[:] = np.exp(hyper.scale) + 1.0 + nugget
    along = level_kernel(rows.levels, w[_LEVEL], shape)
    full = between[rows.trial[:, None], rows.trial] * along[rows.level[:, None], rows.level]
    np.einsum("ii->i", full)[:] += noise
    factor = jittered_cholesky(full)
    return Joint(
        columns, hyper, nugget, noise, along, rows, points, between, factor, solve_cholesky(factor, rows.y)
    )


@dataclass(frozen=True, slots=True)
class Slice:
    """The process of new configurations at one level.

    Attributes:
        columns: The embedding.
        hyper: Hyperparameters of the kernel of configurations.
        points: Embedded points of the trials, shape ``(t, p)``.
        prior: Variance before any data, of what can be known of a configuration in advance.
        beta: Weights of the mean, shape ``(t,)``.
        inner: Quadratic form of the explained variance, shape ``(t, t)``.
    """

    columns: Columns
    hyper: Hyper
    points: FloatArray
    prior: float
    beta: FloatArray
    inner: FloatArray

    def predict(self, x: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Mean and standard deviation of the warped loss for rows of codes ``(q, d)``, unitless, shape ``(q,)`` each."""
        cross = covariance(self.columns, self.hyper, self.columns.embed(x), self.points) + 1.0
        explained = np.einsum("ij,ij->i", cross @ self.inner, cross)
        return cross @ self.beta, np.sqrt(np.maximum(self.prior - explained, 1e-10 * self.prior))

    def improvement(self, best: float) -> Acquisition:
        """Log expected improvement over the warped loss ``best``."""

        def slope(x: FloatArray) -> tuple[FloatArray, FloatArray]:
            columns = self.columns
            cross, steep = covariance_with_slopes(columns, self.hyper, columns.embed(x), self.points)
            cross = cross + 1.0
            pulled = cross @ self.inner
            variance = self.prior - np.einsum("ij,ij->i", pulled, cross)
            std = np.sqrt(np.maximum(variance, 1e-10 * self.prior))
            z = (best - cross @ self.beta) / std
            log_h = log_normal_improvement(z)
            cdf = np.exp(normal_log_cdf(z) - log_h) / std
            pdf = np.exp(normal_log_pdf(z) - log_h) / std
            weight = -cdf[:, None] * self.beta - (pdf / std)[:, None] * pulled
            out = np.zeros_like(x)
            out[:, columns.ordered] = np.matmul(weight[:, None, :], steep)[:, 0, :]
            return np.log(std) + log_h, np.where(np.isnan(x), 0.0, out)

        return Acquisition(lambda x: log_expected_improvement(*self.predict(x), best), slope)


def at_level(joint: Joint, level: int) -> Slice:
    """The process of new configurations at one of the levels, in O(n^3) once."""
    rows, t = joint.rows, len(joint.points)
    reach = joint.along[level, rows.level]
    spread = np.zeros((t, len(rows.trial)))
    spread[rows.trial, np.arange(len(rows.trial))] = reach
    inner = spread @ solve_cholesky(joint.factor, spread.T)
    prior = float((np.exp(joint.hyper.scale) + 1.0) * joint.along[level, level])
    return Slice(joint.columns, joint.hyper, joint.points, prior, spread @ joint.alpha, inner)


def predict_trials(joint: Joint, level: int) -> tuple[FloatArray, FloatArray]:
    """Mean and standard deviation of the warped loss of the trials themselves at a level, shape ``(t,)`` each."""
    rows = joint.rows
    cross = joint.between[:, rows.trial] * joint.along[level, rows.level]
    explained = np.einsum("ij,ji->i", cross, solve_cholesky(joint.factor, cross.T))
    prior = np.diagonal(joint.between) * joint.along[level, level]
    return cross @ joint.alpha, np.sqrt(np.maximum(prior - explained, 1e-10 * prior))


def believe(
    joint: Joint, v: FloatArray, codes: FloatArray, level: IntArray, shape: Shape = "matern"
) -> Joint:
    """Conditions on results that are awaited, taken as their means.

    Args:
        joint: The process.
        v: Its hyperparameters.
        codes: Configurations in training, shape ``(q, d)``.
        level: Number of the level that each is on its way to, shape ``(q,)``; beyond the last ones are left out.
        shape: See ``level_kernel``.

    Source: Ginsbourger, Le Riche and Carraro 2010, "kriging believer".
    """
    rows = joint.rows
    use = (level < len(rows.levels)) & ~np.isnan(codes).all(axis=1)
    codes, level = codes[use], level[use]
    if not len(codes):
        return joint
    cross = covariance(joint.columns, joint.hyper, joint.columns.embed(codes), joint.points) + 1.0
    means = (cross[:, rows.trial] * joint.along[level[:, None], rows.level]) @ joint.alpha
    more = Rows(
        np.vstack([rows.codes, codes]),
        np.concatenate([rows.trial, len(rows.codes) + np.arange(len(codes))]),
        np.concatenate([rows.level, level]),
        np.concatenate([rows.y, means]),
        rows.levels,
    )
    return condition(joint.columns, v, more, shape)
