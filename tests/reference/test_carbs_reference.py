"""Fronts of loss and compute against the closed form of a published scaling law."""

from __future__ import annotations

import numpy as np
import pytest

from tunewright.bench.multiobjective import run_trials
from tunewright.core.domains import Float
from tunewright.core.problem import Problem
from tunewright.core.space import Space
from tunewright.numerics.pareto import nondominated
from tunewright.samplers.carbs import Carbs, front_curve

# Hoffmann et al. 2022 (arXiv:2203.15556), eq. 10: L(N, D) = E + A / N^alpha + B / D^beta.
E, A, B, ALPHA, BETA = 1.69, 406.4, 410.7, 0.34, 0.28
# Table 2, approach 3: exponent of the best number of parameters by compute.
EXPONENT = 0.46


def best_size(compute):
    """Parameters that minimise the loss for a compute of 6 N D: Hoffmann et al. 2022, eq. 4."""
    g = (ALPHA * A / (BETA * B)) ** (1.0 / (ALPHA + BETA))
    return g * (compute / 6.0) ** (BETA / (ALPHA + BETA))


def loss(size, tokens):
    return E + A * size**-ALPHA + B * tokens**-BETA


def test_the_front_between_its_members():
    compute = np.logspace(16.0, 21.0, 14)
    size = best_size(compute)
    least = loss(size, compute / 6.0 / size)
    scale = least.std()
    curve = front_curve({}, np.log(compute), least / scale)
    between = np.sqrt(compute[1:] * compute[:-1])
    size = best_size(between)
    wanted = loss(size, between / 6.0 / size)
    np.testing.assert_allclose(scale * curve.at(np.log(between)), wanted, atol=0.05)


def test_the_exponent_of_model_size():
    space = Space(
        size=Float(1e6, 1e10, log=True, guess=3e6, confidence=0.0),
        tokens=Float(1e7, 1e11, log=True, guess=6e7, confidence=0.0),
    )

    def measure(config):
        n, d = config["size"], config["tokens"]
        return {"loss": loss(n, d)}, 6.0 * n * d

    configs, losses, costs = run_trials(
        Carbs(candidates=200, max_cost=1e19), Problem(space), measure, seed=1, trials=70
    )
    front = np.flatnonzero(nondominated(np.column_stack([losses[:, 0], np.log(costs)])))
    slope = np.polyfit(np.log(costs[front]), np.log([configs[i]["size"] for i in front]), 1)[0]
    assert slope == pytest.approx(EXPONENT, abs=0.08)
