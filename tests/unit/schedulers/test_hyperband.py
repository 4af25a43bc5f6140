from __future__ import annotations

import pytest
from driving import LINE, Drive, problem

from tunewright.core.algorithm import Resume, Start
from tunewright.core.brackets import brackets
from tunewright.core.closing import closed
from tunewright.core.domains import Choice
from tunewright.core.events import Ended, Paused, Reported, Resumed, Started
from tunewright.core.problem import Fidelity, Problem
from tunewright.core.space import Space
from tunewright.errors import ConfigError, UnsupportedError
from tunewright.samplers.random import Random
from tunewright.schedulers.hyperband import Hyperband


def played(
    drive: Drive, trials: int, workers: int, failing: frozenset[int] = frozenset()
) -> list[tuple[int, int]]:
    """Runs segments oldest first; returns (trial, until) in order of their begin."""
    order: list[tuple[int, int]] = []
    running: list[int] = []
    while len(drive.untils) < trials:
        begun = drive.begin(workers - len(running))
        order += [(t, drive.untils[t]) for t in begun]
        running += begun
        assert running, "an idle study with nothing begun"
        trial = running.pop(0)
        drive.finish(trial, None if trial in failing else float(trial % 7) + trial / 1000)
    return order


def test_one_worker_runs_the_brackets_in_order() -> None:
    order = played(Drive(Hyperband(Random())), 18, 1)
    counts = {u: sum(1 for _, v in order[:13] if v == u) for u in (1, 3, 9)}
    assert counts == {1: 9, 3: 3, 9: 1}, "the first bracket is 9 trials of 1 step, 3 of 3, 1 of 9"
    assert [u for _, u in order[13:19]] == [3] * 5 + [9], "then 5 of 3 steps and 1 of 9"
    assert [u for _, u in order[19:22]] == [9] * 3
    assert [u for _, u in order[22:]] == [1] * len(order[22:]), "then it starts again"


@pytest.mark.parametrize("workers", [2, 5, 30])
def test_no_worker_is_idle(workers: int) -> None:
    drive = Drive(Hyperband(Random()))
    running: list[int] = []
    for turn in range(200):
        begun = drive.begin(workers - len(running))
        assert len(begun) == workers - len(running)
        running += begun
        trial = running.pop((turn * 7) % len(running))
        drive.finish(trial, float(trial % 5))


def test_a_rung_is_judged_when_complete_and_meanwhile_the_next_bracket_fills() -> None:
    drive = Drive(Hyperband(Random()))
    assert drive.begin(9) == list(range(9))
    for trial in range(8):
        drive.finish(trial, float(trial))
    (action,) = drive.ask()
    assert isinstance(action, Start)
    assert action.until == 3
    drive.finish(8, -1.0)
    assert [a.trial for a in drive.ask(3)] == [8, 0, 1]


def test_failures_count_as_the_worst_and_never_block() -> None:
    drive = Drive(Hyperband(Random()))
    drive.begin(9)
    for trial in range(7):
        drive.finish(trial, None)
    drive.finish(7, 2.0)
    drive.finish(8, 1.0)
    actions = drive.ask(3)
    assert [a.trial for a in actions if isinstance(a, Resume)] == [8, 7]
    assert isinstance(actions[2], Start)


def test_a_bracket_in_which_all_fail_is_forgotten() -> None:
    drive = Drive(Hyperband(Random()))
    for trial in drive.begin(9):
        drive.finish(trial, None)
    assert not drive.state.open
    assert not drive.state.member
    assert drive.ask()[0].until == 3


def test_trials_stopped_by_hand_leave_the_bracket() -> None:
    drive = Drive(Hyperband(Random()))
    drive.begin(9)
    for trial in range(8):
        drive.finish(trial, float(trial))
    drive.tell(Ended(0, 1, "stopped"), Ended(8, 1, "stopped"))
    assert [a.trial for a in drive.ask(2)] == [1, 2]


def test_a_lost_trial_holds_up_its_bracket_only() -> None:
    drive = Drive(Hyperband(Random(), most=1))
    drive.begin(9)
    for trial in range(8):
        drive.finish(trial, float(trial))
    for _ in range(30):
        begun = drive.begin()
        assert len(begun) == 1
        drive.finish(begun[0], 1.0)


def test_finished_brackets_are_forgotten() -> None:
    drive = Drive(Hyperband(Random()))
    played(drive, 500, 4)
    assert len(drive.state.open) <= 4
    assert len(drive.state.member) <= 40


