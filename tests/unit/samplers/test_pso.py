"""Particle swarms: places, velocities, leaders, and rounding by chance."""

from __future__ import annotations

import time

import numpy as np
import pytest

from tunewright.bench.functions import function_task
from tunewright.bench.simulate import simulate
from tunewright.core.algorithm import generator
from tunewright.core.domains import Choice, Float, Int
from tunewright.core.events import Ended, Started
from tunewright.core.problem import Limit, Objective, Problem
from tunewright.core.space import Space
from tunewright.errors import ConfigError
from tunewright.samplers.pso import INERTIA, PULL, Pso, moved, rounded

SPACE = Space(x=Float(0, 1), y=Float(0, 1))


class Fixed:
    """A generator whose uniform draws are all one half."""

    def random(self, shape):
        return np.full(shape, 0.5)


def fold(pso, rows, problem=None):
    state = pso.init(problem or Problem(SPACE))
    for i, (config, metrics) in enumerate(rows):
        end = Ended(i, 0, "failed") if metrics is None else Ended(i, 0, "completed", metrics)
        state = pso.tell(state, [Started(i, config), end])
    return state


def at(x, loss):
    return ({"x": x, "y": 0.5}, None if loss is None else {"loss": loss})


def test_a_step_is_inertia_and_two_pulls():
    x, v = np.array([0.5, 0.5]), np.array([0.1, 0.0])
    own, swarm = np.array([0.6, 0.5]), np.array([0.5, 0.7])
    after = moved(x, v, own, swarm, Fixed())
    assert after == pytest.approx([0.5 + INERTIA * 0.1 + PULL * 0.5 * 0.1, 0.5 + PULL * 0.5 * 0.2])


def test_a_step_ends_at_the_bounds():
    after = moved(np.array([0.9]), np.array([0.9]), np.array([1.0]), np.array([1.0]), Fixed())
    assert after.tolist() == [1.0]


def test_particles_keep_their_last_two_places_and_their_best():
    rows = [at(0.1, 1.0), at(0.2, 5.0), at(0.3, 2.0), at(0.4, 4.0), at(0.5, None), at(0.6, 9.0)]
    state = fold(Pso(size=2), rows)
    assert state.last == [4, 5]
    assert state.before == [2, 3]
    assert state.best == [0, 3]
    assert Pso(size=2)._leaders(state) == [0]


def test_a_particle_at_rest_at_the_best_place_stays():
    state = fold(Pso(size=2), [at(0.3, 0.0), at(0.8, 5.0), at(0.3, 0.0), at(0.8, 5.0)])
    config = Pso(size=2).ask(state, 1, generator(0, 0))[0].config
    assert config == pytest.approx({"x": 0.3, "y": 0.5})


def test_leaders_of_several_objectives_are_not_dominated_and_within_the_limits():
    problem = Problem(SPACE, (Objective("a"), Objective("b")), limits=(Limit("c", 1.0),))
    points = [(1, 9, 0), (9, 1, 0), (9, 9, 0), (0, 0, 5)]
    rows = [({"x": 0.5, "y": 0.5}, {"a": float(a), "b": float(b), "c": float(c)}) for a, b, c in points]
    pso = Pso(size=4)
    assert sorted(pso._leaders(fold(pso, rows, problem))) == [0, 1]


def test_levels_are_rounded_in_proportion():
    layout = Space(n=Int(0, 4), x=Float(0, 1), c=Choice(["a", "b"])).layout
    rng = np.random.default_rng(0)
    codes = np.array([0.35, 0.123, 0.25])
    drawn = np.array([rounded(codes, layout, rng) for _ in range(2000)])
    assert (drawn[:, 1:] == codes[1:]).all()
    # By hand: 0.35 lies a quarter of the way from the centre 0.3 to the centre 0.5.
    assert set(np.round(drawn[:, 0], 9)) == {0.3, 0.5}
    assert (drawn[:, 0] > 0.4).mean() == pytest.approx(0.25, abs=0.04)


def test_options_of_the_best_prevail():
    space = Space(x=Float(0, 1), c=Choice(["a", "b", "c"]))
    trial = {"x": 0.5, "c": "a"}, {"loss": 1.0}
    state = fold(Pso(size=2), [trial] * 4, Problem(space))
    drawn = [Pso(size=2).ask(state, 1, generator(s, 0))[0].config["c"] for s in range(400)]
    assert drawn.count("a") / 400 == pytest.approx(0.95, abs=0.04)


def test_settings_are_refused():
    with pytest.raises(ConfigError, match="size >= 2"):
        Pso(size=1)


def test_a_swarm_descends_and_two_hundred_parameters_are_quick():
    trace = simulate(Pso(), function_task("sphere", 4, moved=3), trials=250, workers=4)
    assert trace.incumbent[-1] < 0.02 * trace.incumbent[9]
    began = time.process_time()
    simulate(Pso(), function_task("sphere", 200), trials=100)
    assert time.process_time() - began < 3.0
