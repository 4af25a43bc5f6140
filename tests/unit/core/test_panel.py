from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tunewright.core.algorithm import Action, Start, generator
from tunewright.core.domains import Float
from tunewright.core.events import Ended, Event, Paused, Reported, Resumed, Started
from tunewright.core.history import History
from tunewright.core.panel import Panel
from tunewright.core.problem import Fidelity, Problem
from tunewright.core.space import Space

PROBLEM = Problem(Space(x=Float(0, 1)), fidelity=Fidelity(9))


@dataclass(frozen=True)
class Names:
    """Proposes the number of results it knows, so that a test sees who was asked."""

    def init(self, problem: Problem) -> History:
        return History(problem)

    def tell(self, state: History, events: Sequence[Event]) -> History:
        for event in events:
            state.apply(event)
        return state

    def ask(self, state: History, slots: int, rng: np.random.Generator) -> tuple[Action, ...]:
        return tuple(Start({"x": int(state.usable.sum()) / 100}) for _ in range(slots))


def panel(*events: Event) -> Panel:
    made = Panel.of(Names(), PROBLEM, (1, 3, 9))
    made.apply(Names(), events)
    return made


def losses(made: Panel) -> list[list[float | None]]:
    return [[None if v != v else v for v in s.loss.tolist()] for s in made.states]


def started(number: int) -> Started:
    return Started(number, {"x": 0.5}, 1)


def report(number: int, step: int, loss: float) -> Reported:
    return Reported(number, 1, step, {"loss": loss})


def test_each_level_hears_its_own_loss() -> None:
    made = panel(
        started(0), report(0, 1, 5.0), report(0, 2, 4.0), report(0, 3, 3.0), started(1), report(1, 1, 7.0)
    )
    assert losses(made) == [[5.0, 7.0], [3.0, None], [None, None]]
    assert made.results == [2, 1, 0]
    assert [s.steps.tolist() for s in made.states] == [[1, 1], [3, 0], [0, 0]]


def test_a_report_beyond_a_level_counts_for_it() -> None:
    made = panel(started(0), report(0, 4, 2.0), report(0, 8, 1.0))
    assert losses(made) == [[2.0], [2.0], [None]]


def test_rests_and_restarts_are_heard_everywhere() -> None:
    made = panel(started(0), report(0, 1, 1.0), Paused(0, 1, 1))
    assert [bool(s.pending.any()) for s in made.states] == [False, False, False]
    made.apply(Names(), [Resumed(0, 1, 3)])
    assert [bool(s.pending.any()) for s in made.states] == [False, True, True]


def test_a_full_training_counts_for_more_at_the_top_only() -> None:
    made = panel(started(0), report(0, 1, 5.0), report(0, 3, 4.0), report(0, 9, 3.0))
    made.apply(Names(), [Ended(0, 1, "completed", {"loss": 2.5}, 9)])
    assert losses(made) == [[5.0], [4.0], [2.5]]
    assert made.results == [1, 1, 1]
    assert made.steps == {}


def test_an_early_end_counts_for_every_higher_level() -> None:
    made = panel(started(0), report(0, 1, 5.0), Ended(0, 1, "completed", {"loss": 1.0}, 2))
    assert losses(made) == [[5.0], [1.0], [1.0]]
    assert made.results == [1, 1, 1]


def test_failures_are_failures_at_every_level() -> None:
    made = panel(started(0), report(0, 1, 5.0), Ended(0, 1, "out_of_memory"))
    assert losses(made) == [[None], [None], [None]]
    assert not any(s.usable.any() for s in made.states)


def test_a_fork_is_not_heard_below_its_parent() -> None:
    made = panel(Started(0, {"x": 0.1}, 9, parent=(4, 3)), report(0, 4, 1.0), report(0, 9, 0.5))
    assert losses(made) == [[None], [None], [0.5]]


def test_the_highest_level_with_enough_results_is_asked() -> None:
    made = panel()
    asked: list[Any] = []
    for number in range(12):
        steps = (1, 3) if number >= 4 else (1,)
        made.apply(Names(), [started(number), *(report(number, s, 1.0) for s in steps)])
        asked.append(round(100 * made.ask(Names(), 1, generator(0, number))[0].config["x"]))
    # Five results at 3 steps exist from the ninth trial on.
    assert asked == [1, 2, 3, 4, 5, 6, 7, 8, 5, 6, 7, 8]
    assert len(made.ask(Names(), 3, generator(0, 0))) == 3


def test_in_pieces_and_at_once() -> None:
    events: list[Event] = [started(0), report(0, 1, 1.0), started(1), Paused(0, 1, 1), report(1, 3, 2.0)]
    pieces = panel()
    for event in events:
        pieces.apply(Names(), [event])
    assert losses(pieces) == losses(panel(*events))
    assert pieces.results == panel(*events).results


@dataclass(frozen=True)
class Mixes(Names):
    """Wants the last loss of every trial, however far it was trained."""

    mixes_levels = True


def test_a_sampler_that_mixes_levels_hears_the_last_loss_of_every_trial() -> None:
    made = Panel.of(Mixes(), PROBLEM, (1, 3, 9))
    made.apply(Mixes(), [started(0), report(0, 1, 5.0), report(0, 3, 3.0), started(1), report(1, 1, 7.0)])
    made.apply(Mixes(), [Paused(1, 1, 1), Ended(0, 1, "stopped", step=3), started(2)])
    assert losses(made) == [[3.0, 7.0, None]]
    assert made.states[0].pending.tolist() == [False, False, True]
    assert made.ask(Mixes(), 1, generator(0, 0))[0].config == {"x": 0.02}
