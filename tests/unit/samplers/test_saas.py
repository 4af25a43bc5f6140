"""A sampler with a sparse prior: it learns which parameters matter, and stays quick."""

from __future__ import annotations

import time

import pytest

from tunewright.bench.functions import function_task
from tunewright.bench.simulate import simulate
from tunewright.core.algorithm import generator
from tunewright.core.events import Ended, Started
from tunewright.errors import ConfigError
from tunewright.samplers.random import Random
from tunewright.samplers.saas import Saas


def test_it_beats_random_search_where_few_of_many_parameters_matter_and_asks_quickly():
    task = function_task("sphere", 3, idle=57)
    began = time.process_time()
    ours = simulate(Saas(), task, trials=45)
    assert (time.process_time() - began) / 45 < 0.2
    assert ours.incumbent[-1] < 0.2 * simulate(Random(), task, trials=45).incumbent[-1]


def test_the_reason_names_the_number_of_active_parameters():
    task = function_task("sphere", 2, idle=18)
    saas = Saas(initial=10)
    state = saas.init(task.problem)

    for i in range(25):
        config = task.problem.space.decode(task.problem.space.sample(generator(1, i), 1)[0])
        loss = float(task.curve(config)[0][0])
        state = saas.tell(state, [Started(i, config), Ended(i, 0, "completed", {"loss": loss})])
    (start,) = saas.ask(state, 1, generator(0, 0))
    assert 1 <= start.why["active"] <= 6


@pytest.mark.parametrize("settings", [{"initial": 0}, {"candidates": 0}])
def test_settings_out_of_range_are_refused(settings):
    with pytest.raises(ConfigError, match="Saas needs"):
        Saas(**settings)
