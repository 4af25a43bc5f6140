"""Regularised evolution: who lives, who wins a tournament, and what a mutation changes."""

from __future__ import annotations

import numpy as np
import pytest

from tunewright.core.algorithm import generator
from tunewright.core.domains import Bool, Choice, Float, Int
from tunewright.core.events import Ended, Started
from tunewright.core.problem import Problem
from tunewright.core.space import Space
from tunewright.errors import ConfigError
from tunewright.samplers.regularized import Regularized, one_change

SPACE = Space(x=Float(0, 1), n=Int(0, 4), c=Choice(["a", "b", "c"]), one=Choice(["only"]))


def fold(method, losses):
    state = method.init(Problem(SPACE))
    for i, loss in enumerate(losses):
        config = {"x": (0.1 + 0.37 * i) % 1, "n": i % 5, "c": "abc"[i % 3], "one": "only"}
        end = Ended(i, 0, "failed") if loss is None else Ended(i, 0, "completed", {"loss": loss})
        state = method.tell(state, [Started(i, config), end])
    return state


def test_the_oldest_dies_however_good():
    state = fold(Regularized(size=3, sample=2), [0.0, 5.0, 4.0, None, 6.0])
    assert list(state.members) == [2, 3, 4]


def test_without_ageing_the_worst_dies():
    state = fold(Regularized(size=3, sample=2, ageing=False), [0.0, 5.0, 4.0, None, 6.0])
    assert list(state.members) == [0, 1, 2]


def test_the_youngest_are_those_that_ended_last():
    method = Regularized(size=2, sample=1)
    state = method.init(Problem(SPACE))
    config = {"x": 0.5, "n": 1, "c": "a", "one": "only"}
    for i in range(3):
        state = method.tell(state, [Started(i, config)])
    for i in (2, 0, 1):
        state = method.tell(state, [Ended(i, 0, "completed", {"loss": 1.0})])
    assert list(state.members) == [0, 1]


def test_the_whole_population_as_a_sample_mutates_the_best():
    method = Regularized(size=4, sample=4)
    state = fold(method, [3.0, 0.0, 2.0, 1.0])
    best = state.population.history.configs[1]
    for seed in range(20):
        config = method.ask(state, 1, generator(seed, 0))[0].config
        assert sum(config[k] != best[k] for k in best) == 1


def test_a_change_is_one_active_column_and_at_least_a_level():
    rng = np.random.default_rng(0)
    row = SPACE.encode({"x": 0.5, "n": 2, "c": "b", "one": "only"})
    kinds = set()
    for _ in range(200):
        after = SPACE.snap(one_change(row, SPACE.layout, rng)[None])[0]
        changed = np.flatnonzero(after != row)
        assert len(changed) == 1
        kinds.add(int(changed[0]))
    assert kinds == {0, 1, 2}


def test_inactive_columns_are_not_what_is_mutated():
    space = Space(m=Choice({"deep": {"k": Float(0, 1)}, "flat": None}), b=Bool())
    row = space.encode({"m": "flat", "b": True})
    rng = np.random.default_rng(1)
    for _ in range(50):
        config = space.decode(space.snap(one_change(row, space.layout, rng)[None])[0])
        assert (config["m"] == "deep") != (config["b"] is False)


def test_nothing_to_change_changes_nothing():
    space = Space(c=Choice(["only"]))
    row = space.encode({"c": "only"})
    assert one_change(row, space.layout, np.random.default_rng(0)).tolist() == row.tolist()


def test_settings_are_refused():
    with pytest.raises(ConfigError, match="sample <= size"):
        Regularized(size=4, sample=5)
    with pytest.raises(ConfigError, match="size >= 2"):
        Regularized(size=1, sample=1)
