"""Normal and truncated normal distributions in log space, accurate far into the tails."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]

_LOG_SQRT_2PI = 0.9189385332046727
_SQRT_2 = 1.4142135623730951
_LOG_SQRT_PI_OVER_2 = 0.22579135264472744


def normal_log_pdf(z: ArrayLike) -> FloatArray:
    """Log density of the standard normal at ``z``, same shape."""
    z = np.asarray(z, dtype=np.float64)
    out: FloatArray = -0.5 * z * z - _LOG_SQRT_2PI
    return out


def normal_log_cdf(z: ArrayLike) -> FloatArray:
    """Log of the standard normal distribution function at ``z``, same shape; finite down to about -1e154."""
    from scipy.special import log_ndtr

    out: FloatArray = log_ndtr(np.asarray(z, dtype=np.float64))
    return out


def normal_quantile(p: ArrayLike) -> FloatArray:
    """Standard normal quantile of the probabilities ``p`` in [0, 1], same shape."""
    from scipy.special import ndtri

    out: FloatArray = ndtri(np.asarray(p, dtype=np.float64))
    return out


def log_normal_improvement(z: ArrayLike) -> FloatArray:
    """Log of ``E[max(z - u, 0)] = pdf(z) + z cdf(z)`` for a standard normal ``u``; same shape as ``z``.

    Relative error of the exponential below 1e-9 for every ``z``; see the test against 60-digit arithmetic.

    Source: Ament et al. 2023, arXiv:2310.20708, eq. 9, with the scaled complementary error function in the tail
    and, below -100 where its two terms cancel to the last digit, the leading terms of the asymptotic series.
    """
    from scipy.special import erfcx, ndtr

    z = np.asarray(z, dtype=np.float64)
    near = np.maximum(z, -1.0)
    direct = np.log(np.exp(normal_log_pdf(near)) + near * ndtr(near))
    mid = np.clip(z, -100.0, -1.0)
    # pdf + z cdf = pdf * (1 - |z| * Mills ratio), and Mills = sqrt(pi/2) erfcx(|z|/sqrt(2)).
    tail = np.log1p(mid * np.exp(_LOG_SQRT_PI_OVER_2) * erfcx(-mid / _SQRT_2))
    inverse = 1.0 / np.minimum(z, -100.0) ** 2
    series = np.log(inverse) + np.log1p(inverse * (-3.0 + inverse * (15.0 - 105.0 * inverse)))
    remainder = np.where(z > -100.0, tail, series)
    out: FloatArray = np.where(z > -1.0, direct, normal_log_pdf(z) + remainder)
    return out


def log_difference(log_a: ArrayLike, log_b: ArrayLike) -> FloatArray:
    """``log(exp(log_a) - exp(log_b))`` for ``log_a >= log_b``, without leaving log space; broadcasts."""
    log_a, log_b = np.asarray(log_a, dtype=np.float64), np.asarray(log_b, dtype=np.float64)
    gap = np.minimum(log_b - log_a, 0.0)
    with np.errstate(divide="ignore"):
        small = np.log(-np.expm1(np.maximum(gap, -0.7)))
        large = np.log1p(-np.exp(np.minimum(gap, -0.7)))
    out: FloatArray = log_a + np.where(gap > -0.7, small, large)
    return out


def _log_mass(low: FloatArray, high: FloatArray) -> FloatArray:
    # By symmetry the interval is put on the left of zero, where the distribution function keeps its digits.
    flip = low > 0.0
    a, b = np.where(flip, -high, low), np.where(flip, -low, high)
    return log_difference(normal_log_cdf(b), normal_log_cdf(a))


def truncated_normal_log_pdf(
    x: ArrayLike, mean: ArrayLike, std: ArrayLike, low: ArrayLike, high: ArrayLike
) -> FloatArray:
    """Log density at ``x`` of a normal cut to ``[low, high]``; -inf outside. Arguments broadcast.

    Args:
        x: Where, any unit.
        mean: Mean before cutting, same unit.
        std: Standard deviation before cutting, same unit, positive.
        low: Lower end, same unit.
        high: Upper end, same unit, above ``low``.
    """
    x, mean, std = (np.asarray(v, dtype=np.float64) for v in (x, mean, std))
    low, high = np.asarray(low, dtype=np.float64), np.asarray(high, dtype=np.float64)
    mass = _log_mass((low - mean) / std, (high - mean) / std)
    inside = normal_log_pdf((x - mean) / std) - np.log(std) - mass
    out: FloatArray = np.where((x >= low) & (x <= high), inside, -np.inf)
    return out


def truncated_normal_sample(
    rng: np.random.Generator,
    mean: ArrayLike,
    std: ArrayLike,
    low: ArrayLike,
    high: ArrayLike,
    size: int | tuple[int, ...] | None = None,
) -> FloatArray:
    """Draws from a normal cut to ``[low, high]`` by inverting its distribution function. Arguments broadcast.

    Args:
        rng: Source of randomness; one uniform is drawn per value.
        mean: Mean before cutting, any unit.
        std: Standard deviation before cutting, same unit, positive.
        low: Lower end, same unit.
        high: Upper end, same unit, above ``low``.
        size: Shape of the result; by default the shape of the broadcast arguments.
    """
    from scipy.special import log_ndtr, ndtri_exp

    mean, std = np.asarray(mean, dtype=np.float64), np.asarray(std, dtype=np.float64)
    a, b = np.broadcast_arrays((np.asarray(low) - mean) / std, (np.asarray(high) - mean) / std)
    shape = a.shape if size is None else size
    flip = a > 0.0
    left, right = np.where(flip, -b, a), np.where(flip, -a, b)
    u = rng.random(shape)
    log_left, log_right = log_ndtr(left), log_ndtr(right)
    # cdf = left + u (right - left), formed in log space so that far tails keep their digits.
    with np.errstate(divide="ignore"):
        log_p = np.logaddexp(log_left + np.log1p(-u), log_right + np.log(u))
    z = np.clip(ndtri_exp(np.minimum(log_p, 0.0)), left, right)
    out: FloatArray = np.clip(mean + std * np.where(flip, -z, z), low, high)
    return out
