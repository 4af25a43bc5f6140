from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from driving import Drive, problem

from tunewright.core.algorithm import Resume, Start
from tunewright.core.closing import closed
from tunewright.core.domains import Float
from tunewright.core.events import Ended, Event, Extended, Paused, Reported, Started
from tunewright.core.problem import Fidelity, Objective, Problem
from tunewright.core.space import Space
from tunewright.errors import ConfigError, UnsupportedError
from tunewright.samplers.random import Random
from tunewright.schedulers.deepening import Deepening
from tunewright.schedulers.hyperband import Hyperband

VARIANTS = ("efficient", "preserving", "discarding")


class Longer(Drive):
    """A drive that can make trainings longer, as a session does: everything is told anew."""

    def __init__(self, algorithm: Any, of: Problem) -> None:
        self.news: list[Event] = []
        super().__init__(algorithm, of)

    def tell(self, *events: Event) -> None:
        self.news += events
        super().tell(*events)

    def extend(self, high: int) -> None:
        assert self.problem.fidelity is not None
        self.news.append(Extended(high, self.problem.fidelity.high))
        self.problem = self.problem.extended(high)
        self.state = self.algorithm.tell(self.algorithm.init(self.problem), self.news)


def played(drive: Drive, segments: int, losses: dict[tuple[int, int], float] | None = None) -> list[str]:
    """Runs segments one after the other: ``1:3`` is trial 1 to three steps; a fork begins with its donor."""
    seen = []
    for _ in range(segments):
        (action,) = drive.ask()
        (trial,) = begun(drive, action)
        until = drive.untils[trial]
        donor = (
            f"{action.parent[0]}@{action.parent[1]}>" if isinstance(action, Start) and action.parent else ""
        )
        seen.append(f"{donor}{trial}:{until}")
        drive.finish(trial, (losses or {}).get((trial, until), float(trial)))
    return seen


def begun(drive: Drive, action: Any) -> list[int]:
    drive.turn -= 1  # the same question again, now accepted
    return drive.begin()


@pytest.mark.parametrize("variant", VARIANTS)
def test_while_nothing_becomes_longer_it_is_hyperband(variant: Any) -> None:
    losses = {(t, s): float((t * 7) % 13) + t / 100 for t in range(99) for s in (1, 3, 9)}
    ours, theirs = Drive(Deepening(Random(), variant=variant)), Drive(Hyperband(Random()))
    assert played(ours, 60, losses) == played(theirs, 60, losses)


