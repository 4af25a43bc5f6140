from __future__ import annotations

import itertools
import math

import pytest
from driving import LINE, Drive, problem

from tunewright.core.algorithm import Resume, Start
from tunewright.core.closing import closed
from tunewright.core.domains import Choice
from tunewright.core.events import Ended, Paused, Reported, Resumed, Started
from tunewright.core.problem import Fidelity, Limit, Objective, Problem
from tunewright.core.space import Space
from tunewright.errors import ConfigError, UnsupportedError
from tunewright.samplers.random import Random
from tunewright.schedulers.asha import Asha


def test_the_best_third_is_promoted_and_the_rest_waits() -> None:
    drive = Drive(Asha(Random()))
    for trial, loss in enumerate([3.0, 1.0, 2.0]):
        assert drive.begin() == [trial]
        assert drive.untils[trial] == 1
        drive.finish(trial, loss)
    assert drive.begin() == [1]
    assert drive.untils[1] == 3
    assert drive.begin() == [3]


def test_promotions_go_from_the_highest_rung_down() -> None:
    drive = Drive(Asha(Random()))
    for trial in drive.begin(18):
        drive.finish(trial, float(trial))
    for trial in drive.begin(3):
        drive.finish(trial, float(trial))
    assert [(a.trial, a.until) for a in drive.ask(3)] == [(0, 9), (3, 3), (4, 3)]


def test_many_slots_are_filled_at_once_without_repeating_a_trial() -> None:
    drive = Drive(Asha(Random()))
    trials = drive.begin(9)
    assert trials == list(range(9))
    for trial in trials:
        drive.finish(trial, float(trial))
    actions = drive.ask(5)
    assert [a.trial for a in actions if isinstance(a, Resume)] == [0, 1, 2]
    assert sum(isinstance(a, Start) for a in actions) == 2


def test_failed_and_diverged_trials_count_but_never_go_on() -> None:
    drive = Drive(Asha(Random()))
    trials = drive.begin(3)
    drive.finish(trials[0], None)
    drive.tell(Reported(1, 1, 1, {}, {"loss": "nan"}), Paused(1, 1, 1))
    assert isinstance(drive.ask()[0], Start)
    drive.finish(trials[2], 5.0)
    assert drive.ask() == (Resume(2, 3, {"rung": 1, "of": 3}),)


def test_a_rung_of_failures_blocks_nothing() -> None:
    drive = Drive(Asha(Random()))
    for _ in range(20):
        (trial,) = drive.begin()
        drive.finish(trial, None)
    assert isinstance(drive.ask()[0], Start)


def test_a_trial_paused_by_hand_goes_on_to_its_rung() -> None:
    drive = Drive(Asha(Random(), skip=1))
    drive.begin()
    drive.tell(Reported(0, 1, 1, {"loss": 1.0}), Paused(0, 1, 1))
    assert drive.ask() == (Resume(0, 3),)
    drive.begin()
    drive.finish(0, 1.0)
    assert isinstance(drive.ask()[0], Start)


def test_reports_between_rungs_count_at_the_pause() -> None:
    drive = Drive(Asha(Random(), skip=1))
    for trial in range(3):
        drive.begin()
        drive.tell(Reported(trial, 1, 2, {"loss": 9.0}), Reported(trial, 1, 4, {"loss": float(trial)}))
        drive.tell(Paused(trial, 1, 4))
    assert drive.ask() == (Resume(0, 9, {"rung": 3, "of": 3}),)


def test_enqueued_trials_that_run_through_are_compared_but_not_promoted() -> None:
    drive = Drive(Asha(Random()))
    drive.untils += [9]
    drive.tell(Started(0, {"x": 0.5}, None, by="queue"))
    drive.tell(
        *(Reported(0, 1, s, {"loss": 0.0}) for s in range(1, 10)), Ended(0, 1, "completed", {"loss": 0.0}, 9)
    )
    for trial in (1, 2):
        assert drive.begin() == [trial]
        drive.finish(trial, 1.0)
    assert isinstance(drive.ask()[0], Start), "the best third of three is the enqueued one"
    assert [r.n for r in drive.state.ladder.rungs] == [3, 1, 1]


