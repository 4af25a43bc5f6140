from __future__ import annotations

import math

import numpy as np
import pytest
from driving import Drive, problem

from tunewright.core.algorithm import Resume, Start
from tunewright.core.closing import closed
from tunewright.core.domains import Choice, Float
from tunewright.core.events import Ended, Paused, Reported, Resumed, Started
from tunewright.core.problem import Fidelity, Limit, Objective, Problem
from tunewright.core.space import Space
from tunewright.errors import ConfigError, UnsupportedError
from tunewright.samplers.random import Random
from tunewright.schedulers.dehb import Dehb


def played(drive: Drive, segments: int) -> list[tuple[str, int, int]]:
    """Runs segments one after the other; (begun or resumed, trial, until) of each."""
    order = []
    while len(order) < segments:
        before = len(drive.untils)
        (trial,) = drive.begin()
        order.append(("new" if len(drive.untils) > before else "on", trial, drive.untils[trial]))
        drive.finish(trial, float(trial % 7) + trial / 1000)
    return order


def test_the_first_round_promotes_and_the_next_ones_evolve_on_every_rung() -> None:
    order = played(Drive(Dehb(Random())), 44)
    counts = [(kind, until) for kind, _, until in order]
    first = (
        [("new", 1)] * 9 + [("on", 3)] * 3 + [("on", 9)] + [("new", 3)] * 5 + [("on", 9)] + [("new", 9)] * 3
    )
    assert counts[:22] == first
    second = [("new", 1)] * 9 + [("new", 3)] * 3 + [("new", 9)] + [("new", 3)] * 5 + [("new", 9)] * 4
    assert counts[22:44] == second


def test_the_best_of_the_population_below_are_promoted_once() -> None:
    order = played(Drive(Dehb(Random())), 19)
    assert [t for kind, t, until in order if kind == "on" and until == 3] == [0, 7, 1]
    # Losses at 3 steps: 0, 1, 7 of the first bracket, of which 0 went on, and 9 to 13 of the second: 7 has 0.007.
    assert [t for kind, t, until in order if kind == "on" and until == 9] == [0, 7]


@pytest.mark.parametrize("workers", [2, 5, 30])
def test_no_worker_is_idle(workers: int) -> None:
    drive = Drive(Dehb(Random()))
    running: list[int] = []
    for turn in range(150):
        begun = drive.begin(workers - len(running))
        begun += drive.begin(workers - len(running) - len(begun))
        assert len(begun) == workers - len(running)
        running += begun
        drive.finish(running.pop((turn * 7) % len(running)), float(turn % 5))
    assert len(drive.state.open) <= workers + 3


def test_a_trial_replaces_the_member_of_its_place_if_it_is_as_good() -> None:
    drive = Drive(Dehb(Random()))
    played(drive, 22)
    assert drive.state.turns == [9, 8, 5]
    before = list(drive.state.populations[0])
    for loss in (math.inf, 100.0, -1.0):
        (trial,) = drive.begin()
        drive.finish(trial, None if math.isinf(loss) else loss)
    after = drive.state.populations[0]
    assert after[:2] == before[:2]
    assert after[2] == (0.0, -1.0, trial)
    held = after[3]
    assert held is not None
    (trial,) = drive.begin()
    drive.finish(trial, held[1])
    assert after[3] == (0.0, held[1], trial)


def test_limits_come_before_losses() -> None:
    limited = Problem(Space(x=Float(0, 1)), fidelity=Fidelity(3), limits=(Limit("size", 1.0),))
    drive = Drive(Dehb(Random()), limited)
    for trial in range(3):
        drive.begin()
        drive.tell(Reported(trial, 1, 1, {"loss": float(trial), "size": 2.0 - trial}), Paused(trial, 1, 1))
    assert [a.trial for a in drive.ask() if isinstance(a, Resume)] == [1]


def test_failures_never_block_and_are_no_members() -> None:
    drive = Drive(Dehb(Random()))
    drive.begin(9)
    for trial in range(8):
        drive.finish(trial, None)
    drive.tell(Reported(8, 1, 1, {}, {"loss": "nan"}), Paused(8, 1, 1))
    assert not any(drive.state.populations[0])
    (action,) = drive.ask()
    assert isinstance(action, Start)
    assert action.until == 3, "nobody can be promoted: the next bracket begins"
    assert not drive.state.open


