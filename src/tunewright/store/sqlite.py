"""Logs in one SQLite file: many studies, many processes of one host, nothing lost when any of them is killed.

With ``durability="process"`` a result that was acknowledged survives the death of every process; with ``"full"`` it
also survives a power cut, at one flush of the disk per write. Readers never wait for writers. Processes take turns
(see ``locks``), threads share one connection for writing and one for reading, and a fork closes both first, because
SQLite must not be carried across one.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, cast
from urllib.parse import quote, urlencode
from zlib import crc32

import msgspec

from tunewright.core.events import (
    Ended,
    Event,
    Interrupted,
    Paused,
    Record,
    decode_event,
)
from tunewright.errors import (
    ConfigError,
    ConflictError,
    LeaseLost,
    SchemaError,
    StoreUnavailable,
    StudyExists,
    StudyMissing,
)
from tunewright.store import blobs as files
from tunewright.store import clock as clocks
from tunewright.store.base import (
    FACTS,
    FOREVER,
    IDLE,
    LIVE,
    OPENERS,
    OVER,
    OVERDUE,
    Choose,
    Head,
    Lease,
    StudyInfo,
    already,
    fence,
    late,
    misplaced,
    since,
)
from tunewright.store.depots import inside, local
from tunewright.store.link import Link
from tunewright.store.records import as_json, encode, tolerant
from tunewright.store.schema import Durability, check_place, sound

_SWEEP = 0.5
_LOOK = 0.02
_INSERT = "INSERT INTO event VALUES(?, ?, ?, ?, ?, ?)"
_LAST = "SELECT (SELECT max(seq) FROM event WHERE study = s.id) FROM study s WHERE id = ?"
_READ = "SELECT seq, at, worker, data, crc FROM event WHERE study = ? AND seq > ? ORDER BY seq LIMIT ?"
_HEAD = "SELECT token, state, worker, ended FROM head WHERE study = ? AND trial = ?"
_PUT_HEAD = "INSERT OR REPLACE INTO head VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?)"
_END_HEAD = "UPDATE head SET state = ?, expires = ?, wall = ?, ended = ? WHERE study = ? AND trial = ?"
# By itself SQLite would look through the heads of all trials, over or not.
_RUNNING = (
    "SELECT h.trial, h.token, w.name, p.name, h.expires, h.wall FROM head h INDEXED BY running "
    "JOIN name w ON w.id = h.worker JOIN name p ON p.id = h.place WHERE h.study = ? AND h.state = 0 ORDER BY h.trial"
)
_events = msgspec.json.Decoder(list[Event])


class SqliteStore:
    """A store in an SQLite file; safe to share between threads and to keep across a fork.

    Args:
        path: The file; created when missing, in a folder that exists.
        durability: ``"process"`` survives ``kill -9``, ``"full"`` also a power cut.
        force: Whether a network file system is accepted.
        deadline: Longest wait for anything, in seconds.
        blobs: Folder or address of the checkpoints, see ``store.depots``; None for a folder beside the file.
        clock: Seconds on a clock that all processes of this host share; replaced in tests.

    Raises:
        StoreUnavailable: If the file cannot be opened or created.
        SchemaError: If it is not a store, is damaged, or was written by a newer version.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        durability: Durability = "process",
        force: bool = False,
        deadline: float = 30.0,
        blobs: str | None = None,
        clock: Callable[[], float] = clocks.now,
    ) -> None:
        if durability not in ("process", "full"):
            raise ConfigError(
                f"Durability must be 'process' or 'full'; got {durability!r}. Choose one of them."
            )
        self.path = os.path.realpath(path)
        elsewhere = blobs if blobs is None or "://" in blobs else os.path.realpath(blobs)
        options = {
            k: v for k, v in (("durability", durability), ("blobs", elsewhere)) if v not in ("process", None)
        }
        self.url = f"sqlite:///{quote(self.path)}" + (f"?{urlencode(options)}" if options else "")
        self._blobs = elsewhere or self.path + "-blobs"
        self.durable = True
        self.flushes = durability == "full"
        self._deadline = deadline
        self._clock = clock
        self._pulse = clocks.Pulse()
        self._names: dict[int, str] = {}
        self._ids: dict[str, int] = {}
        self._swept: dict[int, float] = {}
        check_place(self.path, force=force)
        self._link = Link(self.path, durability, deadline)
        self._link.reading(lambda connection: None)

    # ------------------------------------------------------------------ studies

    def create(
        self, name: str, spec: dict[str, Any], *, exist_ok: bool = False, created: float | None = None
    ) -> StudyInfo:
        """Makes a study, or with ``exist_ok`` returns the one that is there."""
        text = as_json(spec, "A study's settings").decode()
        with self._writing() as connection:
            found = _study(connection, name)
            if found is None:
                at = time.time() if created is None else created
                cursor = connection.execute(
                    "INSERT INTO study(name, spec, created, crc) VALUES(?, ?, ?, ?)",
                    (name, text, at, crc32(text.encode())),
                )
                return StudyInfo(int(cursor.lastrowid or 0), name, spec, at)
        if exist_ok:
            return found
        raise StudyExists(f"A new study needs a new name; '{name}' is there already. Resume it or rename.")

    def find(self, name: str) -> StudyInfo | None:
        """The study of that name, or None."""
        return self._link.reading(lambda connection: _study(connection, name))

    def studies(self) -> list[StudyInfo]:
        """All studies, oldest first."""
        rows = self._link.reading(
            lambda c: c.execute("SELECT id, name, spec, created, crc FROM study ORDER BY id").fetchall()
        )
        return [_info(row) for row in rows]

    def delete(self, study: int) -> None:
        """Removes a study with its log and blobs."""
        with self._writing() as connection:
            _last(connection, study)
            for table in ("event", "head", "snapshot"):
                connection.execute(f"DELETE FROM {table} WHERE study = ?", (study,))  # noqa: S608 - names from above
            connection.execute("DELETE FROM study WHERE id = ?", (study,))
        place = inside(self._blobs, study)
        # Where the place cannot be reached, its files stay; the study is gone all the same.
        with contextlib.suppress(StoreUnavailable):
            files.clear(place)

    # ------------------------------------------------------------------ the log

    def last(self, study: int) -> int:
        """Position of the last record; 0 when the log is empty."""
        return self._link.reading(lambda connection: _last(connection, study))

    def read(self, study: int, after: int = 0, limit: int | None = None) -> list[Record]:
        """Records after a position, in order."""
        return self._link.reading(lambda connection: self._records(connection, study, after, limit))

    def append(
        self,
        study: int,
        events: Sequence[Event],
        *,
        worker: str,
        expected: int | None = None,
        lease: float = 30.0,
        again: bool = False,
    ) -> list[Record]:
        """Appends events, all or none; see ``Store.append``."""
        encoded = [encode(event) for event in events]
        with self._writing() as connection:
            last = _last(connection, study)
            if again:
                tail = self._records(connection, study, since(events, expected, last))
                found = already(events, tail, worker, first=expected is not None)
                if found is not None:
                    return found
            if expected is not None and expected != last:
                raise ConflictError(
                    f"A decision must rest on the newest log; it ended at {last}, not {expected}. Decide again."
                )
            records, refusal = self._write(connection, study, last, events, encoded, worker, lease)
        if refusal is not None:
            raise refusal
        return records

    def decide(
        self, study: int, after: int, choose: Choose, *, worker: str, lease: float = 30.0
    ) -> list[Record]:
        """Reads what is new, lets ``choose`` pick events, and appends them; see ``Store.decide``.

        Leases are looked through at most twice a second, so that the cost of a decision does not grow with the
        number of running trials.
        """
        with self._writing() as connection:
            last = _last(connection, study)
            tail = self._records(connection, study, after) if last > after else []
            events = choose(tail, self._sweep(connection, study))
            if not events:
                return []
            encoded = [encode(event) for event in events]
            records, refusal = self._write(connection, study, last, events, encoded, worker, lease)
        if refusal is not None:
            raise refusal
        return records

    def graft(self, study: int, records: Sequence[Record]) -> None:
        """Appends records of another store as they are; see ``Store.graft``."""
        encoded = [encode(record.event) for record in records]
        with self._writing() as connection:
            last = _last(connection, study)
            if records and records[0].seq != last + 1:
                raise misplaced(records[0].seq, last)
            heads: dict[int, tuple[Head, int]] = {}
            for record in records:
                event = record.event
                if isinstance(event, OPENERS):
                    heads[event.trial] = (Head(record.seq, LIVE, record.worker, OVERDUE), 0)
                elif isinstance(event, FACTS):
                    held = heads.get(event.trial)
                    head = held[0] if held is not None else self._head(connection, study, event.trial)
                    if head is not None:
                        _advance(heads, event, head, record.seq)
            self._insert(connection, study, list(records), encoded)
            for trial, (head, ended) in heads.items():
                self._put(connection, study, trial, head, ended, OVERDUE)

    def wait(self, study: int, after: int, timeout: float) -> int:
        """Waits for the log to get longer than ``after``; see ``Store.wait``."""
        end = time.monotonic() + timeout
        while (last := self.last(study)) <= after and (left := end - time.monotonic()) > 0:
            time.sleep(min(_LOOK, left))
        return last

    def _write(
        self,
        connection: sqlite3.Connection,
        study: int,
        last: int,
        events: Sequence[Event],
        encoded: list[bytes],
        worker: str,
        lease: float,
    ) -> tuple[list[Record], LeaseLost | None]:
        """Checks every event against the heads first, so that a refusal leaves its note and nothing else."""
        at = time.time()
        heads: dict[int, tuple[Head, int]] = {}
        fresh: list[Record] = []
        kept: list[bytes] = []
        for event, data in zip(events, encoded, strict=True):
            seq = last + len(fresh) + 1
            if isinstance(event, OPENERS):
                heads[event.trial] = (Head(seq, LIVE, worker, self._clock() + lease), 0)
            elif isinstance(event, FACTS):
                held = heads.get(event.trial)
                head = held[0] if held is not None else self._head(connection, study, event.trial)
                try:
                    if not fence(event, head):
                        continue
                except LeaseLost as refusal:
                    note = late(event, str(refusal))
                    self._insert(connection, study, [Record(last + 1, at, worker, note)], [encode(note)])
                    return [], refusal
                assert head is not None
                _advance(heads, event, head, seq)
            fresh.append(Record(seq, at, worker, event))
            kept.append(data)
        self._insert(connection, study, fresh, kept)
        for trial, (head, ended) in heads.items():
            self._put(connection, study, trial, head, ended, at + lease)
        return fresh, None

    def _insert(
        self, connection: sqlite3.Connection, study: int, records: list[Record], encoded: list[bytes]
    ) -> None:
        for record, data in zip(records, encoded, strict=True):
            worker = self._id(connection, record.worker)
            connection.execute(_INSERT, (study, record.seq, record.at, worker, data, crc32(data, record.seq)))

    def _put(
        self, connection: sqlite3.Connection, study: int, trial: int, head: Head, ended: int, wall: float
    ) -> None:
        if head.state == LIVE:
            worker, place = self._id(connection, head.worker), self._id(connection, clocks.place())
            connection.execute(
                _PUT_HEAD, (study, trial, head.token, LIVE, worker, place, head.expires, wall, 0)
            )
            return
        changed = connection.execute(_END_HEAD, (head.state, FOREVER, FOREVER, ended, study, trial)).rowcount
        if changed == 0:  # begun and over within one append
            worker, place = self._id(connection, head.worker), self._id(connection, clocks.place())
            connection.execute(
                _PUT_HEAD, (study, trial, head.token, head.state, worker, place, FOREVER, FOREVER, ended)
            )

    def _head(self, connection: sqlite3.Connection, study: int, trial: int) -> Head | None:
        row = connection.execute(_HEAD, (study, trial)).fetchone()
        if row is None:
            return None
        end = None
        if row[3]:
            found = connection.execute(
                "SELECT data, crc FROM event WHERE study = ? AND seq = ?", (study, row[3])
            ).fetchone()
            if found is None or not sound(found[0], found[1], row[3]):
                raise self._damaged(study, row[3], f"it is the end of trial {trial}")
            end = cast(Ended, decode_event(found[0]))
        return Head(row[0], row[1], self._name(connection, row[2]), 0.0, end)

    def _records(
        self, connection: sqlite3.Connection, study: int, after: int, limit: int | None = None
    ) -> list[Record]:
        rows = connection.execute(_READ, (study, after, -1 if limit is None else limit)).fetchall()
        if not rows:
            _last(connection, study)
            return []
        if rows[-1][0] - after != len(rows):
            gap = next(i for i, row in enumerate(rows, after + 1) if row[0] != i)
            raise self._damaged(study, gap, "it is gone")
        for row in rows:
            if row[4] != crc32(row[3], row[0]) and row[4] is not None:
                raise self._damaged(study, row[0], "its checksum differs")
        try:
            events = _events.decode(b"[" + b",".join([row[3] for row in rows]) + b"]")
        except msgspec.DecodeError:
            events = [self._one(study, row[0], row[3]) for row in rows]
        names = self._names
        return [
            Record(row[0], row[1], names.get(row[2]) or self._name(connection, row[2]), event)
            for row, event in zip(rows, events, strict=True)
        ]

    def _one(self, study: int, seq: int, data: bytes) -> Event:
        try:
            return tolerant(data)
        except msgspec.DecodeError as error:
            raise self._damaged(study, seq, error) from error

    def _damaged(self, study: int, seq: int, what: object) -> SchemaError:
        return SchemaError(
            f"Every event of a log must be readable; number {seq} of study {study} in {self.path} is damaged "
            f"({what}). Restore the file from a copy, or run: tunewright doctor --repair"
        )

    # ------------------------------------------------------------------ leases

    def renew(
        self, study: int, held: Sequence[tuple[int, int]], *, lease: float = 30.0
    ) -> list[tuple[int, int]]:
        """Extends leases; returns those that are no longer held."""
        if not held:
            return []
        with self._writing() as connection:
            _last(connection, study)
            place = self._id(connection, clocks.place())
            expires, wall = self._clock() + lease, time.time() + lease
            return [
                (trial, token)
                for trial, token in held
                if connection.execute(
                    "UPDATE head SET expires = ?, wall = ?, place = ? "
                    "WHERE study = ? AND trial = ? AND token = ? AND state = 0",
                    (expires, wall, place, study, trial, token),
                ).rowcount
                == 0
            ]

    def leases(self, study: int) -> list[Lease]:
        """Leases of all running trials."""
        return self._link.reading(lambda connection: self._leases(connection, study))

    def _sweep(self, connection: sqlite3.Connection, study: int) -> list[Lease]:
        moment = self._clock()
        if 0.0 <= moment - self._swept.get(study, -FOREVER) < _SWEEP:
            return []
        self._swept[study] = moment
        return [lease for lease in self._leases(connection, study) if lease.expired]

    def _leases(self, connection: sqlite3.Connection, study: int) -> list[Lease]:
        rows = connection.execute(_RUNNING, (study,)).fetchall()
        if not rows:
            _last(connection, study)
        now, wall, here = self._clock(), time.time(), clocks.place()
        return [
            Lease(
                trial, token, worker, self._expired(worker, place == here, place, expires < now, until < wall)
            )
            for trial, token, worker, place, expires, until in rows
        ]

    def _expired(self, worker: str, here: bool, place: str, silent: bool, silent_by_wall: bool) -> bool:
        """Whether an attempt may be taken over; ``here`` says that our clock is the one it was leased on."""
        if here and silent:
            return True
        if not here and (clocks.rebooted(place) or silent_by_wall):
            return True
        return self._pulse.alive(worker) is False

    def deciding(self, study: int) -> AbstractContextManager[None]:
        """Keeps deliberate deciders of one study apart, over all processes; advisory."""
        return self._link.turnstile.deciding(study, self._deadline)

    # ------------------------------------------------------------------ snapshots and blobs

    def save_snapshot(self, study: int, seq: int, data: bytes) -> None:
        """Keeps a cache of the folded state, unless a newer one is there."""
        with self._writing() as connection:
            _last(connection, study)
            connection.execute(
                "INSERT INTO snapshot VALUES(?, ?, ?, ?) ON CONFLICT(study) DO UPDATE SET seq = excluded.seq, "
                "data = excluded.data, crc = excluded.crc WHERE excluded.seq >= snapshot.seq",
                (study, seq, data, crc32(data, seq)),
            )

    def load_snapshot(self, study: int) -> tuple[int, bytes] | None:
        """The newest cache and its position, or None; one that was damaged counts as none."""
        row = self._link.reading(
            lambda c: c.execute("SELECT seq, data, crc FROM snapshot WHERE study = ?", (study,)).fetchone()
        )
        return None if row is None or not sound(row[1], row[2], row[0]) else (row[0], row[1])

    def blobs(self, study: int) -> str:
        """Folder that holds the study's checkpoint files, created when missing; or their address."""
        folder = local(inside(self._blobs, study))
        if folder is None:
            self.last(study)
            return inside(self._blobs, study)
        if not folder.is_dir():
            self.last(study)
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise StoreUnavailable(
                    f"Checkpoints need a folder beside the store; {folder} gave '{error}'. Check permissions and space."
                ) from error
        return str(folder)

    # ------------------------------------------------------------------ the file

    def close(self) -> None:
        """Closes the file; a later call opens it again."""
        self._link.close()

    def __repr__(self) -> str:
        return f"SqliteStore({self.url!r})"

    @contextlib.contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """One exclusive transaction; all or nothing."""
        try:
            with self._link.writing() as connection:
                yield connection
        except BaseException:
            # Numbers given to names in this transaction are void.
            self._ids.clear()
            self._names.clear()
            raise

    def _id(self, connection: sqlite3.Connection, name: str) -> int:
        """Number of a worker or place; names are long and repeat in every event."""
        known = self._ids.get(name)
        if known is None:
            row = connection.execute("SELECT id FROM name WHERE name = ?", (name,)).fetchone()
            if row is None:
                known = int(connection.execute("INSERT INTO name(name) VALUES(?)", (name,)).lastrowid or 0)
            else:
                known = int(row[0])
            self._ids[name] = known
            self._names[known] = name
        return known

    def _name(self, connection: sqlite3.Connection, number: int) -> str:
        name = self._names.get(number)
        if name is None:
            row = connection.execute("SELECT name FROM name WHERE id = ?", (number,)).fetchone()
            name = str(row[0]) if row is not None else "unknown"
            self._names[number] = name
        return name