# Trainings of 3 steps, eta = 3: brackets 3 1 and 2. Of trials 0, 1, 2 the best is 1, which has the best loss of all after 3
# steps. Then trainings have 9 steps: brackets 9 3 1, 5 1 and 3.
EARLY = {(0, 1): 5.0, (1, 1): 1.0, (2, 1): 6.0, (1, 3): -1.0, (3, 3): 4.0, (4, 3): 2.0}
# Six more begin in the first bracket, and four of them are better than trial 1 after one step.
LATE = {(5, 1): 0.1, (6, 1): 0.2, (7, 1): 0.3, (8, 1): 0.4, (5, 3): 3.0, (6, 3): 2.0, (7, 3): 1.0}
BY_HAND = {
    # One of three places on the next rung is taken by trial 1: the best two others go on.
    "efficient": ["5:3", "6:3", "1@3>11:9"],
    # The best three of nine go on; after three steps trial 1 is the best of four.
    "preserving": ["5:3", "6:3", "7:3", "1@3>11:9"],
    # The best three of nine go on; trial 1 would not be among them, so that its later result is set aside.
    "discarding": ["5:3", "6:3", "7:3", "7:9"],
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_brackets_grow_and_keep_what_was_paid_for(variant: Any) -> None:
    drive = Longer(Deepening(Random(), variant=variant), problem(3))
    assert played(drive, 6, EARLY) == ["0:1", "1:1", "2:1", "1:3", "3:3", "4:3"]
    drive.extend(9)
    assert played(drive, 6, LATE) == [f"{t}:1" for t in range(5, 11)]
    by_hand = BY_HAND[variant]
    assert played(drive, len(by_hand), LATE) == by_hand
    # The second bracket has two of five trials already, and the best of them, trial 4, goes on as a fork.
    n = len(drive.untils)
    top_up = played(drive, 4, {(t, 3): 50.0 for t in range(n, n + 3)})
    assert top_up == [f"{n}:3", f"{n + 1}:3", f"{n + 2}:3", f"4@3>{n + 3}:9"]
    assert played(drive, 4) == [f"{t}:9" for t in range(n + 4, n + 7)] + [f"{n + 7}:1"]


@pytest.mark.parametrize("variant", VARIANTS)
def test_trainings_may_become_longer_again(variant: Any) -> None:
    drive = Longer(Deepening(Random(), variant=variant), problem(3))
    played(drive, 6, EARLY)
    drive.extend(9)
    played(drive, 30, {(t, s): float(t % 5) + 1 + t / 1000 for t in range(99) for s in (1, 3, 9)})
    drive.extend(27)
    seen = played(drive, 60, {(t, s): float(t % 5) + 1 + t / 1000 for t in range(199) for s in (1, 3, 9, 27)})
    assert any(s.endswith(":27") and "@9>" in s for s in seen), "a former full training goes on as a fork"
    begun = [s for s in seen if "@" not in s and s.endswith(":1")]
    assert len(begun) == len(set(begun))


def test_trials_of_all_rounds_top_up_the_first_brackets() -> None:
    drive = Longer(Deepening(Random()), problem(3))
    played(drive, 12)
    assert drive.state.opened == [2, 2]
    drive.extend(9)
    assert [(k, b.started) for k, b in drive.state.open.items()] == [((0, 0), 6), ((0, 1), 4)]


def test_longer_trainings_of_another_ratio() -> None:
    drive = Longer(Deepening(Random()), problem(30))
    played(drive, 40)
    drive.extend(100)
    seen = played(drive, 30)
    assert all(int(s.split(":")[1]) in (1, 4, 11, 33, 100) for s in seen)


def test_a_finished_bracket_rests_until_trainings_become_longer() -> None:
    drive = Longer(Deepening(Random()), problem(3))
    for trial in drive.begin(3):
        drive.finish(trial, float(trial))
    (trial,) = drive.begin()
    drive.tell(Ended(trial, 1, "completed", {"loss": 0.0}, 2))
    assert list(drive.state.done) == [(0, 0)]
    assert not drive.state.open
    for _ in range(20):
        drive.finish(drive.begin()[0], 1.0)
    assert list(drive.state.done) == [(0, 0)]


def test_finished_brackets_are_forgotten() -> None:
    drive = Drive(Deepening(Random()))
    played(drive, 400)
    assert len(drive.state.open) <= 2
    assert len(drive.state.member) <= 20
    assert not drive.state.done


@pytest.mark.parametrize("workers", [2, 5, 30])
def test_no_worker_is_idle(workers: int) -> None:
    drive = Drive(Deepening(Random()))
    running: list[int] = []
    for turn in range(150):
        begun = drive.begin(workers - len(running))
        assert len(begun) == workers - len(running)
        running += begun
        drive.finish(running.pop((turn * 7) % len(running)), float(turn % 5))


def test_a_closed_study_goes_on_after_it_became_longer() -> None:
    drive = Longer(Deepening(Random()), problem(3))
    played(drive, 6, EARLY)
    drive.algorithm = closed(drive.algorithm)
    assert drive.ask() == ()
    drive.extend(9)
    assert played(drive, 2, EARLY) == ["1@3>5:9", "4@3>6:9"]
    assert drive.ask() == ()


def test_a_failed_fork_is_not_repeated() -> None:
    drive = Longer(Deepening(Random()), problem(3))
    played(drive, 6, EARLY)
    drive.algorithm = closed(drive.algorithm)
    drive.extend(9)
    (fork,) = drive.begin()
    drive.finish(fork, None)
    assert [a.parent for a in drive.ask(3)] == [(4, 3)]


def test_enqueued_trials_stay_outside() -> None:
    drive = Drive(Deepening(Random()))
    drive.untils.append(9)
    drive.tell(Started(0, {"x": 0.1}, None, by="queue"), Reported(0, 1, 1, {"loss": 0.0}))
    assert not drive.state.member
    assert drive.begin() == [1]


def test_several_objectives_when_former_promotions_are_discarded() -> None:
    two = Problem(Space(x=Float(0, 1)), (Objective("a"), Objective("b")), Fidelity(3))
    drive = Longer(Deepening(Random(), variant="discarding"), two)
    for trial, both in enumerate([(2.0, 2.0), (1.0, 1.0), (3.0, 3.0)]):
        drive.begin()
        drive.tell(Reported(trial, 1, 1, dict(zip("ab", both, strict=True))), Paused(trial, 1, 1))
    assert drive.ask() == (Resume(1, 3, {"rung": 1, "of": 3}),)


def test_what_it_refuses() -> None:
    with pytest.raises(ConfigError, match="efficient, preserving, discarding"):
        replace(Deepening(Random()), variant="other")  # type: ignore[arg-type]
    with pytest.raises(ConfigError):
        Deepening(Random(), eta=1)
    with pytest.raises(UnsupportedError, match="by step"):
        Deepening(Random()).init(Problem(Space(x=Float(0, 1))))
