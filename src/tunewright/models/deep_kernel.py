"""Gaussian-process regression whose kernel sees what a small network makes of the inputs, both learned together.

*Use when* inputs are many and of mixed kind (a configuration, a budget, a learning curve, a description of weights) and a
few hundred results are known. *Do not use when* the configuration is all there is (``models.gp``).

*Paper*: Wilson, Hu, Salakhutdinov and Xing 2016, "Deep Kernel Learning" (AISTATS, arXiv:1511.02222), eq. 4 to 9; with the
sizes of Wistuba, Kadra and Grabocka 2022 (DyHPO, arXiv:2202.09774): leaky rectifiers, ten features, squared exponential.

*Differs*: one hidden layer, and a linear way past it; the kernel has a linear part in the features, so that a trend goes
on beyond the data; inputs are standardised here, and one that is missing counts as usual. Every input has a learned scale
in front of the network, with a normal prior, and the network itself learns a hundred times slower than these: one that
learns at their rate fits a few dozen results by heart and predicts worse than no network (as Ober, Rasmussen and van der
Wilk 2021, arXiv:2102.12108, find). Initial weights come from a fixed generator, so that the same data gives the same process.

*Cost*: ``fit`` ``steps`` times a factorisation and an inverse of n^3; ``condition`` one factorisation; ``predict`` n^2 per
query.

Example:
    A process of a loss, ``x`` with a row per observation and ``y`` about unit normal::

        kernel = deep_kernel.fit(x, y)
        mean, std = deep_kernel.predict(deep_kernel.condition(kernel, x, y), queries)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tunewright.models.kernel import squared_distances
from tunewright.numerics.linalg import inverse_from_cholesky, jittered_cholesky, solve_cholesky, solve_lower

FloatArray = NDArray[np.float64]

HIDDEN, FEATURES = 32, 10
_STEPS, _FADE = 80, 0.1
_SLOW, _RATES = 5e-4, (0.05, 0.1)
_LEAK = 0.01
_FAR = 4.0
_USUAL, _NOISE, _SPREAD = 1.0, -2.0, 1.5
_LOG_BOUND = 8.0


class Parameters(NamedTuple):
    """What is learned.

    Attributes:
        first: Weights of the hidden layer, shape ``(p, HIDDEN)``.
        bias: Of the hidden layer, shape ``(HIDDEN,)``.
        second: Weights of the features, shape ``(HIDDEN, FEATURES)``.
        past: Weights past the hidden layer, shape ``(p, FEATURES)``.
        scales: Natural logarithms of what each input is multiplied by first, shape ``(p,)``.
        logs: Natural logarithms of the variance of the squared exponential, of the linear part and of the noise, ``(3,)``.
    """

    first: FloatArray
    bias: FloatArray
    second: FloatArray
    past: FloatArray
    scales: FloatArray
    logs: FloatArray


@dataclass(frozen=True, slots=True)
class DeepKernel:
    """A learned kernel; read-only by convention.

    Attributes:
        middle: Mean of every input, shape ``(p,)``.
        width: Standard deviation of every input, 1 where it is constant, shape ``(p,)``.
        parameters: The network and the variances.
    """

    middle: FloatArray
    width: FloatArray
    parameters: Parameters

    def features(self, x: FloatArray) -> FloatArray:
        """What the network makes of inputs ``(q, p)``, NaN where missing; shape ``(q, FEATURES)``."""
        return _features(self.parameters, _standardised(x, self.middle, self.width)).points


@dataclass(frozen=True, slots=True)
class Posterior:
    """A process conditioned on data; read-only by convention.

    Attributes:
        kernel: The kernel.
        points: Features of the data, shape ``(n, FEATURES)``.
        factor: Lower Cholesky factor of their covariance, shape ``(n, n)``.
        alpha: Inverse of the covariance times centred results, shape ``(n,)``.
        mean: Mean of the results, which the process returns to.
    """

    kernel: DeepKernel
    points: FloatArray
    factor: FloatArray
    alpha: FloatArray
    mean: float


def fit(
    x: FloatArray, y: FloatArray, *, doubt: FloatArray | None = None, steps: int = _STEPS, seed: int = 0
) -> DeepKernel:
    """Learns a kernel by the marginal likelihood.

    Args:
        x: Inputs, NaN where missing, shape ``(n, p)`` with ``n >= 2``.
        y: Results, about unit normal, shape ``(n,)``.
        doubt: How much smaller than that of the others the scale of each input is before anything is learned, as a natural
            logarithm, shape ``(p,)``; by default zero.
        steps: Steps of Adam.
        seed: Of the initial weights.

    Raises:
        numpy.linalg.LinAlgError: If a result is not finite.
    """
    known = ~np.isnan(x)
    counts = np.maximum(known.sum(axis=0), 1)
    filled = np.where(known, x, 0.0)
    middle = filled.sum(axis=0) / counts
    spread = np.sqrt((np.where(known, x - middle, 0.0) ** 2).sum(axis=0) / counts)
    width = np.where(spread > 1e-9 * (1.0 + np.abs(middle)), spread, 1.0)
    inputs, target = _standardised(x, middle, width), y - y.mean()
    doubted = np.zeros(x.shape[1]) if doubt is None else doubt
    # The usual distance between two rows does not grow with the number of inputs.
    usual = _USUAL - doubted - 0.5 * np.log(np.exp(-2.0 * doubted).sum())
    values = _initial(usual, seed)
    first, second = [np.zeros_like(v) for v in values], [np.zeros_like(v) for v in values]
    rates = (_SLOW, _SLOW, _SLOW, _SLOW, *_RATES)
    for step in range(1, steps + 1):
        _, slopes = loss_and_gradient(values, inputs, target, usual)
        scale = _FADE ** (step / steps) * (1.0 - 0.999**step) ** 0.5 / (1.0 - 0.9**step)
        # Adam, Kingma and Ba 2015, Algorithm 1.
        for v, g, m, s, rate in zip(values, slopes, first, second, rates, strict=True):
            m += 0.1 * (g - m)
            s += 0.001 * (g * g - s)
            v -= rate * scale * m / (np.sqrt(s) + 1e-8)
        np.clip(values.logs, -_LOG_BOUND, _LOG_BOUND, out=values.logs)
    return DeepKernel(middle, width, values)


def condition(kernel: DeepKernel, x: FloatArray, y: FloatArray) -> Posterior:
    """Conditions on data: one factorisation.

    Args:
        kernel: The kernel.
        x: Inputs, NaN where missing, shape ``(n, p)`` with ``n >= 1``.
        y: Results, shape ``(n,)``.

    Raises:
        numpy.linalg.LinAlgError: If a result is not finite.
    """
    points = kernel.features(x)
    covariance = _covariance(kernel.parameters.logs, points, points)[0]
    np.einsum("ii->i", covariance)[:] += np.exp(kernel.parameters.logs[2])
    factor = jittered_cholesky(covariance)
    mean = float(y.mean())
    return Posterior(kernel, points, factor, solve_cholesky(factor, y - mean), mean)


def predict(posterior: Posterior, x: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Mean and standard deviation of the noiseless process.

    Args:
        posterior: The process.
        x: Inputs, NaN where missing, shape ``(q, p)``.

    Returns:
        Two arrays of shape ``(q,)``; the deviations are positive.
    """
    logs, points = posterior.kernel.parameters.logs, posterior.kernel.features(x)
    cross = _covariance(logs, points, posterior.points)[0]
    half = solve_lower(posterior.factor, cross.T)
    alone = np.exp(logs[0]) + np.exp(logs[1]) * np.einsum("ij,ij->i", points, points)
    variance = alone - np.einsum("ij,ij->j", half, half)
    return posterior.mean + cross @ posterior.alpha, np.sqrt(np.maximum(variance, 1e-10 * alone))


