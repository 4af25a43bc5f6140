"""Students and teachers: distinct, among the best, and only after the warm-up."""

from __future__ import annotations

import pytest

from tunewright.core.algorithm import generator
from tunewright.core.domains import Float
from tunewright.core.events import Ended, Started
from tunewright.core.problem import Objective, Problem
from tunewright.core.space import Space
from tunewright.errors import ConfigError
from tunewright.samplers.boss import Boss
from tunewright.samplers.random import Random

PROBLEM = Problem(Space(x=Float(0, 1)), (Objective("accuracy", "maximize"),))


def told(boss, accuracies):
    state = boss.init(PROBLEM)
    for i, accuracy in enumerate(accuracies):
        state = boss.tell(state, [Started(i, {"x": 0.5})])
        end = (
            Ended(i, 0, "failed", error="x")
            if accuracy is None
            else Ended(i, 0, "completed", {"accuracy": accuracy})
        )
        state = boss.tell(state, [end])
    return state


def test_trials_of_the_warm_up_stand_alone():
    boss = Boss(Random(), warmup=4, top=2)
    (start,) = boss.ask(told(boss, [0.1, 0.2, 0.3]), 1, generator(0, 0))
    assert start.parent is None
    assert "teacher" not in (start.why or {})


def test_students_and_teachers_are_two_of_the_best():
    boss = Boss(Random(), warmup=4, top=2)
    state = told(boss, [0.1, 0.9, None, 0.8, 0.3])
    pairs = set()
    for i in range(20):
        (start,) = boss.ask(state, 1, generator(0, i))
        assert start.parent == (start.why["student"], 0)
        pairs.add((start.why["student"], start.why["teacher"]))
    assert pairs == {(1, 3), (3, 1)}


def test_with_one_success_there_is_no_pair():
    boss = Boss(Random(), warmup=2, top=2)
    (start,) = boss.ask(told(boss, [0.5, None, None]), 1, generator(0, 0))
    assert start.parent is None


@pytest.mark.parametrize("settings", [{"warmup": 1}, {"top": 1}])
def test_settings_out_of_range_are_refused(settings):
    with pytest.raises(ConfigError, match="Boss needs"):
        Boss(Random(), **settings)
