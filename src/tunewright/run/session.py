"""One process's view of one study: folds the log, takes decisions, records facts.

Every way of using a study goes through here: the driver, ask/tell, the command line. A decision is taken in one of
two ways. Quick methods decide inside the store's exclusive transaction, on the newest log. Deliberate ones think
outside it, guarded by an advisory lock, and their decision is accepted only if nobody else decided meanwhile.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tunewright.core.algorithm import Action, Algorithm, Pause, Resume, Start, Stop, generator
from tunewright.core.closing import closed
from tunewright.core.events import (
    Amended,
    Dropped,
    Edited,
    Ended,
    Enqueued,
    Event,
    Extended,
    Interrupted,
    Noted,
    Paused,
    Record,
    Reported,
    Resumed,
    Saved,
    Signalled,
    Started,
    Verdict,
)
from tunewright.core.problem import Problem
from tunewright.core.snapshot import dump, load
from tunewright.core.space import Space
from tunewright.core.trial import Ledger, Trial
from tunewright.errors import AlgorithmError, ConfigError, ConflictError, SpaceError
from tunewright.store.base import Lease, Store, StudyInfo
from tunewright.store.clock import worker_id

log = logging.getLogger(__name__)
_SNAPSHOT_EVERY = 20_000
_FILL, _RETRIES = 7, 50
_STALE = 0.25
Plan = tuple[int, int, tuple[Action, ...]]


@dataclass(frozen=True, slots=True)
class Policy:
    """What the driver does about lost work.

    Args:
        lease: Seconds that an attempt may stay silent before its trial is given to somebody else.
        max_attempts: How often a trial is begun, without its checkpoints getting any further, before it counts as lost.
        max_running: Trials that may run at the same time over all processes; None for no limit.
        keep: Completed trials whose last checkpoint is kept, the best ones; None keeps those of all.
        quota: Bytes that checkpoints may take. Beyond it those of completed trials are given up, the worst first;
            what a trial can be resumed from never is. None for no limit.

    Raises:
        ConfigError: If ``keep`` or ``quota`` is below 0.
    """

    lease: float = 30.0
    max_attempts: int = 3
    max_running: int | None = None
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
        self._kept_at = 0
        self._synced = 0.0
        self.exhausted = False
        self.loose: list[str] = []
        self.saved = 0
        self.ledger = self._open()

    def _open(self) -> Ledger:
        kept = self.store.load_snapshot(self.info.id)
        ledger = load(self._problem, kept[1]) if kept is not None else None
        if ledger is None or (kept is not None and ledger.cursor != kept[0]):
            ledger = Ledger(self._problem)
        self._kept_at = ledger.cursor
        return ledger

    @property
    def worker(self) -> str:
        """Who this process is; a forked child is somebody else than its parent."""
        if self._pid != os.getpid():
            self._worker, self._pid = worker_id(), os.getpid()
        return self._worker

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
            self._fold(self.store.read(self.info.id, self.ledger.cursor))
            if self.ledger.cursor - self._kept_at > max(_SNAPSHOT_EVERY, self._kept_at // 2):
                self.keep()
            return self.ledger

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
        if names:
            self.loose += [n for n in names if n not in self.ledger.held]

    def _releasable(self, event: Event) -> list[str]:
        """Checkpoints that a trial may have no use for after an event that this process appended."""
        kinds = Saved | Reported | Paused | Resumed | Ended | Dropped
        if not isinstance(event, kinds) or event.trial >= len(self.ledger.trials):
            return []
        trial = self.ledger.trials[event.trial]
        if isinstance(event, Reported) and trial.fresh is None:
            return []
        self.saved += isinstance(event, Saved)
        return [c[1] for c in (trial.checkpoint, trial.fresh) if c is not None]

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
        state = self.algorithm.init(newest)
        shadow, position = Ledger(self._problem), 0
        while position < self.ledger.cursor:
            block = self.store.read(self.info.id, position, limit=min(50_000, self.ledger.cursor - position))
            state = self.algorithm.tell(state, [r.event for r in block if shadow.apply(r)])
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
        if getattr(self.algorithm, "deliberate", False):
            with self.store.deciding(self.info.id):
                return self._ask(slots, limit)
        return self._ask(slots, limit)

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
        if expired or ledger.waiting:
            events, busy = self._retry(slots, expired)
            if busy:
                return events
        most = self.policy.max_running
        if slots and most is not None and len(ledger.running) >= most:
            slots = 0
        full = limit is not None and ledger.begun >= limit
        if slots and ledger.queue and not full:
            return [*events, *self._serve_queue(ledger.cursor + len(events) + 1)]
        if self.algorithm is None:
            return events
        basis, decisions = ledger.cursor, ledger.decisions
        if plan is None:
            rng = generator(ledger.problem.seed, decisions)
            actions = self._wish(full, slots, rng)
        else:
            basis, before, actions = plan
            if before != decisions:
                raise ConflictError(
                    "A decision must rest on the newest log; somebody else decided. Decide again."
                )
        if slots:
            self.exhausted = not actions and not ledger.running and not ledger.waiting and not expired
        for action in actions:
            if full and isinstance(action, Start) and not is_fork(action):
                continue
            events += self._accept(action, basis, plan is not None)
        if slots and full and not events and not ledger.running:
            events += self._finish_best()
        return events

    def _wish(self, full: bool, slots: int, rng: np.random.Generator) -> tuple[Action, ...]:
        """What the method wants; once the study has all its trials, without beginning any."""
        assert self.algorithm is not None
        algorithm = closed(self.algorithm) if full else self.algorithm
        return algorithm.ask(self.state(), slots, rng)

    def _finish_best(self) -> list[Event]:
        """A study that is over without one full training gives its best trial the rest of it.

        Early stopping with few trials would else leave nothing that was trained to the end, and neither would more
        steps for a study that has all its trials.
        """
        ledger = self.ledger
        fidelity = ledger.problem.fidelity
        if fidelity is None or (ledger.counts.get("completed", 0) and fidelity == self._problem.fidelity):
            return []
        done = [t for t in ledger.trials if t.status == "completed"]
        tried = any(t.start.by == "finish" and t.start.until == fidelity.high for t in ledger.trials)
        if tried or any(t.step >= fidelity.high for t in done):
            return []
        able = [t for t in ledger.trials if t.status == "paused"] + done
        known = [(-t.step, losses, t.id) for t in able if (losses := ledger.problem.losses(t.metrics))]
        if not known:
            return []
        trial = ledger.trials[min(known)[2]]
        why: dict[str, Any] = {"reason": "no trial was trained to the end"}
        if trial.status == "paused":
            return [Resumed(trial.id, trial.restart, fidelity.high, ledger.cursor, "finish", why)]
        parent, why = (trial.id, trial.step), {**why, "continues": trial.id}
        number = len(ledger.trials)
        return [Started(number, trial.config, fidelity.high, parent, ledger.cursor, "finish", 0, why)]

    def _retry(self, slots: int, expired: Sequence[Lease]) -> tuple[list[Event], bool]:
        """Takes back trials whose attempt fell silent, and gives out the oldest interrupted one."""
        ledger = self.ledger
        events: list[Event] = [
            Interrupted(x.trial, x.token, "lost", f"no sign of life from {x.worker}") for x in expired
        ]
        silent = [ledger.trials[x.trial] for x in expired]
        busy = False
        for trial in [*ledger.waiting.values(), *silent]:
            lost = trial.losses + (trial.status != "waiting")
            if lost >= self.policy.max_attempts:
                error = f"its worker was lost {lost} times"
                events.append(Ended(trial.id, trial.token, "lost", error=error, step=trial.step))
            elif trial.signal == "stop":
                events.append(Ended(trial.id, trial.token, "stopped", step=trial.step))
            elif slots and not busy:
                events.append(Resumed(trial.id, trial.restart, trial.until, ledger.cursor, "retry"))
                busy = True
        return events, busy

    def _serve_queue(self, token: int) -> list[Event]:
        """Starts the oldest enqueued item; parameters it leaves open come from the prior.

        The space may have been edited since; an item that no longer fits becomes a trial that is over at once, for
        else nobody would get past it.

        Args:
            token: Position that the start will have in the log.
        """
        ledger = self.ledger
        position, item = next(iter(ledger.queue.items()))
        number, space = len(ledger.trials), ledger.problem.space
        try:
            config = complete(space, item.config, generator(ledger.problem.seed, number, _FILL))
        except SpaceError as error:
            return [
                Started(number, item.config, basis=ledger.cursor, by="queue", queue=position),
                Ended(
                    number,
                    token,
                    "invalid",
                    error=f"It was enqueued for another version of the space. {error}",
                ),
            ]
        return [Started(number, config, basis=ledger.cursor, by="queue", queue=position)]

    def _accept(self, action: Action, basis: int, stale: bool) -> list[Event]:
        """Turns a wish into events, after checking that it is legal.

        Facts that arrived while a deliberate method was thinking may have made a wish pointless; it is dropped.
        """
        ledger = self.ledger
        if isinstance(action, Start):
            return [
                Started(
                    len(ledger.trials),
                    action.config,
                    action.until,
                    action.parent,
                    basis,
                    self.method,
                    0,
                    action.why,
                )
            ]
        trial = ledger.trials[action.trial] if 0 <= action.trial < len(ledger.trials) else None
        if isinstance(action, Resume):
            if trial is not None and trial.status == "paused":
                return [Resumed(trial.id, trial.restart, action.until, basis, self.method, action.why)]
        elif trial is not None and not trial.finished:
            if isinstance(action, Stop) and trial.status == "paused":
                return [
                    Signalled(trial.id, "stop", basis, self.method, action.why),
                    Ended(trial.id, trial.token, "stopped", step=trial.step),
                ]
            if trial.signal is None:
                verdict: Verdict = "pause" if isinstance(action, Pause) else "stop"
                return [Signalled(trial.id, verdict, basis, self.method, action.why)]
            return []
        if stale and trial is not None:
            return []
        state = "unknown" if trial is None else trial.status
        raise AlgorithmError(
            f"A method may act on a trial only as its state allows; {self.method} wanted to {type(action).__name__.lower()} "
            f"trial {action.trial}, which is {state}. This is a bug in the method."
        )

    def steer(self) -> None:
        """Lets the method stop or pause running trials, as it may after every report."""
        if self.algorithm is None:
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
        """
        with self.lock:
            records = self.store.append(self.info.id, (event,), worker=self.worker)
            self._take(records)
            return records

    def record_all(self, events: Sequence[Event]) -> list[Record]:
        """Appends facts, all or none, and folds them."""
        with self.lock:
            records = self.store.append(self.info.id, events, worker=self.worker)
            self._take(records)
            return records

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
                complete(space, checked, generator(self.ledger.problem.seed, self.ledger.cursor, _FILL))

            def choose(tail: list[Record], expired: list[Lease]) -> Sequence[Event]:
                self._fold(tail)
                return () if key and key in self.ledger.keys else (Enqueued(checked, key, by),)

            records = self.store.decide(self.info.id, self.ledger.cursor, choose, worker=self.worker)
            self._take(records)
            return records[-1].seq if records else self.ledger.keys[key]

    def edit(self, space: Space, *, by: str = "user") -> None:
        """Gives the study a new version of its space; trials of earlier versions are kept."""
        with self.lock:
            self.sync()
            if space != self.ledger.problem.space:
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
                        f"Full trainings can only be made longer, for some had {before} steps; got {high}. "
                        f"Open a new study for shorter ones."
                    )
                return () if longer == problem else (Extended(high, before, by),)

            self._take(self.store.decide(self.info.id, self.ledger.cursor, choose, worker=self.worker))

    def amend(self, trial: Trial, config: dict[str, Any]) -> None:
        """Records that a define-by-run trial met more parameters."""
        self.record(Amended(trial.id, config))

    def note(self, topic: str, data: dict[str, Any], trial: int | None = None) -> None:
        """Keeps a note in the log."""
        self.record(Noted(topic, data, trial))

    def renew(self, held: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
        """Extends the leases of ``(trial, token)`` pairs; returns those that were taken over."""
        return self.store.renew(self.info.id, held, lease=self.policy.lease)

    def close(self) -> None:
        """Saves a snapshot when many events were folded since the last one."""
        if self.ledger.cursor - self._kept_at > _SNAPSHOT_EVERY // 4:
            self.keep()


def is_fork(action: Start) -> bool:
    """Whether a start goes on with what another trial was trained; those do not count against a limit of trials."""
    return action.parent is not None and action.parent[1] > 0


def complete(space: Space, config: dict[str, Any], rng: Any, tries: int = 1000) -> dict[str, Any]:
    """Fills the parameters that a partial configuration leaves open from the prior.

    Raises:
        SpaceError: If the given values admit no configuration that satisfies the constraints.
    """
    filled: dict[str, Any] = {}
    config = space.check(config, partial=True)
    for _ in range(tries):
        codes = space.sample(rng, 1)[0]
        filled = space.merge(np.where(np.isnan(codes), rng.random(space.d), codes), config)
        if space.feasible(filled):
            break
    return space.check(filled)
