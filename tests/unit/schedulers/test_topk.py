from __future__ import annotations

import pytest
from driving import Drive, problem

from tunewright.core.algorithm import Resume, Start
from tunewright.core.closing import closed
from tunewright.core.domains import Choice, Float
from tunewright.core.events import Ended, Extended, Paused, Reported, Resumed, Started
from tunewright.core.problem import Fidelity, Objective, Problem
from tunewright.core.space import Space
from tunewright.errors import ConfigError, UnsupportedError
from tunewright.samplers.random import Random
from tunewright.schedulers.topk import TopK


def shorts(drive: Drive, losses: list[float]) -> None:
    """Trains so many new configurations for the fewest steps."""
    for loss in losses:
        (trial,) = drive.begin()
        assert drive.untils[trial] == drive.state.ladder.rungs[0].level
        drive.finish(trial, loss)


def fulls(drive: Drive, slots: int = 9) -> list[int]:
    """Trials that would go on now."""
    return [a.trial for a in drive.ask(slots) if isinstance(a, Resume)]


def test_the_best_of_each_wave_go_to_the_end() -> None:
    drive = Drive(TopK(Random(), k=2, wave=4))
    shorts(drive, [4.0, 1.0, 3.0, 2.0])
    assert drive.ask(3)[:2] == (
        Resume(1, 9, {"rung": 1, "of": 4}),
        Resume(3, 9, {"rung": 1, "of": 4}),
    )
    assert drive.begin(2) == [1, 3]
    shorts(drive, [9.0, 8.0, 7.0])
    assert fulls(drive) == [], "three of four"
    shorts(drive, [2.5])
    assert fulls(drive) == [7, 2], "2.5 of this wave, and 3.0 left over from the first"


def test_a_wave_costs_by_default_what_its_full_trainings_cost() -> None:
    assert TopK(Random()).init(problem(81)).wave == 243
    assert TopK(Random(), k=1).init(problem(81, 4)).wave == 21


def test_nobody_waits_for_a_wave_to_be_complete() -> None:
    drive = Drive(TopK(Random(), k=1, wave=3))
    assert drive.begin(5) == [0, 1, 2, 3, 4]
    for trial in (4, 3, 2):
        drive.finish(trial, float(trial))
    assert fulls(drive) == [2], "trials 0 and 1 still run"


def test_failures_and_trials_without_a_number_never_go_on() -> None:
    drive = Drive(TopK(Random(), k=2, wave=3))
    drive.begin(3)
    drive.finish(0, None)
    drive.tell(Reported(1, 1, 1, {}, {"loss": "nan"}), Paused(1, 1, 1))
    drive.finish(2, 5.0)
    assert fulls(drive) == [2]


def test_a_failed_full_training_is_not_replaced() -> None:
    drive = Drive(TopK(Random(), k=1, wave=2))
    shorts(drive, [1.0, 2.0])
    assert drive.begin() == [0]
    drive.finish(0, None)
    assert fulls(drive) == []


def test_a_closed_study_ends_with_full_trainings() -> None:
    drive = Drive(TopK(Random(), k=2, wave=100))
    shorts(drive, [3.0, 1.0, 2.0])
    assert fulls(drive) == []
    drive.algorithm = closed(drive.algorithm)
    assert drive.begin(5) == [1, 2]
    drive.finish(1, 0.0)
    drive.finish(2, 0.0)
    assert drive.ask(5) == ()


def test_a_closed_study_waits_for_the_short_trainings_that_run() -> None:
    drive = Drive(TopK(Random(), k=1, wave=100))
    drive.begin(2)
    drive.finish(0, 1.0)
    drive.algorithm = closed(drive.algorithm)
    assert drive.ask(5) == ()
    drive.finish(1, 0.5)
    assert fulls(drive) == [1]


def test_an_exhausted_space_ends_with_a_full_training() -> None:
    drive = Drive(TopK(Random()), Problem(Space(c=Choice(["a", "b", "c", "d"])), fidelity=Fidelity(9)))
    while begun := drive.begin():
        for trial in begun:
            drive.finish(trial, float(trial))
    assert sorted(drive.untils) == [1, 9, 9, 9]


def test_a_cut_trial_is_resumed_first() -> None:
    drive = Drive(TopK(Random(), k=1, wave=2))
    shorts(drive, [1.0, 2.0])
    drive.begin()
    drive.tell(Reported(0, 1, 4, {"loss": 1.0}), Paused(0, 1, 4))
    assert drive.ask()[0] == Resume(0, 9)
    drive.tell(Resumed(0, 4, 9))
    assert drive.state.gone == 1


def test_with_one_length_of_training_all_are_full() -> None:
    drive = Drive(TopK(Random()), problem(5, 5))
    for trial in drive.begin(4):
        drive.finish(trial, 1.0)
    assert drive.untils == [5, 5, 5, 5]
    assert all(isinstance(a, Start) for a in drive.ask(3))


def test_enqueued_trials_take_no_place() -> None:
    drive = Drive(TopK(Random(), k=1, wave=2))
    drive.untils.append(9)
    drive.tell(Started(0, {"x": 0.1}, None, by="queue"), Reported(0, 1, 9, {"loss": -1.0}))
    drive.tell(Ended(0, 1, "completed", {"loss": -1.0}, 9))
    shorts(drive, [2.0])
    assert fulls(drive) == [1]


def test_longer_trainings_begin_a_new_competition() -> None:
    drive = Drive(TopK(Random(), k=1, wave=2))
    shorts(drive, [1.0, 2.0])
    drive.begin()
    drive.finish(0, 0.5)
    assert fulls(drive) == []
    long = problem(27)
    state = drive.algorithm.init(long)
    told = [
        Started(0, {"x": 0.1}, 1), Reported(0, 1, 1, {"loss": 1.0}), Paused(0, 1, 1),
        Started(1, {"x": 0.2}, 1), Reported(1, 1, 1, {"loss": 2.0}), Paused(1, 1, 1),
        Resumed(0, 1, 9), Reported(0, 1, 9, {"loss": 0.5}), Ended(0, 1, "completed", {"loss": 0.5}, 9),
        Extended(27, 9),
    ]  # fmt: skip
    drive.state = drive.algorithm.tell(state, told)
    (action,) = drive.ask()
    assert action == Start({"x": 0.1}, 27, (0, 9), {"rung": 1, "of": 2, "continues": 0})
    drive.tell(Started(2, {"x": 0.1}, 27, (0, 9)))
    assert drive.state.gone == 1
    assert [type(a) for a in drive.ask(2)] == [Start, Start]


def test_several_objectives_are_ranked_by_fronts() -> None:
    two = Problem(Space(x=Float(0, 1)), (Objective("a"), Objective("b")), Fidelity(9))
    drive = Drive(TopK(Random(), k=1, wave=3), two)
    for trial, (a, b) in enumerate([(2.0, 2.0), (1.0, 1.0), (3.0, 3.0)]):
        drive.begin()
        drive.tell(Reported(trial, 1, 1, {"a": a, "b": b}), Paused(trial, 1, 1))
    assert fulls(drive) == [1]


def test_what_it_refuses() -> None:
    for bad in ({"k": 0}, {"k": 3, "wave": 2}, {"wave": 1.5}):
        with pytest.raises(ConfigError):
            TopK(Random(), **bad)
    with pytest.raises(UnsupportedError, match="by step"):
        TopK(Random()).init(Problem(Space(x=Float(0, 1))))
