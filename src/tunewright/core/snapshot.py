"""A cache of the folded ledger, so that a large study opens without reading its whole log.

The log stays the truth: a snapshot that is damaged, of another version or of another problem is ignored.
Reports stay undecoded until somebody looks at them.
"""

from __future__ import annotations

from typing import Any

import msgspec

from tunewright.core.events import Ended, Enqueued, Noted, Started
from tunewright.core.problem import Problem
from tunewright.core.trial import Ledger, Trial

VERSION = 5


class _TrialRow(msgspec.Struct, array_like=True, gc=False):
    start: Started
    end: Ended | None
    status: str
    step: int
    peak: int
    until: int | None
    token: int
    attempts: int
    losses: int
    reach: int
    signal: str | None
    checkpoint: tuple[int, str] | None
    fresh: tuple[int, str] | None
    at: float
    ended_at: float | None
    worker: str
    amended: dict[str, Any] | None
    stored: msgspec.Raw


class _Body(msgspec.Struct, gc=False):
    version: int
    cursor: int
    decisions: int
    failed_in_a_row: int
    digest: str
    spaces: list[tuple[int, dict[str, Any]]]
    trials: list[_TrialRow]
    queue: list[tuple[int, Enqueued]]
    keys: dict[str, int]
    notes: list[tuple[int, Noted]]
    best: int | None
    high: int | None = None


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(_Body)


def dump(ledger: Ledger) -> bytes:
    """The ledger as bytes."""
    return _encoder.encode(
        _Body(
            VERSION,
            ledger.cursor,
            ledger.decisions,
            ledger.failed_in_a_row,
            ledger.spaces[0][1].digest,
            [(seq, space.to_dict()) for seq, space in ledger.spaces[1:]],
            [_row(t) for t in ledger.trials],
            list(ledger.queue.items()),
            ledger.keys,
            ledger.notes,
            ledger.best.id if ledger.best is not None else None,
            ledger.problem.fidelity.high if ledger.problem.fidelity is not None else None,
        )
    )


def _row(t: Trial) -> _TrialRow:
    stored = t.stored if isinstance(t.stored, msgspec.Raw) else msgspec.Raw(_encoder.encode(t.stored or []))
    return _TrialRow(
        t.start, t.end, t.status, t.step, t.peak, t.until, t.token, t.attempts, t.losses, t.reach, t.signal,
        t.checkpoint, t.fresh, t.at, t.ended_at, t.worker, t.amended, stored,
    )  # fmt: skip


def load(problem: Problem, data: bytes) -> Ledger | None:
    """Rebuilds the ledger, or returns None when the snapshot cannot be used.

    Args:
        problem: The problem as the study was created with.
        data: What ``dump`` returned.
    """
    try:
        body = _decoder.decode(data)
    except msgspec.MsgspecError:
        return None
    if body.version != VERSION or body.digest != problem.space.digest:
        return None
    ledger = Ledger(problem)
    for seq, raw in body.spaces:
        ledger.problem = ledger.problem.revised(raw)
        ledger.spaces.append((seq, ledger.problem.space))
    if body.high is not None:
        ledger.problem = ledger.problem.extended(body.high)
    ledger.cursor, ledger.decisions = body.cursor, body.decisions
    ledger.failed_in_a_row = body.failed_in_a_row
    ledger.queue, ledger.keys, ledger.notes = dict(body.queue), body.keys, body.notes
    for row in body.trials:
        ledger.restore(_trial(row))
    if body.best is not None:
        ledger.crown(ledger.trials[body.best])
    return ledger


def _trial(row: _TrialRow) -> Trial:
    trial = Trial(row.start, row.token, row.at, row.worker)
    trial.end, trial.status, trial.step, trial.peak = row.end, row.status, row.step, row.peak  # type: ignore[assignment]
    trial.until, trial.attempts, trial.signal = row.until, row.attempts, row.signal
    trial.losses, trial.reach = row.losses, row.reach
    trial.checkpoint, trial.fresh = row.checkpoint, row.fresh
    trial.ended_at, trial.amended = row.ended_at, row.amended
    trial.stored = msgspec.Raw(row.stored) if len(row.stored) > 2 else None
    return trial
