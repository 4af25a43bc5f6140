"""A trial as a row of JSON, without its checkpoints, which may change after it is over; reports are decoded when looked at."""

from __future__ import annotations

from typing import Any

import msgspec

from tunewright.core.events import Ended, Reported, Started
from tunewright.core.life import Savings, Trial


class _Row(msgspec.Struct, array_like=True, gc=False):
    start: Started
    end: Ended | None
    status: str
    step: int
    peak: int
    until: int | None
    token: int
    first: int
    attempts: int
    losses: int
    reach: int
    signal: str | None
    at: float
    ended_at: float | None
    worker: str
    amended: dict[str, Any] | None
    stored: msgspec.Raw


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(_Row)


def shrunk(stored: list[Reported] | msgspec.Raw | None) -> msgspec.Raw:
    """Reports as JSON, a seventh of what they take as objects."""
    return stored if isinstance(stored, msgspec.Raw) else msgspec.Raw(_encoder.encode(stored or []))


def pack(t: Trial) -> msgspec.Raw:
    """The row of a trial; equal trials give equal rows."""
    stored = shrunk(t.stored)
    row = _Row(
        t.start, t.end, t.status, t.step, t.peak, t.until, t.token, t.first, t.attempts, t.losses, t.reach, t.signal,
        t.at, t.ended_at, t.worker, t.amended, stored,
    )  # fmt: skip
    return msgspec.Raw(_encoder.encode(row))


def unpack(data: msgspec.Raw, savings: Savings) -> Trial:
    """The trial of a row.

    Args:
        data: What ``pack`` gave.
        savings: Its checkpoints.

    Raises:
        msgspec.MsgspecError: If the row is damaged.
    """
    row = _decoder.decode(data)
    trial = Trial(row.start, row.token, row.at, row.worker)
    trial.end, trial.status, trial.step, trial.peak = row.end, row.status, row.step, row.peak  # type: ignore[assignment]
    trial.until, trial.attempts, trial.signal, trial.first = row.until, row.attempts, row.signal, row.first
    trial.losses, trial.reach = row.losses, row.reach
    trial.checkpoint, trial.fresh = savings
    trial.ended_at, trial.amended = row.ended_at, row.amended
    trial.stored = msgspec.Raw(row.stored) if len(row.stored) > 2 else None
    return trial
