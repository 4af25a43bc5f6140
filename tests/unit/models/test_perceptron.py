"""The network learns a mean and a spread, always the same way."""

from __future__ import annotations

import numpy as np
import pytest

from tunewright.models import perceptron


def test_the_gradient_is_that_of_finite_differences():
    rng = np.random.default_rng(0)
    out, target = rng.normal(size=(5, 2)), rng.normal(size=5)
    _, gradient = perceptron.gradient_of_nll(out, target)
    for i in range(5):
        for j in range(2):
            up, down = out.copy(), out.copy()
            up[i, j] += 1e-6
            down[i, j] -= 1e-6
            slope = perceptron.gradient_of_nll(up, target)[0] - perceptron.gradient_of_nll(down, target)[0]
            assert gradient[i, j] == pytest.approx(slope / 2e-6, abs=1e-6)


def test_mean_and_deviation_are_learned():
    rng = np.random.default_rng(1)
    x = rng.random((600, 2))
    y = np.sin(3.0 * x[:, 0]) + (0.1 + 0.5 * x[:, 1]) * rng.standard_normal(600)
    net = perceptron.fit(x, y, steps=300)
    at = np.column_stack([np.linspace(0.1, 0.9, 9), np.full(9, 0.1)])
    mean, low = net.predict(at)
    high = net.predict(np.column_stack([at[:, 0], np.full(9, 0.9)]))[1]
    assert np.abs(mean - np.sin(3.0 * at[:, 0])).max() < 0.25
    assert (high > low).all()
    again = perceptron.fit(x, y, steps=300)
    assert all(np.array_equal(a, b) for a, b in zip(net.weights, again.weights, strict=True))
