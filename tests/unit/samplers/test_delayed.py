"""Rounds end when enough of their trials have, need no results while they last, and leave what may be best."""

from __future__ import annotations

import numpy as np
import pytest

from tunewright.core.algorithm import generator
from tunewright.core.domains import Float
from tunewright.core.events import Ended, Started
from tunewright.core.problem import Problem
from tunewright.core.space import Space
from tunewright.errors import ConfigError
from tunewright.samplers.delayed import Delayed

PROBLEM = Problem(Space(x=Float(0, 1)))


def run(delayed, trials, loss, delay=1):
    """Trials one by one, each ending ``delay`` trials after it began; returns their places and the state."""
    state = delayed.init(PROBLEM)
    places = []
    for i in range(trials):
        (start,) = delayed.ask(state, 1, generator(0, i))
        places.append(start.config["x"])
        state = delayed.tell(state, [Started(i, start.config)])
        late = i - delay + 1
        if late >= 0:
            state = delayed.tell(state, [Ended(late, 0, "completed", {"loss": loss(places[late])})])
    return np.array(places), state


def test_a_round_waits_for_its_results_and_not_for_its_trials():
    _, soon = run(Delayed(horizon=25), 6, lambda x: x)
    assert (soon.present, soon.ended, soon.rounds) == (1, 1, [0] * 5 + [1])
    _, late = run(Delayed(horizon=25), 6, lambda x: x, delay=3)
    assert (late.present, late.ended, late.rounds) == (0, 4, [0] * 6)


def test_a_round_does_not_look_at_its_own_results():
    a, _ = run(Delayed(horizon=100), 10, lambda x: (x - 0.2) ** 2)
    b, _ = run(Delayed(horizon=100), 10, lambda x: -x)
    assert (a == b).all()
    # Pure exploration spreads: ten trials leave no gap of a quarter.
    assert np.diff(np.sort(np.concatenate([[0.0], a, [1.0]]))).max() < 0.25


def test_what_is_surely_worse_is_eliminated():
    places, _ = run(Delayed(horizon=60), 50, lambda x: (x - 0.2) ** 2)
    assert np.abs(places[-20:] - 0.2).max() < 0.2


@pytest.mark.parametrize("settings", [{"horizon": 0}, {"deviations": 0.0}, {"candidates": 0}])
def test_settings_out_of_range_are_refused(settings):
    with pytest.raises(ConfigError, match="Delayed needs"):
        Delayed(**settings)
