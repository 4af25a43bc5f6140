"""Forecasts: what is remembered of trials, which losses are expected next, and how sure that is."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tunewright.core.domains import Float
from tunewright.core.events import Edited, Ended, Event, Paused, Reported, Resumed, Started
from tunewright.core.problem import Fidelity, Problem
from tunewright.core.space import Space
from tunewright.models.forecast import Examples, forecaster

LINE = Space(x=Float(0, 1))
PROBLEM = Problem(LINE, fidelity=Fidelity(20))
NONE = np.empty((0, 1))


def examples(*events: Event, unit: int = 2, growth: float = 0.0, prefix: str = "w/") -> Examples:
    made = Examples.of(PROBLEM, unit, growth, prefix)
    for event in events:
        made.apply(event)
    return made


def falling(trials: int, steps: int, noise: float = 0.0) -> Examples:
    """Losses ``x + 1/step``, each trial trained for ``steps`` in segments of one."""
    rng = np.random.default_rng(3)
    made = examples(unit=1)
    for trial in range(trials):
        x = (trial + 0.5) / trials
        made.apply(Started(trial, {"x": x}, steps))
        for step in range(1, steps + 1):
            loss = x + 1.0 / step + noise * rng.normal()
            made.apply(Reported(trial, 0, step, {"loss": loss, "w/0": 2.0 * loss}))
        made.apply(Paused(trial, 0, steps))
    return made


def test_an_example_is_a_loss_and_what_was_known_a_segment_before() -> None:
    made = examples(
        Started(0, {"x": 0.25}, 6),
        *(
            Reported(0, 0, s, {"loss": 10.0 - s, "w/1": float(s), "w/0": -float(s), "b": 0.0})
            for s in range(1, 7)
        ),
    )
    assert made.names == ("w/0", "w/1")
    assert made.n == 3
    assert made.steps[:3].tolist() == [2, 4, 6]
    assert made.losses[:3].tolist() == [8.0, 6.0, 4.0]
    assert np.isnan(made.curves[0]).all()
    assert np.isnan(made.features[0]).all()
    assert made.curves[2].tolist() == [6.0, 8.0, 6.0, 0.2]
    assert made.features[2].tolist() == [-4.0, 4.0]
    assert made.known[0].curve == (4.0, 6.0, 4.0, 0.3)


def test_segments_grow_with_the_steps_done() -> None:
    made = examples(unit=2, growth=0.5)
    assert [made.until(s) for s in (0, 2, 6, 12, 19)] == [2, 4, 9, 18, 20]


def test_the_end_of_a_segment_counts_even_where_it_is_short() -> None:
    made = examples(
        Started(0, {"x": 0.5}, 3), Reported(0, 0, 2, {"loss": 1.0}), Reported(0, 0, 3, {"loss": 0.5})
    )
    assert made.steps[: made.n].tolist() == [2, 3]


def test_reports_without_features_leave_them_unknown() -> None:
    made = examples(
        Started(0, {"x": 0.5}, 4),
        Reported(0, 0, 2, {"loss": 1.0, "w/0": 3.0}),
        Reported(0, 0, 4, {"loss": 0.9}),
        Started(1, {"x": 0.6}, 4),
        Reported(1, 0, 2, {"loss": 1.0}),
    )
    assert made.features[1].tolist() == [3.0]
    assert math.isnan(made.known[0].features[0])
    assert (
        examples(Started(0, {"x": 0.5}, 4), Reported(0, 0, 2, {"loss": 1.0, "w/0": 3.0}), prefix="").names
        == ()
    )


def test_a_failure_is_the_worst_result_and_a_lost_trial_is_none() -> None:
    made = examples(
        Started(0, {"x": 0.5}, 4),
        Reported(0, 0, 2, {"loss": 1.0}),
        Ended(0, 0, "failed", step=2),
        Started(1, {"x": 0.5}, 4),
        Reported(1, 0, 2, {"loss": 1.0}),
        Ended(1, 0, "lost", step=2),
        Started(2, {"x": 0.5}, 4),
        Ended(2, 0, "failed"),
    )
    assert made.losses[: made.n].tolist() == [1.0, math.inf, 1.0, math.inf]


def test_a_fork_knows_what_its_donor_knew() -> None:
    made = examples(
        Started(0, {"x": 0.5}, 4),
        Reported(0, 0, 4, {"loss": 1.0}),
        Ended(0, 0, "completed", {"loss": 1.0}, 4),
        Started(1, {"x": 0.5}, 8, (0, 4)),
    )
    assert made.known[1].step == 4
    assert made.known[1].curve[0] == 1.0


def test_the_best_at_a_step_is_that_of_the_step_or_else_of_all() -> None:
    made = falling(4, 3)
    assert made.best(np.array([2, 3, 9])) == pytest.approx([0.625, 0.125 + 1 / 3, 0.125 + 1 / 3])


def test_there_is_no_forecast_before_results_differ() -> None:
    assert forecaster(examples()) is None
    same = [e for t in range(4) for e in (Started(t, {"x": t / 4}, 2), Reported(t, 0, 2, {"loss": 1.0}))]
    assert forecaster(examples(*same)) is None
    assert forecaster(falling(3, 2)) is not None


def test_it_expects_curves_to_go_on_as_others_did() -> None:
    made = falling(12, 6)
    for trial in (12, 13):
        made.apply(Started(trial, {"x": 0.1 * (trial - 10)}, 3))
        for step in range(1, 4):
            made.apply(Reported(trial, 0, step, {"loss": 0.1 * (trial - 10) + 1.0 / step, "w/0": 1.0}))
        made.apply(Paused(trial, 0, 3))
    view = forecaster(made)
    assert view is not None
    asked = made.questions(np.array([12, 13]), np.array([[0.05], [0.95]]))
    assert asked.steps.tolist() == [4, 4, 1, 1]
    mean, std = view.predict(asked)
    truth = view.warp(np.array([0.45, 0.55, 1.05, 1.95]))
    assert mean == pytest.approx(truth, abs=0.35)
    assert (std > 0).all()


def test_awaited_results_count_as_expected_and_make_it_surer() -> None:
    made = falling(6, 3, noise=0.05)
    view = forecaster(made)
    assert view is not None
    asked = made.questions(np.array([], dtype=np.int64), np.array([[0.5]]))
    mean, std = view.predict(asked)
    later_mean, later_std = view.expecting(asked).predict(asked)
    assert later_mean == pytest.approx(mean, abs=0.1)
    assert later_std[0] < std[0]
    assert view.expecting(made.questions(np.array([], dtype=np.int64), NONE)) is view


def test_running_trials_are_asked_about_where_their_segment_ends() -> None:
    made = falling(4, 3)
    made.apply(Resumed(0, 3, 7))
    assert made.aim(0) == 7
    assert made.aim(1) == 4


def test_the_kernel_is_learned_anew_only_when_there_are_enough_more_results() -> None:
    made = falling(5, 4)
    forecaster(made)
    kept = next(iter(made.memo.values()))
    made.apply(Started(5, {"x": 0.5}, 1))
    made.apply(Reported(5, 0, 1, {"loss": 1.5}))
    forecaster(made)
    assert next(iter(made.memo.values())) is kept
    made.apply(Edited(Space(x=Float(0, 2)).to_dict()))
    forecaster(made)
    assert next(iter(made.memo.values())) is not kept


def test_many_results_are_thinned() -> None:
    made = falling(60, 8)
    view = forecaster(made)
    assert view is not None
    assert len(view.targets) <= 250


def test_losses_beyond_all_bounds_are_survived() -> None:
    made = examples(
        *(
            e
            for t, loss in enumerate([1e300, -1e300, 0.0, 5.0])
            for e in (Started(t, {"x": t / 4}, 2), Reported(t, 0, 2, {"loss": loss}))
        )
    )
    view = forecaster(made)
    assert view is not None
    mean, std = view.predict(made.questions(np.arange(4), np.array([[0.3]])))
    assert np.isfinite(mean).all()
    assert np.isfinite(std).all()
