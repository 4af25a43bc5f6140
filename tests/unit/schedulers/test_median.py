from __future__ import annotations

import pytest
from driving import LINE, Drive, problem

from tunewright.core.algorithm import Stop
from tunewright.core.events import Ended, Reported, Signalled
from tunewright.core.problem import Fidelity, Objective, Problem
from tunewright.errors import ConfigError, UnsupportedError
from tunewright.samplers.random import Random
from tunewright.schedulers.median import Median


def completed(drive: Drive, trial: int, losses: list[float], outcome: str = "completed") -> None:
    drive.tell(*(Reported(trial, 1, s + 1, {"loss": v}) for s, v in enumerate(losses)))
    drive.tell(Ended(trial, 1, outcome, {"loss": losses[-1]}, len(losses)))  # type: ignore[arg-type]


def test_the_best_so_far_is_compared_with_the_median_of_running_averages() -> None:
    drive = Drive(Median(Random(), after=3))
    drive.begin(4)
    for trial, (first, second) in enumerate([(4.0, 2.0), (6.0, 0.0), (9.0, 9.0)]):
        completed(drive, trial, [first, second])
    # Running averages at step 2: 3, 3 and 9, so the median is 3.
    drive.tell(Reported(3, 1, 1, {"loss": 6.0}))
    assert drive.ask(0) == (), "6 is the median at step 1"
    drive.tell(Reported(3, 1, 2, {"loss": 3.1}))
    assert drive.ask(0) == (Stop(3, {"step": 2, "best": 3.1, "median": 3.0}),)


def test_an_even_number_of_trials_has_the_middle_as_its_median() -> None:
    drive = Drive(Median(Random(), after=2))
    drive.begin(3)
    completed(drive, 0, [1.0])
    completed(drive, 1, [2.0])
    drive.tell(Reported(2, 1, 1, {"loss": 1.5}))
    assert drive.ask(0) == ()
    drive.begin()
    drive.tell(Reported(3, 1, 1, {"loss": 1.6}))
    assert [a.trial for a in drive.ask(0)] == [3]


@pytest.mark.parametrize("outcome", ["failed", "stopped", "lost"])
def test_only_completed_trials_are_the_measure(outcome: str) -> None:
    drive = Drive(Median(Random(), after=1))
    drive.begin(2)
    completed(drive, 0, [0.0], outcome)
    drive.tell(Reported(1, 1, 1, {"loss": 5.0}))
    assert drive.ask(0) == ()


def test_nothing_is_stopped_too_early_or_at_the_last_step() -> None:
    drive = Drive(Median(Random(), after=1), problem(4, 3))
    drive.begin(2)
    completed(drive, 0, [0.0] * 4)
    drive.tell(Reported(1, 1, 2, {"loss": 5.0}))
    assert drive.ask(0) == ()
    drive.tell(Reported(1, 1, 4, {"loss": 5.0}))
    assert drive.ask(0) == ()


def test_a_bad_report_is_passed_over_and_an_accepted_stop_forgotten() -> None:
    drive = Drive(Median(Random(), after=1))
    drive.begin(2)
    completed(drive, 0, [0.0, 0.0])
    drive.tell(Reported(1, 1, 1, {}, {"loss": "nan"}))
    assert drive.ask(0) == ()
    drive.tell(Reported(1, 1, 2, {"loss": 1.0}))
    assert len(drive.ask(0)) == 1
    drive.tell(Signalled(1, "stop"))
    assert drive.ask(0) == ()


def test_settings_and_problems_are_checked() -> None:
    with pytest.raises(ConfigError, match="whole number after >= 1"):
        Median(Random(), after=0)
    with pytest.raises(UnsupportedError, match="Median needs trials that report by step"):
        Median(Random()).init(Problem(LINE))
    with pytest.raises(UnsupportedError, match="Median needs one objective"):
        Median(Random()).init(Problem(LINE, (Objective("a"), Objective("b")), Fidelity(3)))
