"""The fold of forks, dropped checkpoints and longer trainings: who needs which checkpoint, and what a snapshot keeps."""

from __future__ import annotations

from typing import Any

import pytest

from tunewright.core.domains import Float
from tunewright.core.events import (
    Dropped,
    Ended,
    Event,
    Extended,
    Interrupted,
    Paused,
    Record,
    Reported,
    Resumed,
    Saved,
    Started,
    decode_event,
    encode_event,
)
from tunewright.core.problem import Fidelity, Objective, Problem
from tunewright.core.snapshot import dump, load
from tunewright.core.space import Space
from tunewright.core.trial import Ledger
from tunewright.core.unread import Unread
from tunewright.errors import ConfigError

PROBLEM = Problem(Space(x=Float(0, 1)), (Objective("loss"),), Fidelity(9))
X = {"x": 0.5}


def name(trial: int, step: int) -> str:
    return f"t{trial}-s{step}.0123456789abcdef"


def fold(*events: Event) -> Ledger:
    ledger = Ledger(PROBLEM)
    ledger.fold(Record(i + 1, 100.0 + i, "w", e) for i, e in enumerate(events))
    return ledger


DONOR: list[Event] = [
    Started(0, X, 3),
    Reported(0, 1, 3, {"loss": 1.0}),
    Saved(0, 1, 3, name(0, 3)),
    Paused(0, 1, 3, name(0, 3)),
]
FORK = Started(1, {"x": 0.25}, 6, (0, 3))


def test_a_fork_begins_with_its_donors_checkpoint_and_holds_it() -> None:
    ledger = fold(*DONOR, FORK)
    fork = ledger.trials[1]
    assert fork.checkpoint == (3, name(0, 3))
    assert (fork.step, fork.restart) == (3, 3)
    assert ledger.held == {name(0, 3): 2}
    assert ledger.begun == 1, "a fork is no training from the beginning"


def test_what_the_donor_does_later_takes_nothing_from_the_fork() -> None:
    later: list[Event] = [
        Resumed(0, 3, 6),
        Reported(0, 6, 6, {"loss": 0.9}),
        Saved(0, 6, 6, name(0, 6)),
        Paused(0, 6, 6, name(0, 6)),
        Ended(0, 6, "stopped", step=6),
    ]
    ledger = fold(*DONOR, FORK, *later)
    assert ledger.trials[0].checkpoint is None
    assert ledger.trials[1].checkpoint == (3, name(0, 3))
    assert ledger.held == {name(0, 3): 1}
    ended = fold(*DONOR, FORK, *later, Ended(1, 5, "failed", step=3))
    assert ended.held == {}


def test_a_fork_that_saves_lets_go_of_its_donors() -> None:
    ledger = fold(*DONOR, FORK, Reported(1, 5, 6, {"loss": 0.5}), Saved(1, 5, 6, name(1, 6)))
    assert ledger.held == {name(0, 3): 1, name(1, 6): 1}


def test_a_fork_of_a_donor_without_a_checkpoint_begins_anew() -> None:
    ledger = fold(
        Started(0, X, 3), Reported(0, 1, 3, {"loss": 1.0}), Paused(0, 1, 3), Started(1, X, 6, (0, 3))
    )
    fork = ledger.trials[1]
    assert (fork.checkpoint, fork.restart) == (None, 0)
    assert ledger.held == {}
    again = fold(*DONOR, Started(1, X, 6, (0, 0)))
    assert again.begun == 2, "one that takes nothing along counts"


def test_a_fork_from_an_earlier_step_counts_from_there() -> None:
    donor: list[Event] = [
        Started(0, X, 6),
        Reported(0, 1, 5, {"loss": 1.0}),
        Saved(0, 1, 5, name(0, 5)),
    ]
    assert fold(*donor, Started(1, X, 6, (0, 3))).trials[1].checkpoint == (3, name(0, 5))
    assert fold(*donor, Started(1, X, 9, (0, 7))).trials[1].checkpoint == (5, name(0, 5))


def test_a_dropped_checkpoint_is_nobodys_but_of_those_who_hold_it_too() -> None:
    ledger = fold(*DONOR, FORK, Dropped(1, name(0, 3), "damaged"), Interrupted(1, 5, "lost"))
    assert ledger.trials[1].checkpoint is None
    assert ledger.trials[1].restart == 0
    assert ledger.held == {name(0, 3): 1}
    resumed = fold(
        *DONOR,
        FORK,
        Dropped(1, name(0, 3), "damaged"),
        Interrupted(1, 5, "lost"),
        Resumed(1, 0, 6, by="retry"),
        Reported(1, 8, 1, {"loss": 2.0}),
    )
    assert [r.step for r in resumed.trials[1].reports] == [1]


