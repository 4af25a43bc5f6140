import numpy as np
import pytest

from tunewright.bench.functions import FUNCTIONS, function_task
from tunewright.errors import ConfigError


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_optimum_is_where_it_is_said_to_be(name):
    function = FUNCTIONS[name]
    for d in (function.d,) if function.d else (2, 5):
        at = function.at(d)
        assert function.value(at) == pytest.approx(function.least(d), abs=1e-5)
        rng = np.random.default_rng(0)
        near = [function.value(at + 1e-3 * rng.standard_normal(d)) for _ in range(20)]
        far = [function.value(rng.uniform(function.low, function.high, d)) for _ in range(200)]
        assert min(near + far) >= function.least(d) - 1e-6


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_task_measures_regret_from_the_optimum(name):
    task = function_task(name, 0 if FUNCTIONS[name].d else 4)
    assert task.best < task.usual
    losses = [task.curve(task.problem.space.draw(np.random.default_rng(s)))[0][0] for s in range(50)]
    assert min(losses) >= task.best
    assert 0.2 < np.mean(np.array(losses) < task.usual) < 0.8


def test_moved_optima_lie_inside_and_idle_parameters_do_nothing():
    task = function_task("sphere", 3, idle=4, moved=5)
    assert task.problem.space.d == 7
    space = task.problem.space
    base = space.draw(np.random.default_rng(1))
    effects = []
    for name in base:
        changed = {**base, name: -base[name]}
        effects.append(task.curve(changed)[0][0] != task.curve(base)[0][0])
    assert sum(effects) == 3
    with pytest.raises(ConfigError, match="branin"):
        function_task("branin", 3)
