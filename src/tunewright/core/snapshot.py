"""A cache of the folded ledger, so that a study opens quickly however long its log is.

The log stays the truth: a snapshot that is damaged, of another version or of another problem is ignored. Trials that are
over or paused are not in it, for they are in the log; a snapshot knows where they began (see ``unread``). What it holds is
what runs or waits, what is far apart in the log, and the indexes, so it is small.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import msgspec

from tunewright.core.events import Enqueued, Noted
from tunewright.core.life import Trial
from tunewright.core.problem import Problem
from tunewright.core.replicates import Pools
from tunewright.core.rows import pack, unpack
from tunewright.core.trial import Ledger

VERSION = 7
_EARLIER = 6


class _Saves(msgspec.Struct, array_like=True, gc=False):
    trial: int
    checkpoint: tuple[int, str] | None
    fresh: tuple[int, str] | None


class _Body(msgspec.Struct, gc=False):
    version: int
    cursor: int
    decisions: int
    begun: int
    failed_in_a_row: int
    digest: str
    spaces: list[tuple[int, dict[str, Any]]]
    lengths: list[tuple[int, int | None]]
    size: int
    counts: dict[str, int]
    starts: list[int]
    running: list[msgspec.Raw]
    waiting: list[msgspec.Raw]
    paused: list[tuple[int, tuple[int, int]]]
    far: list[tuple[int, msgspec.Raw]]
    saves: list[_Saves]
    finals: list[tuple[int, float | None, float | None]]
    queue: list[tuple[int, Enqueued]]
    keys: dict[str, int]
    notes: list[tuple[int, Noted]]
    best: list[msgspec.Raw]
    replicated: bool
    pools: list[tuple[int, tuple[float, ...], float | None]] | None
    control: Literal["pause", "stop"] | None = None
    tags: list[tuple[int | None, tuple[str, ...]]] = []


class _Brief(msgspec.Struct, gc=False):
    version: int


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(_Body)
_brief_decoder = msgspec.json.Decoder(_Brief)


def weight(ledger: Ledger) -> int:
    """How many rows a snapshot has that take work, to which what it costs is proportional."""
    lists = (ledger.running, ledger.waiting, ledger.saves, ledger.keys, ledger.notes, ledger.tags)
    pools = len(ledger.pools) if ledger.pools is not None else 0
    return sum(len(x) for x in lists) + pools + (len(ledger.far) + len(ledger.paused)) // 16


def current(data: bytes) -> bool:
    """Whether a snapshot is of this version and whole."""
    try:
        return _brief_decoder.decode(data).version == VERSION
    except msgspec.MsgspecError:
        return False


def dump(ledger: Ledger) -> bytes:
    """The ledger as bytes; equal ledgers give equal bytes."""
    return _encoder.encode(
        _Body(
            VERSION,
            ledger.cursor,
            ledger.decisions,
            ledger.begun,
            ledger.failed_in_a_row,
            ledger.spaces[0][1].digest,
            [(seq, space.to_dict()) for seq, space in ledger.spaces[1:]],
            ledger.lengths,
            len(ledger.trials),
            {status: n for status, n in sorted(ledger.counts.items()) if n},
            ledger.starts,
            [pack(t) for t in ledger.running.values()],
            [pack(t) for t in ledger.waiting.values()],
            list(ledger.paused.items()),
            list(ledger.far.items()),
            [_Saves(number, *savings) for number, savings in ledger.saves.items()],
            [(number, _bounded(v), _bounded(x)) for number, (v, x) in ledger.finals.items()],
            list(ledger.queue.items()),
            ledger.keys,
            ledger.notes,
            [] if ledger.best is None else [pack(ledger.best)],
            ledger.replicated,
            ledger.pools.rows() if ledger.pools is not None else None,
            ledger.control,
            list(ledger.tags.items()),
        )
    )


def _bounded(value: float) -> float | None:
    """JSON holds no infinity."""
    return value if math.isfinite(value) else None


def _unbounded(value: float | None) -> float:
    return math.inf if value is None else value


def load(problem: Problem, data: bytes) -> Ledger | None:
    """Rebuilds the ledger, or returns None when the snapshot cannot be used.

    Its trials that are over or paused can be looked at once it has the log for their source (see ``unread``).

    Args:
        problem: The problem as the study was created with.
        data: What ``dump`` returned.
    """
    try:
        body = _decoder.decode(data)
        return _rebuilt(problem, body) if _usable(body) and body.digest == problem.space.digest else None
    except (msgspec.MsgspecError, LookupError):
        return None


def _usable(body: _Body) -> bool:
    """Whether a snapshot says all that this version wants to know.

    Version 6 lacks what people want of the study, and tags. It was written by programs that took those for unknown
    events and kept them as notes, so without such notes there were none.
    """
    if body.version == _EARLIER:
        return all(note.topic != "unknown" for _, note in body.notes)
    return body.version == VERSION


def _rebuilt(problem: Problem, body: _Body) -> Ledger:
    ledger = Ledger(problem)
    for seq, raw in body.spaces:
        ledger.problem = ledger.problem.revised(raw)
        ledger.spaces.append((seq, ledger.problem.space))
    ledger.lengths = body.lengths
    if len(ledger.lengths) > 1 and ledger.lengths[-1][1] is not None:
        ledger.problem = ledger.problem.extended(ledger.lengths[-1][1])
    ledger.cursor, ledger.decisions, ledger.begun = body.cursor, body.decisions, body.begun
    ledger.failed_in_a_row, ledger.counts, ledger.starts = body.failed_in_a_row, body.counts, body.starts
    ledger.queue, ledger.keys, ledger.notes = dict(body.queue), body.keys, body.notes
    ledger.control, ledger.tags = body.control, dict(body.tags)
    ledger.finals = {number: (_unbounded(v), _unbounded(x)) for number, v, x in body.finals}
    for saves in body.saves:
        ledger.keep(saves.trial, (saves.checkpoint, saves.fresh))
    _put_trials(ledger, body)
    return ledger


def _put_trials(ledger: Ledger, body: _Body) -> None:
    rows = ledger.trials.rows
    rows += [None] * body.size
    ledger.paused, ledger.far = dict(body.paused), dict(body.far)
    for found, place in ((body.running, ledger.running), (body.waiting, ledger.waiting)):
        for row in found:
            trial = _trial(row, ledger)
            rows[trial.id] = place[trial.id] = trial
    ledger.replicated = body.replicated
    for row in body.best:
        best = _trial(row, ledger)
        rows[best.id] = best
        if ledger.replicated:
            ledger.best = best
        else:
            ledger.crown(best)
    if body.pools is not None:
        first = None if ledger.best is None else ledger.best.id
        ledger.pools = Pools.of_rows(ledger.problem, body.pools, first)


def _trial(row: msgspec.Raw, ledger: Ledger) -> Trial:
    trial = unpack(row, (None, None))
    trial.checkpoint, trial.fresh = ledger.saves.get(trial.id, (None, None))
    return trial
