from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tunewright import catalog
from tunewright.analysis.crossing import agreements, warning
from tunewright.bench.simulate import Task, simulate
from tunewright.core.domains import Float
from tunewright.core.events import Ended, Record, Reported, Started
from tunewright.core.problem import Fidelity, Limit, Objective, Problem
from tunewright.core.space import Space
from tunewright.core.trial import Ledger
from tunewright.errors import ConfigError, UnsupportedError

LINE = Space(x=Float(0, 1))


def study(curves: list[dict[int, dict[str, float]]], problem: Problem, completed: bool = True) -> Ledger:
    """Trials with these metrics by step."""
    ledger = Ledger(problem)
    high = problem.fidelity.high if problem.fidelity else 0
    for number, curve in enumerate(curves):
        events: list[Any] = [Started(number, {"x": 0.5}, high)]
        events += [Reported(number, 1, step, metrics) for step, metrics in curve.items()]
        if completed and high in curve:
            events.append(Ended(number, 1, "completed", curve[high], high))
        for event in events:
            ledger.apply(Record(ledger.cursor + 1, 0.0, "", event))
    return ledger


def losses(*rows: tuple[float, ...]) -> list[dict[int, dict[str, float]]]:
    return [dict(zip((1, 3, 9), ({"loss": v} for v in row), strict=False)) for row in rows]


PLAIN = Problem(LINE, fidelity=Fidelity(9))


def test_each_level_is_compared_with_the_next_and_the_last() -> None:
    ledger = study(losses((1, 1, 3), (2, 2, 2), (3, 3, 1), (0, 0)), PLAIN)
    found = {(a.early, a.late): (a.n, a.tau) for a in agreements(ledger.trials, PLAIN)}
    assert found == {(1, 3): (4, 1.0), (1, 9): (3, -1.0), (3, 9): (3, -1.0)}
    assert warning(agreements(ledger.trials, PLAIN)) is None, "three trials prove nothing"


def test_many_trials_in_the_opposite_order_are_a_warning() -> None:
    ledger = study(losses(*((i, i, -i) for i in range(12))), PLAIN)
    found = agreements(ledger.trials, PLAIN)
    assert [a.misleads for a in found] == [False, True, True]
    text = warning(found)
    assert text is not None
    assert "after 3 steps, 12 trials are in an order against that after 9 (rank correlation -1.00" in text
    assert "method='guarded'" in text


def test_reports_beside_the_levels_count_once_each() -> None:
    steps = [{2: {"loss": 1.0}, 4: {"loss": 2.0}}, {5: {"loss": 2.0}}, {1: {"loss": 3.0}, 7: {"loss": 1.0}}]
    (found,) = agreements(study(steps, PLAIN).trials, PLAIN)
    assert (found.early, found.late, found.n, found.tau) == (1, 3, 2, -1.0)


def test_final_values_are_those_of_the_end() -> None:
    ledger = study(losses((1, 1, 5), (2, 2, 6)), PLAIN, completed=False)
    for number, value in enumerate((9.0, 8.0)):
        event = Ended(number, 1, "completed", {"loss": value}, 9)
        ledger.apply(Record(ledger.cursor + 1, 0.0, "", event))
    assert {a.tau for a in agreements(ledger.trials, PLAIN) if a.late == 9} == {-1.0}


def test_limits_and_several_objectives_are_ordered_as_at_the_rungs() -> None:
    bound = Problem(LINE, fidelity=Fidelity(3), limits=(Limit("size", 1.0),))
    curves = [{1: {"loss": float(i), "size": 9.0 - i}, 3: {"loss": float(i), "size": 0.0}} for i in range(4)]
    assert [a.tau for a in agreements(study(curves, bound).trials, bound)] == [-1.0]
    two = Problem(LINE, (Objective("a"), Objective("b", "maximize")), Fidelity(3))
    curves = [{s: {"a": float(i), "b": -float(i)} for s in (1, 3)} for i in range(4)]
    assert [a.tau for a in agreements(study(curves, two).trials, two)] == [1.0]


def test_missing_and_diverged_results_are_left_out() -> None:
    curves = [*losses((1, 1, 1), (2, 2, 2)), {1: {}, 3: {"loss": 1.0}, 9: {"other": 1.0}}, {}]
    assert {a.n for a in agreements(study(curves, PLAIN).trials, PLAIN)} == {2}
    assert agreements([], PLAIN) == []


def test_a_study_of_asha_shows_that_it_was_misled() -> None:
    def curve(config: Any) -> tuple[Any, Any]:
        done = np.arange(1, 82) / 81
        return done * config["x"] + (1 - done) * (2 - config["x"]), np.ones(81)

    task = Task("crossing", Problem(LINE, fidelity=Fidelity(81)), curve, 0.0, 0.5)
    trace = simulate(catalog.build("asha(random)"), task, steps=30 * 81)
    assert warning(agreements(trace.ledger.trials, task.problem)) is not None
    straight = Task(
        "straight", task.problem, lambda c: (c["x"] + 1 / np.arange(1, 82), np.ones(81)), 0.0, 0.5
    )
    trace = simulate(catalog.build("asha(random)"), straight, steps=30 * 81)
    assert warning(agreements(trace.ledger.trials, task.problem)) is None


def test_wrong_use_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="report by step"):
        agreements([], Problem(LINE))
    with pytest.raises(ConfigError, match="finite eta > 1"):
        agreements([], PLAIN, eta=1.0)
