"""Optimism under outcome limits: bounds keep signs, feasible minima are found, and infeasibility ends the search."""

from __future__ import annotations

import numpy as np
import pytest

from tunewright.core.algorithm import generator
from tunewright.core.domains import Float
from tunewright.core.events import Ended, Started
from tunewright.core.problem import Limit, Problem
from tunewright.core.space import Space
from tunewright.errors import ConfigError
from tunewright.models.kernel import columns_of
from tunewright.samplers.config import Config, bound_of

SPACE = Space(x=Float(0, 1), y=Float(0, 1))


def study(limit, trials, config=None):
    """A study that minimises ``x + y`` while ``1 - x`` may not exceed ``limit``; returns configs."""
    config = config or Config()
    problem = Problem(SPACE, limits=(Limit("time", limit),), seed=1)
    state = config.init(problem)
    configs = []
    for i in range(trials):
        actions = config.ask(state, 1, generator(1, i))
        if not actions:
            break
        c = actions[0].config
        configs.append(c)
        metrics = {"loss": c["x"] + c["y"], "time": 1.0 - c["x"]}
        state = config.tell(state, [Started(i, c), Ended(i, 0, "completed", metrics)])
    return configs, config, state


def test_it_finds_the_minimum_that_the_limit_allows():
    configs, _, _ = study(0.4, 25)
    allowed = [c["x"] + c["y"] for c in configs if 1.0 - c["x"] <= 0.4]
    assert len(configs) == 25
    assert min(allowed) < 0.62


def test_limits_out_of_reach_end_the_search():
    configs, config, state = study(-0.5, 40)
    assert 8 <= len(configs) < 20
    assert config.ask(state, 3, generator(5, 5)) == ()


def test_a_feasible_trial_rules_the_finding_out():
    # The lowest time is 0; a limit of 0.02 leaves a sliver.
    configs, _, _ = study(0.02, 25)
    assert len(configs) == 25
    assert any(1.0 - c["x"] <= 0.02 for c in configs)


def test_a_bound_keeps_the_sign_of_the_margin():
    x = np.linspace(0.0, 1.0, 12)[:, None]
    columns = columns_of(np.zeros(1, dtype=np.int64), np.zeros(1, dtype=bool))
    bound = bound_of({}, columns, x, 1000.0 * (x[:, 0] - 0.25))
    at = bound.lower(np.array([[0.05], [0.2], [0.35], [0.9]]), 1e-6)
    assert (at > 0.0).tolist() == [False, False, True, True]
    wider = bound.lower(np.array([[0.5]]), 3.0)
    assert wider < bound.lower(np.array([[0.5]]), 1.0)


def test_a_constant_metric_keeps_its_sign_too():
    x = np.linspace(0.0, 1.0, 5)[:, None]
    columns = columns_of(np.zeros(1, dtype=np.int64), np.zeros(1, dtype=bool))
    assert bound_of({}, columns, x, np.full(5, 7.0)).lower(x, 1e-6).min() > 0.5
    assert bound_of({}, columns, x, np.full(5, -7.0)).lower(x, 1e-6).max() < -0.5


@pytest.mark.parametrize("settings", [{"initial": 0}, {"deviations": 0.0}, {"candidates": 0}])
def test_settings_out_of_range_are_refused(settings):
    with pytest.raises(ConfigError, match="Config needs"):
        Config(**settings)