def _initial(usual: FloatArray, seed: int) -> Parameters:
    rng, p = np.random.Generator(np.random.Philox(key=seed)), len(usual)
    return Parameters(
        rng.normal(0.0, 1.0, (p, HIDDEN)),
        np.zeros(HIDDEN),
        rng.normal(0.0, (0.5 / (HIDDEN * FEATURES)) ** 0.5, (HIDDEN, FEATURES)),
        rng.normal(0.0, (0.5 / FEATURES) ** 0.5, (p, FEATURES)),
        usual.copy(),
        np.array([-0.3, -3.0, -1.5]),
    )


def _standardised(x: FloatArray, middle: FloatArray, width: FloatArray) -> FloatArray:
    out: FloatArray = np.clip(np.nan_to_num((x - middle) / width, nan=0.0), -_FAR, _FAR)
    return out


class _Seen(NamedTuple):
    """What a network makes of inputs: scaled ``(n, p)``, before and after the rectifier ``(n, HIDDEN)``, features."""

    scaled: FloatArray
    before: FloatArray
    hidden: FloatArray
    points: FloatArray


def _features(values: Parameters, inputs: FloatArray) -> _Seen:
    scaled = inputs * np.exp(values.scales)
    before = scaled @ values.first + values.bias
    hidden = np.where(before > 0.0, before, _LEAK * before)
    return _Seen(scaled, before, hidden, hidden @ values.second + scaled @ values.past)


