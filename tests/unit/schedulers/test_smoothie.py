"""Batches: who goes on, who is stopped, and what happens at the end of a study."""

from __future__ import annotations

import pytest

from tunewright.core.algorithm import Resume, Start, Stop, generator
from tunewright.core.closing import closed
from tunewright.core.domains import Float
from tunewright.core.events import Ended, Paused, Reported, Resumed, Signalled, Started
from tunewright.core.problem import Fidelity, Problem
from tunewright.core.space import Space
from tunewright.errors import ConfigError, UnsupportedError
from tunewright.samplers.random import Random
from tunewright.schedulers.smoothie import Smoothie

PROBLEM = Problem(Space(x=Float(0, 1)), fidelity=Fidelity(9))


def begun(algorithm, numbers):
    """A state in which trials reported ``(smoothness, loss)`` after one step and paused; None fails."""
    state = algorithm.init(PROBLEM)
    for i, number in enumerate(numbers):
        state = algorithm.tell(state, [Started(i, {"x": 0.5}, 1)])
        if number is None:
            state = algorithm.tell(state, [Ended(i, 0, "failed", error="x")])
            continue
        smooth, loss = number
        metrics = {"loss": loss} if smooth is None else {"loss": loss, "smoothness": smooth}
        state = algorithm.tell(state, [Reported(i, 0, 1, metrics), Paused(i, 0, 1)])
    return state


def test_trials_start_with_a_short_segment():
    algorithm = Smoothie(Random(), batch=4, keep=2)
    starts = algorithm.ask(algorithm.init(PROBLEM), 3, generator(0, 0))
    assert [type(a) for a in starts] == [Start] * 3
    assert {a.until for a in starts} == {1}


def test_the_smoothest_go_on_and_the_others_are_stopped():
    algorithm = Smoothie(Random(), batch=4, keep=2)
    state = begun(algorithm, [(0.1, 1.0), (0.9, 9.0), (0.5, 2.0), (0.2, 0.0)])
    actions = algorithm.ask(state, 2, generator(0, 0))
    assert {a.trial for a in actions if isinstance(a, Stop)} == {0, 3}
    assert [(a.trial, a.until) for a in actions if isinstance(a, Resume)] == [(1, 9), (2, 9)]
    state = algorithm.tell(state, [Signalled(0, "stop"), Ended(0, 0, "stopped", step=1), Resumed(1, 1, 9)])
    actions = algorithm.ask(state, 0, generator(0, 1))
    assert actions == (Stop(3, {"reason": "others are smoother"}),)


def test_the_other_end_can_be_kept_under_another_name():
    algorithm = Smoothie(Random(), batch=2, keep=1, metric="loss", goal="minimize")
    state = begun(algorithm, [(0.1, 1.0), (0.9, 0.5)])
    assert algorithm.ask(state, 1, generator(0, 0))[-1].trial == 1


def test_without_the_number_the_early_loss_decides_and_failures_never_do():
    algorithm = Smoothie(Random(), batch=4, keep=2)
    state = begun(algorithm, [(None, 3.0), None, (None, 1.0), (None, 2.0)])
    resumed = [a.trial for a in algorithm.ask(state, 2, generator(0, 0)) if isinstance(a, Resume)]
    assert resumed == [2, 3]


def test_a_batch_waits_for_its_last_trial_while_the_next_begins():
    algorithm = Smoothie(Random(), batch=2, keep=1)
    state = algorithm.tell(begun(algorithm, [(0.5, 1.0)]), [Started(1, {"x": 0.1}, 1)])
    (action,) = algorithm.ask(state, 1, generator(0, 0))
    assert isinstance(action, Start)
    state = algorithm.tell(
        state, [Started(2, {"x": 0.2}, 1), Reported(1, 0, 1, {"loss": 0.0, "smoothness": 0.9})]
    )
    state = algorithm.tell(state, [Paused(1, 0, 1)])
    assert [a.trial for a in algorithm.ask(state, 1, generator(0, 1))] == [0, 1]


def test_an_unfinished_batch_gives_its_share_when_no_more_trials_come():
    algorithm = Smoothie(Random(), batch=10, keep=2)
    state = begun(algorithm, [(0.1, 0.0), (0.9, 0.0), (0.5, 0.0), (0.2, 0.0), (0.3, 0.0)])
    over = closed(algorithm)
    (action,) = over.ask(state, 1, generator(0, 0))
    assert action == Resume(1, 9, {"smooth": 1.0})
    state = over.tell(
        state,
        [Resumed(1, 1, 9), Reported(1, 0, 9, {"loss": 0.0}), Ended(1, 0, "completed", {"loss": 0.0}, 9)],
    )
    assert over.ask(state, 1, generator(0, 1)) == ()


def test_problems_without_steps_are_refused():
    with pytest.raises(UnsupportedError, match="Smoothie needs trials that report by step"):
        Smoothie(Random()).init(Problem(Space(x=Float(0, 1))))


@pytest.mark.parametrize(
    "settings", [{"batch": 1}, {"keep": 0}, {"batch": 3, "keep": 4}, {"goal": "up"}, {"keep": 1.5}]
)
def test_settings_out_of_range_are_refused(settings):
    with pytest.raises(ConfigError, match="Smoothie needs"):
        Smoothie(Random(), **settings)
