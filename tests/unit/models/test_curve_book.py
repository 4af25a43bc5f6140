"""The curves of a study as a table."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tunewright.core.algorithm import Resume, Start
from tunewright.core.domains import Float
from tunewright.core.events import Ended, Extended, Paused, Reported, Resumed, Started
from tunewright.core.problem import Fidelity, Limit, Objective, Problem
from tunewright.core.space import Space
from tunewright.models.curve_book import Curve, CurveBook
from tunewright.models.curve_tokens import LAST, picked


def book(high: int = 10, limits: tuple[Limit, ...] = ()) -> CurveBook:
    return CurveBook.of(Problem(Space(x=Float(0, 1)), (Objective("loss"),), Fidelity(high), limits))


def feed(
    target: CurveBook, trial: int, losses: list[float], *, x: float = 0.5, until: int | None = None
) -> None:
    target.apply(Started(trial, {"x": x}, until or len(losses)))
    for step, loss in enumerate(losses, 1):
        target.apply(Reported(trial, 1, step, {"loss": loss}))


def test_reports_are_read_and_counted() -> None:
    table = book()
    feed(table, 0, [3.0, 2.0, 2.5])
    np.testing.assert_array_equal(table.picks[0], picked(np.array([3.0, 2.0, 2.5]), np.array([1, 2, 3]), 10))
    assert table.seen[0] == 3
    assert not len(table.idle())
    table.apply(Paused(0, 1, 3))
    assert table.idle().tolist() == [0]
    table.apply(Resumed(0, 3, 7))
    assert table.curves[0].until == 7
    assert not len(table.idle())


def test_long_curves_are_thinned_but_their_minimum_is_kept() -> None:
    table = book(1000)
    losses = [1.0 + (s % 20) / 100 for s in range(1, 401)]
    losses[105] = 0.2
    feed(table, 0, losses)
    curve = table.curves[0]
    assert table.unit == 20
    assert len(curve.steps) == 20
    assert curve.steps[-1] == 400
    assert curve.lowest == table.picks[0, -1] == 0.2


def test_the_table_grows() -> None:
    table = book()
    for trial in range(40):
        feed(table, trial, [float(trial)])
    np.testing.assert_array_equal(table.picks[:40, -1], np.arange(40.0))


def test_what_diverges_is_infinite_and_not_continued() -> None:
    table = book()
    feed(table, 0, [1.0])
    table.apply(Reported(0, 1, 2, {}, {"loss": "nan"}))
    table.apply(Paused(0, 1, 2))
    assert table.picks[0, LAST] == math.inf
    assert table.picks[0, -1] == 1.0
    assert not len(table.idle())


def test_a_report_without_the_metric_only_moves_the_clock() -> None:
    table = book()
    feed(table, 0, [1.0])
    table.apply(Reported(0, 1, 2, {"other": 3.0}))
    assert table.seen[0] == 1
    assert table.curves[0].step == 2


def test_a_failed_trial_counts_as_the_worst() -> None:
    table = book()
    table.apply(Started(0, {"x": 0.1}, 3))
    table.apply(Ended(0, 1, "failed"))
    assert table.seen[0] == 1
    assert np.isinf(table.picks[0]).all()


def test_a_broken_limit_is_infinite_and_one_not_measured_is_not() -> None:
    table = book(limits=(Limit("size", 5.0),))
    table.apply(Started(0, {"x": 0.1}, 3))
    table.apply(Reported(0, 1, 1, {"loss": 1.0}))
    assert table.picks[0, LAST] == 1.0
    table.apply(Reported(0, 1, 2, {"loss": 0.5, "size": 6.0}))
    assert table.picks[0, LAST] == math.inf
    table.apply(Reported(0, 1, 3, {"loss": 0.7, "size": 4.0}))
    assert table.picks[0, LAST] == 0.7


def test_the_metrics_at_the_end_are_a_report() -> None:
    table = book()
    table.apply(Started(0, {"x": 0.1}))
    table.apply(Ended(0, 1, "completed", {"loss": 0.3}))
    assert table.seen[0] == 10
    assert table.picks[0, LAST] == 0.3


def test_a_full_training_of_old_goes_on_as_a_fork() -> None:
    table = book(20)
    feed(table, 0, [3.0, 2.0])
    table.apply(Ended(0, 1, "completed", {"loss": 2.0}, 2))
    assert not len(table.idle())
    table.apply(Extended(20, 2))
    assert table.idle().tolist() == [0]
    action = table.continued(0, 5, {"chance": 0.5})
    assert isinstance(action, Start)
    assert (action.parent, action.until, action.config) == ((0, 2), 5, {"x": 0.5})
    table.apply(Started(1, {"x": 0.5}, 5, (0, 2)))
    table.apply(Paused(1, 2, 2))
    assert table.idle().tolist() == [1]
    np.testing.assert_array_equal(table.picks[1], table.picks[0])
    assert isinstance(table.continued(1, 5, {}), Resume)


@pytest.mark.parametrize("seed", range(3))
def test_a_curve_reads_as_the_function_for_arrays_does(seed: int) -> None:
    rng = np.random.default_rng(seed)
    steps = np.sort(rng.choice(np.arange(1, 81), size=11, replace=False))
    losses = rng.random(11)
    curve = Curve()
    for step, loss in zip(steps.tolist(), losses.tolist(), strict=True):
        curve.add(step, loss, 1)
    np.testing.assert_array_equal(curve.picks(80), picked(losses, steps, 80))
