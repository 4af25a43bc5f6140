"""Rules that stop trials around each other and around schedulers."""

from __future__ import annotations

from typing import Any

import pytest
from driving import LINE, Drive

import tunewright as tw
from tunewright import catalog
from tunewright.core.algorithm import Resume, Start, Stop
from tunewright.core.closing import closed
from tunewright.core.events import Ended, Paused, Reported, Signalled
from tunewright.core.problem import Fidelity, Problem
from tunewright.errors import ConfigError

STOPS = ("median", "percentile", "threshold", "patience", "wilcoxon")
LONG = Problem(LINE, fidelity=Fidelity(9))


@pytest.mark.parametrize("name", STOPS)
def test_what_the_wrapped_scheduler_wants_is_passed_on(name: str) -> None:
    study = Drive(catalog.build(f"{name}(asha(random))"), LONG)
    for trial, loss in enumerate([3.0, 1.0, 2.0]):
        assert study.begin() == [trial]
        assert study.untils[trial] == 1
        study.finish(trial, loss)
    assert study.ask() == (Resume(1, 3, {"rung": 1, "of": 3}),)


def test_a_trial_to_be_stopped_is_neither_resumed_nor_stopped_twice() -> None:
    study = Drive(catalog.build("threshold(asha(random))", {"upper": 5.0}), LONG)
    for trial in study.begin(3):
        study.finish(trial, 9.0 - trial)
    actions = study.ask(1)
    assert [a.trial for a in actions] == [0, 1, 2]
    assert all(isinstance(a, Stop) for a in actions)
    for trial in range(3):
        study.tell(Signalled(trial, "stop"), Ended(trial, 1, "stopped", step=1))
    assert isinstance(study.ask(1)[0], Start)
    twice = Drive(catalog.build("threshold(threshold(random))", {"upper": 5.0}), LONG)
    twice.begin()
    twice.tell(Reported(0, 1, 1, {"loss": 9.0}))
    assert [a.trial for a in twice.ask(0)] == [0]


def test_every_rule_of_a_chain_is_heard() -> None:
    study = Drive(catalog.build("threshold(patience(random))", {"upper": 5.0, "patience": 1}), LONG)
    study.begin(3)
    study.tell(*(Reported(n, 1, 1, {"loss": float(n)}) for n in (0, 1)), Reported(2, 1, 1, {"loss": 9.0}))
    study.tell(Reported(1, 1, 2, {"loss": 1.0}))
    assert {a.trial for a in study.ask(0)} == {1, 2}


@pytest.mark.parametrize("inner", ["asha(random)", "hyperband(random)", "threshold(asha(random))"])
def test_a_study_with_all_its_trials_still_continues_them(inner: str) -> None:
    study = Drive(catalog.build(f"patience({inner})"), LONG)
    for trial in study.begin(2):
        study.tell(Reported(trial, 1, 1, {"loss": float(trial)}), Paused(trial, 1, 1))
    study.algorithm = closed(closed(study.algorithm))
    actions = study.ask(1)
    assert [type(a) for a in actions] == [Resume]
    assert actions[0].trial == 0


def test_a_sampler_that_wraps_one_begins_nothing_when_closed() -> None:
    study = Drive(closed(catalog.build("patience(prior(random))")), LONG)
    assert study.ask(1) == ()


@pytest.mark.parametrize("name", ["asha(median)", "hyperband(asha(random))", "asha(threshold(random))"])
def test_a_scheduler_is_not_put_where_nobody_would_hear_it(name: str) -> None:
    with pytest.raises(ConfigError, match="needs a sampler inside"):
        catalog.build(name)
    with pytest.raises(ConfigError, match=r"or write median\(asha\)"):
        catalog.build("asha(median)")


def train(trial: Any) -> None:
    for step in trial.steps():
        trial.report(step, loss=(trial["x"] - 0.3) ** 2 + 1.0 / step)


@pytest.mark.parametrize(
    "method", ["patience(asha(random))", "threshold(median(tpe))", "percentile(halting)"]
)
def test_a_real_study_runs_with_them(method: str) -> None:
    study = tw.Study.open(method, storage="memory", space={"x": tw.Float(0, 1)}, steps=9, method=method)
    study.run(train, trials=30, progress="none")
    assert len(study.trials) == 30
    assert study.counts.get("running", 0) == 0
    assert study.best.step == 9