def _advance(heads: dict[int, tuple[Head, int]], event: Event, head: Head, seq: int) -> None:
    """What a fact makes of the attempt that it speaks for."""
    if isinstance(event, Ended):
        heads[event.trial] = (Head(head.token, OVER, head.worker, FOREVER, event), seq)
    elif isinstance(event, Paused | Interrupted):
        heads[event.trial] = (Head(head.token, IDLE, head.worker, FOREVER), 0)


def _last(connection: sqlite3.Connection, study: int) -> int:
    row = connection.execute(_LAST, (study,)).fetchone()
    if row is None:
        raise StudyMissing(f"No study has the key {study} in this store; it may have been deleted.")
    return row[0] or 0


def _study(connection: sqlite3.Connection, name: str) -> StudyInfo | None:
    row = connection.execute(
        "SELECT id, name, spec, created, crc FROM study WHERE name = ?", (name,)
    ).fetchone()
    return None if row is None else _info(row)


def _info(row: tuple[int, str, str, float, int | None]) -> StudyInfo:
    if not sound(row[2].encode(), row[4]):
        raise SchemaError(
            f"A study's settings must be what was written; those of '{row[1]}' were changed by something else. "
            "Restore the file from a copy."
        )
    return StudyInfo(row[0], row[1], msgspec.json.decode(row[2]), row[3])
