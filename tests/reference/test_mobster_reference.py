"""Numbers of MOBSTER's, Hyper-Tune's and DyHPO's papers, and formulas computed another way."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tunewright.core.algorithm import Start, generator
from tunewright.core.domains import Float
from tunewright.core.events import Event, Paused, Reported, Started
from tunewright.core.problem import Fidelity, Problem
from tunewright.core.space import Space
from tunewright.models.acquisition import log_expected_improvement
from tunewright.models.joint import level_kernel
from tunewright.models.staged import log_levels
from tunewright.samplers.random import Random
from tunewright.schedulers.asha import Asha
from tunewright.schedulers.dyhpo import budgets_of
from tunewright.schedulers.hypertune import Hypertune

PROBLEM = Problem(Space(x=Float(0, 1)), fidelity=Fidelity(27))


@pytest.mark.parametrize("length", [-1.0, 0.0, 1.0])
def test_the_decay_kernel_is_the_integral_over_exponential_curves(length: float) -> None:
    """Swersky, Snoek and Adams 2014, arXiv:1406.3896, eq. 5: the integral of exp(-l (t + t')) over l.

    With a gamma density of shape 1 and rate b it is b / (t + t' + b).
    """
    levels = log_levels((1, 3, 9, 27, 81))
    v = np.array([50.0, 0.0, length])
    found = level_kernel(levels, v, "decay")
    resource, b = np.expm1(4.0 * levels) / np.expm1(4.0), 0.1 * math.exp(length)
    nodes, weights = np.polynomial.legendre.leggauss(200)
    for i in range(5):
        for j in range(5):
            # With u = exp(-b l) the integral runs from 0 to 1.
            u = 0.5 * (nodes + 1.0)
            integral = float(np.sum(0.5 * weights * u ** ((resource[i] + resource[j]) / b)))
            assert found[i, j] == pytest.approx(integral, abs=2e-4)


def test_the_matern_kernel_of_levels_has_its_published_values() -> None:
    """Rasmussen and Williams 2006, eq. 4.17: (1 + sqrt(5) r + 5 r^2 / 3) exp(-sqrt(5) r) is 0.5240 at r = 1."""
    found = level_kernel(np.array([0.0, 1.0]), np.array([50.0, 0.0, 0.0]), "matern")
    assert found[0, 1] == pytest.approx(0.52399, abs=1e-5)


def told(method: Asha | Hypertune, losses: list[float]) -> list[type]:
    state = method.init(PROBLEM)
    events: list[Event] = []
    for i, value in enumerate(losses):
        events += [Started(i, {"x": 0.5}, 1), Reported(i, 1, 1, {"loss": value}), Paused(i, 1, 1)]
    state = method.tell(state, events)  # type: ignore[arg-type]
    return [type(a) for a in method.ask(state, 9, generator(0, 0))]  # type: ignore[arg-type]


@pytest.mark.parametrize(("n", "promoted"), [(2, 0), (3, 1), (5, 1), (6, 2), (9, 3)])
def test_promotions_of_dasha(n: int, promoted: int) -> None:
    """Li et al. 2022, section 4.2: a promotion needs |D_k| / (|D_(k+1)| + 1) >= eta, here for eta = 3."""
    kinds = told(Hypertune(Random()), [float(i) for i in range(n)])
    assert sum(k is not Start for k in kinds) == promoted


def test_bracket_weights_are_trust_over_cost() -> None:
    """Li et al. 2022, section 4.1: w_i = c_i theta_i / sum, c_i the inverse of the resource; equal theta gives 27:9:3:1."""
    weights = Hypertune(Random()).weights(Hypertune(Random()).init(PROBLEM))
    np.testing.assert_allclose(weights, np.array([27, 9, 3, 1]) / 40)


def test_budgets_of_dyhpo() -> None:
    """Wistuba et al. 2022, section 6: LCBench in steps of one epoch up to 50."""
    assert budgets_of(1, 50, 50) == tuple(range(1, 51))


def test_expected_improvement_has_its_tabled_value() -> None:
    """Jones, Schonlau and Welch 1998, eq. 15: for mean = best and unit deviation it is the density at 0, 0.39894."""
    value = log_expected_improvement(np.zeros(1), np.ones(1), 0.0)[0]
    assert math.exp(value) == pytest.approx(1.0 / math.sqrt(2.0 * math.pi), rel=1e-9)