def test_an_exhausted_space_still_ends_with_a_full_training() -> None:
    few = Problem(Space(c=Choice(["a", "b"])), fidelity=Fidelity(9))
    drive = Drive(Asha(Random()), few)
    while begun := drive.begin():
        for trial in begun:
            drive.finish(trial, float(trial))
    assert drive.untils == [9, 1]


def test_a_study_with_all_its_trials_promotes_the_best_to_the_end() -> None:
    drive = Drive(Asha(Random()))
    for trial in drive.begin(2):
        drive.finish(trial, float(trial))
    assert isinstance(drive.ask()[0], Start)
    drive.algorithm = closed(drive.algorithm)
    while begun := drive.begin():
        drive.finish(begun[0], 0.0)
    assert drive.untils == [9, 1]


def test_equal_bounds_mean_full_trainings_only() -> None:
    drive = Drive(Asha(Random()), problem(5, 5))
    for trial in range(6):
        drive.begin()
        drive.finish(trial, 1.0)
    assert drive.untils == [5] * 6


def test_several_objectives_promote_the_front() -> None:
    two = Problem(LINE, (Objective("a"), Objective("b", "maximize")), Fidelity(9))
    drive = Drive(Asha(Random()), two)
    drive.begin(6)
    values = [(1, 1), (5, 0), (6, 0), (3, 3), (7, 0), (8, 0)]
    for trial, (a, b) in enumerate(values):
        drive.tell(Reported(trial, 1, 1, {"a": a, "b": b}), Paused(trial, 1, 1))
    assert {a.trial for a in drive.ask(2)} == {0, 3}


def test_of_a_wide_front_no_more_than_the_share_goes_on() -> None:
    two = Problem(LINE, (Objective("a"), Objective("b")), Fidelity(9))
    drive = Drive(Asha(Random()), two)
    for turn in range(150):
        for trial in drive.begin():
            a = (0.618 * turn) % 1
            until = drive.untils[trial]
            drive.tell(Reported(trial, 1, until, {"a": a, "b": 1 - a}))
            drive.tell(Paused(trial, 1, until) if until < 9 else Ended(trial, 1, "completed", None, 9))
    counts = [rung.n for rung in drive.state.ladder.rungs]
    for below, above in itertools.pairwise(counts):
        assert below // 3 - 2 <= above <= below // 3


def test_trials_within_the_limits_come_first() -> None:
    bound = Problem(LINE, (Objective("loss"),), Fidelity(9), (Limit("size", 1.0),))
    drive = Drive(Asha(Random()), bound)
    drive.begin(3)
    for trial, (loss, size) in enumerate([(0.0, 2.0), (1.0, 1.5), (2.0, 0.5)]):
        drive.tell(Reported(trial, 1, 1, {"loss": loss, "size": size}), Paused(trial, 1, 1))
    assert drive.ask()[0].trial == 2


def test_a_resumed_trial_that_fails_leaves_the_next_rung_usable() -> None:
    drive = Drive(Asha(Random()))
    for trial in drive.begin(9):
        drive.finish(trial, float(trial))
    assert drive.begin(3) == [0, 1, 2]
    drive.finish(0, None)
    drive.finish(1, 1.0)
    drive.finish(2, 2.0)
    assert drive.ask() == (Resume(1, 9, {"rung": 3, "of": 3}),)
    drive.tell(Resumed(1, 3, 9))
    assert drive.state.ladder.heading == [0, 0, 1, 0]


@pytest.mark.parametrize("eta", [1, 0.5, math.inf, math.nan, True, "3"])
def test_eta_is_checked(eta: float) -> None:
    with pytest.raises(ConfigError, match="finite eta > 1"):
        Asha(Random(), eta=eta)


@pytest.mark.parametrize("skip", [-1, 0.5, True])
def test_skip_is_checked(skip: int) -> None:
    with pytest.raises(ConfigError, match="whole number skip >= 0"):
        Asha(Random(), skip=skip)


def test_problems_without_steps_are_refused() -> None:
    with pytest.raises(UnsupportedError, match="Asha needs trials that report by step"):
        Asha(Random()).init(Problem(LINE))


def test_skipping_more_rungs_than_there_are_leaves_the_full_training() -> None:
    assert [r.level for r in Asha(Random(), skip=9).init(problem()).ladder.rungs] == [9]
