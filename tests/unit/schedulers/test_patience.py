from __future__ import annotations

import math
from typing import Any

import pytest
from driving import LINE, Drive

from tunewright.core.algorithm import Stop
from tunewright.core.events import Ended, Reported, Started
from tunewright.core.problem import Fidelity, Limit, Objective, Problem
from tunewright.errors import ConfigError, UnsupportedError
from tunewright.samplers.random import Random
from tunewright.schedulers.patience import Patience

LONG = Problem(LINE, fidelity=Fidelity(100))


def drive(of: Problem = LONG, **settings: Any) -> Drive:
    """A study whose trial 0 leads, and whose trial 1 runs."""
    study = Drive(Patience(Random(), **settings), of)
    study.tell(Started(0, {"x": 0.5}), Reported(0, 1, 1, {"loss": 0.0, "size": 0.0}), Started(1, {"x": 0.5}))
    return study


def run(study: Drive, losses: list[float | None], trial: int = 1) -> int | None:
    """Reports losses step by step; returns the step at which the trial is to be stopped."""
    for step, loss in enumerate(losses, 1):
        metrics = {} if loss is None else {"loss": loss}
        study.tell(Reported(trial, 1, step, metrics, {"loss": "nan"} if loss is None else None))
        stops = [a for a in study.ask(0) if isinstance(a, Stop) and a.trial == trial]
        if stops:
            return step
    return None


def test_it_waits_so_many_steps_after_the_last_improvement() -> None:
    assert run(drive(patience=3), [9.0, 8.0, 8.0, 8.5, 8.0]) == 5
    assert run(drive(patience=3), [9.0, 8.0, 8.0, 8.5, 7.9, 9.0, 9.0]) is None


def test_small_improvements_do_not_count_but_add_up() -> None:
    assert run(drive(patience=3, min_delta=0.5), [9.0, 8.8, 8.7, 8.6]) == 4
    assert run(drive(patience=3, min_delta=0.5), [9.0, 8.8, 8.6, 8.4, 8.2, 8.0, 7.8]) is None


def test_steps_are_counted_not_reports() -> None:
    study = drive(patience=5)
    study.tell(Reported(1, 1, 1, {"loss": 1.0}), Reported(1, 1, 7, {"loss": 1.0}))
    assert study.ask(0) == (Stop(1, {"step": 7, "best": 1.0, "since": 1}),)


def test_what_diverges_or_says_nothing_does_not_improve() -> None:
    assert run(drive(patience=3), [None, None, None]) == 3
    study = drive(patience=3)
    study.tell(Reported(1, 1, 3, {"other": 1.0}))
    assert [a.trial for a in study.ask(0)] == [1]


def test_the_leader_is_trained_to_its_end() -> None:
    study = drive(patience=2)
    assert run(study, [3.0, 2.0, 1.0, 1.0, 1.0]) == 5
    leader = drive(patience=2)
    leader.tell(*(Reported(0, 1, s, {"loss": 5.0}) for s in range(2, 60)))
    assert leader.ask(0) == ()
    leader.tell(Reported(1, 1, 1, {"loss": -1.0}), Reported(0, 1, 60, {"loss": 5.0}))
    assert [a.trial for a in leader.ask(0)] == [0], "it leads no more"


def test_the_last_step_and_the_first_stop_nobody() -> None:
    short = Problem(LINE, fidelity=Fidelity(4, 3))
    assert run(drive(short, patience=1), [1.0, 1.0]) is None
    assert run(drive(short, patience=1), [1.0, 1.0, 1.0]) == 3
    study = drive(short, patience=1)
    study.tell(Reported(1, 1, 1, {"loss": 1.0}), Reported(1, 1, 4, {"loss": 1.0}))
    assert study.ask(0) == ()


def test_coming_closer_to_the_limits_is_an_improvement() -> None:
    bound = Problem(LINE, fidelity=Fidelity(100), limits=(Limit("size", 1.0),))
    study = drive(bound, patience=3)
    sizes = [9.0, 8.0, 7.0, 6.0, 6.0, 6.0]
    for step, size in enumerate(sizes, 1):
        study.tell(Reported(1, 1, step, {"loss": 1.0, "size": size}))
        assert study.ask(0) == ()
    study.tell(Reported(1, 1, 7, {"loss": 1.0, "size": 6.0}))
    assert [a.trial for a in study.ask(0)] == [1]


def test_a_fork_is_given_the_same_time() -> None:
    study = drive(patience=5)
    study.tell(Started(2, {"x": 0.5}, None, (0, 40)), Reported(2, 1, 41, {"loss": 9.0}))
    study.tell(Reported(2, 1, 45, {"loss": 9.0}))
    assert study.ask(0) == ()
    study.tell(Reported(2, 1, 46, {"loss": 9.0}), Ended(2, 1, "completed", {"loss": 9.0}, 46))
    assert study.ask(0) == (), "it ended before the verdict was carried out"


@pytest.mark.parametrize("value", [-0.1, math.inf, math.nan, "1", True])
def test_settings_are_checked(value: Any) -> None:
    with pytest.raises(ConfigError, match="finite min_delta >= 0"):
        Patience(Random(), min_delta=value)
    with pytest.raises(ConfigError, match="whole number patience >= 1"):
        Patience(Random(), patience=0)


def test_several_objectives_are_refused() -> None:
    with pytest.raises(UnsupportedError, match="needs one objective"):
        Patience(Random()).init(Problem(LINE, (Objective("a"), Objective("b")), Fidelity(9)))
