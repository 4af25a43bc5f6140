from __future__ import annotations

from typing import Any

import pytest
from driving import LINE, problem

from tunewright.core.algorithm import Pause, Resume, Start, Stop, generator
from tunewright.core.closing import closed
from tunewright.core.events import Ended, Paused, Reported, Resumed, Started
from tunewright.core.problem import Problem
from tunewright.errors import ConfigError, UnsupportedError
from tunewright.samplers.random import Random
from tunewright.schedulers.pbt import Pbt


def rested(losses: list[float], **options: Any) -> tuple[Pbt, Any]:
    """A population whose members rest at step 2 of 10."""
    pbt = Pbt(Random(), size=len(losses), interval=2, **options)
    state = pbt.init(problem(10))
    for trial, loss in enumerate(losses):
        (start,) = pbt.ask(state, 1, generator(0, trial))
        assert isinstance(start, Start)
        assert start.until == 2
        state = pbt.tell(
            state,
            [
                Started(trial, {"x": 0.5}, 2),
                Reported(trial, 1, 2, {"loss": loss}),
                Paused(trial, 1, 2),
            ],
        )
    return pbt, state


def test_the_worst_is_stopped_and_a_copy_of_the_best_begins_at_its_step() -> None:
    pbt, state = rested([1.0, 2.0, 3.0, 4.0, 5.0], resample=0.0)
    actions = pbt.ask(state, 5, generator(0, 9))
    assert [a.trial for a in actions if isinstance(a, Resume)] == [0, 1, 2, 3]
    stop, start = actions[-2:]
    assert stop == Stop(4, {"rank": 4, "of": 5})
    assert isinstance(start, Start)
    assert (start.parent, start.until) == ((0, 2), 4)
    assert start.config["x"] in (pytest.approx(0.4), pytest.approx(0.6))
    assert start.why == {"copies": 0, "replaces": 4}


def test_copies_go_on_when_the_study_has_all_its_trials_and_nothing_new_begins() -> None:
    pbt, state = rested([1.0, 2.0])
    full: Any = closed(pbt)
    actions = full.ask(state, 2, generator(0, 9))
    assert [type(a) for a in actions] == [Resume, Stop, Start]
    state = pbt.tell(state, [Ended(0, 1, "completed", {"loss": 1.0}, 10)])
    state = pbt.tell(state, [Ended(1, 1, "completed", {"loss": 1.0}, 10)])
    assert full.ask(state, 2, generator(0, 9)) == ()
    assert len(pbt.ask(state, 2, generator(0, 9))) == 2


def test_a_child_that_has_not_rested_is_no_donor() -> None:
    pbt, state = rested([1.0, 5.0])
    state = pbt.tell(
        state, [Ended(1, 1, "stopped"), Started(2, {"x": 0.1}, 4, (0, 2)), Ended(0, 1, "failed")]
    )
    (start,) = pbt.ask(state, 1, generator(0, 9))
    assert isinstance(start, Start)
    assert start.parent is None


def test_queued_trials_are_paused_when_they_should_rest() -> None:
    pbt = Pbt(Random(), size=2, interval=2)
    state = pbt.init(problem(10))
    state = pbt.tell(state, [Started(0, {"x": 0.1}, None, by="queue"), Started(1, {"x": 0.2}, 2)])
    state = pbt.tell(state, [Reported(0, 1, 2, {"loss": 0.5}), Reported(1, 1, 2, {"loss": 1.5})])
    assert pbt.ask(state, 0, generator(0, 9)) == (Pause(0),)
    state = pbt.tell(state, [Paused(0, 1, 2), Paused(1, 1, 2), Resumed(1, 2, 4)])
    assert pbt.ask(state, 1, generator(0, 9)) == (Resume(0, 4, {"rank": 0, "of": 2}),)


def test_by_default_there_are_twenty_segments_of_at_least_the_least_steps() -> None:
    assert Pbt(Random()).init(problem(200)).flock.interval == 10
    assert Pbt(Random()).init(problem(5)).flock.interval == 1
    assert Pbt(Random()).init(problem(40, 8)).flock.interval == 8


def test_the_sampler_hears_of_trainings_from_scratch_under_its_own_numbers() -> None:
    pbt, state = rested([1.0, 2.0])
    state = pbt.tell(state, [Ended(1, 1, "stopped"), Started(2, {"x": 0.1}, 4, (0, 2))])
    state = pbt.tell(state, [Started(3, {"x": 0.2}, 2), Ended(2, 1, "completed", {"loss": 1.0}, 10)])
    assert (state.panel.trials, state.panel.numbers) == ([0, 1, 3], {0: 0, 1: 1, 3: 2})


@pytest.mark.parametrize(
    "wrong",
    [
        {"size": 1},
        {"interval": 0},
        {"share": 0.0},
        {"share": 0.6},
        {"exploit": "luck"},
        {"low": 1.0},
        {"high": 1.0},
        {"high": float("inf")},
        {"resample": 1.5},
    ],
)
def test_wrong_settings_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="Pbt needs"):
        Pbt(Random(), **wrong)


def test_trials_without_steps_are_refused() -> None:
    with pytest.raises(UnsupportedError, match="report by step"):
        Pbt(Random()).init(Problem(LINE))
