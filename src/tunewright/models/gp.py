"""Exact Gaussian-process regression on mixed and conditional configurations.

*Use when* evaluations are dear and at most a few hundred are known. *Do not use when* thousands are known: only
the best and a spread of the others would be used.

*Paper*: Rasmussen and Williams 2006, Algorithm 2.1 and eq. 5.9; length-scale prior of Hvarfner et al. 2024
(arXiv:2402.02229), scaled with the number of active columns.

*Differs*: every row of codes becomes a point in a Euclidean space: an ordered column one coordinate, a categorical
column a corner of a simplex (so two unequal choices are at distance 1), a column that is switched off a point off
the line. The kernel is Matern 5/2 of the weighted distance there, one length scale per column, so it is positive
definite for any mix of columns and branches and costs one matrix product. The prior of length scales has a
lower location (0.35 for sqrt(2) on the log scale), and the mean is a constant with a unit normal prior.

*Cost*: ``fit`` about 20 factorisations of n^3 each; ``update`` one; ``predict`` n^2 per candidate.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tunewright.models.warp import Warp, fit_warp
from tunewright.numerics.linalg import (
    extend_cholesky,
    inverse_from_cholesky,
    jittered_cholesky,
    solve_cholesky,
    solve_lower,
)
from tunewright.numerics.optimize import minimize_in_box

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

MAX_EXACT = 500
MAX_TUNING = 200

_LENGTH_MEAN, _LENGTH_STD = 0.35, 3.0**0.5
_SCALE_MEAN, _SCALE_STD = 0.0, 1.0
_NOISE_MEAN, _NOISE_STD = -9.0, 2.0
_INACTIVE = 0.1


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
        noise: Log variance of the noise, unitless.
    """

    length: FloatArray
    scale: float
    noise: float


@dataclass(frozen=True, slots=True)
class GP:
    """A fitted process; every field is read-only by convention.

    Attributes:
        columns: The embedding of rows of codes.
        hyper: The hyperparameters.
        warp: The map from losses to the scale of the process.
        x: Rows of codes it is conditioned on, pending ones last, shape ``(n, d)``.
        y: Warped losses of these rows, unitless, shape ``(n,)``.
        points: Weighted points of these rows, shape ``(n, p)``.
        factor: Lower Cholesky factor of their covariance, shape ``(n, n)``.
        alpha: Covariance inverse times centred ``y``, shape ``(n,)``.
        mean: Constant prior mean, unitless.
    """

    columns: Columns
    hyper: Hyper
    warp: Warp
    x: FloatArray
    y: FloatArray
    points: FloatArray
    factor: FloatArray
    alpha: FloatArray
    mean: float


def _squared_distances(a: FloatArray, b: FloatArray) -> FloatArray:
    out: FloatArray = -2.0 * (a @ b.T)
    out += np.einsum("ij,ij->i", a, a)[:, None]
    out += np.einsum("ij,ij->i", b, b)
    return np.maximum(out, 0.0, out=out)


def _matern(squared: FloatArray) -> tuple[FloatArray, FloatArray]:
    # The correlation, and -6/5 of its derivative by the squared distance: both need the same exponential.
    r = np.sqrt(5.0 * squared)
    slope = (1.0 + r) * np.exp(-r)
    return slope + (5.0 / 3.0) * squared * np.exp(-r), slope


def _centre(factor: FloatArray, y: FloatArray) -> tuple[float, FloatArray]:
    # Posterior mode of the constant mean under a unit normal prior, and the weights of the centred data.
    both = solve_cholesky(factor, np.column_stack([np.ones(len(y)), y]))
    mean = float(both[:, 1].sum() / (both[:, 0].sum() + 1.0))
    return mean, both[:, 1] - mean * both[:, 0]


def _prior(columns: Columns, x: FloatArray) -> tuple[FloatArray, FloatArray]:
    active = max(1.0, float(np.mean(np.sum(~np.isnan(x), axis=1))))
    location = np.full(columns.d + 2, _LENGTH_MEAN + 0.5 * np.log(active))
    spread = np.full(columns.d + 2, _LENGTH_STD)
    location[-2:] = _SCALE_MEAN, _NOISE_MEAN
    spread[-2:] = _SCALE_STD, _NOISE_STD
    return location, spread


