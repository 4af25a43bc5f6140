"""What one request does to a log in PostgreSQL: read it, append to it in one round trip, or look closely first."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence

from tunewright.core.events import Ended, Event, Interrupted, Paused, Record
from tunewright.errors import ConflictError, LeaseLost, SchemaError, StudyMissing
from tunewright.store.base import (
    FACTS,
    IDLE,
    LIVE,
    OPENERS,
    OVER,
    Head,
    already,
    fence,
    late,
    misplaced,
    since,
)
from tunewright.store.pg_line import (
    BEGIN,
    BYTES,
    BYTESS,
    COMMIT,
    FLOAT8,
    FLOAT8S,
    INT2,
    INT2S,
    INT4,
    INT4S,
    INT8,
    INT8S,
    Call,
    Line,
    Row,
    Statement,
    integer,
    number,
)
from tunewright.store.pg_schema import READ
from tunewright.store.records import decode_all, encode

_CHUNK = 50_000
_LARGE = 4
# The lease of an attempt that was copied from another store: over, whatever the clock says.
_OVERDUE = -1e18
_OPENS, _NEEDS, _IDLES, _ENDS = 1, 2, 3, 4

_READ = Statement("read", READ, INT4, INT8, INT8)
_KNOWN = Statement("known", "SELECT known($1)", BYTES)
_NAME = Statement("name", "SELECT name FROM name WHERE id = $1", INT4)
OPENED = Statement("opened", "SELECT * FROM opened($1, $2, $3, $4)", INT4, INT4, INT8, INT8)
_PUT = Statement(
    "put",
    "SELECT * FROM put($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
    *(INT4, INT4, INT8, INT4, FLOAT8, FLOAT8, INT2, INT8, INT8, BYTES, INT8),
)
_PUT_MANY = Statement(
    "put_many",
    "SELECT * FROM put_many($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
    *(INT4, INT4, INT8, INT4, FLOAT8, FLOAT8, INT2S, INT8S, INT8S, BYTESS, INT8),
)
_HEADS = Statement(
    "heads",
    "SELECT h.trial, h.token, h.state, h.worker, h.ended, h.lease, "
    "(SELECT e.data FROM event e WHERE e.study = h.study AND e.seq = h.ended) "
    "FROM head h WHERE h.study = $1 AND h.trial = ANY($2)",
    *(INT4, INT8S),
)
_SETTLED = Statement(
    "settled",
    "SELECT settled($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)",
    *(INT4, INT4, INT8, FLOAT8S, INT4S, BYTESS, FLOAT8, INT8S, INT8S, INT2S, INT4S, FLOAT8S, INT8S),
)


class Write:
    """Events that are to be appended, with what the database has to know about each.

    Args:
        study: Key of the study.
        events: What happened.
        worker: Who says so.
        lease: Seconds that attempts begun here may stay silent.

    Attributes:
        simple: Whether no attempt is meant twice, so that they can be checked all at once.

    Raises:
        ConfigError: If an event holds what JSON does not.
    """

    def __init__(self, study: int, events: Sequence[Event], worker: str, lease: float) -> None:
        self.study = study
        self.events = list(events)
        self.data: list[bytes] = [encode(event) for event in self.events]
        self.worker = worker
        self.lease = lease
        self.roles = [_role(event) for event in self.events]
        self.trials: list[int] = [
            getattr(e, "trial", 0) if r else 0 for e, r in zip(self.events, self.roles, strict=True)
        ]
        self.tokens: list[int] = [
            getattr(e, "token", 0) if r > _OPENS else 0 for e, r in zip(self.events, self.roles, strict=True)
        ]
        meant = [t for t, r in zip(self.trials, self.roles, strict=True) if r]
        self.simple = len(meant) < 2 or len(set(meant)) == len(meant)

    def records(self, last: int, at: float) -> list[Record]:
        """The records that these events become after position ``last``."""
        return [Record(last + 1 + i, at, self.worker, event) for i, event in enumerate(self.events)]


def _role(event: Event) -> int:
    if isinstance(event, Ended):
        return _ENDS
    if isinstance(event, OPENERS):
        return _OPENS
    if isinstance(event, Paused | Interrupted):
        return _IDLES
    return _NEEDS if isinstance(event, FACTS) else 0


class _Row(Head):
    """The latest attempt of a trial, with what else its row holds."""

    holder: int = 0
    ended: int = 0
    lease: float = 0.0


class Crowd:
    """Whether others write to a study so often that a decision without the lock is mostly in vain.

    Attributes:
        most: Events of the last decision of this process.
    """

    def __init__(self) -> None:
        self._penalty = 0
        self._skip = 0
        self.most = 0

    def quiet(self) -> bool:
        """Whether to try without the lock; after each failure less often, as long as it goes on.

        Not where decisions are large: to take one twice is dear, and their second round trip is not.
        """
        if self.most > _LARGE:
            return False
        if self._skip > 0:
            self._skip -= 1
            return False
        return True

    def note(self, *, alone: bool) -> None:
        """Takes in how a try went."""
        self._penalty = 0 if alone else min(64, 2 * self._penalty + 4)
        self._skip = self._penalty


class Log:
    """The logs of one place, request by request; every method takes the connection and the latest end of the try.

    Args:
        place: Names it in messages.
        now: Replaces the server's clock for leases, in tests; gives None otherwise.
    """

    def __init__(self, place: str, now: Callable[[], float | None]) -> None:
        self.place = place
        self.now = now
        self._ids: dict[str, int] = {}
        self._names: dict[int, str] = {}
        self._ends: dict[int, int] = {}
        self._given: dict[int, int] = {}
        self._news: dict[int, list[Record]] = {}
        self._crowds: dict[int, Crowd] = {}

    def crowd(self, study: int) -> Crowd:
        """How busy others are with a study."""
        return self._crowds.setdefault(study, Crowd())

    def end(self, study: int) -> int | None:
        """Where the log ended when this process last saw its end, if it did."""
        return self._ends.get(study)

    def news(self, study: int, after: int, count: int) -> list[Record] | None:
        """Records at known positions, if they came along with an answer; what has been written never changes."""
        news = self._news.get(study)
        if news is None or news[0].seq != after + 1 or len(news) < count:
            return None
        del self._news[study]
        self._given[study] = after + count
        return news[:count]

    def read(self, line: Line, end: float, study: int, after: int, most: int) -> tuple[list[Record], int]:
        """Records after a position, at most so many, and their size in bytes."""
        rows = line.run([(_READ, (study, after, most))], end)[0]
        if not rows:
            raise missing(study)
        _, count, ats, workers, data, last = rows[0]
        records = self._records(line, end, study, after, (count, ats, workers, data))
        if records and integer(last) != after + len(records):
            raise damaged(study, self.place)
        if 0 < len(records) < most:
            self._ends[study] = after + len(records)
        return records, len(data or b" ")

    def read_all(self, line: Line, end: float, study: int, after: int) -> list[Record]:
        """All records after a position."""
        found: list[Record] = []
        while True:
            records, _ = self.read(line, end, study, after + len(found), _CHUNK)
            found += records
            if len(records) < _CHUNK:
                return found

    def open(
        self, line: Line, end: float, study: int, after: int, most: int, *more: Call
    ) -> tuple[int, list[Record], list[list[Row]]]:
        """Begins a transaction that holds the study's lock.

        Args:
            line: The connection.
            end: Latest end.
            study: Key of the study.
            after: Position from which on records are wanted.
            most: How many at most.
            *more: Further statements of the same request.

        Returns:
            Where the log ends, records after ``after``, and the rows of ``more``.
        """
        _, rows, *others = line.run([(BEGIN, ()), (OPENED, (line.space, study, after, most)), *more], end)
        last, *tail = rows[0]
        if integer(last) < 0:
            raise missing(study)
        return integer(last), self._records(line, end, study, after, tail), others

    def put(
        self, line: Line, end: float, write: Write, expected: int | None, *, commit: bool = False
    ) -> list[Record] | None:
        """Writes in one round trip; None when an attempt has to be looked at more closely, and nothing is written.

        Raises:
            ConflictError: If the log does not end at ``expected``.
        """
        worker = self.known(line, end, write.worker)
        given = self._given.get(write.study) if expected is None else None
        head = (line.space, write.study, expected, worker, write.lease, self.now())
        if len(write.events) == 1:
            what: tuple[object, ...] = (write.roles[0], write.trials[0], write.tokens[0], write.data[0])
            call: Call = (_PUT, (*head, *what, given))
        else:
            call = (_PUT_MANY, (*head, write.roles, write.trials, write.tokens, write.data, given))
        status, last, at, *news = line.run([call, (COMMIT, ())] if commit else [call], end)[0][0]
        outcome, position = integer(status), integer(last)
        if outcome == 0:
            records = write.records(position, number(at))
            self._ends[write.study] = position + len(records)
            if given is not None and news[0] is not None:
                others = self._records(line, end, write.study, given, news)
                self._news[write.study] = [*others, *records]
            elif self._given.get(write.study) == position:
                self._given[write.study] = position + len(records)
            return records
        if outcome == 1:
            self._ends.pop(write.study, None)
            raise overtaken(position, expected)
        if outcome == 3:
            raise missing(write.study)
        return None

    def append(
        self, line: Line, end: float, write: Write, expected: int | None, *, again: int | None = None
    ) -> list[Record]:
        """Appends, in one round trip where that is enough.

        Args:
            line: The connection.
            end: Latest end.
            write: The events.
            expected: Where the log must end, or None.
            again: If they may be in the log already, a position before which they cannot be; then they are looked for
                under the lock. None when they have never been sent.
        """
        if write.events and write.simple and again is None:
            records = self.put(line, end, write, expected)
            if records is not None:
                return records
        last, _, _ = self.open(line, end, write.study, 0, 0)
        if again is not None:
            after = max(again, since(write.events, expected, last))
            tail = self.read_all(line, end, write.study, after)
            found = already(write.events, tail, write.worker, first=expected is not None)
            if found is not None:
                line.run([(COMMIT, ())], end)
                return found
        if expected is not None and expected != last:
            raise overtaken(last, expected)
        if not write.events:
            line.run([(COMMIT, ())], end)
            return []
        return self.write(line, end, write, last)

    def write(self, line: Line, end: float, write: Write, last: int) -> list[Record]:
        """Writes after a look at every attempt, in the transaction that holds the lock, and ends it.

        Raises:
            LeaseLost: If a fact is refused; then a note is written and nothing else.
        """
        meant = {t for t, r in zip(write.trials, write.roles, strict=True) if r}
        heads = self._heads(line, end, write.study, meant)
        worker = self.known(line, end, write.worker)
        touched: dict[int, _Row] = {}
        fresh: list[Event] = []
        kept: list[bytes] = []
        refusal: LeaseLost | None = None
        for event, data in zip(write.events, write.data, strict=True):
            seq = last + len(fresh) + 1
            if isinstance(event, OPENERS):
                touched[event.trial] = _Row(seq, LIVE, "", 0.0, holder=worker, lease=write.lease)
            elif isinstance(event, FACTS):
                head = touched.get(event.trial) or heads.get(event.trial)
                try:
                    if not fence(event, head):
                        continue
                except LeaseLost as lost:
                    note = late(event, str(lost))
                    refusal, fresh, kept, touched = lost, [note], [encode(note)], {}
                    break
                assert head is not None
                touched[event.trial] = _advanced(event, head, seq)
            fresh.append(event)
            kept.append(data)
        at = self._settle(line, end, write.study, last, (None, worker), fresh, kept, touched)
        if refusal is not None:
            raise refusal
        return [Record(last + 1 + i, at, write.worker, event) for i, event in enumerate(fresh)]

    def graft(
        self, line: Line, end: float, study: int, records: Sequence[Record], data: list[bytes], *, again: bool
    ) -> None:
        """Appends records of another store as they are, with leases that are over.

        Raises:
            ConflictError: If the first record is not the next one.
        """
        if not records:
            return
        last, _, _ = self.open(line, end, study, 0, 0)
        if again and last >= records[-1].seq:
            there = self.read_all(line, end, study, records[0].seq - 1)
            if there[: len(records)] == list(records):
                line.run([(COMMIT, ())], end)
                return
        if records[0].seq != last + 1:
            raise misplaced(records[0].seq, last)
        meant = {r.event.trial for r in records if isinstance(r.event, FACTS)}
        heads = self._heads(line, end, study, meant)
        touched: dict[int, _Row] = {}
        workers = [self.known(line, end, record.worker) for record in records]
        for record, worker in zip(records, workers, strict=True):
            event = record.event
            if isinstance(event, OPENERS):
                touched[event.trial] = _Row(record.seq, LIVE, "", 0.0, holder=worker, lease=_OVERDUE)
            elif isinstance(event, FACTS):
                head = touched.get(event.trial) or heads.get(event.trial)
                if head is not None:
                    touched[event.trial] = _advanced(event, head, record.seq)
        ats: list[float | None] = [record.at for record in records]
        self._settle(line, end, study, last, (ats, workers), [r.event for r in records], data, touched)

    def _heads(self, line: Line, end: float, study: int, trials: set[int]) -> dict[int, _Row]:
        """The latest attempts of some trials."""
        if not trials:
            return {}
        found = {}
        for row in line.run([(_HEADS, (study, sorted(trials)))], end)[0]:
            trial, token, state, holder, ended = (integer(value) for value in row[:5])
            over = None
            if row[6] is not None:
                (over,) = decode_all(row[6], ended, self.place)
            last = over if isinstance(over, Ended) else None
            found[trial] = _Row(token, state, "", 0.0, last, holder, ended, number(row[5]))
        return found

    def _settle(
        self,
        line: Line,
        end: float,
        study: int,
        last: int,
        origin: tuple[Sequence[float | None] | None, int | list[int]],
        events: Sequence[Event],
        data: list[bytes],
        heads: dict[int, _Row],
    ) -> float:
        """Writes events and attempts that were checked, and commits; the time at which."""
        ats, workers = origin
        n, rows = len(events), list(heads.values())
        values = (
            *(
                line.space,
                study,
                last,
                ats or [None] * n,
                workers if isinstance(workers, list) else [workers] * n,
                data,
            ),
            *(
                self.now(),
                list(heads),
                [h.token for h in rows],
                [h.state for h in rows],
                [h.holder for h in rows],
            ),
            *([h.lease for h in rows], [h.ended for h in rows]),
        )
        if not n:
            line.run([(COMMIT, ())], end)
            return 0.0
        at = number(line.run([(_SETTLED, values), (COMMIT, ())], end)[0][0][0])
        self._ends[study] = last + n
        return at

    def _records(
        self, line: Line, end: float, study: int, after: int, row: Sequence[bytes | None]
    ) -> list[Record]:
        counted, ats, workers, data = row
        count = integer(counted)
        if not count or data is None or ats is None or workers is None:
            return []
        events = decode_all(data, after + 1, f"study {study} in {self.place}")
        numbers = struct.unpack(f">{count}i", workers)
        for unknown in set(numbers) - self._names.keys():
            self.name(line, end, unknown)
        self._given[study] = after + count
        names, times = self._names, struct.unpack(f">{count}d", ats)
        return [
            Record(after + i, at, names[key], event)
            for i, at, key, event in zip(range(1, count + 1), times, numbers, events, strict=True)
        ]

    def known(self, line: Line, end: float, name: str) -> int:
        """Number of a worker; names are long and repeat in every event."""
        key = self._ids.get(name)
        if key is None:
            key = integer(line.run([(_KNOWN, (encoded(name),))], end)[0][0][0])
            if not line.open:
                # Inside a transaction the number may be taken back with everything else.
                self._ids[name], self._names[key] = key, name
        return key

    def name(self, line: Line, end: float, key: int) -> str:
        """Name of a worker."""
        name = self._names.get(key)
        if name is None:
            rows = line.run([(_NAME, (key,))], end)[0]
            name = self._names[key] = decoded(rows[0][0]) if rows else "unknown"
        return name


def _advanced(event: Event, head: _Row, seq: int) -> _Row:
    """What a fact makes of the attempt that it speaks for."""
    if isinstance(event, Ended):
        return _Row(head.token, OVER, "", 0.0, event, head.holder, seq, head.lease)
    if isinstance(event, Paused | Interrupted):
        return _Row(head.token, IDLE, "", 0.0, None, head.holder, 0, head.lease)
    return head


def encoded(text: str) -> bytes:
    """A name as bytes; what is no valid text, such as half a surrogate pair, is kept as it is."""
    return text.encode("utf-8", "surrogatepass")


def decoded(data: bytes | None) -> str:
    """The reverse of ``encoded``."""
    return (data or b"").decode("utf-8", "surrogatepass")


def missing(study: int) -> StudyMissing:
    """The error for a study that is not there."""
    return StudyMissing(f"No study has the key {study} in this store; it may have been deleted.")


def overtaken(last: int, expected: int | None) -> ConflictError:
    """The error for a decision that came too late."""
    return ConflictError(
        f"A decision must rest on the newest log; it ended at {last}, not {expected}. Decide again."
    )


def damaged(study: int, place: str) -> SchemaError:
    """The error for a log with a gap."""
    return SchemaError(f"A log must have no gaps; study {study} in {place} has one. Restore it from a copy.")
