"""Draws from quantiles: better than chance under noise, the last loss of partly trained trials, and odd losses."""

from __future__ import annotations

import numpy as np
import pytest

from tunewright.bench.functions import function_task
from tunewright.bench.simulate import simulate
from tunewright.core.algorithm import generator
from tunewright.core.domains import Bool, Choice, Float, Int
from tunewright.core.events import Ended, Paused, Reported, Started
from tunewright.core.problem import Fidelity, Problem
from tunewright.core.space import Space
from tunewright.errors import ConfigError
from tunewright.samplers.cqr import Cqr
from tunewright.samplers.random import Random
from tunewright.schedulers.asha import Asha
from tunewright.schedulers.halting import Halting
from tunewright.schedulers.hyperband import Hyperband

SPACE = Space(x=Float(0, 1), n=Int(1, 5), c=Choice({"a": None, "b": {"z": Float(0, 1)}}))


def told(cqr, problem, outcomes):
    state = cqr.init(problem)
    for i, outcome in enumerate(outcomes):
        row = problem.space.sample(generator(3, i), 1)[0]
        state = cqr.tell(state, [Started(i, problem.space.decode(row))])
        end = Ended(i, 0, "failed") if outcome is None else Ended(i, 0, "completed", {"loss": outcome})
        state = cqr.tell(state, [end])
    return state


def test_it_finds_more_than_random_search():
    task = function_task("branin")
    ours = [simulate(Cqr(), task, seed=s, trials=60).incumbent[-1] for s in range(4)]
    theirs = [simulate(Random(), task, seed=s, trials=60).incumbent[-1] for s in range(4)]
    assert np.mean(ours) < np.mean(theirs)


def test_partly_trained_trials_count_with_their_last_loss():
    space = Space(x=Float(0, 1))
    cqr = Cqr()
    state = cqr.init(Problem(space, fidelity=Fidelity(9)))
    for i in range(40):
        x = (0.5 + 0.618034 * i) % 1.0
        events = [Started(i, {"x": x}, 9)]
        # After one step every trial looks alike; after three the left half is better.
        events += [Reported(i, 0, 1, {"loss": 5.0}), Reported(i, 0, 3, {"loss": x}), Paused(i, 0, 3)]
        state = cqr.tell(state, events)
    chosen = [cqr.ask(state, 1, generator(4, k))[0].config["x"] for k in range(10)]
    assert np.median(chosen) < 0.3


def test_a_batch_differs():
    state = told(Cqr(), Problem(SPACE), list(np.linspace(0, 1, 40)))
    assert len({repr(a.config) for a in Cqr(candidates=60).ask(state, 10, generator(1, 0))}) == 10


@pytest.mark.parametrize("outcomes", [[1.0] * 40, [None] * 40, [1e300, -1e300] * 20, [None, 2.0] * 20])
def test_odd_losses_stop_nothing(outcomes):
    state = told(Cqr(), Problem(SPACE), outcomes)
    assert len(Cqr(candidates=20).ask(state, 2, generator(1, 0))) == 2


def test_many_parameters_and_one():
    for space in (
        Space(x=Bool()),
        Space({f"x{i}": Float(0, 1) for i in range(200)}),
        Space(c=Choice(["one"])),
    ):
        state = told(Cqr(), Problem(space), [3.0, 2.0, 1.0] * 4)
        actions = Cqr(candidates=20).ask(state, 1, generator(1, 0))
        # A space of one configuration is exhausted, one of two as well.
        assert len(actions) == (space.d == 200)
        assert all(space.check(a.config) == a.config for a in actions)


@pytest.mark.parametrize(
    "setting", [{"initial": 0}, {"quantiles": 4}, {"quantiles": 1}, {"candidates": 1}, {"held": 1.0}]
)
def test_settings_out_of_range_are_refused(setting):
    with pytest.raises(ConfigError, match="Cqr needs initial >= 1"):
        Cqr(**setting)


@pytest.mark.parametrize("scheduler", [Asha, Hyperband, Halting])
def test_inside_a_scheduler_one_model_learns_from_all_levels(scheduler):
    # Losses do not depend on the level, so that every trial tells where the best ones are.
    space = Space(x=Float(0, 1))
    method = scheduler(Cqr(candidates=200))
    state = method.init(Problem(space, fidelity=Fidelity(9)))
    assert len(state.panel.states) == 1
    events = []
    for i in range(40):
        x = (0.5 + 0.618034 * i) % 1.0
        # No level has more than fourteen results of its own trials; only together do they show the dip at 0.8.
        step = (1, 3, 9)[i % 3]
        events += [Started(i, {"x": x}, step), Reported(i, 0, step, {"loss": abs(x - 0.8)})]
        events.append(Ended(i, 0, "stopped", step=step))
    state.panel.apply(method.sampler, events)
    chosen = [state.panel.ask(method.sampler, 1, generator(4, k))[0].config["x"] for k in range(10)]
    assert abs(np.median(chosen) - 0.8) < 0.1
