"""CARBS: the front's curve, the start, growth towards dear trials, bounds of the cost, failures and settings."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tunewright.bench.multiobjective import run_trials
from tunewright.core.algorithm import generator
from tunewright.core.domains import Choice, Float, Int
from tunewright.core.events import Ended, Started
from tunewright.core.problem import Objective, Problem
from tunewright.core.space import Space
from tunewright.errors import ConfigError
from tunewright.samplers.carbs import Carbs, Curve, centre_of, front_curve

SIZES = Problem(Space(size=Float(1.0, 1e6, log=True, guess=10.0, confidence=0.0), x=Float(0, 1)))


def power_law(config):
    """Loss falls with size, which is the cost; the best x is 0.6."""
    return {"loss": config["size"] ** -0.3 + (config["x"] - 0.6) ** 2}, config["size"]


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


def test_a_curve_between_its_points_and_beyond():
    curve = Curve(np.array([0.0, 2.0]), np.array([1.0, 0.0]))
    assert curve.at(np.array([-1.0, 0.5, 2.0, 9.0])).tolist() == [1.0, 0.75, 0.0, 0.0]


def test_two_members_make_a_line_that_never_rises():
    curve = front_curve({}, np.array([3.0, 1.0]), np.array([0.2, 0.1]))
    assert curve.costs.tolist() == [1.0, 3.0]
    assert curve.values.tolist() == [0.1, 0.1]


def test_a_front_of_many_members_falls_and_keeps_to_what_was_seen():
    costs = np.linspace(0.0, 5.0, 12)
    losses = 2.0 - 0.5 * costs
    curve = front_curve({}, costs, losses)
    assert np.all(np.diff(curve.values) <= 0.0)
    assert curve.values.min() >= losses.min()
    np.testing.assert_allclose(curve.at(costs), losses, atol=0.1)


def test_it_starts_at_the_guesses_or_in_the_middle():
    centre = centre_of(SIZES)
    assert centre == pytest.approx([1.0 / 6.0, 0.5])
    first = Carbs().ask(Carbs().init(SIZES), 1, generator(0, 0))[0].config
    assert first["size"] == pytest.approx(10.0)
    assert first["x"] == pytest.approx(0.5)


def test_it_grows_from_cheap_to_dear_trials():
    configs, losses, costs = run_trials(Carbs(candidates=150), SIZES, power_law, seed=1, trials=45)
    assert np.log10(costs[:5]).max() < 2.5
    assert costs.max() > 1e4
    late = [c["x"] for c in configs[-15:]]
    assert abs(np.median(late) - 0.6) < 0.15
    assert losses.min() < 0.1


def test_a_bound_of_the_cost_is_kept():
    _, _, costs = run_trials(Carbs(candidates=150, max_cost=300.0), SIZES, power_law, seed=1, trials=45)
    assert np.mean(costs[10:] < 400.0) > 0.9
    assert costs.max() > 100.0


def test_members_of_the_front_are_measured_again():
    configs, _, _ = run_trials(Carbs(candidates=60, resample=4), SIZES, power_law, seed=1, trials=20)
    again = [i for i, c in enumerate(configs) if c in configs[:i]]
    assert again == [7, 11, 15, 19]
    once, _, _ = run_trials(Carbs(candidates=60, resample=0), SIZES, power_law, seed=1, trials=20)
    assert len({repr(c) for c in once}) == 20


def test_regions_that_fail_are_left():
    def measure(config):
        metrics, cost = power_law(config)
        return ({}, cost) if config["x"] > 0.55 else (metrics, cost)

    configs, _, _ = run_trials(Carbs(candidates=150), SIZES, measure, seed=2, trials=40)
    assert sum(c["x"] > 0.55 for c in configs[-15:]) <= 5


def test_awaited_trials_are_kept_away_from():
    method = Carbs(candidates=300)
    state = method.init(SIZES)
    for i in range(16):
        config = SIZES.space.decode(SIZES.space.sample(generator(5, i), 1)[0])
        metrics, cost = power_law(config)
        state = method.tell(state, [Started(i, config), Ended(i, 0, "completed", metrics, cost=cost)])
    batch = method.ask(state, 3, generator(0, 16))
    rows = np.array([SIZES.space.encode(a.config) for a in batch])
    apart = np.abs(rows[:, None] - rows[None]).max(axis=2) + np.eye(3)
    assert apart.min() > 0.02


def test_an_objective_may_be_the_cost():
    problem = Problem(SIZES.space, (Objective("loss"), Objective("flops")))

    def measure(config):
        metrics, cost = power_law(config)
        return {**metrics, "flops": cost}, 1.0

    _, losses, _ = run_trials(Carbs(cost="flops", candidates=150), problem, measure, seed=1, trials=40)
    assert losses[:, 1].max() > 1e3


def test_a_batch_differs_and_mixed_spaces_work():
    space = Space(x=Float(0, 1), n=Int(1, 5), c=Choice({"a": None, "b": {"z": Float(0, 1)}}))
    method = Carbs(candidates=60)
    state = told(method, Problem(space), list(np.linspace(0, 1, 20)))
    batch = method.ask(state, 4, generator(0, 20))
    assert len({repr(a.config) for a in batch}) >= 3


@pytest.mark.parametrize("outcomes", [[1.0] * 12, [None] * 12, [1e300, -1e300] * 6, [None, 2.0] * 6])
def test_odd_losses_stop_nothing(outcomes):
    method = Carbs(candidates=20)
    state = told(method, SIZES, outcomes)
    for action in method.ask(state, 2, generator(1, 0)):
        assert math.isfinite(action.config["x"])
    assert len(method.ask(state, 2, generator(1, 0))) == 2


@pytest.mark.parametrize(
    "setting", [{"radius": 0.0}, {"initial": 0}, {"candidates": 0}, {"resample": 1}, {"max_cost": 0.0}]
)
def test_settings_out_of_range_are_refused(setting):
    with pytest.raises(ConfigError, match="Carbs needs"):
        Carbs(**setting)


def test_a_cost_that_is_no_objective_is_refused():
    with pytest.raises(ConfigError, match="got 'flops'"):
        Carbs(cost="flops").init(SIZES)
