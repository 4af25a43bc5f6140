"""Logs in PostgreSQL: many studies, many hosts, nothing lost when the server, the network or a worker dies.

One table of events, one row per trial for leases, and functions in the database, so that recording a fact is one round
trip and a decision one or two. Leases are measured on the server's clock. While the server is away, calls are tried
again for ``patience`` seconds; a commit whose answer was lost is looked for before it is written again.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import msgspec

from tunewright.core.events import Event, Record
from tunewright.errors import StoreUnavailable, StudyExists
from tunewright.store import blobs
from tunewright.store.base import Choose, Lease, StudyInfo
from tunewright.store.depots import inside, local
from tunewright.store.pg_address import parse
from tunewright.store.pg_decision import Decision
from tunewright.store.pg_leases import Leases
from tunewright.store.pg_line import (
    BEGIN,
    BYTES,
    COMMIT,
    FLOAT8,
    INT4,
    INT8,
    Line,
    Lost,
    Row,
    Statement,
    integer,
    number,
)
from tunewright.store.pg_link import Link
from tunewright.store.pg_log import OPENED, Log, Write, decoded, encoded, missing
from tunewright.store.records import as_json, encode

_CHUNK, _CHUNK_BYTES = 1000, 16_000_000
_CREATE = Statement(
    "create",
    "INSERT INTO study(name, spec, created) VALUES($1, $2, $3) ON CONFLICT DO NOTHING RETURNING id",
    *(BYTES, BYTES, FLOAT8),
)
_COLUMNS = "SELECT id, name, spec, created FROM study"
_FIND = Statement("find", f"{_COLUMNS} WHERE sha256(name) = sha256($1)", BYTES)
_STUDIES = Statement("studies", f"{_COLUMNS} ORDER BY id")
_LAST = Statement(
    "last",
    "SELECT (SELECT e.seq FROM event e WHERE e.study = s.id ORDER BY e.seq DESC LIMIT 1) FROM study s WHERE s.id = $1",
    INT4,
)
_SAVE = Statement(
    "save",
    "INSERT INTO snapshot(study, seq, data) SELECT id, $2, $3 FROM study WHERE id = $1 ON CONFLICT(study) DO UPDATE "
    "SET seq = greatest(excluded.seq, snapshot.seq), "
    "data = CASE WHEN excluded.seq >= snapshot.seq THEN excluded.data ELSE snapshot.data END RETURNING study",
    *(INT4, INT8, BYTES),
)
_LOAD = Statement("load", "SELECT seq, data FROM snapshot WHERE study = $1", INT4)
_PATIENT = Statement("patient", "SELECT set_config('statement_timeout', '0', true)")
_DELETES = [
    Statement(f"delete_{table}", f"DELETE FROM {table} WHERE {key} = $1", INT4)  # noqa: S608 - names from here
    for table, key in (("event", "study"), ("head", "study"), ("snapshot", "study"), ("study", "id"))
]


class PostgresStore:
    """A store in PostgreSQL; safe to share between threads and to keep across a fork.

    Args:
        url: ``postgresql://user@host:port/database``. After a question mark: ``schema=`` for the tables, by default
            ``tunewright``; ``blobs=`` for the folder or address of checkpoints, by default the environment variable
            ``TUNEWRIGHT_BLOBS``, else ``.tunewright/blobs`` here; ``deadline=``; ``patience=``; and what libpq knows,
            such as ``sslmode=verify-full``. Passwords are better kept in ``PGPASSFILE`` or ``PGPASSWORD``.
        deadline: Longest wait for one answer, in seconds.
        patience: How long a call is tried again while the server is away, in seconds.
        clock: Replaces the server's clock for leases, in tests.

    Attributes:
        url: The address, without a password if it held one.

    Raises:
        MissingExtra: If psycopg is not installed.
        ConfigError: If the address cannot be read.
        StoreUnavailable: If the server does not answer, or refuses.
        SchemaError: If the schema is not a store, or was written by a newer version.
    """

    def __init__(
        self,
        url: str,
        *,
        deadline: float = 30.0,
        patience: float = 600.0,
        clock: Callable[[], float] | None = None,
    ) -> None:
        address = parse(url)
        self.url = address.shown
        self.durable = True
        self.flushes = True
        self._deadline = address.deadline or deadline
        self._clock = clock
        self._log = Log(self.url, self._now)
        patience = address.patience or patience
        self._link = Link(address, self._deadline, patience)
        self._leases = Leases(self._log, self._link.quiet, clock)
        # A first connection that fails is more often a wrong address than a server that is away.
        self._link.call(lambda line, end, again: None, patience=min(self._deadline, patience))
        place = address.blobs if "://" in address.blobs else os.path.abspath(address.blobs)  # noqa: PTH100
        self._blobs = inside(place, self._link.mark)

    # ------------------------------------------------------------------ studies

    def create(
        self, name: str, spec: dict[str, Any], *, exist_ok: bool = False, created: float | None = None
    ) -> StudyInfo:
        """Makes a study, or with ``exist_ok`` returns the one that is there."""
        data = as_json(spec, "A study's description")
        at = time.time() if created is None else created

        def work(line: Line, end: float, again: bool) -> StudyInfo:
            made, found = line.run([(_CREATE, (encoded(name), data, at)), (_FIND, (encoded(name),))], end)
            # Both statements of one request see the same moment only if nobody deletes in between.
            if not found:
                raise Lost("the study was deleted meanwhile", sent=False)
            info = _info(found[0])
            # A first try may have made it although its answer was lost; nobody else has our time to the microsecond.
            mine = again and info.created == at and msgspec.json.encode(info.spec) == data
            if made or mine or exist_ok:
                return info
            raise StudyExists(
                f"A new study needs a new name; '{name}' is there already. Resume it or rename."
            )

        return self._link.call(work)

    def find(self, name: str) -> StudyInfo | None:
        """The study of that name, or None."""
        rows = self._link.call(lambda line, end, again: line.run([(_FIND, (encoded(name),))], end)[0])
        return _info(rows[0]) if rows else None

    def studies(self) -> list[StudyInfo]:
        """All studies, oldest first."""
        rows = self._link.call(lambda line, end, again: line.run([(_STUDIES, ())], end)[0])
        return [_info(row) for row in rows]

    def delete(self, study: int) -> None:
        """Removes a study with its log and blobs."""

        def work(line: Line, end: float, again: bool) -> None:
            begun = [(BEGIN, ()), (OPENED, (line.space, study, 0, 0)), (_PATIENT, ())]
            last = integer(line.run(begun, end)[1][0][0])
            if last < 0 and not again:
                raise missing(study)
            line.run(
                [*((s, (study,)) for s in _DELETES), (COMMIT, ())], time.monotonic() + self._link.patience
            )

        self._link.call(work)
        place = inside(self._blobs, study)
        # Where the place cannot be reached, its files stay; the study is gone all the same.
        with contextlib.suppress(StoreUnavailable):
            blobs.clear(place)

    # ------------------------------------------------------------------ the log

    def last(self, study: int) -> int:
        """Position of the last record; 0 when the log is empty."""
        rows = self._link.call(lambda line, end, again: line.run([(_LAST, (study,))], end)[0])
        if not rows:
            raise missing(study)
        return integer(rows[0][0])

    def read(self, study: int, after: int = 0, limit: int | None = None) -> list[Record]:
        """Records after a position, in order."""
        known = None if limit is None else self._log.news(study, after, limit)
        if known is not None:
            return known
        found: list[Record] = []
        chunk, left = _CHUNK, 2**62 if limit is None else limit
        while True:
            most = min(chunk, left)
            records, size = self._read(study, after, most)
            found += records
            after += len(records)
            left -= len(records)
            if len(records) < most or left <= 0:
                return found
            chunk = max(100, min(50_000, _CHUNK_BYTES * len(records) // size))

    def _read(self, study: int, after: int, most: int) -> tuple[list[Record], int]:
        return self._link.call(lambda line, end, again: self._log.read(line, end, study, after, most))

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
        write, asked = Write(study, events, worker, lease), again
        # The same words may have been said before; only what comes after the end that we saw can be this call's.
        seen = 0 if asked else self._log.end(study) or 0

        def work(line: Line, end: float, again: bool) -> list[Record]:
            return self._log.append(line, end, write, expected, again=seen if again or asked else None)

        return self._link.call(work)

    def decide(
        self, study: int, after: int, choose: Choose, *, worker: str, lease: float = 30.0
    ) -> list[Record]:
        """Reads what is new, lets ``choose`` pick events, and appends them; see ``Store.decide``.

        ``choose`` is called again when its first answer came too late or was lost on the way; then it gets only the
        records that it has not been given yet. Leases are looked through at most twice a second.
        """
        decision = Decision(self._log, self._leases, study, after, choose, worker=worker, lease=lease)
        return self._link.call(decision.take)

    def graft(self, study: int, records: Sequence[Record]) -> None:
        """Appends records of another store as they are; see ``Store.graft``."""
        data = [encode(record.event) for record in records]
        self._link.call(
            lambda line, end, again: self._log.graft(line, end, study, records, data, again=again)
        )

    def wait(self, study: int, after: int, timeout: float) -> int:
        """Waits for the log to get longer than ``after``; see ``Store.wait``."""
        end = time.monotonic() + timeout
        while True:
            heard = self._link.rings(study)
            last = self.last(study)
            left = end - time.monotonic()
            if last > after or left <= 0:
                return last
            self._link.hear(study, heard, left)

    # ------------------------------------------------------------------ leases

    def renew(
        self, study: int, held: Sequence[tuple[int, int]], *, lease: float = 30.0
    ) -> list[tuple[int, int]]:
        """Extends leases; returns those that are no longer held."""
        if not held:
            return []

        def work(line: Line, end: float, again: bool) -> list[list[Row]]:
            return line.run([self._leases.renewal(study, held, lease), (_LAST, (study,))], end)

        kept, there = self._link.call(work)
        if not there:
            raise missing(study)
        renewed = {(integer(trial), integer(token)) for trial, token in kept}
        return [pair for pair in held if tuple(pair) not in renewed]

    def leases(self, study: int) -> list[Lease]:
        """Leases of all running trials."""

        def work(line: Line, end: float, again: bool) -> list[Lease]:
            rows, there = line.run([self._leases.call(line, study), (_LAST, (study,))], end)
            if not there:
                raise missing(study)
            return self._leases.found(line, end, rows)

        return self._link.call(work)

    def deciding(self, study: int) -> AbstractContextManager[None]:
        """Keeps deliberate deciders of one study apart, over all processes and hosts; advisory."""
        return self._link.deciding(study)

    # ------------------------------------------------------------------ snapshots and blobs

    def save_snapshot(self, study: int, seq: int, data: bytes) -> None:
        """Keeps a cache of the folded state, unless a newer one is there."""
        if not self._link.call(lambda line, end, again: line.run([(_SAVE, (study, seq, data))], end)[0]):
            raise missing(study)

    def load_snapshot(self, study: int) -> tuple[int, bytes] | None:
        """The newest cache and its position, or None."""
        rows = self._link.call(lambda line, end, again: line.run([(_LOAD, (study,))], end)[0])
        return (integer(rows[0][0]), rows[0][1] or b"") if rows else None

    def blobs(self, study: int) -> str:
        """Where the study's checkpoint files are: a folder, created when missing, or an address."""
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
                    f"Checkpoints need a folder; {folder} gave '{error}'. Check permissions and space, or name another "
                    "place with ?blobs= or TUNEWRIGHT_BLOBS."
                ) from error
        return str(folder)

    # ------------------------------------------------------------------ the rest

    def server(self) -> str:
        """What the server says about itself: its version, and whether it is a standby."""
        question = "SELECT current_setting('server_version'), pg_is_in_recovery()::text"
        ((number, standby),) = self._link.call(lambda line, end, again: line.execute(question, end))
        words = (number or b"").decode()
        return f"PostgreSQL {words}" + (", a standby that cannot be written" if standby == b"true" else "")

    def close(self) -> None:
        """Hangs up; a later call connects again."""
        self._link.close()

    def __repr__(self) -> str:
        return f"PostgresStore({self.url!r})"

    def _now(self) -> float | None:
        return None if self._clock is None else self._clock()


def _info(row: Row) -> StudyInfo:
    key, name, spec, created = row
    return StudyInfo(integer(key), decoded(name), msgspec.json.decode(spec or b""), number(created))
