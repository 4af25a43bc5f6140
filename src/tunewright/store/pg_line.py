"""One connection to PostgreSQL: every request is one round trip with a deadline, in binary, of prepared statements.

Works on libpq as ``psycopg.pq`` gives it, because an answer has to be waited for with a deadline of our own: a server
that hangs still acknowledges packets, so no timeout of the network would ever end the wait.
"""

from __future__ import annotations

import contextlib
import os
import select
import struct
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from tunewright.errors import missing_extra

try:
    import psycopg
    from psycopg import pq
except ImportError as error:
    raise missing_extra("psycopg", "postgres") from error

INT2, INT4, INT8, FLOAT8, BYTES, TEXT = 21, 23, 20, 701, 17, 25
INT2S, INT4S, INT8S, FLOAT8S, BYTESS = 1005, 1007, 1016, 1022, 1001
_FORMATS: dict[int, struct.Struct] = {
    k: struct.Struct(f) for k, f in ((INT2, ">h"), (INT4, ">i"), (INT8, ">q"))
}
_FORMATS[FLOAT8] = struct.Struct(">d")
_OF = {INT2S: INT2, INT4S: INT4, INT8S: INT8, FLOAT8S: FLOAT8, BYTESS: BYTES}
Row = tuple[bytes | None, ...]
libpq = pq
pq_errors = (psycopg.Error,)
_FAILED = (pq.ExecStatus.FATAL_ERROR, pq.ExecStatus.BAD_RESPONSE, pq.ExecStatus.NONFATAL_ERROR)
_GONE = ("08", "57P01", "57P02", "57P03", "57P05", "25P03", "53300")
# Deadlock, serialization, lock or statement timeouts: everything was undone, so the same call may succeed.
_AGAIN = ("40001", "40P01", "55P03", "57014", "55006")


class Lost(Exception):
    """The connection is gone or silent.

    Args:
        reason: What was seen.
        sent: Whether a request may have reached the server, so that its outcome is not known.
    """

    def __init__(self, reason: str, *, sent: bool) -> None:
        super().__init__(reason)
        self.sent = sent
        self.session: Session | None = None


class Refused(Exception):
    """The server answered with an error; the connection can be used again.

    Args:
        state: SQLSTATE, five characters.
        reason: Its message.
    """

    def __init__(self, state: str, reason: str) -> None:
        super().__init__(reason)
        self.state = state

    @property
    def transient(self) -> bool:
        """Whether the same call may succeed a moment later."""
        return self.state in _AGAIN


class Session(NamedTuple):
    """Names a server process for good: numbers are given again, beginnings are not."""

    pid: int
    began: str


class Statement:
    """A statement that each connection prepares once.

    Args:
        name: Its name on the connection.
        sql: Its text.
        types: Type of each parameter, one of the constants above.
    """

    def __init__(self, name: str, sql: str, *types: int) -> None:
        self.name, self.sql, self.types = name.encode(), sql.encode(), types
        self.formats = [1] * len(types)
        self._packers = [_packer(kind) for kind in types]

    def packed(self, values: Sequence[Any]) -> list[bytes | None]:
        """Parameters as they are sent."""
        return [
            None if value is None else packer(value)
            for packer, value in zip(self._packers, values, strict=True)
        ]


Call = tuple[Statement, Sequence[Any]]


def _packer(kind: int) -> Callable[[Any], bytes]:
    if kind in (BYTES, TEXT):
        return lambda value: value if isinstance(value, bytes) else str(value).encode()
    if kind in _FORMATS:
        return _FORMATS[kind].pack
    return lambda values: _array(_OF[kind], values)


def _array(kind: int, values: Sequence[Any]) -> bytes:
    """The binary form of a one-dimensional array; None is NULL."""
    if not values:
        return struct.pack(">iii", 0, 0, kind)
    head = struct.pack(">iiiii", 1, int(None in values), kind, len(values), 1)
    parts = [head]
    single = _FORMATS.get(kind)
    for value in values:
        if value is None:
            parts.append(b"\xff\xff\xff\xff")
            continue
        data = value if single is None else single.pack(value)
        parts += (len(data).to_bytes(4, "big"), data)
    return b"".join(parts)


def integer(value: bytes | None) -> int:
    """A whole number of any width as the server sends it."""
    return int.from_bytes(value or b"", "big", signed=True)


