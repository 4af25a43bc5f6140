import numpy as np
import pytest

from tunewright.bench.functions import FUNCTIONS, function_task, mixed_task
from tunewright.core.domains import Choice, Float, Int
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


@pytest.mark.parametrize("name", ["ackley", "levy", "styblinski_tang"])
def test_a_mixed_task_has_the_optimum_of_its_function(name):
    task = mixed_task(name, 0, 3, 3, moved=4)
    assert [type(c.domain) for c in task.problem.space.columns] == [Int] * 3 + [Choice] * 3
    space = task.problem.space
    found = space.decode(space.sample(np.random.default_rng(0), 1)[0])
    # Every parameter takes a level of its own at the minimum, so searching one after another, twice, must find it.
    for _ in range(3):
        for column in space.columns:
            domain = column.domain
            every = domain.options if isinstance(domain, Choice) else range(domain.low, domain.high + 1)
            found = min(({**found, column.name: v} for v in every), key=lambda c: task.curve(c)[0][0])
    assert task.curve(found)[0][0] == pytest.approx(task.best, abs=1e-5)
    assert task.usual > task.best


def test_every_parameter_of_a_mixed_task_matters():
    task = mixed_task("styblinski_tang")
    space = task.problem.space
    kinds = [type(c.domain) for c in space.columns]
    assert [kinds.count(k) for k in (Float, Int, Choice)] == [20, 20, 20]
    base, other = (space.draw(np.random.default_rng(s)) for s in (1, 2))
    changed = [n for n in base if base[n] != other[n]]
    assert len(changed) > 45
    before = task.curve(base)[0][0]
    assert all(task.curve({**base, n: other[n]})[0][0] != before for n in changed)
    assert mixed_task("styblinski_tang").curve(base)[0][0] == before


@pytest.mark.parametrize(
    "given", [("branin", 1, 1, 1), ("none", 1, 1, 1), ("ackley", 0, 0, 0), ("ackley", -1, 3, 3)]
)
def test_a_mixed_task_that_cannot_be_is_refused(given):
    with pytest.raises(ConfigError, match="mixed task"):
        mixed_task(*given)