def _loss_of_hyper(
    v: FloatArray, columns: Columns, raw: FloatArray, y: FloatArray, prior: tuple[FloatArray, FloatArray]
) -> tuple[float, FloatArray]:
    """Negative log posterior of hyperparameters ``v`` (lengths, scale, noise) and its gradient."""
    scale, noise = float(np.exp(v[-2])), float(np.exp(v[-1]))
    points = raw * np.exp(-v[:-2])[columns.owner]
    squared = _squared_distances(points, points)
    np.einsum("ii->i", squared)[:] = 0.0
    correlation, slope = _matern(squared)
    covariance = scale * correlation
    np.einsum("ii->i", covariance)[:] += noise
    factor = jittered_cholesky(covariance)
    mean, alpha = _centre(factor, y)
    value = 0.5 * float((y - mean) @ alpha) + float(np.log(np.diagonal(factor)).sum()) + 0.5 * mean * mean
    pull = inverse_from_cholesky(factor)
    pull -= np.outer(alpha, alpha)
    gradient = np.empty_like(v)
    gradient[-2] = 0.5 * scale * np.vdot(pull, correlation)
    gradient[-1] = 0.5 * noise * np.trace(pull)
    # Sums of pull * slope * squared coordinate differences, without forming the (n, n, p) differences.
    pull *= slope
    sums = pull.sum(axis=1) @ (points * points) - np.einsum("ij,ij->j", points, pull @ points)
    gradient[:-2] = scale * (5.0 / 3.0) * np.bincount(columns.owner, sums, minlength=columns.d)
    away = (v - prior[0]) / prior[1] ** 2
    return value + 0.5 * float((v - prior[0]) @ away), gradient + away


def tune(
    columns: Columns,
    x: FloatArray,
    y: FloatArray,
    previous: Hyper | None = None,
    *,
    max_evaluations: int = 40,
) -> Hyper:
    """Most probable hyperparameters given warped losses.

    Args:
        columns: The embedding.
        x: Rows of codes, shape ``(n, d)``.
        y: Warped losses, unitless, shape ``(n,)``.
        previous: Where to begin; by default near the mode of the prior.
        max_evaluations: Factorisations allowed.
    """
    prior = _prior(columns, x)
    if previous is None:
        start = prior[0].copy()
        start[:-2] -= 1.0
        start[-1] = -5.0
    else:
        start = np.concatenate([previous.length, [previous.scale, previous.noise]])
    low = np.concatenate([np.full(columns.d, -5.0), [-4.0, -14.0]])
    high = np.concatenate([np.full(columns.d, 8.0), [4.0, 1.0]])
    raw = columns.embed(x)
    v, _ = minimize_in_box(
        lambda v: _loss_of_hyper(v, columns, raw, y, prior), start, low, high, max_evaluations=max_evaluations
    )
    return Hyper(v[:-2], float(v[-2]), float(v[-1]))


def _best_and_spread(losses: FloatArray, size: int) -> IntArray:
    # The better half of the budget goes to the best, the rest evenly over the others' ranks.
    n = len(losses)
    if n <= size:
        return np.arange(n)
    order = np.argsort(losses, kind="stable")
    best = size // 2
    spread = best + (np.arange(size - best) * (n - best)) // (size - best)
    return np.sort(np.concatenate([order[:best], order[spread]]))


def for_tuning(x: FloatArray, losses: FloatArray) -> tuple[FloatArray, FloatArray]:
    """The rows that hyperparameters are found on, at most ``MAX_TUNING``, and their warped losses."""
    few = _best_and_spread(losses, MAX_TUNING)
    return x[few], fit_warp(losses)(losses[few])


def fit(
    x: FloatArray,
    losses: FloatArray,
    levels: IntArray,
    categorical: BoolArray,
    previous: Hyper | None = None,
) -> GP:
    """Finds hyperparameters and conditions on the data.

    Hyperparameters are found on at most ``MAX_TUNING`` rows, inference uses at most ``MAX_EXACT``; beyond that the
    best rows and an even spread of the others are kept.

    Args:
        x: Rows of codes, NaN where inactive, shape ``(n, d)`` with ``n >= 1``.
        losses: Finite losses, lower is better, shape ``(n,)``.
        levels: Number of levels per column, 0 where continuous, shape ``(d,)``.
        categorical: Which columns have no order, shape ``(d,)``.
        previous: Hyperparameters to begin from.

    Raises:
        numpy.linalg.LinAlgError: If a loss or an active code is not finite.
    """
    columns = columns_of(levels, categorical)
    hyper = tune(columns, *for_tuning(x, losses), previous)
    return update(columns, hyper, x, losses)


def update(columns: Columns, hyper: Hyper, x: FloatArray, losses: FloatArray) -> GP:
    """Conditions on the data with given hyperparameters: one factorisation.

    Args:
        columns: The embedding.
        hyper: The hyperparameters, of an earlier ``fit`` or of ``tune``.
        x: Rows of codes, shape ``(n, d)``.
        losses: Finite losses, shape ``(n,)``.
    """
    warp = fit_warp(losses)
    keep = _best_and_spread(losses, MAX_EXACT)
    x, y = x[keep], warp(losses[keep])
    points = columns.embed(x) * np.exp(-hyper.length)[columns.owner]
    scale = float(np.exp(hyper.scale))
    covariance = scale * _matern(_squared_distances(points, points))[0]
    np.einsum("ii->i", covariance)[:] = scale + np.exp(hyper.noise)
    factor = jittered_cholesky(covariance)
    mean, alpha = _centre(factor, y)
    return GP(columns, hyper, warp, x, y, points, factor, alpha, mean)


