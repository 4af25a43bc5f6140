"""Acquisitions by information: what a trial would tell about the minimum, and a schedule for confidence bounds.

*Use when* trials are few and the noise is known to the model. *Do not use when* speed counts most: expected improvement
needs no draws of the minimum.

*Paper*: Wang and Jegelka 2017 (max-value entropy search, arXiv:1703.01968), eq. 6 and section 3.1; Hvarfner, Hutter and
Nardi 2022 (joint entropy search, arXiv:2206.04771), section 4; Srinivas, Krause, Kakade and Seeger 2010
(arXiv:0912.3995), Theorem 1, for the schedule.

*Differs*: everything is minimised. The entropy of a trial's noisy value given the optimum is that of a normal distribution
of its variance, which bounds it from above, so that the joint entropy search is a lower bound of the information.

*Cost*: O(q s) for ``q`` rows and ``s`` draws of the minimum.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tunewright.numerics.distributions import normal_log_cdf, normal_log_pdf

FloatArray = NDArray[np.float64]

_HALVINGS = 60


def minimum_quantiles(mean: FloatArray, std: FloatArray, shares: FloatArray) -> FloatArray:
    """Quantiles of the minimum of independent normal values, by bisection.

    Args:
        mean: Posterior means of a set of rows that covers the space, shape ``(q,)``.
        std: Their standard deviations, positive, shape ``(q,)``.
        shares: Probabilities in (0, 1), shape ``(k,)``.

    Returns:
        Values, shape ``(k,)``, unit of ``mean``.

    Source: Wang and Jegelka 2017, section 3.1: the values are taken to be independent.
    """
    wanted = np.log1p(-np.asarray(shares, dtype=np.float64))
    low = np.full(len(wanted), float((mean - 12.0 * std).min()))
    high = np.full(len(wanted), float((mean + 12.0 * std).min()))
    for _ in range(_HALVINGS):
        middle = 0.5 * (low + high)
        # Log probability that no value lies below.
        above = normal_log_cdf((mean[None, :] - middle[:, None]) / std[None, :]).sum(axis=1)
        low, high = np.where(above > wanted, middle, low), np.where(above > wanted, high, middle)
    out: FloatArray = 0.5 * (low + high)
    return out


def gumbel_minima(mean: FloatArray, std: FloatArray, draws: int, rng: np.random.Generator) -> FloatArray:
    """Draws of the minimum from a Gumbel distribution fitted to the quartiles of that of independent values.

    Args:
        mean: Posterior means of a set of rows that covers the space, shape ``(q,)``.
        std: Their standard deviations, positive, shape ``(q,)``.
        draws: Number of draws.
        rng: Source of randomness.

    Returns:
        Shape ``(draws,)``, unit of ``mean``.

    Source: Wang and Jegelka 2017, section 3.1, appendix B.
    """
    first, middle, last = minimum_quantiles(mean, std, np.array([0.25, 0.5, 0.75]))
    # The mirror image of a maximum: P(minimum > y) = exp(-exp((y - a) / b)).
    b = (last - first) / (np.log(np.log(4.0)) - np.log(np.log(4.0 / 3.0)))
    a = middle - b * np.log(np.log(2.0))
    uniform = np.maximum(rng.random(draws), 1e-300)
    out: FloatArray = a + b * np.log(-np.log(uniform))
    return out


def sampled_minima(samples: FloatArray) -> FloatArray:
    """Draws of the minimum from joint posterior draws, shape ``(draws, q)`` to ``(draws,)``."""
    out: FloatArray = samples.min(axis=1)
    return out


def max_value_entropy(mean: FloatArray, std: FloatArray, minima: FloatArray) -> FloatArray:
    """Information, in nats, that the noiseless value at each row gives about the minimum; shape ``(q,)``.

    Args:
        mean: Posterior means, shape ``(q,)``.
        std: Posterior standard deviations, positive, shape ``(q,)``.
        minima: Draws of the minimum, shape ``(s,)`` with ``s >= 1``.

    Source: Wang and Jegelka 2017, eq. 6, mirrored for a minimum.
    """
    gamma = (mean[:, None] - minima[None, :]) / std[:, None]
    log_cdf = normal_log_cdf(gamma)
    ratio = np.exp(normal_log_pdf(gamma) - log_cdf)
    out: FloatArray = (0.5 * gamma * ratio - log_cdf).mean(axis=1)
    return out


def truncated_variance(gamma: FloatArray) -> FloatArray:
    """Variance of a standard normal value above ``-gamma``, of the same shape, within (0, 1].

    Source: Hvarfner et al. 2022, section 4.2; the moments are those of Johnson, Kotz and Balakrishnan 1994, eq. 13.135.
    """
    ratio = np.exp(normal_log_pdf(gamma) - normal_log_cdf(gamma))
    out: FloatArray = np.clip(1.0 - ratio * (gamma + ratio), 1e-12, 1.0)
    return out


def joint_entropy(
    std: FloatArray, mean_given: FloatArray, std_given: FloatArray, minima: FloatArray, noise: float
) -> FloatArray:
    """Information, in nats, that a noisy trial gives about the minimum and where it lies; a lower bound, ``(q,)``.

    Args:
        std: Posterior standard deviations, shape ``(q,)``.
        mean_given: Posterior means once a drawn minimum is a noiseless observation at its place, shape ``(s, q)``.
        std_given: The standard deviations then, shape ``(s, q)``.
        minima: The drawn minima, shape ``(s,)``.
        noise: Standard deviation of a trial's noise, positive, unit of ``std``.

    Source: Hvarfner et al. 2022, eq. 7 to 10: below the drawn minimum the posterior is cut off.
    """
    gamma = (mean_given - minima[:, None]) / std_given
    rest = std_given**2 * truncated_variance(gamma) + noise**2
    out: FloatArray = 0.5 * np.log(std**2 + noise**2) - 0.5 * np.log(rest).mean(axis=0)
    return out


def confidence_schedule(n: int, size: int, delta: float = 0.1) -> float:
    """Weight of exploration of trial ``n`` for ``acquisition.lower_confidence_bound``: ``2 log(size n^2 pi^2 / 6 delta)``.

    Args:
        n: Number of the trial, from 1.
        size: Number of rows among which is chosen.
        delta: Probability that the bounds fail, in (0, 1).

    Source: Srinivas et al. 2010, Theorem 1.
    """
    return float(2.0 * np.log(size * n**2 * np.pi**2 / (6.0 * delta)))
