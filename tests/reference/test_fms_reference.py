"""The deep kernel against scikit-learn's processes, and the budgets' best losses against a case worked by hand.

scikit-learn 1.9.1, ``GaussianProcessRegressor`` with fixed hyperparameters on the features that the network computes.
"""

from __future__ import annotations

import numpy as np
import pytest

from tunewright.core.domains import Float
from tunewright.core.events import Paused, Reported, Started
from tunewright.core.problem import Fidelity, Problem
from tunewright.core.space import Space
from tunewright.models import deep_kernel
from tunewright.models.forecast import Examples


def test_posterior_and_marginal_likelihood_are_those_of_scikit_learn() -> None:
    process = pytest.importorskip("sklearn.gaussian_process")
    kernels = process.kernels
    rng = np.random.default_rng(4)
    x, q = rng.normal(size=(40, 6)), rng.normal(size=(15, 6))
    y = np.sin(x[:, 0]) + x[:, 1] * x[:, 2]
    kernel = deep_kernel.fit(x, y)
    curved, straight, noise = np.exp(kernel.parameters.logs)
    theirs = process.GaussianProcessRegressor(
        kernels.ConstantKernel(curved) * kernels.RBF(1.0)
        + kernels.ConstantKernel(straight) * kernels.DotProduct(1e-9),
        alpha=noise,
        optimizer=None,
    ).fit(kernel.features(x), y - y.mean())
    mean, std = theirs.predict(kernel.features(q), return_std=True)
    posterior = deep_kernel.condition(kernel, x, y)
    ours, width = deep_kernel.predict(posterior, q)
    assert ours - y.mean() == pytest.approx(mean, abs=1e-6)
    assert width == pytest.approx(std, rel=1e-5)
    inputs = np.clip((x - kernel.middle) / kernel.width, -4, 4)
    value, _ = deep_kernel.loss_and_gradient(
        kernel.parameters, inputs, y - y.mean(), kernel.parameters.scales
    )
    prior = 0.5 * ((np.log(noise) + 2.0) / 1.5) ** 2
    likelihood = -(value * 40 - prior) - 20 * np.log(2 * np.pi)
    assert likelihood == pytest.approx(theirs.log_marginal_likelihood_value_, rel=1e-6)


def test_what_is_to_be_improved_on_is_the_best_of_the_budget_or_of_all_where_none_is_known() -> None:
    """Wistuba et al. 2022, eq. 4, for losses: trials at 1, 2, 3 steps with losses 5 4 3, 6 2, 1."""
    made = Examples.of(Problem(Space(x=Float(0, 1)), fidelity=Fidelity(9)), 1, 0.0, "")
    for trial, losses in enumerate(([5.0, 4.0, 3.0], [6.0, 2.0], [1.0])):
        made.apply(Started(trial, {"x": 0.1 * trial}, len(losses)))
        for step, loss in enumerate(losses, 1):
            made.apply(Reported(trial, 0, step, {"loss": loss}))
        made.apply(Paused(trial, 0, len(losses)))
    assert made.best(np.array([1, 2, 3, 4, 9])).tolist() == [1.0, 2.0, 3.0, 1.0, 1.0]
