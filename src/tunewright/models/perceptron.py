"""A small network that predicts a mean and a standard deviation, in NumPy.

*Use when* some thousand results of earlier studies are to give one smooth guess with uncertainty. *Do not use when* there
are few: a Gaussian process says more.

*Paper*: Salinas, Shen and Perrone 2020 (arXiv:1909.13595), section 4.2 and appendix B: three layers of 50 rectified
units, Gaussian likelihood, Adam with 1,000 steps at each of three learning rates from 0.01 down by factors of 10,
batches of 64.

*Differs*: no dropout; the standard deviation is at least 0.01; the initial weights and batches come from a fixed
generator, so that the same data gives the same network.

*Cost*: 3,000 steps of four small matrix products each way: about half a second, once.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

_UNITS = 50
_LAYERS = 3
_BATCH = 64
_STEPS = 1000
_RATES = (1e-2, 1e-3, 1e-4)
_LEAST = 0.01


@dataclass(frozen=True, slots=True)
class Perceptron:
    """A fitted network; read-only by convention.

    Attributes:
        weights: One matrix per layer.
        biases: One vector per layer.
    """

    weights: tuple[FloatArray, ...]
    biases: tuple[FloatArray, ...]

    def predict(self, features: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Mean and standard deviation, shape ``(q,)`` each, for features ``(q, p)``."""
        out = _forward(list(self.weights), list(self.biases), features)[-1]
        return out[:, 0], _LEAST + np.logaddexp(0.0, out[:, 1])


def _forward(weights: list[FloatArray], biases: list[FloatArray], x: FloatArray) -> list[FloatArray]:
    """Activations of every layer, the input first."""
    found = [x]
    for i, (w, b) in enumerate(zip(weights, biases, strict=True)):
        x = x @ w + b
        if i < len(weights) - 1:
            x = np.maximum(x, 0.0)
        found.append(x)
    return found


def gradient_of_nll(out: FloatArray, target: FloatArray) -> tuple[float, FloatArray]:
    """Mean Gaussian negative log likelihood of ``(mean, raw deviation)`` and its derivative by both.

    Args:
        out: Mean and raw deviation; the deviation is ``0.01 + log(1 + exp(raw))``; shape ``(q, 2)``.
        target: Shape ``(q,)``.
    """
    sigma = _LEAST + np.logaddexp(0.0, out[:, 1])
    z = (target - out[:, 0]) / sigma
    value = float(np.mean(0.5 * z * z + np.log(sigma)))
    by_sigma = (1.0 - z * z) / sigma
    slope = 1.0 / (1.0 + np.exp(-np.clip(out[:, 1], -50.0, 50.0)))
    gradient = np.column_stack([-z / sigma, by_sigma * slope]) / len(target)
    return value, gradient


def fit(features: FloatArray, target: FloatArray, *, seed: int = 0, steps: int = _STEPS) -> Perceptron:
    """Trains a network.

    Args:
        features: Shape ``(n, p)``, about in [0, 1].
        target: Shape ``(n,)``, about unit normal.
        seed: Of weights and batches.
        steps: Steps at each learning rate.
    """
    rng = np.random.Generator(np.random.Philox(key=seed))
    sizes = [features.shape[1], *[_UNITS] * _LAYERS, 2]
    weights = [rng.normal(0.0, (2.0 / max(a, 1)) ** 0.5, (a, b)) for a, b in itertools.pairwise(sizes)]
    weights[-1] *= 0.1
    values = [*weights, *(np.zeros(b) for b in sizes[1:])]
    first, second = [np.zeros_like(v) for v in values], [np.zeros_like(v) for v in values]
    k = len(weights)
    total = 0
    for rate in _RATES:
        for _ in range(steps):
            total += 1
            rows = rng.integers(len(target), size=min(_BATCH, len(target)))
            gradients = _backward(values[:k], values[k:], features[rows], target[rows])
            _adam(values, gradients, first, second, rate, total)
    return Perceptron(tuple(values[:k]), tuple(values[k:]))


def _backward(
    weights: list[FloatArray], biases: list[FloatArray], x: FloatArray, target: FloatArray
) -> list[FloatArray]:
    """Derivatives by all weights, then by all biases."""
    found = _forward(weights, biases, x)
    _, pull = gradient_of_nll(found[-1], target)
    by_weight: list[FloatArray] = []
    by_bias: list[FloatArray] = []
    for i in range(len(weights) - 1, -1, -1):
        by_weight.insert(0, found[i].T @ pull)
        by_bias.insert(0, pull.sum(axis=0))
        pull = (pull @ weights[i].T) * (found[i] > 0.0)
    return [*by_weight, *by_bias]


def _adam(
    values: list[FloatArray],
    gradients: list[FloatArray],
    first: list[FloatArray],
    second: list[FloatArray],
    rate: float,
    step: int,
) -> None:
    """One step of Adam (Kingma and Ba 2015, Algorithm 1), in place."""
    scale = rate * (1.0 - 0.999**step) ** 0.5 / (1.0 - 0.9**step)
    for v, g, m, s in zip(values, gradients, first, second, strict=True):
        m += 0.1 * (g - m)
        s += 0.001 * (g * g - s)
        v -= scale * m / (np.sqrt(s) + 1e-8)
