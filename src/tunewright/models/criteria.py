"""The acquisitions of a Gaussian process by name: confidence bound, Thompson draw, and two by information.

*Use when* a sampler lets its user choose. *Do not use when* in doubt: log expected improvement is the default.

*Paper*: Ament et al. 2023 (arXiv:2310.20708), eq. 8, for ``log_ei``; Srinivas, Krause, Kakade and Seeger 2010
(arXiv:0912.3995), Theorem 1 and section 6, for ``lcb``, whose weight is a fifth of the theorem's; Thompson 1933 for
``thompson``; Wang and Jegelka 2017 (arXiv:1703.01968), eq. 6, for ``mes``; Hvarfner, Hutter and Nardi 2022
(arXiv:2206.04771), section 4, for ``jes``.

*Differs*: each is the logarithm of something positive, so that beliefs, probabilities and costs multiply it. For ``lcb`` and
``thompson`` that is how far the bound or the draw lies below the incumbent, made positive by a soft corner, which keeps
the order of rows. A draw of the process is a function that remembers its lowest values, so that it can be searched
around them. ``mes`` and ``jes`` draw the minimum over rows that cover the space, not over the space.

*Cost*: ``mes`` O(q s) more than ``log_ei`` for ``s`` draws; ``jes`` O(s n) per row more, without gradients; ``thompson`` one
factorisation of q^3.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from tunewright.models import gp as model
from tunewright.models.acquisition import Acquisition, Value, log_improvement, lower_confidence_bound
from tunewright.models.entropy import (
    confidence_schedule,
    gumbel_minima,
    joint_entropy,
    max_value_entropy,
    sampled_minima,
)
from tunewright.numerics.distributions import normal_log_cdf, normal_log_pdf

FloatArray = NDArray[np.float64]
Name = Literal["log_ei", "lcb", "thompson", "mes", "jes"]
Partials = Callable[[FloatArray, FloatArray], tuple[FloatArray, FloatArray, FloatArray]]

NAMES: tuple[str, ...] = get_args(Name)
DRAWS = 10
_SCALED = 0.2
_CORNER = 0.1
_REMEMBERED = 100
_LEAST_NOISE = -14.0
_LEAST = 1e-300


def criterion(
    name: str, gp: model.GP, best: float, cover: FloatArray, rng: np.random.Generator, draws: int = DRAWS
) -> Acquisition:
    """An acquisition by name.

    Args:
        name: One of ``NAMES``.
        gp: The process, already conditioned on awaited rows.
        best: Warped loss of the incumbent, unitless.
        cover: Rows of codes that cover the space, shape ``(q, d)`` with ``q >= 1``.
        rng: Source of randomness; not used by ``log_ei`` and ``lcb``.
        draws: Draws of the minimum, for ``mes`` and ``jes``.
    """
    if name == "lcb":
        beta = _SCALED * confidence_schedule(len(gp.x) + 1, len(cover))
        return _pointwise(gp, lambda mean, std: optimism(mean, std, best, beta))
    if name == "thompson":
        return Acquisition(_draw(gp, best, rng), None)
    if name == "mes":
        mean, std = model.predict(gp, np.vstack([cover, gp.x]))
        # No minimum lies above what is expected of a row that was tried.
        minima = np.minimum(gumbel_minima(mean, std, draws, rng), float(mean[len(cover) :].min()))
        return _pointwise(gp, lambda mean, std: log_max_value_entropy(mean, std, minima))
    if name == "jes":
        return Acquisition(_joint(gp, np.vstack([cover, gp.x]), rng, draws), None)
    return log_improvement(gp, best)


def log_softplus(z: FloatArray) -> tuple[FloatArray, FloatArray]:
    """``log(c log(1 + exp(z / c)))`` with ``c = 0.1``, increasing and finite, and its derivative; both of z's shape."""
    scaled = z / _CORNER
    # Below -30, log(1 + exp(z)) is exp(z) to the last digit.
    log = np.where(scaled < -30.0, scaled, np.log(np.logaddexp(0.0, np.maximum(scaled, -30.0))))
    return log + np.log(_CORNER), np.exp(-np.logaddexp(0.0, -scaled) - log) / _CORNER


