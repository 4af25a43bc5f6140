"""Losses on a log scale and neighbours by hand, and the sampler on spaces with branches and with nothing to learn."""

from __future__ import annotations

import numpy as np
import pytest

from tunewright.bench.functions import function_task
from tunewright.bench.simulate import simulate
from tunewright.core.algorithm import generator
from tunewright.core.domains import Bool, Choice, Float, Int
from tunewright.core.events import Ended, Started
from tunewright.core.problem import Problem
from tunewright.core.space import Space
from tunewright.errors import ConfigError
from tunewright.samplers.random import Random
from tunewright.samplers.smac import STEPS, Smac, log_scaled, one_exchange

SPACE = Space(x=Float(0, 1), n=Int(1, 5), c=Choice({"a": None, "b": {"z": Float(0, 1)}, "d": None}))


def told(smac, problem, outcomes):
    state = smac.init(problem)
    for i, outcome in enumerate(outcomes):
        row = problem.space.sample(generator(3, i), 1)[0]
        state = smac.tell(state, [Started(i, problem.space.decode(row))])
        end = Ended(i, 0, "failed") if outcome is None else Ended(i, 0, "completed", {"loss": outcome})
        state = smac.tell(state, [end])
    return state


def test_losses_on_a_log_scale():
    # Unit losses 0, 0.1, ..., 1: the fifth percentile is 0.05, so 0 maps to log(0.05 / 1.05).
    y = log_scaled(np.arange(11.0) + 7.0)
    np.testing.assert_allclose(y, np.log((np.arange(11) / 10 + 0.05) / 1.05))
    assert y[-1] == 0.0


def test_ties_at_the_best_stay_finite():
    y = log_scaled(np.array([0.0] * 30 + [1.0]))
    assert np.all(np.isfinite(y))
    assert y[0] < y[-1]


def test_neighbours_differ_in_one_active_parameter():
    rows = np.array([[0.5, 0.5, 0.5, 0.3], [0.5, 0.5, 0.1, np.nan]])
    beside, owner = one_exchange(rows, SPACE, np.random.default_rng(0))
    # Four steps per active number, two other options: 3 numbers and 2 numbers.
    assert np.bincount(owner).tolist() == [3 * STEPS + 2, 2 * STEPS + 2]
    for row, i in zip(beside, owner, strict=True):
        active = ~np.isnan(rows[i])
        assert np.count_nonzero(row[active] != rows[i][active]) == 1
    assert np.all((beside >= 0.0) & (beside <= 1.0))


def test_numbers_with_levels_change_by_a_level_at_least():
    row = np.array([[0.5, 0.5, 0.1, np.nan]])
    for seed in range(20):
        beside, _ = one_exchange(row, SPACE, np.random.default_rng(seed))
        changed = beside[:, 1] != 0.5
        assert np.all(np.abs(beside[changed, 1] - 0.5) >= 0.2 - 1e-12)


def test_it_finds_more_than_random_search():
    task = function_task("branin")
    ours = [simulate(Smac(), task, seed=s, trials=50).incumbent[-1] for s in range(4)]
    theirs = [simulate(Random(), task, seed=s, trials=50).incumbent[-1] for s in range(4)]
    assert np.mean(ours) < np.mean(theirs)


def test_some_trials_are_random_and_most_are_not():
    state = told(Smac(), Problem(SPACE), list(np.linspace(0, 1, 12)))
    whys = [Smac(candidates=5).ask(state, 1, generator(1, k))[0].why for k in range(120)]
    assert 2 <= sum("random" in w for w in whys) <= 25


def test_a_batch_holds_no_configuration_twice():
    state = told(Smac(), Problem(SPACE), list(np.linspace(0, 1, 15)))
    configs = [repr(a.config) for a in Smac(candidates=40).ask(state, 12, generator(5, 0))]
    assert len(set(configs)) == 12


@pytest.mark.parametrize("outcomes", [[1.0] * 14, [None] * 14, [1e300, -1e300] * 7, [None, 2.0] * 7])
def test_odd_losses_stop_nothing(outcomes):
    state = told(Smac(), Problem(SPACE), outcomes)
    assert len(Smac(candidates=20).ask(state, 2, generator(1, 0))) == 2


def test_two_hundred_parameters_and_one():
    for space in (
        Space(x=Bool()),
        Space({f"x{i}": Float(0, 1) for i in range(200)}),
        Space(c=Choice(["one"])),
    ):
        state = told(Smac(), Problem(space), [3.0, 2.0, 1.0] * 4)
        actions = Smac(candidates=20).ask(state, 1, generator(1, 0))
        # A space of one configuration is exhausted, one of two as well.
        assert len(actions) == (space.d == 200)
        assert all(space.check(a.config) == a.config for a in actions)


def test_a_finite_space_is_tried_once_and_ends():
    problem = Problem(Space(a=Int(0, 3), b=Bool()))
    smac, seen = Smac(initial=3), []
    state = smac.init(problem)
    for i in range(20):
        actions = smac.ask(state, 1, generator(2, i))
        if not actions:
            break
        seen.append(repr(actions[0].config))
        state = smac.tell(
            state, [Started(i, actions[0].config), Ended(i, 0, "completed", {"loss": float(i % 3)})]
        )
    assert len(seen) == len(set(seen)) == 8


@pytest.mark.parametrize("setting", [{"initial": 0}, {"trees": 0}, {"candidates": 0}])
def test_settings_out_of_range_are_refused(setting):
    with pytest.raises(ConfigError, match="Smac needs initial >= 1"):
        Smac(**setting)