def _covariance(logs: FloatArray, a: FloatArray, b: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Covariance of features, and its squared exponential and its linear part; shape ``(n, m)`` each."""
    curved = np.exp(logs[0]) * np.exp(-0.5 * squared_distances(a, b))
    straight = np.exp(logs[1]) * (a @ b.T)
    return curved + straight, curved, straight


def loss_and_gradient(
    values: Parameters, inputs: FloatArray, target: FloatArray, usual: FloatArray
) -> tuple[float, list[FloatArray]]:
    """Negative log posterior density of the parameters over n, up to a constant, and its derivatives.

    Args:
        values: The parameters.
        inputs: Standardised, shape ``(n, p)``.
        target: Centred, shape ``(n,)``.
        usual: Prior means of the logarithms of the inputs' scales, shape ``(p,)``.

    Returns:
        The value, and one array for each of the parameters.
    """
    n = len(target)
    seen = _features(values, inputs)
    points = seen.points
    covariance, curved, straight = _covariance(values.logs, points, points)
    noise = float(np.exp(values.logs[2]))
    np.einsum("ii->i", covariance)[:] += noise
    factor = jittered_cholesky(covariance)
    alpha = solve_cholesky(factor, target)
    pull = (inverse_from_cholesky(factor) - np.outer(alpha, alpha)) / (2.0 * n)
    by_curved = pull * curved
    slope = 2.0 * (by_curved @ points - by_curved.sum(axis=1)[:, None] * points)
    slope += 2.0 * np.exp(values.logs[1]) * (pull @ points)
    back = (slope @ values.second.T) * np.where(seen.before > 0.0, 1.0, _LEAK)
    by_scaled = back @ values.first.T + slope @ values.past.T
    odd, off = values.scales - usual, (values.logs[2] - _NOISE) / _SPREAD
    by_logs = np.array([by_curved.sum(), float((pull * straight).sum()), float(np.trace(pull)) * noise])
    by_logs[2] += off / _SPREAD / n
    by_scales = (by_scaled * seen.scaled).sum(axis=0) + odd / n
    fitted = 0.5 * float(target @ alpha) + float(np.log(np.diagonal(factor)).sum())
    value = (fitted + 0.5 * off * off + 0.5 * float(odd @ odd)) / n
    slopes = [seen.scaled.T @ back, back.sum(axis=0), seen.hidden.T @ slope, seen.scaled.T @ slope]
    return value, [*slopes, by_scales, by_logs]
