"""One process's view of one study: folds the log, takes decisions, records facts.

Every way of using a study goes through here: the driver, ask/tell, the command line. A decision is taken in one of
two ways. Quick methods decide inside the store's exclusive transaction, on the newest log. Deliberate ones think
outside it, guarded by an advisory lock, and their decision is accepted only if nobody else decided meanwhile.
"""

from __future__ import annotations

import contextlib
import logging
import os
import random
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tunewright.core.algorithm import Action, Algorithm, Start, generator
from tunewright.core.closing import closed
from tunewright.core.events import (
    Amended,
    Dropped,
    Edited,
    Ended,
    Enqueued,
    Event,
    Extended,
    Paused,
    Record,
    Reported,
    Resumed,
    Saved,
    Started,
)
from tunewright.core.limits import WEIGHED, check_event, checked_space, noted
from tunewright.core.news import News
from tunewright.core.problem import Problem
from tunewright.core.snapshot import current, dump, load, weight
from tunewright.core.space import Space
from tunewright.core.trial import Ledger, Trial
from tunewright.core.unread import Unread
from tunewright.errors import ConfigError, ConflictError, StoreError, StoreUnavailable
from tunewright.run.rules import FILL, accept, begins, complete, finish_best, is_fork, retry, serve_queue
from tunewright.store.base import Asks, Lease, Store, StudyInfo
from tunewright.store.clock import worker_id

log = logging.getLogger(__name__)
_SNAPSHOT_EVERY = 20_000
_BLOCK, _TOLD = 20_000, 100_000
_RETRIES = 50
_STALE, _AGAIN = 0.25, 1.0
Plan = tuple[int, int, tuple[Action, ...]]


@dataclass(frozen=True, slots=True)
class Policy:
    """What the driver does about lost work.

    Args:
        lease: Seconds that an attempt may stay silent before its trial is given to somebody else.
        max_attempts: How often a trial is begun, without its checkpoints getting any further, before it counts as lost.
        max_running: Trials that may run at the same time over all processes; None for no limit.
        patience: Seconds to go on trying to record a result that the store cannot take just now, as on a full disk.
        keep: Completed trials whose last checkpoint is kept, the best ones; None keeps those of all.
        quota: Bytes that checkpoints may take. Beyond it those of completed trials are given up, the worst first;
            what a trial can be resumed from never is. None for no limit.

    Raises:
        ConfigError: If ``keep`` or ``quota`` is below 0.
    """

    lease: float = 30.0
    max_attempts: int = 3
    max_running: int | None = None
    patience: float = 60.0
    keep: int | None = None
    quota: int | None = None

    def __post_init__(self) -> None:
        for name in ("keep", "quota"):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 0):
                raise ConfigError(
                    f"A policy needs a whole number {name} >= 0, or None for no limit; got {value!r}. Correct it."
                )


