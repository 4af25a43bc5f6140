"""Grids against scikit-learn's parameter grids and NumPy's sequences of numbers."""

from __future__ import annotations

import numpy as np
import pytest

from tunewright.core.algorithm import generator
from tunewright.core.domains import Bool, Choice, Float, Int
from tunewright.core.events import Started
from tunewright.core.problem import Problem
from tunewright.core.space import Space
from tunewright.samplers.grid import Grid


def tried(grid: Grid, space: Space) -> list[dict[str, object]]:
    """Everything that the grid proposes until it has nothing left, three at a time."""
    state = grid.init(Problem(space, seed=7))
    configs: list[dict[str, object]] = []
    while actions := grid.ask(state, 3, generator(7, len(configs))):
        for action in actions:
            state = grid.tell(state, [Started(len(configs), action.config)])
            configs.append(action.config)
    return configs


def keys(configs) -> list[tuple]:
    return sorted(tuple(sorted((k, repr(v)) for k, v in c.items())) for c in configs)


@pytest.mark.parametrize("shuffle", [False, True])
def test_flat_spaces_have_the_points_of_scikit_learn(shuffle):
    selection = pytest.importorskip("sklearn.model_selection")
    space = Space(a=Choice(["u", "v", "w"]), n=Int(1, 4), flag=Bool())
    theirs = selection.ParameterGrid({"a": ["u", "v", "w"], "n": [1, 2, 3, 4], "flag": [False, True]})
    found = tried(Grid(shuffle=shuffle), space)
    assert len(found) == 24
    assert keys(found) == keys(theirs)


def test_conditional_spaces_have_the_points_of_a_list_of_grids():
    # The first example of scikit-learn's guide to GridSearchCV: a linear kernel has no gamma.
    selection = pytest.importorskip("sklearn.model_selection")
    space = Space(
        C=Choice([1, 10, 100, 1000]),
        kernel=Choice({"linear": None, "rbf": {"gamma": Choice([0.001, 0.0001])}}),
    )
    theirs = selection.ParameterGrid(
        [
            {"C": [1, 10, 100, 1000], "kernel": ["linear"]},
            {"C": [1, 10, 100, 1000], "gamma": [0.001, 0.0001], "kernel": ["rbf"]},
        ]
    )
    found = tried(Grid(), space)
    assert len(found) == 12
    plain = [{k.split(".")[-1]: v for k, v in c.items()} for c in found]
    assert keys(plain) == keys(theirs)


@pytest.mark.parametrize("resolution", [2, 5, 11])
def test_continuous_parameters_get_numpys_values(resolution):
    straight = [c["x"] for c in tried(Grid(resolution=resolution), Space(x=Float(-2.0, 3.0)))]
    assert straight == pytest.approx(np.linspace(-2.0, 3.0, resolution))
    powers = [c["x"] for c in tried(Grid(resolution=resolution), Space(x=Float(1e-5, 10.0, log=True)))]
    assert powers == pytest.approx(np.geomspace(1e-5, 10.0, resolution), rel=1e-9)
