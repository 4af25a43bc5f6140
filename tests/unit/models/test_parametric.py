"""The network's derivatives, its fit, and a ball of weights that is small where there is data."""

from __future__ import annotations

import numpy as np
import pytest

from tunewright.models.parametric import NOISE, Network, ball

RNG = np.random.default_rng(0)
NET = Network(3, 4)
W = RNG.standard_normal(NET.size)
X = RNG.uniform(-1, 1, (6, 3))


def test_derivatives_are_those_of_the_output():
    exact = NET.jacobian(X, W)
    for j in range(NET.size):
        step = np.zeros(NET.size)
        step[j] = 1e-6
        slope = (NET.values(X, W + step) - NET.values(X, W - step)) / 2e-6
        assert exact[:, j] == pytest.approx(slope, abs=1e-7)


def test_a_fit_finds_a_function_of_its_kind():
    x = RNG.uniform(-1, 1, (80, 3))
    y = np.tanh(2 * x[:, 0] - x[:, 1])
    rest = NET.values(x, NET.fit(x, y)) - y
    assert float(rest @ rest) < 0.05 * float(y @ y)


def test_the_bound_lies_below_the_estimate_and_is_tight_at_the_data():
    y = RNG.standard_normal(6)
    found = ball(NET, W, X, y)
    away = np.array([[3.0, -3.0, 3.0]])
    assert found.deviation(away)[0] > 2 * found.deviation(X).max()
    assert (found.optimistic(X, 0.01) < found.estimate(X)).all()
    assert found.optimistic(X, 0.0) == pytest.approx(found.estimate(X))
    assert found.ridge == pytest.approx(NOISE * np.mean((NET.jacobian(X, W) ** 2).sum(axis=1)))
