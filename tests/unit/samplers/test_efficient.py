"""Loss and time weighed: ends of the weight, what between, failures, limits, batches and settings."""

from __future__ import annotations

import numpy as np
import pytest

from tunewright.bench.multiobjective import run_trials
from tunewright.core.algorithm import generator
from tunewright.core.domains import Choice, Float, Int
from tunewright.core.events import Ended, Started
from tunewright.core.problem import Limit, Objective, Problem
from tunewright.core.space import Space
from tunewright.errors import ConfigError
from tunewright.samplers.efficient import Efficient

LINE = Problem(Space(x=Float(0, 1), y=Float(0, 1)))


def trade(config):
    """Loss is least at x = 0.9, time at x = 0.1; y = 0.5 is best for the loss and free."""
    loss = (config["x"] - 0.9) ** 2 + (config["y"] - 0.5) ** 2
    return {"loss": loss}, float(np.exp(4.0 * (config["x"] - 0.1) ** 2))


def late(weight, measure=trade, problem=LINE, trials=30, **settings):
    method = Efficient(weight=weight, candidates=150, **settings)
    configs = run_trials(method, problem, measure, seed=1, trials=trials)[0]
    return {k: np.median([c[k] for c in configs[-10:]]) for k in ("x", "y")}


def told(method, problem, outcomes):
    state = method.init(problem)
    for i, outcome in enumerate(outcomes):
        config = problem.space.decode(problem.space.sample(generator(3, i), 1)[0])
        end = (
            Ended(i, 0, "failed")
            if outcome is None
            else Ended(i, 0, "completed", {"loss": outcome}, cost=2.0)
        )
        state = method.tell(state, [Started(i, config), end])
    return state


def test_without_weight_the_loss_decides():
    found = late(0.0)
    assert found["x"] == pytest.approx(0.9, abs=0.1)
    assert found["y"] == pytest.approx(0.5, abs=0.1)


def test_with_all_the_weight_time_decides():
    assert late(1.0)["x"] == pytest.approx(0.1, abs=0.1)


def test_more_weight_means_less_time():
    places = [late(w)["x"] for w in (0.1, 0.5, 0.9)]
    assert places[0] > places[1] > places[2]


def test_an_objective_may_be_the_cost():
    problem = Problem(LINE.space, (Objective("loss"), Objective("flops")))

    def measure(config):
        metrics, seconds = trade(config)
        return {**metrics, "flops": seconds}, 1.0

    assert late(1.0, measure, problem, cost="flops")["x"] == pytest.approx(0.1, abs=0.1)


def test_limits_are_met():
    problem = Problem(LINE.space, limits=(Limit("memory", 0.0),))

    def measure(config):
        metrics, seconds = trade(config)
        return {**metrics, "memory": config["y"] - 0.3}, seconds

    assert late(0.0, measure, problem)["y"] <= 0.35


def test_regions_that_fail_are_left():
    def measure(config):
        metrics, seconds = trade(config)
        return ({}, seconds) if config["x"] > 0.6 else (metrics, seconds)

    assert late(0.0, measure)["x"] <= 0.65


def test_a_batch_is_not_in_one_place():
    method = Efficient(candidates=150)
    state = method.init(LINE)
    for i in range(12):
        config = LINE.space.decode(LINE.space.sample(generator(5, i), 1)[0])
        metrics, seconds = trade(config)
        state = method.tell(state, [Started(i, config), Ended(i, 0, "completed", metrics, cost=seconds)])
    batch = np.array([[a.config["x"], a.config["y"]] for a in method.ask(state, 4, generator(0, 12))])
    # A smooth loss leaves little to learn, yet a batch must not be one point over and over.
    assert len({tuple(row) for row in batch}) == 4
    assert np.ptp(batch, axis=0).max() > 0.1


@pytest.mark.parametrize("outcomes", [[1.0] * 12, [None] * 12, [1e300, -1e300] * 6, [None, 2.0] * 6])
def test_odd_losses_stop_nothing(outcomes):
    space = Space(x=Float(0, 1), n=Int(1, 5), c=Choice({"a": None, "b": {"z": Float(0, 1)}}))
    method = Efficient(candidates=20)
    state = told(method, Problem(space), outcomes)
    assert len({repr(a.config) for a in method.ask(state, 3, generator(1, 0))}) == 3


def test_every_configuration_once_then_none():
    problem = Problem(Space(a=Choice(["p", "q"]), n=Int(1, 4)))
    configs = run_trials(
        Efficient(candidates=20), problem, lambda c: ({"loss": float(c["n"])}, 1.0), seed=0, trials=12
    )[0]
    assert len(configs) == len({repr(c) for c in configs}) == 8


@pytest.mark.parametrize("setting", [{"weight": -0.1}, {"weight": 1.1}, {"initial": 0}, {"candidates": 0}])
def test_settings_out_of_range_are_refused(setting):
    with pytest.raises(ConfigError, match="Efficient needs weight in"):
        Efficient(**setting)


def test_a_cost_that_is_no_objective_is_refused():
    with pytest.raises(ConfigError, match="got 'flops'"):
        Efficient(cost="flops").init(LINE)
