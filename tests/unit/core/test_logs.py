"""Any log that a store may hold: folds, snapshots and columns agree at every position."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from tunewright.core.domains import Float
from tunewright.core.events import Record, Resumed, Started, decode_event, encode_event
from tunewright.core.history import COMPLETED, FAILED, INVALID, PAUSED, RUNNING, STOPPED, History
from tunewright.core.problem import Fidelity, Problem
from tunewright.core.snapshot import dump, load
from tunewright.core.space import Space
from tunewright.core.trial import FINISHED, Ledger
from tunewright.core.unread import Unread

sys.path.insert(0, str(Path(__file__).parents[2]))
from strategies import logs

PROBLEM = Problem(Space(x=Float(0, 1)), fidelity=Fidelity(9))
COLUMNS = {
    "running": RUNNING,
    "waiting": RUNNING,
    "paused": PAUSED,
    "completed": COMPLETED,
    "stopped": STOPPED,
    "invalid": INVALID,
}


def fold(records: list[Record], ledger: Ledger | None = None) -> Ledger:
    ledger = ledger or Ledger(PROBLEM)
    ledger.fold(records)
    return ledger


@settings(max_examples=150)
@given(logs(PROBLEM), st.floats(0, 1))
def test_a_snapshot_anywhere_changes_nothing(records: list[Record], where: float) -> None:
    cut = round(where * len(records))
    half = load(PROBLEM, dump(fold(records[:cut])))
    assert half is not None
    half.trials.source = Unread(half, lambda after, limit: records[after : after + limit])
    assert dump(fold(records[cut:], half)) == dump(fold(records))


@settings(max_examples=150)
@given(logs(PROBLEM))
def test_the_indexes_of_the_ledger_agree_with_its_trials(records: list[Record]) -> None:
    ledger = fold([r.__class__(r.seq, r.at, r.worker, decode_event(encode_event(r.event))) for r in records])
    assert dump(ledger) == dump(fold(records))
    status = [t.status for t in ledger.trials]
    assert {k: v for k, v in ledger.counts.items() if v} == dict(Counter(status))
    assert sorted(ledger.running) == [i for i, s in enumerate(status) if s == "running"]
    assert sorted(ledger.waiting) == [i for i, s in enumerate(status) if s == "waiting"]
    openers = {r.event.trial: r.seq for r in records if isinstance(r.event, Started | Resumed)}
    for trial in ledger.trials:
        assert trial.token == openers[trial.id]
        steps = [r.step for r in trial.reports]
        assert steps == sorted(set(steps))
        assert trial.finished == (trial.status in FINISHED)
        assert trial.peak >= (steps[-1] if steps else 0)
    done = [t for t in ledger.trials if t.status == "completed" and t.metrics]
    best = min((t.metrics["loss"] for t in done), default=None)
    assert (ledger.best.metrics["loss"] if ledger.best is not None else None) == best


@settings(max_examples=150)
@given(logs(PROBLEM))
def test_the_columns_agree_with_the_ledger(records: list[Record]) -> None:
    ledger, history = Ledger(PROBLEM), History(PROBLEM)
    for record in records:
        if ledger.apply(record):
            history.apply(record.event)
    assert history.n == len(ledger.trials)
    assert history.problem == ledger.problem
    assert history.configs == [t.config for t in ledger.trials]
    assert history.status.tolist() == [COLUMNS.get(t.status, FAILED) for t in ledger.trials]
    for trial, loss in zip(ledger.trials, history.loss.tolist(), strict=True):
        if trial.status == "completed":
            assert loss == trial.metrics["loss"]
