"""Hypervolume Bayesian optimisation: fronts are found, limits met, awaited trials kept away from."""

import numpy as np
import pytest

from tunewright.bench.multiobjective import front_task, run_trials
from tunewright.core.algorithm import generator
from tunewright.core.domains import Choice, Float
from tunewright.core.events import Ended, Started
from tunewright.core.problem import Limit, Objective, Problem
from tunewright.core.space import Space
from tunewright.errors import ConfigError
from tunewright.samplers.ehvi import Ehvi
from tunewright.samplers.random import Random


@pytest.mark.parametrize(("name", "m"), [("zdt1", 2), ("dtlz2", 3)])
def test_it_dominates_more_than_random_search_with_twice_the_trials(name, m):
    task = front_task(name, 4, m)
    ours = run_trials(Ehvi(candidates=150), task.problem, task.measure, seed=1, trials=35)[1]
    theirs = run_trials(Random(), task.problem, task.measure, seed=1, trials=70)[1]
    assert task.share(ours) > task.share(theirs) + 0.02


def test_limits_are_met():
    space = Space(x=Float(0, 1), y=Float(0, 1), kind=Choice(["a", "b"]))
    problem = Problem(space, (Objective("f"), Objective("g", "maximize")), limits=(Limit("h", 0.0),))

    def measure(c):
        bad = 0.5 * (c["kind"] == "b")
        return {"f": c["x"] + bad, "g": c["x"] - c["y"] - bad, "h": 0.6 - c["x"]}, 1.0

    configs, losses, _ = run_trials(Ehvi(candidates=150), problem, measure, seed=1, trials=35)
    late = configs[-15:]
    assert sum(c["x"] > 0.55 for c in late) >= 12
    assert sum(c["kind"] == "a" for c in late) >= 12
    assert losses[:, 1].min() < -0.8


def test_awaited_trials_are_kept_away_from():
    task = front_task("zdt2", 2)
    method = Ehvi(candidates=150)
    state = method.init(task.problem)
    rng = np.random.default_rng(0)
    for i in range(12):
        config = task.problem.space.draw(rng)
        state = method.tell(state, [Started(i, config), Ended(i, 0, "completed", task.measure(config)[0])])
    batch = np.array([[a.config["x0"], a.config["x1"]] for a in method.ask(state, 4, generator(0, 12))])
    apart = np.abs(batch[:, None] - batch[None]).max(axis=2) + np.eye(4)
    assert apart.min() > 0.02


def test_a_given_reference_leaves_out_what_lies_beyond():
    problem = Problem(Space(x=Float(0, 1)), (Objective("f"), Objective("g", "maximize")))
    method = Ehvi(candidates=100, reference=(0.3, 0.0))
    configs, _, _ = run_trials(
        method, problem, lambda c: ({"f": c["x"], "g": c["x"] - 0.1}, 1.0), seed=1, trials=20
    )
    assert sum(0.05 < c["x"] < 0.35 for c in configs[8:]) >= 9


@pytest.mark.parametrize(
    "settings", [{"initial": 0}, {"candidates": 0}, {"belief": -1.0}, {"reference": (np.inf,)}]
)
def test_settings_out_of_range_are_refused(settings):
    with pytest.raises(ConfigError, match="Ehvi needs"):
        Ehvi(**settings)


def test_a_reference_of_another_length_is_refused():
    with pytest.raises(ConfigError, match="for each of 1 objectives; got 2"):
        Ehvi(reference=(1.0, 2.0)).init(Problem(Space(x=Float(0, 1))))
