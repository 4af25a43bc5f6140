from __future__ import annotations

from typing import Any

import pytest
from driving import problem

from tunewright.core.algorithm import Resume, Start, Stop, generator
from tunewright.core.domains import Choice, Float
from tunewright.core.events import Edited, Event, Paused, Reported, Resumed, Started
from tunewright.core.problem import Fidelity, Objective, Problem
from tunewright.core.space import Space
from tunewright.errors import ConfigError, UnsupportedError
from tunewright.samplers.random import Random
from tunewright.schedulers.pb2 import Pb2

WIDE = Space(x=Float(0, 1), kind=Choice(["a", "b"]), size=Float(1, 100, log=True))


def trained(rounds: int, space: Space = WIDE, **options: Any) -> tuple[Pb2, Any]:
    """Four members at different x; each segment gains most near x = 0.7, and nobody is replaced."""
    pb2 = Pb2(Random(), size=4, interval=1, **options)
    state = pb2.init(Problem(space, fidelity=Fidelity(100)))
    losses = [10.0] * 4
    for trial in range(4):
        config = {"x": 0.1 + 0.25 * trial, "kind": "a", "size": 10.0}
        state = pb2.tell(state, [Started(trial, {k: config[k] for k in space.domains}, 1)])
    for step in range(1, rounds + 1):
        for trial in range(4):
            losses[trial] -= 1 - abs(0.1 + 0.25 * trial - 0.7)
            events: list[Event] = [Reported(trial, 1, step, {"loss": losses[trial]}), Paused(trial, 1, step)]
            state = pb2.tell(state, events)
            if step < rounds:
                state = pb2.tell(state, [Resumed(trial, step, step + 1)])
    return pb2, state


def test_gains_are_learnt_from_the_second_rest_on() -> None:
    _, state = trained(3)
    assert state.heard == 8
    gains = [round(g, 2) for _, _, g in state.rows[:4]]
    assert gains == [0.4, 0.65, 0.9, 0.85]
    assert [t for _, t, _ in state.rows] == [2.0] * 4 + [3.0] * 4


def test_a_copy_goes_where_gains_are_large_and_keeps_what_has_no_order() -> None:
    pb2, state = trained(12, resample=0.0)
    found = []
    for seed in range(10):
        actions = pb2.ask(state, 4, generator(0, seed))
        assert [type(a) for a in actions].count(Resume) == 3
        assert [a.trial for a in actions if isinstance(a, Stop)] == [0]
        (start,) = (a for a in actions if isinstance(a, Start))
        assert start.parent is not None and start.parent[1] == 12
        assert start.config["kind"] == "a"
        assert start.why is not None and start.why["deviation"] > 0
        found.append(start.config["x"])
    assert sum(0.45 < x < 0.95 for x in found) >= 8


def test_copies_in_one_decision_do_not_all_try_the_same() -> None:
    pb2, state = trained(6, Space(x=Float(0, 1)), share=0.5)
    starts = [a for a in pb2.ask(state, 4, generator(0, 1)) if isinstance(a, Start)]
    assert len(starts) == 2
    # Without the one that is awaited, the same model would name the same spot.
    assert starts[0].config != starts[1].config
    gains = [s.why["deviation"] for s in starts if s.why is not None]
    assert gains[1] < gains[0]


def test_named_parameters_stay() -> None:
    pb2, state = trained(6, fixed=("x",))
    starts = [a for a in pb2.ask(state, 4, generator(0, 1)) if isinstance(a, Start)]
    assert starts[0].config["x"] == pytest.approx(0.6)
    assert starts[0].config["size"] != 10.0
    with pytest.raises(ConfigError, match="fixed must name"):
        Pb2(Random(), fixed=("y",)).init(problem(9))


def test_another_space_forgets_what_was_learnt() -> None:
    pb2, state = trained(6)
    state = pb2.tell(state, [Edited(Space(z=Float(0, 1)).to_dict())])
    assert (state.rows, state.heard) == ([], 0)
    starts = [a for a in pb2.ask(state, 4, generator(0, 1)) if isinstance(a, Start)]
    assert set(starts[0].config) == {"z"}


@pytest.mark.parametrize("wrong", [{"size": 1}, {"interval": 0}, {"share": 0.7}, {"resample": -0.1}])
def test_wrong_settings_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="Pb2 needs"):
        Pb2(Random(), **wrong)


def test_several_objectives_and_trials_without_steps_are_refused() -> None:
    two = Problem(WIDE, (Objective("loss"), Objective("size")), Fidelity(9))
    with pytest.raises(UnsupportedError, match="one objective; got 2"):
        Pb2(Random()).init(two)
    with pytest.raises(UnsupportedError, match="report by step"):
        Pb2(Random()).init(Problem(WIDE))
