"""CMA-ES as a fold of the log: generations, guesses, options, margin, restarts."""

from __future__ import annotations

import time

import numpy as np
import pytest

from tunewright.bench.functions import function_task
from tunewright.bench.simulate import simulate
from tunewright.core.algorithm import generator
from tunewright.core.domains import Choice, Float, Int
from tunewright.core.events import Ended, Started
from tunewright.core.problem import Problem
from tunewright.core.space import Space
from tunewright.errors import ConfigError
from tunewright.samplers.cmaes import Cmaes

MIXED = Space(x=Float(0, 1), y=Float(0, 1), n=Int(0, 9), c=Choice(["a", "b", "c"]))


def played(algorithm, space, loss, trials, workers=1, seed=0):
    """The state after so many trials, of which ``workers`` run at a time."""
    problem = Problem(space, seed=seed)
    state, configs, running = algorithm.init(problem), [], []
    while len(configs) < trials:
        for action in algorithm.ask(state, workers - len(running), generator(seed, len(configs))):
            number = len(configs)
            configs.append(action.config)
            state = algorithm.tell(state, [Started(number, action.config)])
            running.append(number)
        number = running.pop(0)
        value = loss(configs[number])
        end = Ended(number, 0, "failed") if value is None else Ended(number, 0, "completed", {"loss": value})
        state = algorithm.tell(state, [end])
    return state, configs


def bowl(config):
    return (
        (config["x"] - 0.3) ** 2
        + (config["y"] - 0.6) ** 2
        + (config["n"] / 9 - 0.7) ** 2
        + (config["c"] != "b")
    )


def test_a_full_generation_updates_the_distribution():
    cmaes = Cmaes(size=6)
    state, _ = played(cmaes, MIXED, bowl, 5)
    assert state.normal.updates == 0
    state, _ = played(cmaes, MIXED, bowl, 6)
    assert state.normal.updates == 1
    assert state.arrived == []


def test_what_is_learned_from_is_what_was_drawn_before_rounding():
    cmaes = Cmaes(size=6)
    state, configs = played(cmaes, MIXED, bowl, 3)
    codes = state.population.history.codes
    for trial, point in enumerate(state.points):
        assert point[:2] == pytest.approx(codes[trial, :2])
        assert min(int(point[2] * 10), 9) == configs[trial]["n"]
    assert any(abs(p[2] - codes[t, 2]) > 1e-3 for t, p in enumerate(state.points))


def test_a_configuration_from_elsewhere_counts_by_its_codes():
    cmaes = Cmaes()
    state = cmaes.init(Problem(MIXED))
    state = cmaes.tell(state, [Started(0, {"x": 0.123, "y": 0.9, "n": 0, "c": "a"})])
    epoch, point = state.drawn[0]
    assert epoch == 0
    assert point[:2] == pytest.approx([0.123, 0.9])


def test_numbers_levels_and_options_are_found_with_workers_in_parallel():
    state, _ = played(Cmaes(), MIXED, bowl, 200, workers=7)
    assert state.normal.mean[:2] == pytest.approx([0.3, 0.6], abs=0.1)
    assert int(np.argmax(state.options.chances[0])) == 1


def test_failures_carry_no_weight():
    state, _ = played(Cmaes(size=6), MIXED, lambda c: None, 12)
    assert state.normal.updates == 0
    assert state.normal.mean[:2].tolist() == [0.5, 0.5]


def test_it_starts_at_the_guesses_with_smaller_steps():
    space = Space(
        x=Float(0, 1, guess=0.9, confidence=1 - 1e-9), c=Choice(["a", "b"], guess="b", confidence=0.8)
    )
    state = Cmaes().init(Problem(space))
    assert state.normal.mean[0] == pytest.approx(0.9)
    assert state.normal.sigma == pytest.approx(0.09)
    # By hand: the other option keeps 1 - 0.73 in a single column, more than the (1 - 0.8) / 2 that the guess leaves it.
    assert state.options.chances[0][1] == pytest.approx(0.73)


def test_the_margin_keeps_neighbouring_levels_alive():
    def drift(config):
        return (config["x"] - 0.3) ** 2 + 0.01 * config["n"]

    space = Space(x=Float(0, 1), n=Int(0, 9))
    for margin in (True, False):
        _, configs = played(Cmaes(margin=margin, restart=False), space, drift, 250)
        late = {c["n"] for c in configs[-60:]}
        assert (len(late) > 1) == margin


def test_a_converged_search_begins_again_with_larger_generations():
    space = Space(x=Float(0, 1), y=Float(0, 1))
    state, _ = played(Cmaes(), space, lambda c: (c["x"] - 0.3) ** 2 + (c["y"] - 0.6) ** 2, 500)
    assert state.restarts >= 1
    assert state.size == 6 * 2**state.restarts
    state, _ = played(Cmaes(restart=False), space, lambda c: (c["x"] - 0.3) ** 2 + (c["y"] - 0.6) ** 2, 500)
    assert state.restarts == 0


def test_settings_are_refused():
    with pytest.raises(ConfigError, match="size >= 4"):
        Cmaes(size=2)
    with pytest.raises(ConfigError, match="sigma <= 1"):
        Cmaes(sigma=0.0)


def test_two_hundred_parameters_are_quick():
    task = function_task("sphere", 200)
    began = time.process_time()
    trace = simulate(Cmaes(), task, trials=100)
    assert time.process_time() - began < 3.0
    assert trace.incumbent[-1] < trace.incumbent[5]
