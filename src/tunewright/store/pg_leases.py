"""Leases in PostgreSQL: on the server's clock, and never over because the server could not be reached."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from tunewright.store import clock as clocks
from tunewright.store.base import FOREVER, Lease
from tunewright.store.pg_line import FLOAT8, INT4, INT8S, Call, Line, Row, Statement, integer
from tunewright.store.pg_log import Log

_SWEEP = 0.5
_RUNNING = Statement(
    "running",
    "SELECT h.trial, h.token, h.worker, "
    "h.lease < $4 AND greatest(h.beat, $3) + h.lease < coalesce($2, date_part('epoch', clock_timestamp())) "
    "FROM head h WHERE h.study = $1 AND h.state = 0 ORDER BY h.trial",
    *(INT4, FLOAT8, FLOAT8, FLOAT8),
)
_RENEW = Statement("renewed", "SELECT * FROM renewed($1, $2, $3, $4, $5)", INT4, INT8S, INT8S, FLOAT8, FLOAT8)


class Leases:
    """Leases of one place, as this process sees them.

    Args:
        log: The logs.
        quiet: Seconds for which the server has answered without an interruption.
        clock: Replaces the server's clock, in tests.
    """

    def __init__(self, log: Log, quiet: Callable[[], float], clock: Callable[[], float] | None) -> None:
        self._log = log
        self._quiet = quiet
        self._clock = clock
        self._pulse = clocks.Pulse()
        self._swept: dict[int, float] = {}

    def call(self, line: Line, study: int) -> Call:
        """The statement that asks for the leases of all running trials."""
        if self._clock is not None:
            return (_RUNNING, (study, self._clock(), -FOREVER, FOREVER))
        # Who was silent while the server was away, or while we could not reach it, may have had no way to be heard.
        return (_RUNNING, (study, None, line.started, self._quiet()))

    def renewal(self, study: int, held: Sequence[tuple[int, int]], lease: float) -> Call:
        """The statement that extends leases and gives those that it extended."""
        return (
            _RENEW,
            (study, [trial for trial, _ in held], [token for _, token in held], lease, self._log.now()),
        )

    def found(self, line: Line, end: float, rows: Sequence[Row]) -> list[Lease]:
        """What the rows of ``call`` mean; a process of this host that is known to be dead has lost its leases."""
        leases = []
        for trial, token, holder, silent in rows:
            worker = self._log.name(line, end, integer(holder))
            over = silent == b"\1" or self._pulse.alive(worker) is False
            leases.append(Lease(integer(trial), integer(token), worker, over))
        return leases

    def due(self, study: int) -> bool:
        """Whether a decision should look through the leases: at most twice a second, or it would cost too much."""
        return not 0.0 <= self._moment() - self._swept.get(study, -FOREVER) < _SWEEP

    def expired(self, line: Line, end: float, study: int, rows: Sequence[Row]) -> list[Lease]:
        """Leases that are over, for a decision."""
        self._swept[study] = self._moment()
        return [lease for lease in self.found(line, end, rows) if lease.expired]

    def _moment(self) -> float:
        return time.monotonic() if self._clock is None else self._clock()
