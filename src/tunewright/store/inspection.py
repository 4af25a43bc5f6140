"""Looks through an SQLite store without changing it: every page, every record, and whether the tables agree with the log."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import msgspec

from tunewright.core.events import Ended, Event, Interrupted, Paused
from tunewright.store.base import FACTS, IDLE, LIVE, OPENERS, OVER
from tunewright.store.mending import FAR, Row, read_event
from tunewright.store.schema import connect, explain, sound

_ROWS = (
    "SELECT e.seq, e.at, coalesce(n.name, 'unknown'), e.data, e.crc FROM event e LEFT JOIN name n ON n.id = e.worker "
    "WHERE e.study = ? ORDER BY e.seq"
)
_HEADS = (
    "SELECT h.trial, h.token, h.state, coalesce(n.name, 'unknown'), h.ended FROM head h "
    "LEFT JOIN name n ON n.id = h.worker WHERE h.study = ?"
)
_THOROUGH = 1 << 30
_MOST = 20
_STATES = {LIVE: "running", IDLE: "at rest", OVER: "over"}


class Attempt(NamedTuple):
    """The latest attempt of a trial.

    Attributes:
        token: Position of the event that began it.
        state: ``LIVE``, ``IDLE`` or ``OVER``.
        worker: Whose it is.
        ended: Position of the event that ended it, or 0.
    """

    token: int
    state: int
    worker: str
    ended: int


@dataclass(slots=True)
class StudyFound:
    """What is wrong with a study.

    Attributes:
        id: Its key.
        name: Its name.
        spec: What it is; None when that is damaged.
        last: Position of its last record.
        beyond: Last position that the table of attempts or the snapshot speaks of.
        missing: First and last of the positions below ``last`` without a record, by gap.
        bad: Position and reason of every record that cannot be read.
        heads: Where the table of attempts is not what the log says, in words.
        snapshot: Why the snapshot cannot be used, or empty.
        tokens: Trial by position of the attempts in the table.
    """

    id: int
    name: str
    spec: dict[str, Any] | None
    last: int = 0
    beyond: int = 0
    missing: list[tuple[int, int]] = field(default_factory=list)
    bad: list[tuple[int, str]] = field(default_factory=list)
    heads: list[str] = field(default_factory=list)
    snapshot: str = ""
    tokens: dict[int, int] = field(default_factory=dict)

    @property
    def whole(self) -> bool:
        """Whether every record is there and can be read."""
        return not (self.missing or self.bad or self.beyond > self.last)


@dataclass(slots=True)
class FileFound:
    """What is wrong with a file.

    Attributes:
        path: The file.
        pages: What SQLite says of its pages and indexes; empty when they are well.
        studies: Its studies.
    """

    path: str
    pages: list[str]
    studies: list[StudyFound]


def inspect_file(path: str, only: str | None = None) -> FileFound:
    """Looks through a store; others may be writing meanwhile.

    Args:
        path: A file of the newest format.
        only: Name of the one study to look at; None for all.

    Raises:
        SchemaError: If the file is damaged so that not even its tables can be listed.
    """
    try:
        with contextlib.closing(connect(path)) as c:
            c.execute("BEGIN")
            pages = _pages(c)
            studies = [
                _study(c, *row)
                for row in c.execute("SELECT id, name, spec, crc FROM study ORDER BY id").fetchall()
                if only in (None, row[1])
            ]
    except sqlite3.Error as error:
        raise explain(error, path) from error
    return FileFound(path, pages, studies)


def _pages(connection: sqlite3.Connection) -> list[str]:
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    (size,) = connection.execute("PRAGMA page_size").fetchone()
    check = "integrity_check" if pages * size <= _THOROUGH else "quick_check"
    try:
        found = [str(row[0]) for row in connection.execute(f"PRAGMA {check}({_MOST})")]
    except sqlite3.DatabaseError as error:
        found = [str(error)]
    return [] if found == ["ok"] else found


def _study(connection: sqlite3.Connection, id: int, name: str, spec: str, crc: int | None) -> StudyFound:
    found = StudyFound(id, name, _spec(spec, crc))
    try:
        table = attempts(connection, id)
        found.tokens = {a.token: trial for trial, a in table.items()}
        log = Attempts()
        seq = 0
        for row in rows(connection, id):
            if row.seq > seq + 1:
                found.missing.append((seq + 1, row.seq - 1))
            seq = row.seq
            event = read_event(row)
            if isinstance(event, str):
                found.bad.append((seq, event))
            else:
                log.take(seq, row.worker, event)
        found.last = seq
        marks = [max(a.token, a.ended) for a in table.values()]
        kept = connection.execute("SELECT seq, data, crc FROM snapshot WHERE study = ?", (id,)).fetchone()
        if kept is not None and not sound(kept[1], kept[2], kept[0]):
            found.snapshot = "its checksum differs"
        elif kept is not None:
            marks.append(kept[0])
        found.beyond = max([seq, *(mark for mark in marks if mark <= seq + FAR)])
        found.heads = _differences(table, log.latest)
    except sqlite3.Error as error:
        found.bad.append((found.last + 1, f"the file cannot be read from here: {error}"))
    return found


def _spec(text: str, crc: int | None) -> dict[str, Any] | None:
    if not sound(text.encode(), crc):
        return None
    try:
        found = msgspec.json.decode(text)
    except msgspec.DecodeError:
        return None
    return found if isinstance(found, dict) else None


def rows(connection: sqlite3.Connection, study: int) -> Iterator[Row]:
    """The records of a study as they are stored, in order."""
    for row in connection.execute(_ROWS, (study,)):
        data = row[3] if isinstance(row[3], bytes) else str(row[3]).encode()
        yield Row(row[0], row[1], row[2], data, row[4])


def attempts(connection: sqlite3.Connection, study: int) -> dict[int, Attempt]:
    """The table of attempts, by trial."""
    return {row[0]: Attempt(*row[1:]) for row in connection.execute(_HEADS, (study,))}


class Attempts:
    """The latest attempts as the log has them.

    Attributes:
        latest: By trial.
    """

    def __init__(self) -> None:
        self.latest: dict[int, Attempt] = {}

    def take(self, seq: int, worker: str, event: Event) -> None:
        """Takes in the next record."""
        if isinstance(event, OPENERS):
            self.latest[event.trial] = Attempt(seq, LIVE, worker, 0)
        elif isinstance(event, FACTS) and isinstance(event, Paused | Interrupted | Ended):
            held = self.latest.get(event.trial)
            if held is not None and held.token == event.token:
                over = isinstance(event, Ended)
                self.latest[event.trial] = held._replace(
                    state=OVER if over else IDLE, ended=seq if over else 0
                )


def _differences(table: dict[int, Attempt], log: dict[int, Attempt]) -> list[str]:
    return [
        f"trial {trial}: the table says {_words(table.get(trial))}, the log {_words(log.get(trial))}"
        for trial in sorted(table.keys() | log.keys())
        if table.get(trial) != log.get(trial)
    ]


def _words(attempt: Attempt | None) -> str:
    if attempt is None:
        return "nothing"
    end = f" since {attempt.ended}" if attempt.ended else ""
    return f"attempt {attempt.token} of {attempt.worker} is {_STATES.get(attempt.state, 'unknown')}{end}"


def listed(gaps: Iterable[tuple[int, int]], most: int = 8) -> str:
    """Gaps in words: ``3, 7 to 9``; each is its first and last position."""
    spans: list[list[int]] = []
    for first, last in sorted(gaps):
        if spans and spans[-1][1] >= first - 1:
            spans[-1][1] = last
        else:
            spans.append([first, last])
    words = [str(a) if a == b else f"{a} to {b}" for a, b in spans]
    return ", ".join(words[:most]) + (f" and {len(words) - most} more places" if len(words) > most else "")
