from __future__ import annotations

from dataclasses import dataclass

from tunewright.core.algorithm import Start, generator
from tunewright.core.closing import Silent, closed
from tunewright.core.domains import Float
from tunewright.core.events import Started
from tunewright.core.problem import Fidelity, Problem
from tunewright.core.space import Space
from tunewright.samplers.grid import Grid
from tunewright.samplers.random import Random
from tunewright.schedulers.halting import Halting
from tunewright.schedulers.median import Median

PROBLEM = Problem(Space(x=Float(0, 1)), fidelity=Fidelity(9))


def test_a_closed_scheduler_shares_the_state_and_begins_nothing() -> None:
    for scheduler in (Halting(Random()), Median(Random())):
        state = scheduler.init(PROBLEM)
        assert isinstance(scheduler.ask(state, 1, generator(0, 0))[0], Start)
        assert closed(scheduler).ask(state, 1, generator(0, 0)) == ()
        assert closed(scheduler).init(PROBLEM) == state


def test_a_silent_sampler_learns() -> None:
    silent = Silent(Grid(3))
    state = silent.tell(silent.init(PROBLEM), [Started(0, {"x": 0.5})])
    open_before = Grid(3).ask(Grid(3).init(PROBLEM), 9, generator(0, 0))
    open_after = Grid(3).ask(state, 9, generator(0, 0))
    assert len(open_after) == len(open_before) - 1
    assert silent.ask(state, 9, generator(0, 0)) == ()


def test_what_wraps_no_sampler_is_left_alone() -> None:
    @dataclass(frozen=True)
    class Named(Random):
        sampler: str = "a name, not a sampler"

    for method in (Random(), Named()):
        assert closed(method) is method
