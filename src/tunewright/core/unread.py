"""Reads trials that are over or paused from the log, one at a time or all in one pass.

The log is where trials are kept: a ledger remembers where some of them began, and a trial is folded again from there to
its end, or to where it paused. Reading on where the last reading stopped makes a walk through all trials one pass of the
log.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

from tunewright.core.events import Ended, Record, Started
from tunewright.core.life import Trial, begin, follow
from tunewright.core.rows import shrunk, unpack
from tunewright.core.trial import FAR, Ledger
from tunewright.errors import SchemaError

Read = Callable[[int, int], Sequence[Record]]
_LEAST, _FEW, _MANY = 16, 512, 8192
_NOWHERE = (0, 0)
# References to a trial that nobody else holds: its row, the variable, and the argument of the count.
_OURS = 3


class Unread:
    """The log as the source of a ledger's trials that are over or paused.

    Args:
        ledger: The ledger.
        read: Gives the records after a position, at most as many as asked for.
        lock: Held while a trial is read, so that threads that look at the same trial get the same object.
    """

    def __init__(
        self, ledger: Ledger, read: Read, lock: AbstractContextManager[object] | None = None
    ) -> None:
        self._ledger = ledger
        self._read = read
        self._lock = lock if lock is not None else contextlib.nullcontext()
        self._open: dict[int, Trial] = {}
        # Trials in memory that may be let go are among those read since they were let go last, and those begun since.
        self._filled: list[int] = []
        self._seen = 0
        self._place = self._next = 0
        self._size = _FEW

    def fill(self, rows: list[Trial | None], number: int) -> None:
        """Puts the trial of that number in its row, and any others that are complete before it is.

        Raises:
            SchemaError: If the log does not hold all of that trial.
        """
        with self._lock:
            far = self._ledger.far.get(number)
            if rows[number] is None and far is not None:
                rows[number] = unpack(far, self._ledger.saves.get(number, (None, None)))
                self._filled.append(number)
            if rows[number] is None:
                self._go_to(number)
            while rows[number] is None:
                left = self._ledger.cursor - self._place
                block = self._read(self._place, min(self._size, left)) if left > 0 else ()
                if not block:
                    self._place = self._next = 0
                    raise SchemaError(
                        f"A trial at rest must be in the log to its end; trial {number} is not up to position "
                        f"{self._ledger.cursor}. Was the log cut short? Run: tunewright doctor"
                    )
                for record in block:
                    self._take(rows, record)
                self._place = block[-1].seq
                self._size = min(2 * self._size, _MANY)

    def _go_to(self, number: int) -> None:
        """Reads on if that leads to the trial soon, else begins where its neighbours began."""
        first, start = self._ledger.neighbours(number)
        if number in self._open or (self._next <= number and start <= self._place + self._size):
            return
        self._open.clear()
        paused = self._ledger.paused.get(number)
        self._size = _FEW if paused is None else max(_LEAST, min(paused[1] - start + 1, _FEW))
        self._place, self._next = start - 1, first

    def _take(self, rows: list[Trial | None], record: Record) -> None:
        event = record.event
        number = getattr(event, "trial", None)
        if number is None:
            return
        if isinstance(event, Started):
            self._next = number + 1
            if rows[number] is None and number not in self._ledger.far:
                self._open[number] = begin(record, self._ledger.length(record.seq))
            return
        trial = self._open.get(number)
        if trial is None:
            return
        follow(trial, record, self._ledger.length(record.seq))
        if isinstance(event, Ended) or self._ledger.paused.get(number, _NOWHERE)[1] == record.seq:
            del self._open[number]
            trial.checkpoint, trial.fresh = self._ledger.saves.get(number, (None, None))
            if trial.stored:
                trial.stored = shrunk(trial.stored)
            if rows[number] is None:
                rows[number] = trial
                self._filled.append(number)

    def release(self, rows: list[Trial | None], kept: set[int]) -> None:
        """Empties rows of trials at rest that nobody holds, so that an object is a trial's as long as it lives."""
        count = getattr(sys, "getrefcount", None)
        if count is None:
            return
        with self._lock:
            left = []
            for number in (*self._filled, *range(self._seen, len(rows))):
                trial = rows[number]
                if trial is None:
                    continue
                if number not in kept and self._rests(trial) and count(trial) <= _OURS:
                    rows[number] = None
                else:
                    left.append(number)
            self._filled, self._seen = left, len(rows)

    def _rests(self, trial: Trial) -> bool:
        """Whether a trial is over, or paused so long ago that it may well stay so."""
        if trial.status != "paused":
            return trial.end is not None
        return self._ledger.cursor - self._ledger.paused[trial.start.trial][1] >= FAR