def test_a_fresh_checkpoint_can_be_dropped_too() -> None:
    ledger = fold(
        Started(0, X, 9),
        Saved(0, 1, 2, name(0, 2)),
        Reported(0, 1, 2, {"loss": 1.0}),
        Saved(0, 1, 4, name(0, 4)),
    )
    assert ledger.held == {name(0, 2): 1, name(0, 4): 1}
    ledger.apply(Record(5, 0.0, "w", Dropped(0, name(0, 4), "damaged")))
    assert (ledger.trials[0].checkpoint, ledger.trials[0].fresh) == ((2, name(0, 2)), None)
    assert ledger.held == {name(0, 2): 1}


COMPLETED: list[Event] = [
    Started(0, X, 9),
    Reported(0, 1, 9, {"loss": 1.0}),
    Ended(0, 1, "completed", {"loss": 1.0}, 9, checkpoint=name(0, 9)),
]


def test_completed_trials_keep_their_last_until_it_is_dropped() -> None:
    ledger = fold(*COMPLETED)
    assert list(ledger.finals) == [0]
    assert ledger.held == {name(0, 9): 1}
    ledger.apply(Record(4, 0.0, "w", Dropped(0, name(0, 9), "the study keeps the best 0")))
    assert not ledger.finals
    assert not ledger.held


def test_retries_draw_nothing() -> None:
    plain = fold(*DONOR)
    cut = fold(
        Started(0, X, 3),
        Interrupted(0, 1, "lost"),
        Resumed(0, 0, 3, by="retry"),
        Reported(0, 3, 3, {"loss": 1.0}),
        Paused(0, 3, 3, name(0, 3)),
    )
    assert cut.decisions == plain.decisions == 1
    assert fold(*DONOR, Resumed(0, 3, 9, by="asha")).decisions == 2


def lost(*saved: int) -> Ledger:
    """A trial that saves at these steps, and is lost after each and once more."""
    events: list[Event] = [Started(0, X, 9)]
    for step in saved:
        token = len(events)
        events += [Reported(0, token, step, {"loss": 1.0}), Saved(0, token, step, name(0, step))]
        events += [Interrupted(0, token, "lost"), Resumed(0, step, 9, by="retry")]
    events.append(Interrupted(0, len(events), "lost"))
    return fold(*events)


def test_losses_count_from_the_furthest_checkpoint() -> None:
    assert lost().trials[0].losses == 1
    further = lost(2, 4, 6).trials[0]
    assert (further.attempts, further.losses, further.reach) == (5, 2, 6)
    stuck = lost(2, 2, 2).trials[0]
    assert (stuck.attempts, stuck.losses, stuck.reach) == (5, 4, 2)


def test_longer_trainings_change_the_problem_and_new_segments_only() -> None:
    events: list[Event] = [Started(0, X, None), Extended(27, 9), Started(1, X, None)]
    ledger = fold(*events)
    assert ledger.problem.fidelity == Fidelity(27)
    assert [t.until for t in ledger.trials] == [9, 27]
    assert decode_event(encode_event(events[1])) == events[1]
    with pytest.raises(ConfigError, match="has no steps"):
        Problem(PROBLEM.space).extended(3)


@pytest.mark.parametrize(
    "events",
    [
        [*DONOR, FORK],
        [*DONOR, FORK, Dropped(1, name(0, 3), "damaged"), Ended(0, 4, "stopped", step=3)],
        [*COMPLETED, Extended(27, 9), Started(1, X, 27, (0, 9))],
        [Started(0, X, 9), Saved(0, 1, 2, name(0, 2))],
        [*DONOR, Resumed(0, 3, 9), Interrupted(0, 5, "lost")],
    ],
)
def test_a_snapshot_keeps_all_of_it(events: list[Any]) -> None:
    ledger = fold(*events)
    again = load(PROBLEM, dump(ledger))
    assert again is not None
    log = [Record(i + 1, 100.0 + i, "w", e) for i, e in enumerate(events)]
    again.trials.source = Unread(again, lambda after, limit: log[after : after + limit])
    for field in ("held", "begun", "decisions", "cursor", "problem"):
        assert getattr(again, field) == getattr(ledger, field), field
    assert {k: n for k, n in ledger.counts.items() if n} == again.counts
    assert list(again.finals) == list(ledger.finals)
    assert [(t.checkpoint, t.fresh, t.restart, t.losses, t.reach) for t in again.trials] == [
        (t.checkpoint, t.fresh, t.restart, t.losses, t.reach) for t in ledger.trials
    ]
    assert dump(again) == dump(ledger)
