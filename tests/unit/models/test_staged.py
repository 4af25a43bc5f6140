"""Losses at common levels."""

from __future__ import annotations

import numpy as np

from tunewright.core.domains import Float
from tunewright.core.events import Ended, Event, Reported, Started
from tunewright.core.problem import Fidelity, Objective, Problem
from tunewright.core.space import Space
from tunewright.models.staged import Staged, levels_of, log_levels, spread_rows

PROBLEM = Problem(Space(x=Float(0, 1)), fidelity=Fidelity(27))


def staged(events: list[Event], problem: Problem = PROBLEM, most: int = 100) -> Staged:
    out = Staged(problem, levels_of(problem, 3.0), most)
    for event in events:
        out.apply(event)
    return out


def start(trial: int, parent: tuple[int, int] | None = None) -> Started:
    return Started(trial, {"x": (trial % 97) / 97}, 27, parent)


def report(trial: int, step: int, loss: float) -> Reported:
    return Reported(trial, 1, step, {"loss": loss})


def test_levels_are_powers_and_logs_run_from_zero_to_one() -> None:
    assert levels_of(PROBLEM, 3.0) == (1, 3, 9, 27)
    assert levels_of(Problem(PROBLEM.space), 3.0) == (1,)
    np.testing.assert_allclose(log_levels((1, 3, 9, 27)), [0, 1 / 3, 2 / 3, 1])
    assert log_levels((7,)).tolist() == [1.0]


def test_a_loss_is_the_lowest_up_to_the_first_report_at_the_level() -> None:
    events: list[Event] = [
        start(0),
        report(0, 1, 5.0),
        report(0, 2, 1.0),
        report(0, 4, 3.0),
        report(0, 5, 0.5),
    ]
    losses = staged(events).losses[0, :, 0]
    np.testing.assert_array_equal(losses, [5.0, 1.0, np.nan, np.nan])


def test_a_trial_that_completes_early_fills_the_rest() -> None:
    events: list[Event] = [start(0), report(0, 1, 5.0), Ended(0, 1, "completed", {"loss": 2.0}, 4)]
    out = staged(events)
    assert out.losses[0, :, 0].tolist() == [5.0, 2.0, 2.0, 2.0]
    assert out.results == 4


def test_failed_trials_and_reports_without_a_loss_count_for_nothing() -> None:
    events: list[Event] = [
        start(0),
        report(0, 1, 5.0),
        Ended(0, 1, "failed"),
        start(1),
        Reported(1, 1, 3, {}),
    ]
    assert np.isnan(staged(events).scalar(np.random.default_rng(0))).all()


def test_a_fork_has_no_losses_below_its_parent() -> None:
    events: list[Event] = [
        start(0),
        report(0, 1, 5.0),
        report(0, 3, 4.0),
        start(1, (0, 3)),
        report(1, 9, 2.0),
    ]
    np.testing.assert_array_equal(staged(events).losses[1, :, 0], [np.nan, np.nan, 2.0, np.nan])


def test_snapshots_come_at_growing_intervals_and_are_bounded() -> None:
    out = Staged(PROBLEM, (1, 3, 9, 27), 40)
    taken = []
    for i in range(500):
        before = out.snapshot
        for event in (start(i), report(i, 1, float(i % 50))):
            out.apply(event)
        if out.snapshot is not before:
            taken.append(i)
    assert 15 < len(taken) < 30
    assert (~np.isnan(out.snapshot.losses)).sum() <= 40


def test_several_objectives_are_weighed() -> None:
    two = Problem(PROBLEM.space, (Objective("loss"), Objective("size")), Fidelity(27))
    out = staged([start(0), Reported(0, 1, 1, {"loss": 1.0, "size": 2.0}), start(1), report(1, 1, 0.0)], two)
    scalar = out.scalar(np.random.default_rng(0))
    assert np.isfinite(scalar[0, 0])
    assert np.isnan(scalar[1]).all()


def test_the_best_and_longest_are_kept_when_rows_are_few() -> None:
    rng = np.random.default_rng(0)
    losses = np.full((300, 3), np.nan)
    losses[:, 0] = rng.random(300)
    losses[:20, 1] = rng.random(20)
    losses[:3, 2] = [0.3, 0.1, 0.2]
    few = spread_rows(losses, 60)
    assert {0, 1, 2} <= set(few.tolist())
    assert (~np.isnan(losses[few])).sum() <= 62
    assert len(spread_rows(losses, 1000)) == 300
