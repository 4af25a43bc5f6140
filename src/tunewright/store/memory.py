"""Logs in memory: for tests, simulations and one-shot runs. Lost when the process ends."""

from __future__ import annotations

import shutil
import tempfile
import threading
import time
import weakref
from array import array
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from tunewright.core.events import Ended, Event, Interrupted, Paused, Record
from tunewright.errors import ConflictError, LeaseLost, StudyExists, StudyMissing
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


class _Log:
    """The log of one study; times and workers kept apart from the events to keep a trial below a kilobyte."""

    __slots__ = ("at", "deciding", "events", "heads", "info", "live", "snapshot", "workers")

    def __init__(self, info: StudyInfo) -> None:
        self.info = info
        self.events: list[Event] = []
        self.at = array("d")
        self.workers: list[str] = []
        self.heads: list[Head | Ended] = []
        self.live: set[int] = set()
        self.snapshot: tuple[int, bytes] | None = None
        self.deciding = threading.RLock()

    def head(self, trial: int) -> Head | None:
        """The latest attempt; of a finished trial only its ending is kept, to save memory."""
        if not 0 <= trial < len(self.heads):
            return None
        head = self.heads[trial]
        return Head(head.token, OVER, "", FOREVER, head) if isinstance(head, Ended) else head

    def records(self, after: int, limit: int | None = None) -> list[Record]:
        stop = len(self.events) if limit is None else min(len(self.events), after + limit)
        if after >= stop:
            return []
        return [Record(i + 1, self.at[i], self.workers[i], self.events[i]) for i in range(after, stop)]


