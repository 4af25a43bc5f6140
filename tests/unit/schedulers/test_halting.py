from __future__ import annotations

import numpy as np
import pytest
from driving import LINE, Drive

from tunewright.core.algorithm import Start, Stop
from tunewright.core.events import Ended, Reported, Signalled
from tunewright.core.problem import Fidelity, Objective, Problem
from tunewright.errors import ConfigError, UnsupportedError
from tunewright.samplers.random import Random
from tunewright.schedulers.halting import Halting


def test_a_trial_goes_on_only_among_the_best_third_that_came() -> None:
    drive = Drive(Halting(Random()))
    drive.begin(4)
    stopped = []
    for trial, loss in enumerate([2.0, 3.0, 1.0, 1.5]):
        drive.tell(Reported(trial, 1, 1, {"loss": loss}))
        stopped += [a.trial for a in drive.ask(0)]
        drive.tell(*(Signalled(t, "stop") for t in list(drive.state.doomed)))
    assert stopped == [1, 3], "the first has nobody to compare with, the third is the best of three"


def test_nothing_happens_between_rungs_or_at_the_end() -> None:
    drive = Drive(Halting(Random()))
    drive.begin(2)
    for step in range(1, 10):
        drive.tell(Reported(0, 1, step, {"loss": 1.0}))
    drive.tell(Reported(1, 1, 1, {"loss": 1.0}), Reported(1, 1, 2, {"loss": 9.0}))
    assert drive.ask(0) == (), "equal losses are not worse"
    drive.tell(Reported(1, 1, 3, {"loss": 9.0}))
    assert drive.ask(0) == (Stop(1, {"rung": 3, "better": 1, "of": 2}),)


def test_a_diverged_trial_is_stopped_even_if_first() -> None:
    drive = Drive(Halting(Random()))
    drive.begin()
    drive.tell(Reported(0, 1, 1, {}, {"loss": "inf"}))
    assert [a.trial for a in drive.ask(0)] == [0]


def test_a_stop_is_asked_for_until_it_is_accepted_or_too_late() -> None:
    drive = Drive(Halting(Random()))
    drive.begin(3)
    for trial in range(3):
        drive.tell(Reported(trial, 1, 1, {"loss": float(trial)}))
    assert [a.trial for a in drive.ask(0)] == [1, 2]
    actions = drive.ask(1)
    assert isinstance(actions[2], Start)
    drive.tell(Signalled(1, "stop"), Ended(2, 1, "failed"))
    assert drive.ask(0) == ()


def test_trials_start_without_a_planned_end() -> None:
    drive = Drive(Halting(Random()))
    assert all(a.until is None for a in drive.ask(3))


def test_several_objectives() -> None:
    two = Problem(LINE, (Objective("a"), Objective("b")), Fidelity(9))
    drive = Drive(Halting(Random()), two)
    drive.begin(3)
    for trial, (a, b) in enumerate([(1, 3), (3, 1), (4, 4)]):
        drive.tell(Reported(trial, 1, 1, {"a": a, "b": b}))
    assert 2 in [a.trial for a in drive.ask(0)]


def test_a_third_of_many_on_a_wide_front_goes_on() -> None:
    two = Problem(LINE, (Objective("a"), Objective("b")), Fidelity(9))
    drive = Drive(Halting(Random()), two)
    rng = np.random.default_rng(0)
    for trial in range(400):
        drive.begin()
        a = float(rng.random())
        drive.tell(Reported(trial, 1, 1, {"a": a, "b": 1 - a}))
        if [x.trial for x in drive.ask(0)] == [trial]:
            drive.tell(Signalled(trial, "stop"), Ended(trial, 1, "stopped", step=1))
    assert 80 < len(drive.state.ladder.climbs) < 180


def test_settings_and_problems_are_checked() -> None:
    with pytest.raises(ConfigError, match="Halting needs a finite eta"):
        Halting(Random(), eta=1)
    with pytest.raises(UnsupportedError, match="Halting needs trials that report by step"):
        Halting(Random()).init(Problem(LINE))
