"""One decision on a log in PostgreSQL: in one round trip when nobody else has written, in two under a lock otherwise."""

from __future__ import annotations

import time
from collections.abc import Sequence

from tunewright.core.events import Event, Record
from tunewright.errors import ConflictError
from tunewright.store.base import Choose, Lease, already
from tunewright.store.pg_leases import Leases
from tunewright.store.pg_line import COMMIT, Line, Row
from tunewright.store.pg_log import Log, Write, overtaken

# A longer tail is read before the lock is taken, so that nobody waits for it.
_TAIL = 1000
_TRIES = 50
# The server ends a session that holds the lock for long; thinking that took this long may have cost it.
_SLOW = 2.0


class Decision:
    """One call of ``decide``, over all of its tries.

    ``choose`` may be called more than once, when its first answer came too late or was lost on the way. Each record is
    given to it once, and the answer that counts is the last one.

    Args:
        log: What is decided about.
        leases: Which of them are over.
        study: Key of the study.
        after: Position up to which the caller knows the log.
        choose: Picks events.
        worker: Who decides.
        lease: Seconds that attempts begun here may stay silent.
    """

    def __init__(
        self, log: Log, leases: Leases, study: int, after: int, choose: Choose, *, worker: str, lease: float
    ) -> None:
        self._log = log
        self._study = study
        self._seen = after
        self._untold: list[Record] = []
        self._choose = choose
        self._worker = worker
        self._lease = lease
        self._leases = leases
        self._sent: tuple[Write, int] | None = None
        self._slow = False

    def take(self, line: Line, end: float, again: bool) -> list[Record]:
        """One try; see ``Link.call``.

        Raises:
            ConflictError: If a decider that thinks for long was overtaken too often.
        """
        if again and self._sent is not None:
            found = self._written(line, end, *self._sent)
            if found is not None:
                return found
        if self._slow:
            # Thrown out while it held the lock, it thinks without from now on.
            for _ in range(_TRIES):
                self._catch_up(line, end)
                expired = self._expired(line, end, line.run([self._leases.call(line, self._study)], end)[0])
                records = self._freely(line, end, expired)
                if records is not None:
                    return records
            raise overtaken(self._seen + 1, self._seen)
        crowd = self._log.crowd(self._study)
        known = not self._untold and self._log.end(self._study) == self._seen
        if known and not self._leases.due(self._study) and crowd.quiet():
            records = self._freely(line, end, [])
            crowd.note(alone=records is not None)
            if records is not None:
                return records
        return self._locked(line, end)

    def _freely(self, line: Line, end: float, expired: list[Lease]) -> list[Record] | None:
        """Decides on what is known and appends if the log still ends there; None when somebody was faster."""
        events, end = self._ask(expired, end)
        if not events:
            return []
        write = Write(self._study, events, self._worker, self._lease)
        self._sent = write, self._seen
        try:
            return self._log.append(line, end, write, self._seen)
        except ConflictError:
            line.roll_back(end)
            self._sent = None
            return None

    def _locked(self, line: Line, end: float) -> list[Record]:
        """Decides while nobody else can write."""
        more = [self._leases.call(line, self._study)] if self._leases.due(self._study) else []
        last, tail, rows = self._log.open(line, end, self._study, self._seen, _TAIL, *more)
        if last > self._seen + len(tail):
            line.run([(COMMIT, ())], end)
            self._catch_up(line, end)
            last, tail, rows = self._log.open(line, end, self._study, self._seen, 2**31, *more)
        self._untold += tail
        self._seen = last
        expired = self._expired(line, end, rows[0]) if rows else []
        events, end = self._ask(expired, end)
        if not events:
            line.run([(COMMIT, ())], end)
            return []
        write = Write(self._study, events, self._worker, self._lease)
        self._sent = write, last
        if not write.simple:
            return self._log.write(line, end, write, last)
        records = self._log.put(line, end, write, last, commit=True)
        return self._log.append(line, end, write, last) if records is None else records

    def _ask(self, expired: list[Lease], end: float) -> tuple[Sequence[Event], float]:
        """What ``choose`` picks; time spent thinking is not held against the server."""
        untold, self._untold = self._untold, []
        begun = time.monotonic()
        events = self._choose(untold, expired)
        spent = time.monotonic() - begun
        self._log.crowd(self._study).most = len(events)
        self._slow = self._slow or spent > _SLOW
        return events, end + spent

    def _expired(self, line: Line, end: float, rows: Sequence[Row]) -> list[Lease]:
        return self._leases.expired(line, end, self._study, rows)

    def _catch_up(self, line: Line, end: float) -> None:
        records = self._log.read_all(line, end, self._study, self._seen)
        self._untold += records
        self._seen += len(records)

    def _written(self, line: Line, end: float, write: Write, basis: int) -> list[Record] | None:
        """What an earlier try has written although its answer was lost, if it has."""
        self._log.open(line, end, self._study, 0, 0)
        tail = self._log.read_all(line, end, self._study, basis)
        line.run([(COMMIT, ())], end)
        # Only now: where looking was cut off too, the next try must look again.
        self._sent = None
        return already(write.events, tail, write.worker, first=True)
