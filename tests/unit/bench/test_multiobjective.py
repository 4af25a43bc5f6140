"""Known fronts: points of the front lie on it, others do not beat it, and studies return what was measured."""

import math

import numpy as np
import pytest

from tunewright.bench.multiobjective import curve_of, front_task, run_trials
from tunewright.errors import ConfigError
from tunewright.samplers.random import Random


@pytest.mark.parametrize("name", ["zdt1", "zdt2", "zdt3", "zdt4", "zdt6"])
def test_the_best_points_lie_on_the_curve(name):
    task = front_task(name)
    x = np.full(task.problem.space.d, 0.5 if name == "zdt4" else 0.0)
    x[0] = 0.7
    f = task.losses(x)
    second = {
        "zdt3": 1 - math.sqrt(0.7) - 0.7 * math.sin(7 * math.pi),
        "zdt6": 1 - f[0] ** 2,
        "zdt2": 1 - 0.49,
    }
    assert f[1] == pytest.approx(second.get(name, 1 - math.sqrt(0.7)))
    assert task.share(curve_of(name)) == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize(("name", "m"), [("dtlz1", 2), ("dtlz1", 3), ("dtlz2", 2), ("dtlz2", 4)])
def test_the_best_points_lie_on_the_plane_or_the_sphere(name, m):
    task = front_task(name, m=m)
    x = np.full(task.problem.space.d, 0.5)
    x[: m - 1] = np.linspace(0.2, 0.7, m - 1)
    f = task.losses(x)
    total = f.sum() / 0.5 if name == "dtlz1" else f @ f
    assert total == pytest.approx(1.0)
    assert len(f) == m
    x[-1] = 0.6
    assert (task.losses(x) >= f).all()


def test_a_study_returns_what_was_measured():
    task = front_task("zdt1", 3)
    configs, losses, costs = run_trials(Random(), task.problem, task.measure, seed=1, trials=20, budget=7.0)
    assert len(configs) == 7
    assert costs.tolist() == [1.0] * 7
    np.testing.assert_allclose(losses[3], task.losses(np.array([configs[3][f"x{i}"] for i in range(3)])))
    _, broken, _ = run_trials(Random(), task.problem, lambda c: ({"f1": math.nan}, 1.0), seed=1, trials=2)
    assert np.isnan(broken).all()


@pytest.mark.parametrize("wrong", [("zdt9", 3, 2), ("zdt1", 3, 3), ("dtlz2", 2, 3)])
def test_impossible_problems_are_refused(wrong):
    with pytest.raises(ConfigError, match="A front must be one of"):
        front_task(*wrong)