def optimism(
    mean: FloatArray, std: FloatArray, best: float, beta: float
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Log of how far the lower confidence bound lies below ``best``, softly positive, and its derivatives.

    Args:
        mean: Posterior means, shape ``(q,)``.
        std: Posterior standard deviations, positive, shape ``(q,)``.
        best: Warped loss of the incumbent.
        beta: Weight of exploration.

    Returns:
        Values and derivatives by mean and deviation, shape ``(q,)`` each.
    """
    value, steep = log_softplus(best - lower_confidence_bound(mean, std, beta))
    return value, -steep, beta**0.5 * steep


def log_max_value_entropy(
    mean: FloatArray, std: FloatArray, minima: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Log of ``entropy.max_value_entropy``, and its derivatives by mean and deviation, shape ``(q,)`` each.

    Args:
        mean: Posterior means, shape ``(q,)``.
        std: Posterior standard deviations, positive, shape ``(q,)``.
        minima: Draws of the minimum, shape ``(s,)``.
    """
    value = np.maximum(max_value_entropy(mean, std, minima), _LEAST)
    gamma = (mean[:, None] - minima[None, :]) / std[:, None]
    ratio = np.exp(normal_log_pdf(gamma) - normal_log_cdf(gamma))
    by_gamma = -0.5 * ratio * (1.0 + gamma * (gamma + ratio)) / std[:, None] / value[:, None]
    return np.log(value), by_gamma.mean(axis=1), -(by_gamma * gamma).mean(axis=1)


def _pointwise(gp: model.GP, partials: Partials) -> Acquisition:
    """An acquisition of mean and deviation alone, climbed by the chain rule."""

    def slope(x: FloatArray) -> tuple[FloatArray, FloatArray]:
        mean, std, mean_slope, std_slope = model.predict_with_gradient(gp, x)
        value, by_mean, by_std = partials(mean, std)
        return value, by_mean[:, None] * mean_slope + by_std[:, None] * std_slope

    return Acquisition(lambda x: partials(*model.predict(gp, x))[0], slope)


def _draw(gp: model.GP, best: float, rng: np.random.Generator) -> Value:
    """One function drawn from the process, found out where it is asked for, given its lowest values so far."""
    told = [replace(gp, hyper=replace(gp.hyper, noise=_LEAST_NOISE))]

    def value(x: FloatArray) -> FloatArray:
        drawn = model.sample(told[0], x, rng)[0]
        low = np.argsort(drawn, kind="stable")[:_REMEMBERED]
        told[0] = model.condition_on(told[0], x[low], drawn[low])
        return log_softplus(best - drawn)[0]

    return value


def _joint(gp: model.GP, cover: FloatArray, rng: np.random.Generator, draws: int) -> Value:
    """Joint entropy search: each draw of the minimum and its place is a noiseless observation of its own."""
    functions = model.sample(gp, cover, rng, draws)
    minima, optima = sampled_minima(functions), cover[functions.argmin(axis=1)]
    noise = float(np.exp(0.5 * gp.hyper.noise))
    level, spread = model.predict(gp, optima)

    def value(x: FloatArray) -> FloatArray:
        mean, std, shared = model.predict_with_covariance(gp, x, optima)
        gain = shared / spread**2
        mean_given = mean[:, None] + gain * (minima - level)
        rest = np.maximum(std[:, None] ** 2 - gain * shared, 1e-12 * std[:, None] ** 2)
        entropy = joint_entropy(std, mean_given.T, np.sqrt(rest).T, minima, noise)
        return np.log(np.maximum(entropy, _LEAST))

    return value