def test_enqueued_trials_stay_outside() -> None:
    drive = Drive(Hyperband(Random()))
    drive.untils.append(9)
    drive.tell(Started(0, {"x": 0.1}, None, by="queue"))
    drive.tell(Reported(0, 1, 1, {"loss": 0.0}))
    assert not drive.state.member
    assert drive.begin() == [1]
    assert drive.untils[1] == 1


def test_an_early_end_counts_for_every_higher_rung() -> None:
    drive = Drive(Hyperband(Random()))
    drive.begin(9)
    drive.tell(Ended(0, 1, "completed", {"loss": -5.0}, 1))
    for trial in range(1, 9):
        drive.finish(trial, float(trial))
    assert [a.trial for a in drive.ask(9) if isinstance(a, Resume)] == [1, 2]


def test_an_exhausted_space_still_ends_with_a_full_training() -> None:
    few = Problem(Space(c=Choice(["a", "b", "c", "d"])), fidelity=Fidelity(9))
    drive = Drive(Hyperband(Random()), few)
    while begun := drive.begin():
        for trial in begun:
            drive.finish(trial, float(trial))
    assert sorted(drive.untils) == [1, 1, 3, 9], "shares of 9, 3 and 1, rounded up"


def test_a_cut_trial_is_resumed_first() -> None:
    drive = Drive(Hyperband(Random(), eta=9))
    drive.begin()
    drive.untils[0] = 1
    drive.tell(Paused(0, 1, 0))
    assert drive.ask() == (Resume(0, 1),)
    drive.tell(Resumed(0, 0, 1))
    drive.finish(0, 1.0)
    assert drive.begin() == [1]


def test_sizes_never_grow_and_costs_stay_close() -> None:
    for high, eta in [(81, 3), (100, 3), (7, 2), (1000, 4), (5, 2.5)]:
        plans = brackets(1, high, eta)
        assert all(list(p.sizes) == sorted(p.sizes, reverse=True) for p in plans)
        assert all(p.steps[-1] == high and p.sizes[-1] >= 1 for p in plans)
        assert len(plans) == len(plans[0].steps)


def test_equal_bounds_mean_full_trainings_only() -> None:
    drive = Drive(Hyperband(Random()), problem(5, 5))
    played(drive, 6, 1)
    assert drive.untils == [5] * 6


@pytest.mark.parametrize("workers", [1, 4])
def test_a_bracket_that_will_never_be_full_is_judged_by_what_came(workers: int) -> None:
    drive = Drive(Hyperband(Random()), problem(27))
    for trial in drive.begin(14):
        drive.finish(trial, float(trial))
    drive.algorithm = closed(drive.algorithm)
    running = drive.begin(workers)
    assert len(running) == workers, "with nothing left to begin, no worker waits"
    while running:
        drive.finish(running.pop(0), 1.0)
        running += drive.begin(workers - len(running))
    assert sorted(drive.untils, reverse=True)[:6] == [27, 9, 3, 3, 3, 1], (
        "shares of 27, 9, 3 and 1, rounded up"
    )


def test_nothing_is_judged_early_while_the_first_rung_is_on_its_way() -> None:
    drive = Drive(Hyperband(Random()))
    drive.begin(4)
    drive.algorithm = closed(drive.algorithm)
    for trial in range(3):
        drive.finish(trial, 1.0)
    assert drive.ask(4) == ()
    drive.finish(3, 0.0)
    assert [a.trial for a in drive.ask(4)] == [3, 0]


def test_a_bracket_goes_on_filling_when_more_trials_are_allowed_again() -> None:
    drive = Drive(Hyperband(Random()))
    for trial in drive.begin(4):
        drive.finish(trial, float(trial))
    drive.algorithm = closed(drive.algorithm)
    drive.finish(drive.begin()[0], 0.0)
    drive.algorithm = Hyperband(Random())
    for trial in drive.begin(5):
        drive.finish(trial, -float(trial))
    assert [a.trial for a in drive.ask(3) if isinstance(a, Resume)] == [8, 7, 6]


@pytest.mark.parametrize("most", [0, -1, 1.5, True])
def test_most_is_checked(most: int) -> None:
    with pytest.raises(ConfigError, match="whole number most >= 1"):
        Hyperband(Random(), most=most)


def test_problems_without_steps_are_refused() -> None:
    with pytest.raises(UnsupportedError, match="Hyperband needs trials that report by step"):
        Hyperband(Random()).init(Problem(LINE))
