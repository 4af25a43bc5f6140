"""MOBSTER's halving: where a new trial ends first, and who goes on."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tunewright.core.algorithm import Resume, Start, generator
from tunewright.core.closing import closed
from tunewright.core.domains import Float
from tunewright.core.events import Ended, Event, Paused, Reported, Started
from tunewright.core.problem import Fidelity, Problem
from tunewright.core.space import Space
from tunewright.errors import ConfigError, UnsupportedError
from tunewright.samplers.joint import Joint
from tunewright.samplers.random import Random
from tunewright.schedulers.mobster import Mobster, MobsterState

SPACE = Space(x=Float(0, 1), y=Float(0, 1))
PROBLEM = Problem(SPACE, fidelity=Fidelity(27))


def trial(number: int, until: int, loss: float) -> list[Event]:
    reports = [Reported(number, 1, s, {"loss": loss}) for s in range(1, until + 1)]
    return [Started(number, {"x": 0.5, "y": 0.5}, until), *reports, Paused(number, 1, until)]


def told(events: list[Event], method: Mobster) -> MobsterState:
    return method.tell(method.init(PROBLEM), events)


@pytest.mark.parametrize(("paid", "first"), [(0, 1), (5, 1), (6, 3), (17, 3), (18, 9), (54, 27)])
def test_the_first_rung_rises_with_the_steps_paid(paid: int, first: int) -> None:
    method = Mobster(Random(), rise=2)
    events = [e for i in range(paid) for e in trial(i, 1, float(i))]
    state = told(events, method)
    assert state.paid == paid
    assert method.first(state) == first


def test_without_rise_it_is_asynchronous_halving() -> None:
    method = Mobster(Random(), rise=math.inf)
    events = [e for i in range(90) for e in trial(i, 1, 100.0 - i)]
    state = told(events, method)
    assert method.first(state) == 1
    actions = method.ask(state, 40, generator(0, 0))
    assert [a.trial for a in actions if isinstance(a, Resume)] == list(range(89, 59, -1))
    assert {a.until for a in actions if isinstance(a, Start)} == {1}


def test_a_trial_that_begins_high_counts_on_the_rungs_below() -> None:
    method = Mobster(Random(), rise=2)
    state = told(trial(0, 9, 0.1) + trial(1, 1, 0.5) + trial(2, 1, 0.6), method)
    assert [r.n for r in state.ladder.rungs] == [3, 1, 1, 0]
    # The best third of the lowest rung is the one that is beyond it already.
    assert all(isinstance(a, Start) for a in method.ask(state, 3, generator(0, 0)))


def test_steps_of_failed_trials_and_of_sparse_reports_count() -> None:
    method = Mobster(Random())
    events: list[Event] = [
        Started(0, {"x": 0.1, "y": 0.1}, 9),
        Reported(0, 1, 4, {"loss": 1.0}),
        Reported(0, 1, 7, {}, {"loss": "nan"}),
        Ended(0, 1, "failed"),
    ]
    state = told(events, method)
    assert (state.paid, state.steps) == (7, {})


def test_a_study_with_all_its_trials_goes_on_with_what_waits() -> None:
    method = Mobster(Random())
    (action,) = closed(method).ask(told(trial(0, 1, 1.0) + trial(1, 1, 0.5), method), 2, generator(0, 0))
    assert isinstance(action, Resume)
    assert (action.trial, action.until) == (1, 3)


def test_it_thinks_as_long_as_its_sampler_and_checks_its_settings() -> None:
    assert Mobster(Joint()).deliberate
    assert not Mobster(Random()).deliberate
    with pytest.raises(UnsupportedError):
        Mobster(Random()).init(Problem(SPACE))
    for settings in ({"rise": 0.0}, {"rise": float(np.nan)}, {"eta": 1.0}):
        with pytest.raises(ConfigError):
            Mobster(Random(), **settings)