def test_a_cut_trial_is_resumed_first() -> None:
    drive = Drive(Dehb(Random()), problem(81))
    played(drive, 81)
    (trial,) = drive.begin()
    assert drive.untils[trial] == 3
    drive.tell(Reported(trial, 1, 2, {"loss": 0.0}), Paused(trial, 1, 2))
    assert drive.ask()[0] == Resume(trial, 3)
    drive.tell(Resumed(trial, 2, 3))
    drive.finish(trial, 1.0)
    assert not drive.state.cut


def test_who_is_stopped_while_waiting_for_its_promotion_is_left_out() -> None:
    drive = Drive(Dehb(Random()))
    played(drive, 9)
    waiting = list(drive.state.open[0].going)
    assert len(waiting) == 3
    for trial in waiting:
        drive.tell(Ended(trial, 1, "stopped"))
    assert not drive.state.open
    assert drive.begin() == [9]


def test_an_early_end_counts_at_every_higher_level() -> None:
    drive = Drive(Dehb(Random()))
    drive.begin(9)
    drive.tell(Ended(0, 1, "completed", {"loss": -5.0}, 1))
    assert [members[0] for members in drive.state.populations] == [(0.0, -5.0, 0)] * 3


def test_a_closed_study_goes_on_with_the_same_shares_of_fewer() -> None:
    drive = Drive(Dehb(Random()))
    for trial in drive.begin(4):
        drive.finish(trial, float(trial))
    drive.algorithm = closed(drive.algorithm)
    for until in (3, 3, 9):
        (trial,) = drive.begin()
        assert drive.untils[trial] == until
        drive.finish(trial, float(trial))
    assert drive.ask() == ()


def test_a_closed_study_begins_nothing_in_later_brackets() -> None:
    drive = Drive(Dehb(Random()))
    played(drive, 15)
    drive.algorithm = closed(drive.algorithm)
    seen = []
    while begun := drive.begin():
        seen += [drive.untils[t] for t in begun]
        drive.finish(begun[0], 1.0)
    assert seen == [9], "one of the two that came to the second bracket"


def test_enqueued_trials_stay_outside() -> None:
    drive = Drive(Dehb(Random()))
    drive.untils.append(9)
    drive.tell(Started(0, {"x": 0.1}, None, by="queue"))
    drive.tell(Reported(0, 1, 1, {"loss": 0.0}))
    assert not drive.state.jobs
    assert drive.begin() == [1]


def test_the_population_gathers_where_losses_are_low() -> None:
    space = Space(x=Float(0, 1), y=Float(0, 1), c=Choice(["a", "b", "c", "d"]))
    drive = Drive(Dehb(Random()), Problem(space, fidelity=Fidelity(9)))
    configs: list[dict[str, float | str]] = []

    def loss(c: dict[str, float | str]) -> float:
        return (float(c["x"]) - 0.7) ** 2 + (float(c["y"]) - 0.2) ** 2 + (c["c"] != "c")

    for _ in range(300):
        (action,) = drive.ask()
        if isinstance(action, Start):
            configs.append(action.config)
            drive.untils.append(action.until or 0)
            drive.tell(Started(len(configs) - 1, action.config, action.until))
            trial = len(configs) - 1
        else:
            trial = action.trial
            drive.untils[trial] = action.until
            drive.tell(Resumed(trial, 0, action.until))
        drive.finish(trial, loss(configs[trial]))
    early = np.median([loss(c) for c in configs[:60]])
    late = np.median([loss(c) for c in configs[-60:]])
    assert late < 0.1 < early


def test_what_it_refuses() -> None:
    two = (Objective("a"), Objective("b"))
    with pytest.raises(UnsupportedError, match="one objective"):
        Dehb(Random()).init(Problem(Space(x=Float(0, 1)), two, Fidelity(9)))
    with pytest.raises(UnsupportedError, match="by step"):
        Dehb(Random()).init(Problem(Space(x=Float(0, 1))))
    for bad in ({"f": 0.0}, {"cr": 1.5}, {"eta": 1}, {"f": math.nan}):
        with pytest.raises(ConfigError):
            Dehb(Random(), **bad)