def number(value: bytes | None) -> float:
    """A float as the server sends it."""
    return float(_FORMATS[FLOAT8].unpack(value)[0]) if value else 0.0


class Line:
    """A connection that one thread at a time uses.

    Args:
        address: What libpq is to connect to, as keywords and values.
        end: Latest end of connecting, on ``time.monotonic``.

    Attributes:
        session: The server process at the other end.
        space: Identifies the schema in locks and notifications; set by the pool.
        started: When the server was started, seconds since 1970.
        used: When an answer came last, on ``time.monotonic``.
        told: Payloads of notifications that came in and were not fetched yet.

    Raises:
        Lost: If there is no connection before the deadline.
    """

    def __init__(self, address: bytes, end: float) -> None:
        self.session: Session | None = None
        self.space = 0
        self.started = 0.0
        self.used = time.monotonic()
        self.told: list[bytes] = []
        self._known: set[bytes] = set()
        self._open = False
        self._unanswered = False
        self._owner = os.getpid()
        self._pg = pq.PGconn.connect_start(address)
        try:
            self._connect(end)
            self._pg.nonblocking = 1
            self._pg.enter_pipeline_mode()
        except BaseException:
            self.close()
            raise

    def _connect(self, end: float) -> None:
        pg = self._pg
        if pg.status == pq.ConnStatus.BAD:
            raise Lost(self._reason(), sent=False)
        state = pq.PollingStatus.WRITING
        while state != pq.PollingStatus.OK:
            if state == pq.PollingStatus.FAILED:
                raise Lost(self._reason(), sent=False)
            reading = state == pq.PollingStatus.READING
            if not _ready(pg.socket, end, reading=reading, writing=not reading):
                raise Lost("no answer while connecting", sent=False)
            state = pq.PollingStatus(pg.connect_poll())

    @property
    def open(self) -> bool:
        """Whether a transaction was begun and not ended, as far as this side knows."""
        return self._open

    @property
    def closed(self) -> bool:
        """Whether it cannot be used any more; so it is after Ctrl-C in a request, whose answer is still to come."""
        return self._unanswered or self._owner != os.getpid() or self._pg.status != pq.ConnStatus.OK

    def run(self, calls: Sequence[Call], end: float) -> list[list[Row]]:
        """Sends statements together and waits for all answers: one round trip, one transaction unless one is open.

        Args:
            calls: Statements and their parameters.
            end: Latest end, on ``time.monotonic``.

        Returns:
            The rows of each.

        Raises:
            Lost: If the connection breaks or the answer does not come in time; it must be closed then.
            Refused: If the server answers with an error.
        """
        self._begin()
        pg, known = self._pg, self._known
        fresh: list[Statement] = []
        packed = [(statement, statement.packed(values)) for statement, values in calls]
        try:
            for statement, values in packed:
                if statement.name not in known and statement not in fresh:
                    pg.send_prepare(statement.name, statement.sql, list(statement.types))
                    fresh.append(statement)
                pg.send_query_prepared(statement.name, values, statement.formats, 1)
            pg.pipeline_sync()
        except pq_errors as error:
            raise Lost(str(error).strip(), sent=False) from error
        rows = self._answers(end)
        for statement, _ in packed:
            if statement.name == _BEGIN:
                self._open = True
            elif statement.name in _ENDINGS:
                self._open = False
        known.update(statement.name for statement in fresh)
        return rows

    def execute(self, sql: str, end: float, *texts: str | None) -> list[Row]:
        """Runs one statement that is used rarely, with parameters and results as text; see ``run``."""
        self._begin()
        try:
            self._pg.send_query_params(sql.encode(), [None if t is None else t.encode() for t in texts])
            self._pg.pipeline_sync()
        except pq_errors as error:
            raise Lost(str(error).strip(), sent=False) from error
        (rows,) = self._answers(end)
        if sql in ("BEGIN", "COMMIT", "ROLLBACK"):
            self._open = sql == "BEGIN"
        return rows

    def _begin(self) -> None:
        if self._owner != os.getpid():
            raise Lost("the connection belongs to the process that this one was forked from", sent=False)
        if self._unanswered:
            raise Lost("an earlier request was broken off", sent=False)
        self._unanswered = True

    def _answers(self, end: float) -> list[list[Row]]:
        """Everything up to the synchronisation point."""
        found: list[list[Row]] = []
        failure: Refused | None = None
        try:
            self._flush(end)
            while True:
                result = self._next(end)
                if result is None:
                    continue
                status = result.status
                if status == pq.ExecStatus.TUPLES_OK:
                    columns = range(result.nfields)
                    get = result.get_value
                    found.append([tuple([get(i, j) for j in columns]) for i in range(result.ntuples)])
                elif status == pq.ExecStatus.PIPELINE_SYNC:
                    break
                elif status in _FAILED:
                    failure = failure or _refusal(result)
                elif status == pq.ExecStatus.COMMAND_OK and result.command_status:
                    found.append([])
        except pq_errors as error:
            raise self._lost(str(error).strip()) from error
        self.used = time.monotonic()
        self._unanswered = False
        if failure is not None:
            if failure.state.startswith(_GONE) or self._pg.status == pq.ConnStatus.BAD:
                raise self._lost(str(failure))
            raise failure
        return found

    def _next(self, end: float) -> pq.abc.PGresult | None:
        pg = self._pg
        while pg.is_busy():
            if not _ready(pg.socket, end):
                raise self._lost("no answer in time")
            pg.consume_input()
        result = pg.get_result()
        if result is None and pg.status == pq.ConnStatus.BAD:
            raise self._lost(self._reason())
        return result

    def _flush(self, end: float) -> None:
        pg = self._pg
        while pg.flush():
            # The server may have to get rid of answers before it takes more, so both directions are served.
            if not _ready(pg.socket, end, writing=True):
                raise self._lost("no answer in time")
            pg.consume_input()

    def _lost(self, reason: str) -> Lost:
        lost = Lost(reason or "the connection was closed", sent=True)
        lost.session = self.session
        return lost

    def _reason(self) -> str:
        return " ".join(self._pg.get_error_message().split())

    def roll_back(self, end: float) -> None:
        """Ends an open transaction without effect; one that cannot be ended so ends with the connection."""
        if self._unanswered:
            self.close()
        elif self._open:
            try:
                self.execute("ROLLBACK", max(end, time.monotonic() + 1.0))
            except (Lost, Refused):
                self.close()

    def listen(self, timeout: float) -> list[bytes]:
        """Waits for notifications and returns their payloads."""
        try:
            if _ready(self._pg.socket, time.monotonic() + timeout):
                self._pg.consume_input()
            found = []
            while (note := self._pg.notifies()) is not None:
                found.append(note.extra)
        except pq_errors as error:
            raise Lost(str(error).strip(), sent=False) from error
        return found

    def alive(self) -> bool:
        """Whether an idle connection still stands, as far as can be told without a round trip."""
        try:
            if _ready(self._pg.socket, 0.0):
                self._pg.consume_input()
        except pq_errors:
            return False
        return self._pg.status == pq.ConnStatus.OK

    def close(self) -> None:
        """Hangs up; safe to call twice. A fork's copy is left alone: its socket may be another one by now."""
        self._open = False
        if self._owner == os.getpid():
            self._pg.finish()

    def forget(self) -> None:
        """Lets go of a connection that belongs to the parent of this process, without a word to the server."""
        with contextlib.suppress(OSError, *pq_errors):
            os.close(self._pg.socket)


def _refusal(result: pq.abc.PGresult) -> Refused:
    state = (result.error_field(pq.DiagnosticField.SQLSTATE) or b"XX000").decode()
    message = (result.error_field(pq.DiagnosticField.MESSAGE_PRIMARY) or b"").decode(errors="replace")
    return Refused(state, message)


def _ready(fd: int, end: float, *, reading: bool = True, writing: bool = False) -> bool:
    """Waits until a socket can be used, or until ``end``; whether it can."""
    left = max(0.0, end - time.monotonic())
    if _HAS_POLL:
        poll = select.poll()
        poll.register(fd, (select.POLLIN if reading else 0) | (select.POLLOUT if writing else 0))
        return bool(poll.poll(left * 1000))
    found = select.select([fd] if reading else [], [fd] if writing else [], [], left)
    return any(found)


_HAS_POLL = hasattr(select, "poll")
BEGIN = Statement("begin", "BEGIN")
COMMIT = Statement("commit", "COMMIT")
_BEGIN, _ENDINGS = b"begin", (b"commit",)
