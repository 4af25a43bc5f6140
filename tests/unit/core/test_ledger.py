"""The fold: trials, queue, retries, the best trial; snapshots; history as columns."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tunewright.core.domains import Choice, Float, Int
from tunewright.core.events import (
    Amended,
    Edited,
    Ended,
    Enqueued,
    Event,
    Interrupted,
    Noted,
    Paused,
    Record,
    Reported,
    Resumed,
    Saved,
    Signalled,
    Started,
    decode_event,
    encode_event,
)
from tunewright.core.history import COMPLETED, FAILED, INVALID, PAUSED, RUNNING, STOPPED, History
from tunewright.core.problem import Fidelity, Limit, Objective, Problem
from tunewright.core.snapshot import dump, load
from tunewright.core.space import Space
from tunewright.core.trial import Ledger
from tunewright.core.unread import Unread
from tunewright.errors import ConfigError

SPACE = Space(x=Float(0, 1), c=Choice(["a", "b"]))
PROBLEM = Problem(SPACE, (Objective("loss"),), Fidelity(9))


def fold(events: list[Event], problem: Problem = PROBLEM) -> Ledger:
    ledger = Ledger(problem)
    ledger.fold(Record(i + 1, 100.0 + i, "w", e) for i, e in enumerate(events))
    return ledger


def config(x: float = 0.5, c: str = "a") -> dict[str, Any]:
    return {"x": x, "c": c}


LIFE: list[Event] = [
    Enqueued(config(0.1), "first"),
    Started(0, config(0.1), 3, by="queue", queue=1),
    Reported(0, 2, 1, {"loss": 2.0}, cost=0.5),
    Saved(0, 2, 1, "t0-s1.0123456789abcdef"),
    Reported(0, 2, 2, {"loss": 1.5}),
    Interrupted(0, 2, "lost"),
    Resumed(0, 1, 3, by="retry"),
    Reported(0, 7, 2, {"loss": 1.5}),
    Reported(0, 7, 3, {"loss": 1.0}),
    Paused(0, 7, 3, "t0-s3.0123456789abcdef"),
    Started(1, config(0.9, "b"), None),
    Signalled(1, "stop"),
    Ended(1, 11, "stopped", {"loss": 9.0}, 1),
    Resumed(0, 3, 9),
    Ended(0, 14, "completed", {"loss": 0.5}, 9, cost=2.0),
    Noted("note", {"text": "hm"}),
    Started(2, config(0.3), None),
    Ended(2, 17, "failed", error="boom"),
    Enqueued({"x": 0.7}),
]


def test_a_life_folds_as_told() -> None:
    ledger = fold(LIFE)
    first, second, third = ledger.trials
    assert (first.status, first.step, first.attempts, first.token) == ("completed", 9, 2, 14)
    assert [r.step for r in first.reports] == [1, 2, 3]
    assert first.metrics == {"loss": 0.5}
    assert first.cost == 2.0
    assert (second.status, second.signal) == ("stopped", "stop")
    assert third.error == "boom"
    assert ledger.best is first
    assert ledger.counts["completed"] == ledger.counts["stopped"] == ledger.counts["failed"] == 1
    assert not ledger.running
    assert not ledger.waiting
    assert list(ledger.queue) == [19]
    assert ledger.keys == {"first": 1}
    assert ledger.decisions == 5
    assert ledger.failed_in_a_row == 1
    assert [n.topic for _, n in ledger.notes] == ["note"]


def test_algorithms_do_not_hear_of_retries_or_steps_measured_again() -> None:
    ledger = Ledger(PROBLEM)
    heard = [i for i, e in enumerate(LIFE) if ledger.apply(Record(i + 1, 0.0, "w", e))]
    assert heard == [1, 2, 4, 8, 9, 10, 11, 12, 13, 14, 16, 17]


def test_a_gap_in_the_log_is_noticed() -> None:
    with pytest.raises(AssertionError, match="does not follow"):
        Ledger(PROBLEM).apply(Record(2, 0.0, "w", LIFE[0]))


def test_every_event_survives_json() -> None:
    extra: list[Event] = [
        Edited(SPACE.to_dict()),
        Amended(0, config()),
        Started(3, config(), 3, (0, 9), 2, "tpe", 0, {"a": 1}),
    ]
    for event in LIFE + extra:
        assert decode_event(encode_event(event)) == event


@pytest.mark.parametrize("cut", range(len(LIFE) + 1))
def test_a_snapshot_is_the_ledger_at_any_moment(cut: int) -> None:
    whole = fold(LIFE)
    half = load(PROBLEM, dump(fold(LIFE[:cut])))
    assert half is not None
    log = [Record(i + 1, 100.0 + i, "w", e) for i, e in enumerate(LIFE)]
    half.trials.source = Unread(half, lambda after, limit: log[after : after + limit])
    half.fold(log[cut:])
    assert dump(half) == dump(whole)
    assert half.best is not None
    assert half.best.id == 0


def test_a_damaged_or_foreign_snapshot_is_ignored() -> None:
    data = dump(fold(LIFE))
    assert load(PROBLEM, data[:-7]) is None
    assert load(PROBLEM, data.replace(b'"version":7', b'"version":99')) is None
    assert load(Problem(Space(y=Float(0, 1))), data) is None
    assert load(PROBLEM, b"") is None


def test_an_edited_space_keeps_trials_and_counts_versions() -> None:
    wider = Space(x=Float(0, 2), c=Choice(["a", "b", "d"]))
    ledger = fold([*LIFE, Edited(wider.to_dict())])
    assert ledger.problem.space == wider
    assert [seq for seq, _ in ledger.spaces] == [0, 20]
    again = load(PROBLEM, dump(ledger))
    assert again is not None
    assert again.problem.space == wider
    assert len(again.trials) == 3


def test_limits_come_before_the_objective() -> None:
    problem = Problem(SPACE, (Objective("acc", "maximize"),), None, (Limit("ms", 10.0),))
    events: list[Event] = []
    for i, (acc, ms) in enumerate([(0.9, 20.0), (0.8, 9.0), (0.85, 9.5), (0.99, 30.0)]):
        events += [Started(i, config()), Ended(i, 2 * i + 1, "completed", {"acc": acc, "ms": ms})]
    ledger = fold(events, problem)
    assert ledger.best is not None
    assert ledger.best.id == 2
    assert problem.violation({"acc": 1.0}) == float("inf")


def test_history_is_the_log_in_columns() -> None:
    history = History(PROBLEM)
    for event in LIFE:
        history.apply(event)
    assert history.n == 3
    assert history.status.tolist() == [COMPLETED, STOPPED, FAILED]
    assert history.loss.tolist()[:2] == [0.5, 9.0]
    assert np.isnan(history.loss[2])
    assert history.steps.tolist() == [9, 1, 0]
    assert history.costs[0] == 2.0
    assert history.usable.tolist() == [True, True, False]
    assert np.allclose(history.codes[1], SPACE.encode(config(0.9, "b")))
    history.apply(Started(3, config()))
    assert history.pending.tolist() == [False, False, False, True]
    history.apply(Paused(3, 1, 2))
    assert history.status[3] == PAUSED
    history.apply(Resumed(3, 2, 9))
    assert history.status[3] == RUNNING
    history.apply(Ended(3, 1, "invalid"))
    assert history.status[3] == INVALID


def test_history_grows_without_losing_rows_and_follows_versions() -> None:
    history = History(Problem(SPACE))
    for i in range(100):
        history.apply(Started(i, config(i / 100)))
        history.apply(Ended(i, 1, "completed", {"loss": float(i)}))
    assert history.loss.tolist() == [float(i) for i in range(100)]
    history.apply(Edited(Space(x=Float(0, 2), c=Choice(["b", "z"])).to_dict()))
    assert np.isnan(history.codes).all()  # 'a' is no option any more, so no row fits
    history.apply(Edited(Space(x=Float(0, 2), c=Choice(["a", "z"]), n=Int(1, 3)).to_dict()))
    assert np.allclose(history.codes[:, 0], np.arange(100) / 200)
    assert np.isnan(history.codes[:, 2]).all()
    history.apply(Amended(5, {"x": 1.0, "c": "z", "n": 2}))
    assert not np.isnan(history.codes[5]).any()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Objective("loss", "minimise"), r"'minimize' or 'maximize'; got 'minimise'"),  # type: ignore[arg-type]
        (lambda: Objective(""), r"1 to 256 characters"),
        (lambda: Fidelity(5, 9), r"1 <= low <= high; got low=9, high=5"),
        (lambda: Fidelity(2.5), r"whole steps; got high=2.5"),  # type: ignore[arg-type]
        (lambda: Problem(SPACE, ()), r"at least one objective"),
        (lambda: Problem(SPACE, (Objective("a"), Objective("a"))), r"distinct names"),
        (lambda: Problem(SPACE, seed=-1), r"seed must be a whole number"),
        (lambda: Problem(SPACE, seed=2**63), r"seed must be a whole number"),
    ],
)
def test_problem_mistakes(make: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()


def test_problem_json_and_signs() -> None:
    problem = Problem(
        SPACE,
        (Objective("a"), Objective("b", "maximize", "%")),
        Fidelity(9, 3, "epoch"),
        (Limit("c", 1.0),),
        4,
    )
    assert Problem.from_dict(problem.to_dict()) == problem
    assert problem.losses({"a": 1.0, "b": 2.0}) == (1.0, -2.0)
    assert problem.losses({"a": 1.0}) is None
    assert problem.losses({"a": 1.0, "b": float("inf")}) is None


def test_a_checkpoint_counts_once_its_step_was_measured() -> None:
    begin: list[Event] = [Started(0, config(), 9), Reported(0, 1, 1, {"loss": 3.0}), Saved(0, 1, 1, "one")]
    assert fold(begin).trials[0].restart == 1
    ahead = fold([*begin, Saved(0, 1, 2, "two")]).trials[0]
    assert (ahead.checkpoint, ahead.fresh, ahead.restart) == ((1, "one"), (2, "two"), 1)
    measured = fold([*begin, Saved(0, 1, 2, "two"), Reported(0, 1, 2, {"loss": 2.0})]).trials[0]
    assert (measured.checkpoint, measured.fresh, measured.restart) == ((2, "two"), None, 2)


def test_a_trial_that_reports_nothing_on_the_way_restarts_from_what_it_saved() -> None:
    silent: list[Event] = [Started(0, config(), 9), Saved(0, 1, 5, "five")]
    assert fold(silent).trials[0].restart == 5
    # At the very end nothing would be left to measure, so the training is done again.
    assert fold([*silent, Saved(0, 1, 9, "nine")]).trials[0].restart == 0
    resumed = fold([*silent, Interrupted(0, 1), Resumed(0, 5, 9, by="retry")]).trials[0]
    assert (resumed.checkpoint, resumed.fresh, resumed.step) == ((5, "five"), None, 5)
    unending: list[Event] = [Started(0, config()), Saved(0, 1, 5, "five")]
    assert fold(unending).trials[0].restart == 5