class Session:
    """A process's handle on a study; safe to share between threads.

    Args:
        store: Where the log lives.
        info: The study.
        problem: The problem, with the constraint functions that a stored space cannot hold.
        algorithm: Makes decisions; None for a handle that only reads and tells.
        method: Name of the method in the log.
        worker: Who this process is, see ``store.clock``.
        policy: What to do about lost work.
    """

    def __init__(
        self,
        store: Store,
        info: StudyInfo,
        problem: Problem,
        algorithm: Algorithm[Any] | None,
        *,
        method: str,
        worker: str,
        policy: Policy | None = None,
    ) -> None:
        self.store = store
        self.info = info
        self.algorithm = algorithm
        self.method = method
        self._worker, self._pid = worker, os.getpid()
        self.policy = policy or Policy()
        self.lock = threading.RLock()
        self._problem = problem
        self._state: Any = None
        self._untold: list[Event] | None = None
        self._kept_at = self._barred = 0
        self._synced = 0.0
        # Where the study's method decides on the other side of the store, it is not asked here.
        self._remote = store if isinstance(store, Asks) and not info.spec.get("custom") else None
        self._jitter = random.Random(os.urandom(8))
        self.hurried = False
        self.exhausted = False
        self.loose: list[str] = []
        self.saved = 0
        self.ledger = self._open()

    def _open(self) -> Ledger:
        kept = self.store.load_snapshot(self.info.id)
        ledger = load(self._problem, kept[1]) if kept is not None else None
        if ledger is None or (kept is not None and ledger.cursor != kept[0]):
            ledger = Ledger(self._problem)
        # A snapshot that is of no use here stands in the way of any that is not newer.
        self._barred = kept[0] if kept is not None and ledger.cursor == 0 else 0
        ledger.trials.source = Unread(ledger, self._read, self.lock)
        self._kept_at = ledger.cursor
        return ledger

    def _read(self, after: int, limit: int) -> list[Record]:
        return self.store.read(self.info.id, after, limit)

    @property
    def worker(self) -> str:
        """Who this process is; a forked child is somebody else than its parent."""
        if self._pid != os.getpid():
            self._worker, self._pid = worker_id(), os.getpid()
        return self._worker

    @contextlib.contextmanager
    def speaking_for(
        self, worker: str, lease: float | None = None, tries: int | None = None
    ) -> Iterator[None]:
        """What this thread asks and records inside is said by somebody else; others wait meanwhile.

        Args:
            worker: Who.
            lease: Seconds that attempts begun inside may stay silent; None for the policy's.
            tries: How often a trial is begun before it counts as lost; None for the policy's.
        """
        with self.lock:
            mine, kept = self.worker, self.policy
            self._worker = worker
            given: dict[str, Any] = {"lease": lease, "max_attempts": tries}
            self.policy = replace(kept, **{k: v for k, v in given.items() if v is not None})
            try:
                yield
            finally:
                self._worker, self.policy = mine, kept

    def act_for(self, worker: str) -> None:
        """Speaks for somebody else from now on, such as a person whose trial outlives this process."""
        self._worker, self._pid = worker, os.getpid()

    @property
    def origin(self) -> Problem:
        """The problem as the study was created with; the ledger's has the newest version of the space."""
        return self._problem

    def sync(self) -> Ledger:
        """Folds what is new in the log and returns the ledger."""
        with self.lock:
            self._synced = time.monotonic()
            full = True
            while full:
                records = self._read(self.ledger.cursor, _BLOCK)
                self._fold(records)
                fresh = self.ledger.cursor - self._kept_at
                if fresh > _SNAPSHOT_EVERY and fresh > weight(self.ledger) // 2:
                    self._keep_in_turn()
                full = len(records) == _BLOCK
            return self.ledger

    def reach(self, last: int) -> Ledger:
        """Folds the log up to a position that is known to be there, without asking what is newer."""
        with self.lock:
            while last > self.ledger.cursor:
                records = self._read(self.ledger.cursor, last - self.ledger.cursor)
                if not records:
                    return self.sync()
                self._fold(records)
            return self.ledger

    def _keep_in_turn(self) -> None:
        """Saves a snapshot unless another process has done so lately; that it cannot be saved harms nobody."""
        cursor = self.ledger.cursor
        with contextlib.suppress(StoreError):
            newest = self.store.load_snapshot(self.info.id) if cursor >= self._barred else None
            if newest is None or not current(newest[1]) or cursor - newest[0] > _SNAPSHOT_EVERY // 2:
                self.keep()
        self._kept_at = self.ledger.cursor
        if self.store.durable:
            self.ledger.release()

    def keep(self) -> None:
        """Saves a snapshot of the ledger, so that the next process opens the study quickly."""
        with self.lock:
            if self.store.durable and self.ledger.cursor > self._kept_at:
                self.store.save_snapshot(self.info.id, self.ledger.cursor, dump(self.ledger))
                self._kept_at = self.ledger.cursor

    def _fold(self, records: Sequence[Record]) -> None:
        apply, untold = self.ledger.apply, self._untold
        if untold is None:
            for record in records:
                apply(record)
        else:
            for record in records:
                if apply(record):
                    untold.append(record.event)
                    if type(record.event) is Extended:
                        # Levels of training lie elsewhere now, so the method hears the whole log anew.
                        self._untold = None

    def _take(self, records: Sequence[Record]) -> None:
        """Folds records that this process appended; where others came in between, only if a checkpoint hangs on it."""
        if not records:
            return
        names = [n for r in records for n in self._releasable(r.event)]
        if records[0].seq == self.ledger.cursor + 1:
            self._fold(records)
        elif names:
            self.sync()
        self.loose += [n for n in names if n not in self.ledger.held]

    def _releasable(self, event: Event) -> list[str]:
        """Checkpoints that a trial may have no use for after an event that this process appended."""
        kinds = Saved | Reported | Paused | Resumed | Ended | Dropped
        if not isinstance(event, kinds) or event.trial >= len(self.ledger.trials):
            return []
        checkpoint, fresh = self.ledger.saves.get(event.trial, (None, None))
        if isinstance(event, Reported) and fresh is None:
            return []
        self.saved += isinstance(event, Saved)
        return [c[1] for c in (checkpoint, fresh) if c is not None]

    def state(self) -> Any:
        """State of the algorithm after everything folded so far."""
        assert self.algorithm is not None
        if self._untold is None:
            self._state, self._untold = self._replayed(), []
        elif self._untold:
            self._state = self.algorithm.tell(self._state, self._untold)
            self._untold = []
        return self._state

    def _replayed(self) -> Any:
        """State of the algorithm from the log alone, up to the ledger's cursor."""
        assert self.algorithm is not None
        fidelity = self.ledger.problem.fidelity
        newest = self._problem.extended(fidelity.high) if fidelity is not None else self._problem
        shortcut = getattr(self.algorithm, "shortcut", None)
        if shortcut is not None and self.ledger.trials:
            edited = len(self.ledger.spaces) > 1
            state = shortcut(self.ledger.problem, len(self.ledger.trials), edited)
            if state is not None:
                return state
        state, news, position = self.algorithm.init(newest), News(), 0
        while position < self.ledger.cursor:
            block = self._read(position, min(_TOLD, self.ledger.cursor - position))
            state = self.algorithm.tell(state, news.of(block))
            position = block[-1].seq
        return state

    # ------------------------------------------------------------------ decisions

    def ask(self, slots: int = 1, *, limit: int | None = None) -> Trial | None:
        """Takes the next decisions and returns the trial that this process is to run now, or None.

        Args:
            slots: 1 to get a trial, 0 to let the method only pause and stop.
            limit: Trials that may be begun in all; from there on trials are only continued or forked.

        Returns:
            A trial with status ``running`` and this process's token, or None when there is nothing to run:
            the method waits for results, or is finished (``exhausted`` tells which).
        """
        remote = self._remote
        if remote is not None:
            return next(iter(self._have_decided(remote, slots, limit)), None)
        if getattr(self.algorithm, "deliberate", False):
            with self.store.deciding(self.info.id):
                return self._ask(slots, limit)
        return self._ask(slots, limit)

    def ask_many(self, count: int, *, limit: int | None = None) -> list[Trial]:
        """Up to ``count`` trials for this process, in one transaction where the method is quick; see ``ask``.

        The log is the same as after as many calls of ``ask``.
        """
        remote = self._remote
        if remote is not None:
            return self._have_decided(remote, count, limit)
        if getattr(self.algorithm, "deliberate", False):
            found: list[Trial] = []
            while len(found) < count and (trial := self.ask(limit=limit)) is not None:
                found.append(trial)
            return found
        with self.lock:
            self.sync()
            for _ in range(_RETRIES):
                try:
                    return self._decide_many(count, limit)
                except ConflictError:
                    continue
            raise ConflictError(
                f"A decision must rest on the newest log; {_RETRIES} attempts were overtaken. Use fewer processes."
            )

    def _have_decided(self, remote: Asks, slots: int, limit: int | None) -> list[Trial]:
        with self.lock:
            wanted, policy = (self.info.id, self.ledger.cursor, slots, limit), self.policy
            records, begun, self.exhausted = remote.ask(
                *wanted, worker=self.worker, lease=policy.lease, attempts=policy.max_attempts
            )
            self._fold(records)
            return [self.ledger.trials[number] for number in begun]

    def _decide_many(self, count: int, limit: int | None) -> list[Trial]:
        """Takes several decisions in one transaction, each on the log as the ones before will have left it."""
        ahead: list[Event] = []

        def choose(tail: list[Record], expired: list[Lease]) -> Sequence[Event]:
            if ahead:
                # The log went on meanwhile, so what was folded ahead never came to be.
                ahead.clear()
                self._forget()
            self._fold([r for r in tail if r.seq > self.ledger.cursor])
            for _ in range(count):
                events = self._choose(1, limit, expired, None)
                expired = []
                place = self.ledger.cursor
                self._fold([Record(place + i + 1, 0.0, self.worker, e) for i, e in enumerate(events)])
                ahead.extend(events)
                if not any(isinstance(e, Started | Resumed) for e in events):
                    break
            return ahead

        start = self.ledger.cursor
        try:
            records = self.store.decide(
                self.info.id, start, choose, worker=self.worker, lease=self.policy.lease
            )
        except BaseException:
            if ahead:
                self._forget()
            raise
        trials = self.ledger.trials
        for record in records:
            if isinstance(record.event, Started):
                trials[record.event.trial].at = record.at
            elif isinstance(record.event, Ended):
                trials[record.event.trial].ended_at = record.at
        begun = [trials[r.event.trial] for r in records if isinstance(r.event, Started | Resumed)]
        return [t for t in begun if t.status == "running"]

    def _forget(self) -> None:
        """Folds the log anew, after folding what never came to be."""
        ledger = self._open()
        for record in self.store.read(self.info.id, ledger.cursor):
            ledger.apply(record)
        # In one piece, because other threads look at it without asking for the lock.
        self.ledger, self._untold = ledger, None

    def _ask(self, slots: int, limit: int | None) -> Trial | None:
        with self.lock:
            # What piled up is folded before the exclusive transaction begins, so that it stays short.
            if getattr(self.algorithm, "deliberate", False) or time.monotonic() - self._synced > _STALE:
                self.sync()
            for attempt in range(_RETRIES):
                plan = self._plan(slots, limit) if getattr(self.algorithm, "deliberate", False) else None
                if attempt >= _RETRIES // 2:
                    plan = None
                try:
                    return self._decide(slots, limit, plan)
                except ConflictError:
                    continue
            raise ConflictError(
                f"A decision must rest on the newest log; {_RETRIES} attempts were overtaken. Use fewer processes."
            )

    def _plan(self, slots: int, limit: int | None) -> Plan:
        """Lets a deliberate method think: ``(basis, decisions before it, actions)``."""
        ledger = self.ledger
        full = limit is not None and ledger.begun >= limit
        slots = 0 if ledger.control else slots
        if (full and ledger.problem.fidelity is None) or (slots and (ledger.waiting or ledger.queue)):
            return ledger.cursor, ledger.decisions, ()
        rng = generator(ledger.problem.seed, ledger.decisions)
        return ledger.cursor, ledger.decisions, self._wish(full, slots, rng)

    def _decide(self, slots: int, limit: int | None, plan: Plan | None) -> Trial | None:
        def choose(tail: list[Record], expired: list[Lease]) -> Sequence[Event]:
            if tail:
                self._fold(tail)
            return self._choose(slots, limit, expired, plan)

        records = self.store.decide(
            self.info.id, self.ledger.cursor, choose, worker=self.worker, lease=self.policy.lease
        )
        self._take(records)
        begun = [self.ledger.trials[r.event.trial] for r in records if isinstance(r.event, Started | Resumed)]
        for trial in begun:
            if trial.status == "running":
                return trial
        # An item of the queue that no longer fits was put aside: on to the next.
        return self._decide(slots, limit, None) if begun else None

    def _choose(
        self, slots: int, limit: int | None, expired: Sequence[Lease], plan: Plan | None
    ) -> Sequence[Event]:
        ledger = self.ledger
        events: list[Event] = []
        slots = 0 if ledger.control else slots
        if expired or ledger.waiting:
            events, busy = retry(ledger, self.policy.max_attempts, slots, expired)
            if busy:
                return events
        most = self.policy.max_running
        slots = 0 if most is not None and len(ledger.running) >= most else slots
        full = limit is not None and ledger.begun >= limit
        if slots and ledger.queue and not full:
            return [*events, *serve_queue(ledger, ledger.cursor + len(events) + 1)]
        if self.algorithm is None:
            return events
        basis, decisions = ledger.cursor, ledger.decisions
        if plan is None:
            actions = self._wish(full, slots, generator(ledger.problem.seed, decisions))
        else:
            basis, before, actions = plan
            if before != decisions or (ledger.control and begins(actions)):
                raise ConflictError(
                    "A decision must rest on the newest log; somebody else decided. Decide again."
                )
        if slots:
            self.exhausted = not actions and not ledger.running and not ledger.waiting and not expired
        for action in actions:
            if full and isinstance(action, Start) and not is_fork(action):
                continue
            events += accept(ledger, self.method, action, basis, plan is not None)
        if slots and full and not events and not ledger.running:
            events += finish_best(ledger, self._problem)
        return events

    def _wish(self, full: bool, slots: int, rng: np.random.Generator) -> tuple[Action, ...]:
        """What the method wants; once the study has all its trials, without beginning any."""
        assert self.algorithm is not None
        algorithm = closed(self.algorithm) if full else self.algorithm
        return algorithm.ask(self.state(), slots, rng)

    def steer(self) -> None:
        """Lets the method stop or pause running trials, as it may after every report."""
        if self._remote is not None:
            self.sync()
        if self.algorithm is None or self._remote is not None:
            return
        with self.lock:
            if self.store.durable:
                self.sync()
            ledger = self.ledger
            if self.algorithm.ask(self.state(), 0, generator(ledger.problem.seed, ledger.decisions)):
                self.ask(0)

    # ------------------------------------------------------------------ facts

    def record(self, event: Event) -> list[Record]:
        """Appends one fact and folds it.

        Raises:
            LeaseLost: If it speaks for an attempt that was taken over.
            ConfigError: If it is larger than ``core.limits`` allows.
        """
        return self.record_all((event,))

    def record_all(self, events: Sequence[Event]) -> list[Record]:
        """Appends facts, all or none, and folds them; waits for a store that can take no more just now.

        Raises:
            LeaseLost: If one of them speaks for an attempt that was taken over.
            ConfigError: If one is larger than ``core.limits`` allows.
            StoreUnavailable: If they could not be written for as long as the policy's patience.
        """
        for event in events:
            if type(event) in WEIGHED:
                check_event(event)
        with self.lock:
            records = self._appended(events)
            self._take(records)
            return records

    def _appended(self, events: Sequence[Event]) -> list[Record]:
        end: float | None = None
        while True:
            try:
                return self.store.append(self.info.id, events, worker=self.worker, again=end is not None)
            except StoreUnavailable as error:
                end = time.monotonic() + self.policy.patience if end is None else end
                if not error.passing or self.hurried or time.monotonic() > end:
                    raise
                log.warning("a result is waiting to be recorded: %s", error)
            time.sleep(_AGAIN * (0.5 + self._jitter.random()))

    def enqueue(self, config: dict[str, Any], *, key: str = "", by: str = "user") -> int:
        """Puts a configuration in the queue, once per key.

        Returns:
            Position of the item in the log.
        """
        with self.lock:
            self.sync()
            space = self.ledger.problem.space
            checked = space.check(config, partial=True)
            if space.constraints:
                complete(space, checked, generator(self.ledger.problem.seed, self.ledger.cursor, FILL))
            item = Enqueued(checked, key, by)
            check_event(item)

            def choose(tail: list[Record], expired: list[Lease]) -> Sequence[Event]:
                self._fold(tail)
                return () if key and key in self.ledger.keys else (item,)

            records = self.store.decide(self.info.id, self.ledger.cursor, choose, worker=self.worker)
            self._take(records)
            return records[-1].seq if records else self.ledger.keys[key]

    def edit(self, space: Space, *, by: str = "user") -> None:
        """Gives the study a new version of its space; trials of earlier versions are kept."""
        with self.lock:
            self.sync()
            if space != self.ledger.problem.space:
                checked_space(space)
                self.record(Edited(space.to_dict(), by))

    def extend(self, high: int, *, by: str = "user") -> None:
        """Makes full trainings longer, from the next decision on; what was trained is kept and can go on.

        Raises:
            ConfigError: If trials have no steps, or full trainings would become shorter.
        """
        with self.lock:
            self.sync()

            def choose(tail: list[Record], expired: list[Lease]) -> Sequence[Event]:
                self._fold(tail)
                problem = self.ledger.problem
                longer = problem.extended(high)
                assert problem.fidelity is not None
                before = problem.fidelity.high
                if high < before:
                    raise ConfigError(
                        f"Full trainings can only be made longer, for some had {before} steps; got {high}. Open a new study for shorter ones."
                    )
                return () if longer == problem else (Extended(high, before, by),)

            self._take(self.store.decide(self.info.id, self.ledger.cursor, choose, worker=self.worker))

    def amend(self, trial: Trial, config: dict[str, Any]) -> None:
        """Records that a define-by-run trial met more parameters."""
        self.record(Amended(trial.id, config))

    def note(self, topic: str, data: dict[str, Any], trial: int | None = None) -> None:
        """Keeps a note in the log."""
        self.record(noted(topic, data, trial))

    def renew(self, held: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
        """Extends the leases of ``(trial, token)`` pairs; returns those that were taken over."""
        return self.store.renew(self.info.id, held, lease=self.policy.lease)

    def close(self) -> None:
        """Saves a snapshot when many events were folded since the last one."""
        if self.ledger.cursor - self._kept_at > _SNAPSHOT_EVERY // 4:
            self.keep()
