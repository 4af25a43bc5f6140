"""A Gaussian process of something that changes while it is observed: what was seen long ago says less about now.

*Use when* results are of the same few parameters at different times of a training. *Do not use when* nothing changes with
time (``models.gp``).

*Paper*: Bogunovic, Scarlett and Cevher 2016, "Time-Varying Gaussian Process Bandit Optimization" (AISTATS), section 3,
as used by Parker-Holder, Nguyen and Roberts 2020 (arXiv:2002.02518), eq. 5: the covariance of two results is
``exp(-|x - x'|^2 / (2 l^2)) (1 - e)^(|t - t'| / 2)``. Results that are awaited lower the uncertainty only, as in
Desautels, Krause and Burdick 2014 (JMLR 15), GP-BUCB.

*Differs*: one length for all columns, the noise and the rate of change are the most probable ones on a grid; results
are cut off at three robust deviations from their median before they are scaled.

*Cost*: ``learn`` about a hundred factorisations of at most 100 rows; ``condition`` one of n rows; ``predict`` O(q n^2).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tunewright.numerics.linalg import extend_cholesky, jittered_cholesky, solve_cholesky, solve_lower

FloatArray = NDArray[np.float64]

MAX_TUNING = 100
_LENGTHS = (0.1, 0.2, 0.4, 0.8, 1.6)
_NOISES = (0.03, 0.1, 0.3, 1.0)
_RATES = (0.0, 0.01, 0.05, 0.2, 0.5)
_CUT, _MAD = 3.0, 1.4826


@dataclass(frozen=True, slots=True)
class Hyper:
    """What a process of this kind is told.

    Attributes:
        length: Distance over which results resemble each other, in codes.
        noise: Variance of a single result, in units of the process's.
        rate: How much is forgotten per unit of time, in [0, 1).
    """

    length: float = 0.4
    noise: float = 0.3
    rate: float = 0.05


@dataclass(frozen=True, slots=True)
class Drift:
    """A conditioned process; every field is read-only by convention.

    Attributes:
        hyper: What it is told.
        x: Codes without NaN, shape ``(n, d)``.
        t: Times, shape ``(n,)``.
        factor: Lower Cholesky factor of the covariance, shape ``(n, n)``.
        alpha: Its inverse times the scaled results; zero for those awaited, shape ``(n,)``.
        known: Rows with a result come first; so many.
    """

    hyper: Hyper
    x: FloatArray
    t: FloatArray
    factor: FloatArray
    alpha: FloatArray
    known: int


def scaled(y: FloatArray) -> FloatArray:
    """Results with mean 0 and deviation 1 after cutting off outliers, shape ``(n,)``; NaN counts as the worst."""
    good = np.isfinite(y)
    if not good.any():
        return np.zeros_like(y)
    # A quarter, so that no difference overflows.
    out = np.where(good, y, y[good].min()) / 4.0
    middle = np.median(out)
    spread = _CUT * _MAD * float(np.median(np.abs(out - middle)))
    if spread > 0.0:
        out = np.clip(out, middle - spread, middle + spread)
    out = out / max(float(np.abs(out).max()), 1e-300)
    out = out - out.mean()
    deviation = float(out.std())
    result: FloatArray = out / deviation if deviation > 0.0 and np.isfinite(deviation) else np.zeros_like(y)
    return result


def covariance(hyper: Hyper, x: FloatArray, t: FloatArray, x2: FloatArray, t2: FloatArray) -> FloatArray:
    """Covariances of the process at ``(n, d)`` and ``(m, d)``, shape ``(n, m)``; variances are 1."""
    squared = np.square(x[:, None, :] - x2[None, :, :]).sum(axis=2)
    ages = np.abs(t[:, None] - t2[None, :])
    out: FloatArray = np.exp(-0.5 * squared / hyper.length**2) * (1.0 - hyper.rate) ** (0.5 * ages)
    return out


def learn(x: FloatArray, t: FloatArray, y: FloatArray) -> Hyper:
    """The most probable hyperparameters on a grid, from the newest ``MAX_TUNING`` rows.

    Args:
        x: Codes without NaN, shape ``(n, d)``.
        t: Times, ascending, shape ``(n,)``.
        y: Results, more is better, NaN where a training diverged, shape ``(n,)``.
    """
    x, t, y = x[-MAX_TUNING:], t[-MAX_TUNING:], scaled(y[-MAX_TUNING:])
    root = max(1.0, x.shape[1] ** 0.5)
    best, found = -np.inf, Hyper()
    eye = np.eye(len(x))
    for length in _LENGTHS:
        for rate in _RATES:
            matrix = covariance(Hyper(length * root, 0.0, rate), x, t, x, t)
            for noise in _NOISES:
                factor = jittered_cholesky(matrix + noise * eye)
                half = solve_lower(factor, y[:, None])[:, 0]
                # The scale of the process is the most probable one for its shape.
                scale = max(float(half @ half) / len(x), 1e-12)
                score = -0.5 * len(x) * np.log(scale) - float(np.log(np.diag(factor)).sum())
                if score > best:
                    best, found = score, Hyper(length * root, noise, rate)
    return found


def condition(hyper: Hyper, x: FloatArray, t: FloatArray, y: FloatArray) -> Drift:
    """The process given results.

    Args:
        hyper: What it is told.
        x: Codes without NaN, shape ``(n, d)``.
        t: Times, shape ``(n,)``.
        y: Results, more is better, NaN where a training diverged, shape ``(n,)``.
    """
    matrix = covariance(hyper, x, t, x, t)
    np.einsum("ii->i", matrix)[:] += hyper.noise
    factor = jittered_cholesky(matrix)
    return Drift(hyper, x, t, factor, solve_cholesky(factor, scaled(y)), len(x))


def awaiting(drift: Drift, x: FloatArray, t: FloatArray) -> Drift:
    """The process with results awaited at more rows, shapes ``(k, d)`` and ``(k,)``: means stay, deviations shrink."""
    if not len(x):
        return drift
    cross = covariance(drift.hyper, x, t, drift.x, drift.t)
    corner = covariance(drift.hyper, x, t, x, t)
    np.einsum("ii->i", corner)[:] += drift.hyper.noise
    return Drift(
        drift.hyper,
        np.vstack([drift.x, x]),
        np.concatenate([drift.t, t]),
        extend_cholesky(drift.factor, cross, corner),
        drift.alpha,
        drift.known,
    )


def predict(drift: Drift, x: FloatArray, t: float) -> tuple[FloatArray, FloatArray]:
    """Means and standard deviations of scaled results at codes ``(q, d)`` and one time, shape ``(q,)`` each."""
    cross = covariance(drift.hyper, x, np.full(len(x), t), drift.x, drift.t)
    half = solve_lower(drift.factor, cross.T)
    variance = 1.0 - np.einsum("ij,ij->j", half, half)
    mean: FloatArray = cross[:, : drift.known] @ drift.alpha
    return mean, np.sqrt(np.maximum(variance, 1e-10))