def condition_on(gp: GP, x: FloatArray, y: FloatArray | None = None) -> GP:
    """Adds rows in O(k n^2), hyperparameters and prior mean as they are.

    Args:
        gp: The process.
        x: New rows of codes, shape ``(k, d)``.
        y: Their warped losses, unitless, shape ``(k,)``; by default the posterior mean, which leaves the mean
            everywhere as it is and lowers the uncertainty around rows whose result is awaited.

    Source: Ginsbourger, Le Riche and Carraro 2010, "kriging believer", for the default.
    """
    if len(x) == 0:
        return gp
    values = predict(gp, x)[0] if y is None else y
    points = gp.columns.embed(x) * np.exp(-gp.hyper.length)[gp.columns.owner]
    scale = float(np.exp(gp.hyper.scale))
    cross = scale * _matern(_squared_distances(points, gp.points))[0]
    corner = scale * _matern(_squared_distances(points, points))[0]
    np.einsum("ii->i", corner)[:] = scale + np.exp(gp.hyper.noise)
    factor = extend_cholesky(gp.factor, cross, corner)
    all_y = np.concatenate([gp.y, values])
    return replace(
        gp,
        x=np.vstack([gp.x, x]),
        y=all_y,
        points=np.vstack([gp.points, points]),
        factor=factor,
        alpha=solve_cholesky(factor, all_y - gp.mean),
    )


def predict(gp: GP, x: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Posterior mean and standard deviation of the warped loss, noise left out.

    Args:
        gp: The process.
        x: Rows of codes, shape ``(q, d)``.

    Returns:
        Means and standard deviations, unitless, shape ``(q,)`` each; the deviations are positive.
    """
    scale = float(np.exp(gp.hyper.scale))
    points = gp.columns.embed(x) * np.exp(-gp.hyper.length)[gp.columns.owner]
    cross = scale * _matern(_squared_distances(points, gp.points))[0]
    half = solve_lower(gp.factor, cross.T)
    variance = scale - np.einsum("ij,ij->j", half, half)
    return gp.mean + cross @ gp.alpha, np.sqrt(np.maximum(variance, 1e-10 * scale))


def predict_with_gradient(gp: GP, x: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """As ``predict``, with the derivatives by the ordered columns.

    Args:
        gp: The process.
        x: Rows of codes, shape ``(q, d)``.

    Returns:
        Mean and standard deviation, shape ``(q,)``, and their derivatives by the codes, shape ``(q, d)``, zero for
        categorical and inactive columns.
    """
    columns, scale = gp.columns, float(np.exp(gp.hyper.scale))
    weights = np.exp(-gp.hyper.length)[columns.owner]
    points = columns.embed(x) * weights
    correlation, slope = _matern(_squared_distances(points, gp.points))
    cross = scale * correlation
    beta = solve_cholesky(gp.factor, cross.T).T
    variance = scale - np.einsum("ij,ij->i", cross, beta)
    std = np.sqrt(np.maximum(variance, 1e-10 * scale))
    m = len(columns.ordered)
    here, there, inverse_length = points[:, :m], gp.points[:, :m], weights[:m]

    def push(weight: FloatArray) -> FloatArray:
        # Chain rule through the squared distance: d k / d x = -(5/3) slope (x - x') / length^2.
        pull = (-5.0 / 3.0) * scale * slope * weight
        out = np.zeros_like(x)
        out[:, columns.ordered] = (pull.sum(axis=1)[:, None] * here - pull @ there) * inverse_length
        return np.where(np.isnan(x), 0.0, out)

    mean = gp.mean + cross @ gp.alpha
    return mean, std, push(np.broadcast_to(gp.alpha, slope.shape)), -push(beta) / std[:, None]


def sample(gp: GP, x: FloatArray, rng: np.random.Generator, draws: int = 1) -> FloatArray:
    """Joint posterior draws of the warped loss at ``x``, for Thompson sampling.

    Args:
        gp: The process.
        x: Rows of codes, shape ``(q, d)``.
        rng: Source of randomness.
        draws: Number of draws.

    Returns:
        Unitless, shape ``(draws, q)``.
    """
    scale = float(np.exp(gp.hyper.scale))
    points = gp.columns.embed(x) * np.exp(-gp.hyper.length)[gp.columns.owner]
    cross = scale * _matern(_squared_distances(points, gp.points))[0]
    half = solve_lower(gp.factor, cross.T)
    covariance = scale * _matern(_squared_distances(points, points))[0] - half.T @ half
    factor = jittered_cholesky(covariance + 1e-8 * scale * np.eye(len(x)))
    return gp.mean + cross @ gp.alpha + rng.standard_normal((draws, len(x))) @ factor.T
