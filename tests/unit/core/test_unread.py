"""Snapshots whose trials that are over stay in the log: whatever is looked at, it is what a fold of the log says."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunewright.core import trial as trials
from tunewright.core.domains import Float
from tunewright.core.events import Ended, Event, Record, Reported, Started
from tunewright.core.news import News
from tunewright.core.problem import Fidelity, Objective, Problem
from tunewright.core.snapshot import dump, load, weight
from tunewright.core.space import Space
from tunewright.core.trial import CHUNK, FAR, Ledger, Trial
from tunewright.core.unread import Unread
from tunewright.errors import SchemaError

sys.path.insert(0, str(Path(__file__).parents[2]))
from strategies import full_logs

PROBLEM = Problem(Space(x=Float(0, 1)), fidelity=Fidelity(9))


class Log:
    """A log that counts what is read of it."""

    def __init__(self, records: Sequence[Record]) -> None:
        self.records = records
        self.count = 0

    def read(self, after: int, limit: int) -> Sequence[Record]:
        block = self.records[after : after + limit]
        self.count += len(block)
        return block


def fold(records: Sequence[Record], ledger: Ledger | None = None, problem: Problem = PROBLEM) -> Ledger:
    ledger = ledger or Ledger(problem)
    ledger.fold(records)
    return ledger


def opened(records: Sequence[Record], cut: int, problem: Problem = PROBLEM) -> tuple[Ledger, Log]:
    """A ledger from a snapshot at ``cut`` and the rest of the log."""
    ledger, log = load(problem, dump(fold(records[:cut], problem=problem))), Log(records)
    assert ledger is not None
    ledger.trials.source = Unread(ledger, log.read)
    return fold(records[cut:], ledger), log


def told(trial: Trial) -> dict[str, Any]:
    """Everything known about a trial."""
    fields = {name: getattr(trial, name) for name in trial.__struct_fields__ if name != "stored"}
    return msgspec.to_builtins({**fields, "reports": trial.reports})


def study(count: int, reports: int = 0, parallel: int = 1) -> list[Record]:
    """The log of finished trials, of which ``parallel`` live at a time."""
    events: list[Event] = []
    tokens: dict[int, int] = {}
    for i in range(count + parallel):
        if i < count:
            events.append(Started(i, {"x": (i * 37 % 101) / 101}))
            tokens[i] = len(events)
        done = i - parallel
        if 0 <= done < count:
            events += [Reported(done, tokens[done], s + 1, {"loss": 9.0 - s}) for s in range(reports)]
            events.append(Ended(done, tokens[done], "completed", {"loss": (done * 53 % 997) / 997}, 9))
    return [Record(i + 1, 100.0 + i, f"w{i % 3}", e) for i, e in enumerate(events)]


@settings(max_examples=40, deadline=None)
@given(full_logs(PROBLEM), st.floats(0, 1), st.sampled_from([1, 2, 256]), st.booleans(), st.data())
def test_a_snapshot_and_its_tail_are_the_fold_of_the_whole_log(
    records: list[Record], where: float, chunk: int, together: bool, data: st.DataObject
) -> None:
    saved, trials.CHUNK = trials.CHUNK, chunk
    try:
        whole = fold(records)
        ledger, _ = opened(records, round(where * len(records)))
        assert dump(ledger) == dump(whole)
        for name in ("held", "saves", "finals", "keys", "queue", "lengths", "begun", "replicated"):
            assert getattr(ledger, name) == getattr(whole, name), name
        order = list(range(len(whole.trials)))
        if not together:
            order = data.draw(st.permutations(order))
        for number in order:
            if data.draw(st.integers(0, 5)) == 0:
                ledger.release()
            assert told(ledger.trials[number]) == told(whole.trials[number])
        assert dump(ledger) == dump(whole), "looking changes nothing"
        assert (whole.best is None) == (ledger.best is None)
    finally:
        trials.CHUNK = saved


@settings(max_examples=30, deadline=None)
@given(full_logs(PROBLEM), st.integers(0, 60))
def test_news_is_what_the_ledger_calls_news(records: list[Record], cut: int) -> None:
    ledger, news = Ledger(PROBLEM), News()
    assert [*news.of(records[:cut]), *news.of(records[cut:])] == [r.event for r in records if ledger.apply(r)]


def test_a_snapshot_of_a_long_study_is_small_and_one_trial_costs_its_neighbours_only() -> None:
    records = study(3_000, reports=2)
    snapshot = dump(fold(records))
    assert len(snapshot) < 3_000
    ledger, log = opened(records, len(records))
    assert sum(t is not None for t in ledger.trials.rows) == 1, "the best one"
    assert log.count == 0
    assert ledger.trials[1_500].params == {"x": (1_500 * 37 % 101) / 101}
    assert log.count <= 4 * CHUNK + 2 * 512
    assert [t.id for t in ledger.trials[-2:]] == [2_998, 2_999]
    assert ledger.trials[1_500] is ledger.trials[1_500]


def test_a_walk_reads_the_log_once_and_only_as_far_as_it_goes() -> None:
    records = study(5_000, parallel=7)
    ledger, log = opened(records, len(records))
    first = next(t for t in ledger.trials if t.id == 20)
    assert first.metrics == {"loss": (20 * 53 % 997) / 997}
    assert log.count <= 1_024
    assert len([t for t in ledger.trials if t.status == "completed"]) == 5_000
    assert log.count <= len(records)


def test_what_is_far_apart_in_the_log_stays_in_the_snapshot() -> None:
    late, rest = study(1), study(FAR // 2 + CHUNK)
    records = [late[0]]
    for r in rest:
        event = msgspec.structs.replace(r.event, trial=r.event.trial + 1)  # type: ignore[union-attr]
        records.append(Record(len(records) + 1, r.at, r.worker, event))
    records.append(Record(len(records) + 1, 1.0, "w", Ended(0, 1, "completed", {"loss": 5.0}, 9)))
    ledger, log = opened(records, len(records))
    assert list(ledger.far) == [0]
    assert ledger.trials[0].metrics == {"loss": 5.0}
    assert log.count == 0
    assert weight(ledger) == 0
    for _ in range(2):
        assert ledger.trials[0].metrics == {"loss": 5.0}
        ledger.release()
        assert ledger.trials.rows[0] is None


def test_trials_that_are_over_are_let_go_unless_somebody_holds_them() -> None:
    records = study(1_000)
    ledger, log = fold(records), Log(records)
    held, best = ledger.trials[10], ledger.best
    assert best is not None
    ledger.release()
    assert sum(t is not None for t in ledger.trials.rows) == 1_000, "nowhere to read them from"
    ledger.trials.source = Unread(ledger, log.read)
    ledger.release()
    assert [t.id for t in ledger.trials.rows if t is not None] == sorted({10, best.id})
    assert ledger.trials[10] is held
    assert ledger.trials[999].metrics == {"loss": (999 * 53 % 997) / 997}
    ledger.release()
    assert sum(t is not None for t in ledger.trials.rows) == 2
    del held
    ledger.release()
    assert [t for t in ledger.trials.rows if t is not None] == [best]


def test_a_live_trial_is_never_let_go() -> None:
    records = study(600)[:-1]
    ledger = fold(records)
    ledger.trials.source = Unread(ledger, Log(records).read)
    ledger.release()
    ledger.fold([Record(len(records) + 1, 1.0, "w", Ended(599, len(records), "failed"))])
    assert ledger.trials.rows[599] is not None
    ledger.release()
    assert ledger.trials.rows[599] is None


def test_a_log_that_was_cut_short_is_noticed() -> None:
    records = study(600)
    ledger, log = opened(records, len(records))
    log.records = records[:700]
    assert ledger.trials[100].status == "completed"
    with pytest.raises(SchemaError, match=r"trial 500 is not up to position 1200"):
        ledger.trials[500]
    log.records = records
    assert ledger.trials[500].status == "completed"


def test_replicates_keep_their_means_over_a_snapshot() -> None:
    problem = Problem(PROBLEM.space, (Objective("loss"),))
    events: list[Event] = []
    for i, (loss, original) in enumerate(
        [(0.1, None), (0.2, None), (0.9, 0), (0.25, 1), (0.15, 1), (0.3, 0)]
    ):
        why = None if original is None else {"replicate_of": original}
        events += [
            Started(i, {"x": 0.5}, None, None if original is None else (original, 0), why=why),
            Ended(i, 2 * i + 1, "completed", {"loss": loss}),
        ]
    records = [Record(i + 1, 1.0, "w", e) for i, e in enumerate(events)]
    for cut in range(len(records) + 1):
        ledger, _ = opened(records, cut, problem)
        assert ledger.best is not None
        assert ledger.best.id == 1, cut
        assert ledger.pools is not None
        assert {p[0]: p[1] for p in ledger.pools.rows()} == {0: (0.1, 0.9, 0.3), 1: (0.2, 0.25, 0.15)}
