"""A network of one hidden layer, its derivatives by the weights, and the ball of weights that the data leaves plausible.

*Use when* optimism is to range over the weights of a parametric model. *Do not use when* a few dozen trials of a smooth
function are all there is: a Gaussian process says more.

*Paper*: Liu and Wang 2023 (GO-UCB, arXiv:2211.09100), Algorithm 1 and eq. 2 to 5.

*Differs*: the network is small and its derivatives are in closed form, so that NumPy suffices; the ball is handled through
its dual, n by n; the regulariser is scaled so that an unknown point deviates by about the spread of the losses.

*Cost*: ``fit`` some 100 passes over the data; a ball n^2 p for ``n`` rows and ``p`` weights.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tunewright.numerics.linalg import jittered_cholesky, solve_cholesky
from tunewright.numerics.optimize import minimize_in_box

FloatArray = NDArray[np.float64]

NOISE = 0.01
_DECAY = 0.02
_BOUND = 50.0


@dataclass(frozen=True, slots=True)
class Network:
    """``f(x) = v tanh(W x + b) + c``, weights in one vector: ``W``, ``b``, ``v``, ``c``.

    Attributes:
        inputs: Number of features, ``p``.
        hidden: Number of hidden units, ``h``.
    """

    inputs: int
    hidden: int

    @property
    def size(self) -> int:
        """Number of weights."""
        return self.hidden * (self.inputs + 2) + 1

    def values(self, x: FloatArray, w: FloatArray) -> FloatArray:
        """Outputs, shape ``(n,)``, for features ``(n, p)`` and weights ``(size,)``."""
        h, p = self.hidden, self.inputs
        units = np.tanh(x @ w[: h * p].reshape(h, p).T + w[h * p : h * p + h])
        out: FloatArray = units @ w[h * p + h : -1] + w[-1]
        return out

    def jacobian(self, x: FloatArray, w: FloatArray) -> FloatArray:
        """Derivatives of the outputs by the weights, shape ``(n, size)``."""
        h, p = self.hidden, self.inputs
        units = np.tanh(x @ w[: h * p].reshape(h, p).T + w[h * p : h * p + h])
        pull = (1.0 - units**2) * w[h * p + h : -1]
        by_matrix = (pull[:, :, None] * x[:, None, :]).reshape(len(x), h * p)
        return np.concatenate([by_matrix, pull, units, np.ones((len(x), 1))], axis=1)

    def fit(self, x: FloatArray, y: FloatArray, *, seed: int = 0, evaluations: int = 100) -> FloatArray:
        """Weights of least squared error with a little decay, from a fixed random start.

        Args:
            x: Features, shape ``(n, p)``.
            y: Targets, about unit normal, shape ``(n,)``.
            seed: Of the start.
            evaluations: Passes over the data.
        """
        rng = np.random.Generator(np.random.Philox(key=seed))
        start = rng.standard_normal(self.size) / np.sqrt(max(self.inputs, 1))

        def loss(w: FloatArray) -> tuple[float, FloatArray]:
            rest = self.values(x, w) - y
            value = 0.5 * float(rest @ rest) + 0.5 * _DECAY * float(w @ w)
            return value, rest @ self.jacobian(x, w) + _DECAY * w

        bound = np.full(self.size, _BOUND)
        return minimize_in_box(loss, start, -bound, bound, max_evaluations=evaluations)[0]


@dataclass(frozen=True, slots=True)
class Ball:
    """Plausible weights: ``(w - centre)' Sigma (w - centre) <= beta`` with ``Sigma = ridge I + G' G``.

    Attributes:
        network: The network.
        anchor: Weights that it is linearised at, ``w_0``, shape ``(size,)``.
        centre: Weights that fit the data best to first order, shape ``(size,)``.
        slopes: Derivatives at the data, ``G``, shape ``(n, size)``.
        factor: Cholesky factor of ``ridge I + G G'``, shape ``(n, n)``.
        ridge: The regulariser, positive.
    """

    network: Network
    anchor: FloatArray
    centre: FloatArray
    slopes: FloatArray
    factor: FloatArray
    ridge: float

    def estimate(self, x: FloatArray) -> FloatArray:
        """Output at the centre to first order, shape ``(q,)``."""
        shift = self.network.jacobian(x, self.anchor) @ (self.centre - self.anchor)
        return self.network.values(x, self.anchor) + shift

    def optimistic(self, x: FloatArray, deviations: float) -> FloatArray:
        """Lowest output over the ball at each row, to first order, shape ``(q,)``.

        Args:
            x: Features, shape ``(q, p)``.
            deviations: Radius of the ball, in standard deviations.

        Source: Liu and Wang 2023, eq. 3 (mirrored), Algorithm 1, line 6, with the network linearised at the anchor.
        """
        return self.estimate(x) - deviations * self.deviation(x)

    def deviation(self, x: FloatArray) -> FloatArray:
        """Standard deviation of the output to first order, shape ``(q,)``."""
        g = self.network.jacobian(x, self.anchor)
        known = self.slopes @ g.T
        explained = np.einsum("ij,ij->j", known, solve_cholesky(self.factor, known))
        variance = NOISE * (np.einsum("ij,ij->i", g, g) - explained) / self.ridge
        out: FloatArray = np.sqrt(np.maximum(variance, 0.0))
        return out


def ball(network: Network, anchor: FloatArray, x: FloatArray, y: FloatArray) -> Ball:
    """The ball of weights after some data.

    Args:
        network: The network.
        anchor: Weights that it is linearised at, shape ``(size,)``.
        x: Features, shape ``(n, p)`` with ``n >= 1``.
        y: Targets, shape ``(n,)``.

    Source: Liu and Wang 2023, eq. 4 and 5.
    """
    slopes = network.jacobian(x, anchor)
    gram = slopes @ slopes.T
    ridge = NOISE * max(float(np.mean(np.diagonal(gram))), 1e-12)
    factor = jittered_cholesky(gram + ridge * np.eye(len(x)))
    centre = anchor + slopes.T @ solve_cholesky(factor, y - network.values(x, anchor))
    return Ball(network, anchor, centre, slopes, factor, ridge)
