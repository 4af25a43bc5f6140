"""Exact Gaussian-process regression on mixed and conditional configurations.

*Use when* evaluations are dear and at most a few hundred are known. *Do not use when* thousands are known: only
the best and a spread of the others would be used.

*Paper*: Rasmussen and Williams 2006, Algorithm 2.1 and eq. 5.9; the kernel is that of ``models.kernel``, the prior of
its hyperparameters that of ``models.evidence``.

*Differs*: losses are warped (``models.warp``), and the mean is a constant with a unit normal prior. With 2 to 20
columns the kernel has an additive part, because main effects are most of what a few dozen trials can show.

*Cost*: ``fit`` about 30 factorisations of n^3 each; ``update`` one; ``predict`` n^2 + n d per candidate.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tunewright.models.evidence import centre, evidence
from tunewright.models.kernel import Columns, Hyper, columns_of, covariance, covariance_with_slopes
from tunewright.models.warp import OFFSETS, Warp, fit_warp
from tunewright.numerics.linalg import extend_cholesky, jittered_cholesky, solve_cholesky, solve_lower
from tunewright.numerics.optimize import minimize_in_box

__all__ = [
    "GP",
    "MAX_EXACT",
    "MAX_TUNING",
    "Columns",
    "Hyper",
    "columns_of",
    "condition_on",
    "fit",
    "for_tuning",
    "learn",
    "predict",
    "predict_with_covariance",
    "predict_with_gradient",
    "sample",
    "tune",
    "update",
]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

MAX_EXACT = 500
MAX_TUNING = 200
MAX_ADDITIVE = 20

_FIRST_EVALUATIONS, _MORE_EVALUATIONS = 30, 20


@dataclass(frozen=True, slots=True)
class GP:
    """A fitted process; every field is read-only by convention.

    Attributes:
        columns: The embedding of rows of codes.
        hyper: The hyperparameters.
        warp: The map from losses to the scale of the process.
        x: Rows of codes it is conditioned on, pending ones last, shape ``(n, d)``.
        y: Warped losses of these rows, unitless, shape ``(n,)``.
        points: Embedded points of these rows, shape ``(n, p)``.
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


def tune(
    columns: Columns,
    x: FloatArray,
    y: FloatArray,
    previous: Hyper | None = None,
    *,
    weights: FloatArray | None = None,
    additive: bool | None = None,
    max_evaluations: int = 40,
) -> Hyper:
    """Most probable hyperparameters given warped losses.

    Args:
        columns: The embedding.
        x: Rows of codes, shape ``(n, d)``.
        y: Warped losses, unitless, shape ``(n,)``.
        previous: Where to begin; by default near the mode of the prior.
        weights: Variance of each row's noise over that of one observation, such as one over the number of
            replicates that a loss is the mean of, shape ``(n,)``; by default equal.
        additive: Whether the kernel has an additive part; by default with 2 to 20 columns.
        max_evaluations: Factorisations allowed.
    """
    if additive is None:
        additive = 2 <= columns.d <= MAX_ADDITIVE
    posterior = evidence(columns, x, y, weights, additive)
    start = posterior.start() if previous is None else posterior.vector(previous)
    v, _ = minimize_in_box(posterior.loss, start, *posterior.bounds(), max_evaluations=max_evaluations)
    return posterior.hyper(v)


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


def learn(
    columns: Columns,
    x: FloatArray,
    losses: FloatArray,
    previous: Hyper | None = None,
    *,
    weights: FloatArray | None = None,
    additive: bool | None = None,
) -> Hyper:
    """Most probable hyperparameters and warp given losses, on at most ``MAX_TUNING`` rows.

    Args:
        columns: The embedding.
        x: Rows of codes, shape ``(n, d)``.
        losses: Finite losses, shape ``(n,)``.
        previous: Where to begin; by default near the mode of the prior.
        weights: Variance of each row's noise over that of one observation, shape ``(n,)``; by default equal.
        additive: Whether the kernel has an additive part; by default with 2 to 20 columns.
    """
    few = _best_and_spread(losses, MAX_TUNING)
    x, losses, weights = x[few], losses[few], None if weights is None else weights[few]
    if additive is None:
        additive = 2 <= columns.d <= MAX_ADDITIVE
    posterior = evidence(columns, x, fit_warp(losses)(losses), weights, additive)
    v = posterior.start() if previous is None else posterior.vector(previous)
    v, _ = minimize_in_box(posterior.loss, v, *posterior.bounds(), max_evaluations=_FIRST_EVALUATIONS)
    warps = {offset: fit_warp(losses, offset) for offset in OFFSETS}
    scores = {
        offset: posterior.given(warp(losses)).loss(v)[0] - warp.log_slope(losses)
        for offset, warp in warps.items()
    }
    best = min(scores, key=scores.__getitem__)
    posterior = posterior.given(warps[best](losses))
    v, _ = minimize_in_box(posterior.loss, v, *posterior.bounds(), max_evaluations=_MORE_EVALUATIONS)
    return posterior.hyper(v, best)


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
    hyper = learn(columns, x, losses, previous)
    return update(columns, hyper, x, losses)


