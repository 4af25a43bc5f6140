"""Optimism over weights: better than random search in many dimensions, and deterministic."""

from __future__ import annotations

import numpy as np
import pytest

from tunewright.bench.functions import function_task
from tunewright.bench.simulate import simulate
from tunewright.core.algorithm import generator
from tunewright.core.domains import Float
from tunewright.core.events import Ended, Started
from tunewright.core.problem import Problem
from tunewright.core.space import Space
from tunewright.errors import ConfigError
from tunewright.samplers.goucb import GoUcb


def test_it_follows_a_slope_in_twenty_parameters():
    space = Space({f"x{i}": Float(0, 1) for i in range(20)})
    goucb = GoUcb()
    state = goucb.init(Problem(space))
    losses = []
    for i, row in enumerate(space.sample(generator(0, 0), 40)):
        losses.append(float(row.sum()))
        end = Ended(i, 0, "completed", {"loss": losses[-1]})
        state = goucb.tell(state, [Started(i, space.decode(row)), end])
    (start,) = goucb.ask(state, 1, generator(0, 1))
    # Uniform draws have a mean of 10 and a deviation of 1.3.
    assert sum(start.config.values()) < min(losses)


def test_several_workers_do_not_get_the_same_configuration():
    trace = simulate(GoUcb(initial=4), function_task("sphere", 3), trials=20, workers=5)
    places = {tuple(np.round(list(t.config.values()), 9)) for t in trace.ledger.trials}
    assert len(places) == 20


@pytest.mark.parametrize("settings", [{"initial": 0}, {"hidden": 0}, {"deviations": -1.0}, {"candidates": 0}])
def test_settings_out_of_range_are_refused(settings):
    with pytest.raises(ConfigError, match="GoUcb needs"):
        GoUcb(**settings)
