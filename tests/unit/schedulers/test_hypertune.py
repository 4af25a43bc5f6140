"""Hyper-Tune: which bracket a trial begins in, and when it goes on."""

from __future__ import annotations

import numpy as np
import pytest

from tunewright.core.algorithm import Resume, Start, generator
from tunewright.core.closing import closed
from tunewright.core.domains import Float
from tunewright.core.events import Ended, Event, Paused, Reported, Resumed, Started
from tunewright.core.problem import Fidelity, Problem
from tunewright.core.space import Space
from tunewright.errors import ConfigError, UnsupportedError
from tunewright.samplers.random import Random
from tunewright.schedulers.hypertune import Hypertune, HypertuneState

SPACE = Space(x=Float(0, 1), y=Float(0, 1))
PROBLEM = Problem(SPACE, fidelity=Fidelity(27))
METHOD = Hypertune(Random())


def trial(number: int, until: int, loss: float, x: float = 0.5, y: float = 0.5) -> list[Event]:
    reports = [Reported(number, 1, s, {"loss": loss}) for s in range(1, until + 1)]
    return [Started(number, {"x": x, "y": y}, until), *reports, Paused(number, 1, until)]


def told(events: list[Event]) -> HypertuneState:
    return METHOD.tell(METHOD.init(PROBLEM), events)


def test_first_levels_are_as_rare_as_they_are_dear_while_nothing_is_known() -> None:
    weights = METHOD.weights(METHOD.init(PROBLEM))
    np.testing.assert_allclose(weights / weights[0], [1, 1 / 3, 1 / 9, 1 / 27])


def test_a_level_that_misleads_loses_its_bracket() -> None:
    rng = np.random.default_rng(0)
    events: list[Event] = []
    for i in range(40):
        x, y = rng.random(2)
        late, early = (x - 0.3) ** 2 + 0.3 * y, (y - 0.9) ** 2 - 0.3 * x
        events += [Started(i, {"x": x, "y": y}, 27), Reported(i, 1, 1, {"loss": 9.0 + early})]
        if i < 15:
            events += [Reported(i, 1, s, {"loss": late + 1.0 / s}) for s in (3, 9, 27)]
    weights = METHOD.weights(told(events))
    assert weights[0] < 0.2
    assert abs(weights.sum() - 1.0) < 1e-9


def test_promotion_is_delayed_where_the_next_rung_is_as_full_as_it_may_be() -> None:
    events = [e for i in range(3) for e in trial(i, 1, float(i))]
    actions = METHOD.ask(told(events), 1, generator(0, 0))
    assert actions == (Resume(0, 3, {"rung": 1, "of": 3}),)
    # Three more, all better: ASHA would promote the best of six at once; two of six is what may have gone on.
    events += [Resumed(0, 1, 3), *(Reported(0, 1, s, {"loss": 0.0}) for s in (2, 3)), Paused(0, 1, 3)]
    events += [e for i in range(3, 5) for e in trial(i, 1, -float(i))]
    assert all(isinstance(a, Start) for a in METHOD.ask(told(events), 4, generator(0, 0)))
    events += trial(5, 1, -9.0)
    assert METHOD.ask(told(events), 1, generator(0, 0)) == (Resume(5, 3, {"rung": 1, "of": 6}),)


def test_brackets_do_not_mix() -> None:
    events = [e for i in range(2) for e in trial(i, 1, float(i))] + trial(2, 9, 5.0)
    assert isinstance(METHOD.ask(told(events), 1, generator(0, 0))[0], Start)


def test_a_study_with_all_its_trials_goes_on_with_what_waits() -> None:
    events = trial(0, 1, 1.0) + trial(1, 3, 0.5)
    (action,) = closed(METHOD).ask(told(events), 1, generator(0, 0))
    assert isinstance(action, Resume)
    assert (action.trial, action.until) == (1, 9)


def test_a_trial_that_was_cut_off_goes_on_first_and_a_failed_one_is_forgotten() -> None:
    events: list[Event] = [
        Started(0, {"x": 0.1, "y": 0.1}, 9),
        Reported(0, 1, 2, {"loss": 1.0}),
        Paused(0, 1, 2),
    ]
    events += [Started(1, {"x": 0.2, "y": 0.1}, 1), Ended(1, 1, "failed")]
    state = told(events)
    assert METHOD.ask(state, 1, generator(0, 0)) == (Resume(0, 9),)
    assert list(state.member) == [0]


def test_it_needs_steps_and_a_factor() -> None:
    with pytest.raises(UnsupportedError):
        METHOD.init(Problem(SPACE))
    with pytest.raises(ConfigError):
        Hypertune(Random(), eta=1)