def update(
    columns: Columns, hyper: Hyper, x: FloatArray, losses: FloatArray, weights: FloatArray | None = None
) -> GP:
    """Conditions on the data with given hyperparameters: one factorisation.

    Args:
        columns: The embedding.
        hyper: The hyperparameters, of an earlier ``fit`` or of ``tune``.
        x: Rows of codes, shape ``(n, d)``.
        losses: Finite losses, shape ``(n,)``.
        weights: Variance of each row's noise over that of one observation, shape ``(n,)``; by default equal.
    """
    warp = fit_warp(losses, hyper.offset)
    keep = _best_and_spread(losses, MAX_EXACT)
    x, y = x[keep], warp(losses[keep])
    points = columns.embed(x)
    matrix = covariance(columns, hyper, points, points)
    noise = np.exp(hyper.noise) * (1.0 if weights is None else weights[keep])
    np.einsum("ii->i", matrix)[:] = np.exp(hyper.scale) + noise
    factor = jittered_cholesky(matrix)
    mean, alpha = centre(factor, y)
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
    points = gp.columns.embed(x)
    cross = covariance(gp.columns, gp.hyper, points, gp.points)
    corner = covariance(gp.columns, gp.hyper, points, points)
    np.einsum("ii->i", corner)[:] = np.exp(gp.hyper.scale) + np.exp(gp.hyper.noise)
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
    cross = covariance(gp.columns, gp.hyper, gp.columns.embed(x), gp.points)
    half = solve_lower(gp.factor, cross.T)
    variance = scale - np.einsum("ij,ij->j", half, half)
    return gp.mean + cross @ gp.alpha, np.sqrt(np.maximum(variance, 1e-10 * scale))


def predict_with_covariance(
    gp: GP, x: FloatArray, others: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """As ``predict``, with the posterior covariances of each row and some others.

    Args:
        gp: The process.
        x: Rows of codes, shape ``(q, d)``.
        others: Rows of codes, shape ``(s, d)``.

    Returns:
        Means and standard deviations, shape ``(q,)``, and covariances, shape ``(q, s)``, unitless.
    """
    scale = float(np.exp(gp.hyper.scale))
    points, apart = gp.columns.embed(x), gp.columns.embed(others)
    cross = covariance(gp.columns, gp.hyper, points, gp.points)
    half = solve_lower(gp.factor, cross.T)
    far = solve_lower(gp.factor, covariance(gp.columns, gp.hyper, apart, gp.points).T)
    std = np.sqrt(np.maximum(scale - np.einsum("ij,ij->j", half, half), 1e-10 * scale))
    return gp.mean + cross @ gp.alpha, std, covariance(gp.columns, gp.hyper, points, apart) - half.T @ far


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
    points = columns.embed(x)
    cross, steep = covariance_with_slopes(columns, gp.hyper, points, gp.points)
    beta = solve_cholesky(gp.factor, cross.T).T
    variance = scale - np.einsum("ij,ij->i", cross, beta)
    std = np.sqrt(np.maximum(variance, 1e-10 * scale))

    def push(weight: FloatArray) -> FloatArray:
        out = np.zeros_like(x)
        out[:, columns.ordered] = np.matmul(weight[:, None, :], steep)[:, 0, :]
        return np.where(np.isnan(x), 0.0, out)

    mean = gp.mean + cross @ gp.alpha
    return mean, std, push(np.broadcast_to(gp.alpha, cross.shape)), -push(beta) / std[:, None]


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
    points = gp.columns.embed(x)
    cross = covariance(gp.columns, gp.hyper, points, gp.points)
    half = solve_lower(gp.factor, cross.T)
    spread = covariance(gp.columns, gp.hyper, points, points) - half.T @ half
    factor = jittered_cholesky(spread + 1e-8 * scale * np.eye(len(x)))
    return gp.mean + cross @ gp.alpha + rng.standard_normal((draws, len(x))) @ factor.T
