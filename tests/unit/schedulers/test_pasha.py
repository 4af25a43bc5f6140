from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from driving import Drive, problem

from tunewright.core.algorithm import Resume, Start
from tunewright.core.closing import closed
from tunewright.core.domains import Float
from tunewright.core.events import Ended, Paused, Reported, Started
from tunewright.core.problem import Fidelity, Limit, Objective, Problem
from tunewright.core.space import Space
from tunewright.errors import ConfigError, UnsupportedError
from tunewright.samplers.random import Random
from tunewright.schedulers.pasha import Pasha


def steady(trial: int, step: int) -> float:
    """Curves that never cross."""
    return float(trial)


def swapped(trial: int, step: int) -> float:
    """Trials 0 and 3 begin best, half a unit apart, and change places between one and three steps."""
    if trial in (0, 3):
        return (0.0, 0.5)[trial == 3] if step == 1 else (2.0, 1.0)[trial == 3]
    return 5.0 + trial


def played(drive: Drive, segments: int, loss: Callable[[int, int], float] = steady) -> list[int]:
    """Runs segments one after the other; returns the steps at which they end."""
    ends = []
    for _ in range(segments):
        (trial,) = drive.begin()
        ends.append(drive.untils[trial])
        drive.finish(trial, loss(trial, ends[-1]))
    return ends


def test_while_rankings_agree_nothing_is_trained_longer() -> None:
    drive = Drive(Pasha(Random()), problem(81))
    assert max(played(drive, 60)) == 3
    assert drive.state.growths == []


def test_a_changed_ranking_raises_the_top_rung() -> None:
    drive = Drive(Pasha(Random()), problem(81))
    ends = played(drive, 7, swapped)
    assert drive.state.top == 1
    assert 3 in ends
    ends += played(drive, 40, swapped)
    assert drive.state.growths[0] == 2
    assert 9 in ends
    assert 27 not in ends, "from there on the ranking is settled"


def test_differences_within_epsilon_change_nothing() -> None:
    drive = Drive(Pasha(Random()), problem(81))
    drive.state.epsilon = 0.5
    played(drive, 30, swapped)
    assert drive.state.growths == []


def test_epsilon_is_learned_from_curves_that_cross_and_cross_back() -> None:
    drive = Drive(Pasha(Random()), problem(27, 3))
    curves = {0: (1.0, 3.0, 1.0), 1: (2.0, 2.0, 2.5)}
    for trial, losses in curves.items():
        drive.tell(Started(trial, {"x": 0.1}, 9))
        for step, loss in zip((3, 6, 9), losses, strict=True):
            drive.tell(Reported(trial, 1, step, {"loss": loss}))
        drive.tell(Paused(trial, 1, 9))
    assert drive.state.epsilon == 1.5
    assert drive.state.gaps == [1.5]


def test_it_ends_as_asha_when_rankings_never_settle() -> None:
    drive = Drive(Pasha(Random()), problem(9))
    rng = np.random.default_rng(0)
    for _ in range(120):
        (trial,) = drive.begin()
        drive.finish(trial, float(rng.random()))
    assert drive.state.grown
    assert 9 in drive.untils
    assert not drive.state.curves
    assert not drive.state.last


def test_a_closed_study_trains_its_best_to_the_end() -> None:
    drive = Drive(Pasha(Random()), problem(81))
    played(drive, 40)
    assert max(drive.untils) == 3
    drive.algorithm = closed(drive.algorithm)
    while begun := drive.begin():
        drive.finish(begun[0], float(begun[0]))
    assert drive.untils[0] == 81
    assert drive.untils.count(81) == 1


def test_trials_that_diverge_fail_or_break_a_limit_do_not_count() -> None:
    limited = Problem(Space(x=Float(0, 1)), fidelity=Fidelity(9), limits=(Limit("size", 1.0),))
    drive = Drive(Pasha(Random()), limited)
    for trial in range(4):
        drive.tell(Started(trial, {"x": 0.1}, 3), Reported(trial, 1, 1, {"loss": float(trial), "size": 0.0}))
    drive.tell(Reported(0, 1, 3, {}, {"loss": "nan"}), Paused(0, 1, 3))
    drive.tell(Reported(1, 1, 3, {"loss": 8.0, "size": 2.0}), Paused(1, 1, 3))
    drive.tell(Ended(2, 1, "failed"))
    assert drive.state.above == []
    drive.tell(Reported(3, 1, 3, {"loss": 0.0, "size": 0.0}), Paused(3, 1, 3))
    assert drive.state.above == [0.0]
    assert 2 not in drive.state.curves


def test_ends_are_forgotten() -> None:
    drive = Drive(Pasha(Random()), problem(9))
    played(drive, 20)
    for trial in range(len(drive.untils)):
        drive.tell(Ended(trial, 1, "stopped"))
    assert not drive.state.curves
    assert not drive.state.last


def test_one_length_of_training() -> None:
    drive = Drive(Pasha(Random()), problem(2, 2))
    assert played(drive, 5) == [2] * 5
    assert all(isinstance(a, Start) for a in drive.ask(2))


def test_promotions_say_where_from() -> None:
    drive = Drive(Pasha(Random()))
    played(drive, 3)
    assert drive.ask() == (Resume(0, 3, {"rung": 1, "of": 3}),)


def test_what_it_refuses() -> None:
    two = Problem(Space(x=Float(0, 1)), (Objective("a"), Objective("b")), Fidelity(9))
    with pytest.raises(UnsupportedError, match="one objective"):
        Pasha(Random()).init(two)
    for bad in ({"percentile": 101.0}, {"percentile": math.nan}, {"eta": 0.5}):
        with pytest.raises(ConfigError):
            Pasha(Random(), **bad)