class MemoryStore:
    """A store in this process's memory; safe to use from several threads.

    Leases expire only when ``expiring`` is set, since worker and store die together.

    Args:
        expiring: Whether silent attempts lose their lease after its time.
        clock: Seconds on a clock that does not step; replaced in tests.
    """

    def __init__(self, *, expiring: bool = False, clock: Callable[[], float] = time.monotonic) -> None:
        self.url = "memory"
        self.durable = False
        self.flushes = False
        self._expiring = expiring
        self._clock = clock
        self._made = 0
        self._lock = threading.RLock()
        self._news = threading.Condition(self._lock)
        self._logs: dict[int, _Log] = {}
        self._folder: str | None = None
        self._cleanup: Callable[[], object] = lambda: None

    def create(
        self, name: str, spec: dict[str, Any], *, exist_ok: bool = False, created: float | None = None
    ) -> StudyInfo:
        """Makes a study, or with ``exist_ok`` returns the one that is there."""
        with self._lock:
            found = self.find(name)
            if found is not None:
                if exist_ok:
                    return found
                raise StudyExists(
                    f"A new study needs a new name; '{name}' is there already. Resume it or rename."
                )
            self._made += 1
            info = StudyInfo(self._made, name, spec, time.time() if created is None else created)
            self._logs[info.id] = _Log(info)
            return info

    def find(self, name: str) -> StudyInfo | None:
        """The study of that name, or None."""
        with self._lock:
            return next((log.info for log in self._logs.values() if log.info.name == name), None)

    def studies(self) -> list[StudyInfo]:
        """All studies, oldest first."""
        with self._lock:
            return [log.info for log in self._logs.values()]

    def last(self, study: int) -> int:
        """Position of the last record; 0 when the log is empty."""
        return len(self._log(study).events)

    def read(self, study: int, after: int = 0, limit: int | None = None) -> list[Record]:
        """Records after a position, in order."""
        with self._lock:
            return self._log(study).records(after, limit)

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
        with self._lock:
            log = self._log(study)
            if again:
                tail = log.records(since(events, expected, len(log.events)))
                found = already(events, tail, worker, first=expected is not None)
                if found is not None:
                    return found
            if expected is not None and expected != len(log.events):
                raise ConflictError(
                    f"A decision must rest on the newest log; it ended at {len(log.events)}, not {expected}. Decide again."
                )
            return self._write(log, events, worker, lease)

    def decide(
        self, study: int, after: int, choose: Choose, *, worker: str, lease: float = 30.0
    ) -> list[Record]:
        """Reads what is new, lets ``choose`` pick events, and appends them; see ``Store.decide``."""
        with self._lock:
            log = self._log(study)
            tail = log.records(after) if after < len(log.events) else []
            expired = [x for x in self.leases(study) if x.expired] if self._expiring and log.live else []
            return self._write(log, choose(tail, expired), worker, lease)

    def _write(self, log: _Log, events: Sequence[Event], worker: str, lease: float) -> list[Record]:
        """Checks every event against the heads first, so that a refusal leaves nothing half done."""
        now = time.time()
        seq = len(log.events)
        touched: dict[int, Head] = {}
        fresh: list[Event] = []
        for event in events:
            if isinstance(event, OPENERS):
                expires = self._clock() + lease if self._expiring else FOREVER
                touched[event.trial] = Head(seq + len(fresh) + 1, LIVE, worker, expires)
            elif isinstance(event, FACTS):
                head = touched.get(event.trial) or log.head(event.trial)
                try:
                    if not fence(event, head):
                        continue
                except LeaseLost as refusal:
                    self._keep(log, [late(event, str(refusal))], now, worker)
                    raise
                assert head is not None
                self._advance(touched, event, head)
            fresh.append(event)
        self._keep(log, fresh, now, worker)
        self._settle(log, touched)
        self._news.notify_all()
        return [Record(seq + i + 1, now, worker, e) for i, e in enumerate(fresh)]

    def _settle(self, log: _Log, touched: dict[int, Head]) -> None:
        for trial, head in touched.items():
            kept = head if head.end is None else head.end
            if trial == len(log.heads):
                log.heads.append(kept)
            else:
                log.heads[trial] = kept
            if head.state == LIVE:
                log.live.add(trial)
            else:
                log.live.discard(trial)

    def _advance(self, touched: dict[int, Head], event: Event, head: Head) -> None:
        if isinstance(event, Ended):
            touched[event.trial] = Head(head.token, OVER, head.worker, FOREVER, event)
        elif isinstance(event, Paused | Interrupted):
            touched[event.trial] = Head(head.token, IDLE, head.worker, FOREVER)

    def _keep(self, log: _Log, events: Sequence[Event], now: float, worker: str) -> None:
        for event in events:
            log.events.append(event)
            log.at.append(now)
            log.workers.append(worker)

    def graft(self, study: int, records: Sequence[Record]) -> None:
        """Appends records of another store as they are; see ``Store.graft``."""
        with self._lock:
            log = self._log(study)
            if records and records[0].seq != len(log.events) + 1:
                raise misplaced(records[0].seq, len(log.events))
            for record in records:
                event = record.event
                touched: dict[int, Head] = {}
                if isinstance(event, OPENERS):
                    touched[event.trial] = Head(record.seq, LIVE, record.worker, OVERDUE)
                elif isinstance(event, FACTS):
                    head = log.head(event.trial)
                    if head is not None:
                        self._advance(touched, event, head)
                self._keep(log, [event], record.at, record.worker)
                self._settle(log, touched)

    def wait(self, study: int, after: int, timeout: float) -> int:
        """Waits for the log to get longer than ``after``; see ``Store.wait``."""
        with self._news:
            self._news.wait_for(lambda: len(self._log(study).events) > after, timeout)
            return len(self._log(study).events)

    def renew(
        self, study: int, held: Sequence[tuple[int, int]], *, lease: float = 30.0
    ) -> list[tuple[int, int]]:
        """Extends leases; returns those that are no longer held."""
        with self._lock:
            log = self._log(study)
            lost = []
            for trial, token in held:
                head = log.head(trial)
                if head is None or head.token != token or head.state != LIVE:
                    lost.append((trial, token))
                elif self._expiring:
                    head.expires = self._clock() + lease
            return lost

    def leases(self, study: int) -> list[Lease]:
        """Leases of all running trials."""
        with self._lock:
            log = self._log(study)
            now = self._clock()
            heads = ((trial, log.head(trial)) for trial in sorted(log.live))
            return [Lease(t, h.token, h.worker, h.expires < now) for t, h in heads if h is not None]

    def deciding(self, study: int) -> AbstractContextManager[None]:
        """Keeps deliberate deciders of one study apart; advisory."""
        lock: AbstractContextManager[Any] = self._log(study).deciding
        return lock

    def save_snapshot(self, study: int, seq: int, data: bytes) -> None:
        """Keeps a cache of the folded state, unless a newer one is there."""
        with self._lock:
            log = self._log(study)
            if log.snapshot is None or log.snapshot[0] <= seq:
                log.snapshot = (seq, data)

    def load_snapshot(self, study: int) -> tuple[int, bytes] | None:
        """The newest cache and its position, or None."""
        return self._log(study).snapshot

    def blobs(self, study: int) -> str:
        """Temporary folder for the study's checkpoint files."""
        with self._lock:
            self._log(study)
            if self._folder is None:
                self._folder = tempfile.mkdtemp(prefix="tunewright-")
                self._cleanup = weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
            path = Path(self._folder) / str(study)
            path.mkdir(exist_ok=True)
            return str(path)

    def delete(self, study: int) -> None:
        """Removes a study with its log."""
        with self._lock:
            self._log(study)
            del self._logs[study]

    def close(self) -> None:
        """Removes temporary checkpoint files."""
        self._cleanup()
        self._folder = None

    def _log(self, study: int) -> _Log:
        try:
            return self._logs[study]
        except KeyError:
            raise StudyMissing(
                f"No study has the key {study} in this store; it may have been deleted."
            ) from None
