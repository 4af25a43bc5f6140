"""The utility's expected improvement against closed forms by SciPy, and the best trade-off of a known one."""

from __future__ import annotations

import numpy as np
import pytest

from tunewright.bench.multiobjective import run_trials
from tunewright.core.algorithm import generator
from tunewright.core.domains import Float
from tunewright.core.events import Ended, Started
from tunewright.core.problem import Problem
from tunewright.core.space import Space
from tunewright.models.kernel import columns_of
from tunewright.models.metric import metric_of
from tunewright.samplers.efficient import Efficient

special = pytest.importorskip("scipy.special")
LINE = Problem(Space(x=Float(0, 1)))


@pytest.mark.parametrize("weight", [0.0, 0.3, 0.8, 1.0])
def test_expected_improvement_of_the_weighted_sum(weight):
    # A sum of independent normals is normal; expected improvement of a normal: Jones, Schonlau and Welch 1998, eq. 15.
    x = np.linspace(0.02, 0.98, 12)
    losses, seconds = np.sin(7.0 * x), np.exp(x**2 - x)
    method = Efficient(weight=weight)
    state = method.init(LINE)
    for i, (at, loss, cost) in enumerate(zip(x, losses, seconds, strict=True)):
        end = Ended(i, 0, "completed", {"loss": float(loss)}, cost=float(cost))
        state = method.tell(state, [Started(i, {"x": float(at)}), end])
    action = method.ask(state, 1, generator(0, 12))[0]
    columns = columns_of(np.zeros(1, dtype=np.int64), np.zeros(1, dtype=np.bool_))
    loss_of = metric_of({}, columns, x[:, None], losses)
    time_of = metric_of({}, columns, x[:, None], np.log(seconds))
    at = np.array([[action.config["x"]]])
    known = (1.0 - weight) * loss_of.predict(x[:, None])[0] + weight * time_of.predict(x[:, None])[0]
    (m1, s1), (m2, s2) = loss_of.predict(at), time_of.predict(at)
    mean, std = (1.0 - weight) * m1 + weight * m2, np.hypot((1.0 - weight) * s1, weight * s2)
    z = (known.min() - mean) / std
    gain = std * (z * special.ndtr(z) + np.exp(-0.5 * z**2) / np.sqrt(2.0 * np.pi))
    assert action.why["log_ei"] == pytest.approx(float(np.log(gain)[0]), abs=2e-3)


def test_the_best_trade_off_of_a_power_law():
    # Loss 1 / s and time s with s = e^(4 x): both in units of their standard deviations over the trials, the utility
    # (1 - w) e^(-4 x) / a + 4 w x / b is least where e^(-4 x) = (w / (1 - w)) (a / b), its derivative being zero.
    weight = 0.4

    def measure(config):
        size = float(np.exp(4.0 * config["x"]))
        return {"loss": 1.0 / size}, size

    configs, losses, costs = run_trials(Efficient(weight=weight), LINE, measure, seed=3, trials=25)
    a, b = losses[:, 0].std(), np.log(costs).std()
    best = -np.log(weight / (1.0 - weight) * a / b) / 4.0
    assert np.median([c["x"] for c in configs[-8:]]) == pytest.approx(best, abs=0.05)
