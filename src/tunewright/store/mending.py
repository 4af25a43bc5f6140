"""Makes a log whole again of which some records are damaged or gone, without inventing a result.

Positions are never given away again, because they are the tokens of attempts. A record that cannot be read becomes a note
at its own place, with what is left of its text. Everything that can be read stays as it is, with one exception: what was
said about a trial whose configuration is lost becomes notes too, and the trial ends as ``lost``, for a result
without its configuration must not be anybody's best. Where others speak of an attempt whose beginning is lost, the
beginning is put back; a trial whose end is lost is found to have fallen silent and is trained again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple, get_args

import msgspec

from tunewright.core.events import (
    Amended,
    Dropped,
    Ended,
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
)
from tunewright.core.problem import Problem
from tunewright.core.trial import Ledger
from tunewright.errors import SchemaError, TunewrightError
from tunewright.store.base import FACTS
from tunewright.store.schema import sound

DOCTOR = "external/doctor"
TOPIC = "damaged"
_KINDS = {kind.__struct_config__.tag for kind in get_args(Event)}
_OF_TRIAL = Reported | Saved | Paused | Interrupted | Ended | Resumed | Signalled | Amended | Dropped
_TEXT = 2_000
FAR = 100_000  # a log is not mended over gaps beyond this, or ten times what is there


class Row(NamedTuple):
    """A record as it is stored.

    Attributes:
        seq: Its position.
        at: When it was appended.
        worker: By whom.
        data: Its event as JSON.
        crc: Its checksum, or None.
    """

    seq: int
    at: float
    worker: str
    data: bytes
    crc: int | None


Rows = Callable[[], Iterable[Row]]


@dataclass(slots=True)
class Mended:
    """What has to change for a log to be whole.

    Attributes:
        last: Position of its last record then.
        replaced: Records that take the place of damaged and missing ones, and of what rests on those.
        closing: Events to be appended after the last one.
        lost: What was lost, in words, one sentence for each record.
    """

    last: int
    replaced: dict[int, Record] = field(default_factory=dict)
    closing: list[Event] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)


def read_event(row: Row) -> Event | str:
    """The event of a row, or what is wrong with it; a kind that a newer version added is a note."""
    if not sound(row.data, row.crc, row.seq):
        return "its checksum differs"
    try:
        return decode_event(row.data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError):
            found = msgspec.json.decode(row.data)
            if isinstance(found, dict) and isinstance(found.get("kind"), str) and found["kind"] not in _KINDS:
                return Noted("unknown", found)
        return str(error)


def mend(problem: Problem, rows: Rows, tokens: dict[int, int], beyond: int = 0) -> Mended:
    """Finds what must change for a log to be whole.

    Args:
        problem: The problem as the study was created with.
        rows: Gives the rows that are there, in order of position; called twice.
        tokens: Trial by position of the attempts that something other than the log knows of.
        beyond: Last position that something other than the log knows of.

    Raises:
        SchemaError: If more trials are gone than positions, so that the log contradicts itself; or if far more is gone
            than there is, so that a position must be wrong.
    """
    openers, last = _openers(rows, tokens, beyond)
    walk = _Walk(problem, openers, Mended(last))
    for seq, row in _everything(rows, last):
        walk.step(seq, row)
    walk.close()
    return walk.told


def _everything(rows: Rows, last: int) -> Iterator[tuple[int, Row | None]]:
    """Every position, with its row or None."""
    seq = 0
    for row in rows():
        for gap in range(seq + 1, row.seq):
            yield gap, None
        yield row.seq, row
        seq = row.seq
    for gap in range(seq + 1, last + 1):
        yield gap, None


def _openers(rows: Rows, tokens: dict[int, int], beyond: int) -> tuple[dict[int, int], int]:
    """The lost beginnings of attempts, as trial by position, and the last position of the log."""
    lost: set[int] = set()
    known: dict[int, int] = {}
    said: dict[int, int] = dict(tokens)
    seq = count = 0
    for count, row in enumerate(rows(), start=1):
        if row.seq - count > FAR + 10 * count:
            raise SchemaError(
                f"A log with so many records cannot lack {row.seq - count}; number {row.seq} is not where it was. "
                "Run: tunewright doctor --salvage NEW.db"
            )
        lost.update(range(seq + 1, row.seq))
        seq = row.seq
        event = read_event(row)
        if isinstance(event, str):
            lost.add(seq)
        elif isinstance(event, Started):
            known.setdefault(event.trial, seq)
        elif isinstance(event, FACTS):
            said[event.token] = event.trial
    last = max(seq, beyond)
    lost.update(range(seq + 1, last + 1))
    openers = {at: trial for at, trial in sorted(said.items()) if at in lost}
    for at, trial in openers.items():
        known.setdefault(trial, at)
    _number(known, openers, sorted(lost - openers.keys()))
    return openers, last


def _number(known: dict[int, int], openers: dict[int, int], free: list[int]) -> None:
    """Finds a place for the start of every trial that nobody speaks of: trials are numbered in order."""
    place, number, i = 0, 0, 0
    for trial, at in sorted(known.items()):
        while number < trial:
            while i < len(free) and free[i] <= place:
                i += 1
            if i == len(free) or free[i] >= at:
                raise SchemaError(
                    f"A log must begin every trial once, in order; trial {number} is gone without a trace. "
                    "Copy what can be read with tunewright export."
                )
            place = free[i]
            openers[place] = number
            number += 1
        if at <= place:
            raise SchemaError(
                f"A log must begin every trial once, in order; trial {trial} at {at} begins before trial {trial - 1}. "
                "Copy what can be read with tunewright export."
            )
        place, number = at, trial + 1


class _Walk:
    """Folds the log from its beginning, and puts something in the place of what cannot be folded."""

    def __init__(self, problem: Problem, openers: dict[int, int], told: Mended) -> None:
        self._ledger = Ledger(problem)
        self._openers = openers
        self.told = told
        self._hollow: set[int] = set()
        self._at = 0.0

    def step(self, seq: int, row: Row | None) -> None:
        """Takes the next position."""
        event = "it is gone" if row is None else read_event(row)
        if row is not None:
            self._at = row.at
        if isinstance(event, str):
            self._replace(seq, self._instead(seq, row, event))
        elif why := self._illegal(event) or self._folds(seq, row, event):
            self._replace(
                seq, Noted(TOPIC, {"reason": why, "event": msgspec.to_builtins(event)}, _trial(event))
            )
            self.told.lost.append(f"{seq}: {_said(event)} became a note, because {why}")

    def _folds(self, seq: int, row: Row | None, event: Event) -> str:
        """Takes a record in; returns why it cannot be taken in, or nothing."""
        assert row is not None
        try:
            self._ledger.apply(Record(seq, row.at, row.worker, event))
        except TunewrightError as error:
            # A space that cannot be used changes nothing; records from before format 2 have no checksum.
            self._ledger.cursor = seq - 1
            return str(error)
        return ""

    def _replace(self, seq: int, event: Event) -> None:
        record = Record(seq, self._at, DOCTOR, event)
        self.told.replaced[seq] = record
        self._ledger.apply(record)

    def _instead(self, seq: int, row: Row | None, why: str) -> Event:
        """What takes the place of a record that cannot be read."""
        trial = self._openers.get(seq)
        text = "" if row is None else row.data[:_TEXT].decode("utf-8", "replace")
        if trial is None:
            self.told.lost.append(f"{seq}: cannot be read ({why}); a note has its place")
            return Noted(TOPIC, {"reason": why, "text": text})
        because = {"reason": f"the record was damaged: {why}", "text": text}
        if trial == len(self._ledger.trials):
            self._hollow.add(trial)
            self.told.lost.append(f"{seq}: the configuration of trial {trial} ({why}); the trial is lost")
            return Started(trial, {}, basis=seq - 1, by="repair", why=because)
        if trial in self._hollow or self._ledger.trials[trial].finished:
            self.told.lost.append(f"{seq}: cannot be read ({why}); a note has its place")
            return Noted(TOPIC, because, trial)
        self.told.lost.append(
            f"{seq}: cannot be read ({why}); trial {trial} went on there, and does so again"
        )
        return Resumed(trial, self._ledger.trials[trial].restart, basis=seq - 1, by="repair", why=because)

    def _illegal(self, event: Event) -> str:
        """Why an event cannot follow what is before it; empty when it can."""
        trials = self._ledger.trials
        if isinstance(event, Started):
            return "" if event.trial == len(trials) else f"trial {event.trial} had begun already"
        if not isinstance(event, _OF_TRIAL):
            return ""
        if not 0 <= event.trial < len(trials):
            return f"trial {event.trial} had not begun"
        if event.trial in self._hollow:
            return f"the configuration of trial {event.trial} is lost"
        trial = trials[event.trial]
        if trial.finished and not isinstance(event, Dropped | Signalled | Amended):
            return f"trial {event.trial} was over"
        if isinstance(event, FACTS) and event.token != trial.token:
            return f"attempt {event.token} of trial {event.trial} was not the latest"
        return ""

    def close(self) -> None:
        """Ends the trials whose configuration is lost."""
        for number in sorted(self._hollow):
            trial = self._ledger.trials[number]
            self.told.closing.append(
                Ended(number, trial.token, "lost", error="the record of its configuration was damaged")
            )


def _trial(event: Event) -> int | None:
    number: Any = getattr(event, "trial", None)
    return number if isinstance(number, int) else None


def _said(event: Event) -> str:
    kind = type(event).__struct_config__.tag
    number = _trial(event)
    return f"'{kind}'" if number is None else f"'{kind}' of trial {number}"
