from __future__ import annotations

import math
from typing import Any

import pytest
from driving import LINE, Drive, problem

from tunewright.core.algorithm import Start, Stop
from tunewright.core.events import Ended, Reported, Signalled
from tunewright.core.problem import Fidelity, Objective, Problem
from tunewright.errors import ConfigError, UnsupportedError
from tunewright.samplers.random import Random
from tunewright.schedulers.threshold import Threshold

HIGH = Problem(LINE, (Objective("accuracy", "maximize"),), Fidelity(9))


def drive(**settings: Any) -> Drive:
    out = Drive(Threshold(Random(), **settings))
    out.begin(3)
    return out


def report(trial: int, step: int, bad: dict[str, str] | None = None, **metrics: float) -> Reported:
    return Reported(trial, 1, step, metrics, bad)


def test_a_value_outside_the_bounds_stops_the_trial_and_no_other() -> None:
    study = drive(upper=2.0, lower=-1.0)
    study.tell(report(0, 1, loss=2.0), report(1, 1, loss=2.1), report(2, 1, loss=-1.5))
    assert study.ask(0) == (Stop(1, {"step": 1, "loss": 2.1}), Stop(2, {"step": 1, "loss": -1.5}))


def test_bounds_wait_for_the_first_steps_but_divergence_does_not() -> None:
    study = drive(upper=2.0, after=3)
    study.tell(report(0, 3, loss=9.0), report(1, 1, {"loss": "nan"}))
    assert study.ask(0) == (Stop(1, {"step": 1, "loss": "nan"}),)
    study.tell(report(0, 4, loss=9.0))
    assert [a.trial for a in study.ask(0)] == [1, 0]


def test_without_bounds_only_divergence_stops() -> None:
    study = drive()
    study.tell(report(0, 1, loss=1e300), report(1, 1, {"loss": "-inf"}), report(2, 1, {"other": "nan"}))
    assert [a.trial for a in study.ask(0)] == [1]


def test_bounds_are_in_the_unit_and_sign_of_the_metric() -> None:
    study = Drive(Threshold(Random(), lower=0.2), HIGH)
    study.begin(2)
    study.tell(report(0, 1, accuracy=0.1), report(1, 1, accuracy=0.3))
    assert [a.trial for a in study.ask(0)] == [0]


def test_another_metric_may_be_watched_and_may_be_missing() -> None:
    study = drive(upper=8.0, metric="memory")
    study.tell(report(0, 1, loss=99.0), report(1, 1, loss=0.0, memory=9.0), report(2, 1, {"memory": "inf"}))
    assert [a.trial for a in study.ask(0)] == [1, 2]


@pytest.mark.parametrize("carried", [Signalled(0, "stop"), Ended(0, 1, "stopped")])
def test_a_verdict_is_forgotten_once_carried_out(carried: Any) -> None:
    study = drive(upper=2.0)
    study.tell(report(0, 1, loss=3.0))
    assert study.ask(0)
    study.tell(carried)
    assert study.ask(0) == ()
    assert isinstance(study.ask(1)[0], Start)


def test_of_several_objectives_the_bounded_one_is_named() -> None:
    two = Problem(LINE, (Objective("a"), Objective("b")), Fidelity(9))
    with pytest.raises(UnsupportedError, match="Pass metric='a' or metric='b'"):
        Threshold(Random(), upper=1.0).init(two)
    study = Drive(Threshold(Random()), two)
    study.begin(1)
    study.tell(report(0, 1, {"b": "nan"}, a=1.0))
    assert study.ask(0) == (Stop(0, {"step": 1, "b": "nan"}),)


@pytest.mark.parametrize(
    ("lower", "upper"), [(1.0, 1.0), (2.0, 1.0), (math.nan, 1.0), ("0", 1.0), (True, 2.0)]
)
def test_bounds_are_checked(lower: Any, upper: Any) -> None:
    with pytest.raises(ConfigError, match="Threshold needs lower < upper"):
        Threshold(Random(), lower=lower, upper=upper)
    with pytest.raises(ConfigError, match="whole number after >= 0"):
        Threshold(Random(), after=-1)


def test_problems_without_steps_are_refused() -> None:
    with pytest.raises(UnsupportedError, match="Threshold needs trials that report by step"):
        Threshold(Random()).init(Problem(LINE))
    assert Threshold(Random()).init(problem()).doomed == {}
