"""A worker that gets its trials from a server: asks, trains, says how it went, and keeps no history of the study.

It lives through outages: training goes on, and what cannot be delivered waits on this machine's disk, see
``run.courier``. What it does is what ``run.driver`` does for a store of its own; only decisions are taken elsewhere.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import random
import signal
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Literal

import msgspec

from tunewright.core.events import Cause
from tunewright.errors import (
    CheckpointError,
    ConfigError,
    LeaseLost,
    StoreUnavailable,
    StudyMissing,
    TooManyFailures,
    TunewrightError,
)
from tunewright.run.asker import Asker
from tunewright.run.courier import Courier, News, failed
from tunewright.run.executor import Executor
from tunewright.run.failing import Failures, Patience
from tunewright.run.heart import Heart
from tunewright.run.luggage import Luggage
from tunewright.run.messages import Answer, Finish, FromWorker, Segment, Suggest, to_worker
from tunewright.run.session import Policy
from tunewright.run.signals import heard
from tunewright.run.spool import Spool, key_of
from tunewright.store import wire
from tunewright.store.base import Store, StudyInfo
from tunewright.store.clock import worker_id
from tunewright.store.http import HttpStore

_DICE = random.SystemRandom()  # pauses must not advance the generator that trainings draw from

log = logging.getLogger(__name__)
_POLL = 0.2
_LONGEST_WAIT = 5.0
_ASK_EVERY = 0.25
_ASK_SELDOM = 5.0
_ASKING = 60.0
_FINAL = frozenset({"completed", "stopped", "failed", "invalid", "timed_out", "out_of_memory"})
Why = Literal["finished", "once", "idle", "interrupted", "failures", "gone", "away", "stopped"]


@dataclass(frozen=True, slots=True)
class Terms:
    """What a worker is to do.

    Args:
        trials: Trials that the study is to begin in all; None for no limit.
        once: End after one trial.
        idle_exit: Seconds without work after which to end; None ends only when the method is finished.
        trial_timeout: Seconds that one segment may take.
        grace: Seconds that trials get to save a checkpoint and return when the worker is asked to leave.
        lease: Seconds of silence after which the server gives a trial to another worker.
        failures: When to give up; see ``run.failing``.
        patience: Seconds to wait for a server that is away, once nothing is left to train.
    """

    trials: int | None = None
    once: bool = False
    idle_exit: float | None = None
    trial_timeout: float | None = None
    grace: float = 10.0
    lease: float = 30.0
    failures: Patience = "auto"
    patience: float = 600.0


@dataclass(slots=True)
class Shift:
    """What a worker has done.

    Attributes:
        why: What ended it.
        begun: Segments of trials that it began.
        ended: Trials that ended here.
        undelivered: Attempts whose results are kept in the spool.
        signal: Number of the signal that ended it, or None.
        spool: Where results are kept that could not be delivered.
    """

    why: Why
    begun: int = 0
    ended: int = 0
    undelivered: int = 0
    signal: int | None = None
    spool: str = ""


class Office:
    """What the heart needs of a study: its leases."""

    def __init__(self, store: HttpStore, study: int, lease: float) -> None:
        self.store: Store = store
        self.policy = Policy(lease=lease)
        self._study = study

    def renew(self, held: Any) -> list[tuple[int, int]]:
        """Extends the leases of ``(trial, token)`` pairs; returns those that were taken over."""
        return self.store.renew(self._study, held, lease=self.policy.lease)


@dataclass(slots=True)
class _Flight:
    segment: Segment
    began: float
    ready: bool = False


class Agent:
    """One worker process's loop.

    Args:
        store: The server.
        study: The study.
        executor: Where training happens.
        terms: What to do.
        home: Folder for what is kept on this machine: ``spool`` and ``work``.
    """

    def __init__(
        self, store: HttpStore, study: StudyInfo, executor: Executor, terms: Terms, home: Path
    ) -> None:
        self.store = store
        self.study = study
        self.executor = executor
        self.terms = terms
        key = key_of(store.url, study.id, study.created)
        self._spool = Spool(home / "spool" / key)
        self._luggage = Luggage(store.blobs(study.id), home / "work" / key)
        self._worker = worker_id()
        self._flights: dict[int, _Flight] = {}
        self._overruled: dict[int, tuple[Literal["failed", "lost"], str]] = {}
        self._shift = Shift("finished", spool=str(self._spool.folder))
        self._stopping: Why | None = None
        self._trouble: TunewrightError | None = None
        self._failures = Failures(terms.failures, "worker")
        self._signals = 0
        self._ask_at = 0.0
        self._asked_at = 0.0
        self._asked_wait = 0.0
        self._empty = 0
        self._idle_since = time.monotonic()
        self._away_since = 0.0
        self._fetched: queue.SimpleQueue[tuple[Segment, TunewrightError | None]] = queue.SimpleQueue()
        self._ending: dict[tuple[int, int], bool] = {}
        self._asker = Asker(lambda body: store.hand_out(study.id, body, patience=_ASKING))
        self._courier = Courier(self._say, self._luggage.send, lambda: store.reach(study.id), self._spool)
        self._heart = Heart(Office(store, study.id, terms.lease))
        executor.connect(self._hear)

    def run(self) -> Shift:
        """Works until there is nothing to do, the terms say so, or a signal comes.

        Raises:
            TooManyFailures: If so many trials fail that something must be wrong with this worker.
            StudyMissing: If the study was removed.
            StoreUnavailable: If the server was away for longer than the worker's patience.
        ConfigError: If the server cannot take decisions for this study.
        """
        try:
            with heard(self._signalled), self._heart:
                for trial, token in self._courier.start(self._luggage.place):
                    self._heart.hold(trial, token)
                try:
                    self._loop()
                finally:
                    self.executor.close()
                    self._abandon()
                    self._give_back()
                    # Who leaves in a hurry, or has waited already, leaves the rest to the next worker here.
                    hurry = self._signals > 1 or self._courier.away
                    self._shift.undelivered = self._courier.stop(0.5 if hurry else self.terms.grace)
        finally:
            self.store.close()
        if self._trouble is not None:
            raise self._trouble
        return self._shift

    # ------------------------------------------------------------------ the loop

    def _loop(self) -> None:
        leave_by = float("inf")
        while True:
            self._learn()
            if self._stopping is None and self._signals:
                self._stopping = "interrupted"
            if self._stopping is None:
                self._fill()
            elif leave_by == float("inf"):
                leave_by = time.monotonic() + self.terms.grace
                for number in self._flights:
                    self.executor.signal(number, "pause")
            if not self._flights:
                if self._stopping is not None:
                    self._shift.why = self._stopping
                    return
                if not self._asker.busy:
                    time.sleep(min(_POLL, max(0.001, self._ask_at - time.monotonic())))
                continue
            if time.monotonic() > leave_by or self._signals > 1:
                self._kill_all()
                continue
            self.executor.poll(_POLL)
            self._check_flights()

    def _fill(self) -> None:
        """Asks for as many trials as there is room for, and begins them when the answer is there."""
        if self._asker.busy:
            answer = self._asker.answer(0.0 if self._flights else _POLL)
            if answer is not None:
                self._heard_back(answer)
            return
        room = self.executor.capacity - len(self._flights)
        if self.terms.once and not self._flights and self._shift.begun:
            if not self._courier.held or self._is_late():
                self._stopping = "once"
            return
        if self.terms.once:
            room = min(room, 1 - self._shift.begun)
        if room <= 0 or time.monotonic() < self._ask_at or (self._flights and self._courier.away):
            return
        if self._courier.away and self._courier.held:
            # What was done comes before anything new.
            if self._is_late():
                self._leave(
                    "away",
                    StoreUnavailable(
                        f"A server must not be away for longer than {self.terms.patience:g} seconds; it was. "
                        f"Results are kept in {self._spool.folder}; start the worker again once it is back."
                    ),
                )
            return
        held = sorted({*self._flights, *(trial for trial, _ in self._courier.held)})
        wait = 0.0 if self._flights else self._longest_wait()
        self._asked_at, self._asked_wait = time.monotonic(), wait
        self._asker.ask(
            wire.AskBody(self._worker, room, self.terms.trials, self.terms.lease, held, wait=round(wait, 3))
        )

    def _heard_back(self, answer: wire.AskAnswer | TunewrightError) -> None:
        if isinstance(answer, StudyMissing | ConfigError):
            self._leave("gone", answer)
            return
        if isinstance(answer, TunewrightError):
            if isinstance(answer, StoreUnavailable):
                self._courier.unreachable(str(answer))
            else:
                log.warning("the server could not decide, and is asked again: %s", answer)
            self._empty += 1
            self._ask_later()
            if not self._flights and self._is_late():
                self._leave("away", answer)
            return
        self._courier.answered()
        self._away_since = 0.0
        segments = [msgspec.json.decode(t, type=Segment) for t in answer.trials]
        for segment in segments:
            self._begin(segment)
        if answer.stopped and self._stopping is None:
            self._stopping = "stopped"
        self._empty = 0 if segments else self._empty + 1
        if segments:
            self._idle_since = time.monotonic()
            self._ask_later()
        elif not self._flights:
            self._nothing(answer.finished)

    def _nothing(self, finished: bool) -> None:
        """There is no work: waits, or ends."""
        if self.terms.idle_exit is not None:
            if time.monotonic() - self._idle_since >= self.terms.idle_exit:
                self._stopping = "idle"
        elif finished and not self._courier.held:
            self._stopping = "finished"
        if time.monotonic() - self._asked_at > _POLL * 5:
            # The server has waited for us; this only keeps a crowd from coming back all at once.
            self._ask_at = time.monotonic() + _DICE.uniform(0.0, _POLL)
        else:
            self._ask_later()

    def _ask_later(self) -> None:
        pause = min(_ASK_SELDOM, _ASK_EVERY * 2 ** min(self._empty, 10))
        self._ask_at = time.monotonic() + _DICE.uniform(pause / 2, pause)

    def _longest_wait(self) -> float:
        if self.terms.idle_exit is None:
            return _LONGEST_WAIT
        left = self.terms.idle_exit - (time.monotonic() - self._idle_since)
        return min(_LONGEST_WAIT, max(0.0, left))

    def _is_late(self) -> bool:
        """Whether the server has been away for longer than this worker waits for it."""
        if not self._courier.away:
            self._away_since = 0.0
            return False
        self._away_since = self._away_since or time.monotonic()
        return time.monotonic() - self._away_since > self.terms.patience

    def _leave(self, why: Why, trouble: TunewrightError) -> None:
        if self._stopping is None:
            self._stopping, self._trouble = why, trouble

    # ------------------------------------------------------------------ trials

    def _begin(self, segment: Segment) -> None:
        if segment.trial in self._flights:
            return
        self._shift.begun += 1
        place = self._luggage.unpack(segment.trial)
        flight = _Flight(msgspec.structs.replace(segment, blobs=str(place), flush=False), time.monotonic())
        self._flights[segment.trial] = flight
        self._courier.hold(segment.trial, segment.token, place, segment.checkpoint)
        self._heart.hold(segment.trial, segment.token)
        if segment.checkpoint is None and segment.teacher is None:
            self._submit(flight)
        else:
            # What others saved may be large, and running trials are not to wait for it.
            threading.Thread(target=self._fetch, args=(flight.segment,), daemon=True).start()

    def _submit(self, flight: _Flight) -> None:
        flight.ready, flight.began = True, time.monotonic()
        self.executor.submit(flight.segment)
        log.info("trial %d begins: %s", flight.segment.trial, flight.segment.config)

    def _fetch(self, segment: Segment) -> None:
        try:
            self._luggage.fetch(segment)
        except TunewrightError as error:
            self._fetched.put((segment, error))
        else:
            self._fetched.put((segment, None))

    def _learn(self) -> None:
        """Takes in what other threads found out."""
        with contextlib.suppress(queue.Empty):
            while True:
                segment, error = self._fetched.get_nowait()
                flight = self._flights.get(segment.trial)
                if flight is None or flight.segment.token != segment.token:
                    continue
                if error is None and self._stopping is None:
                    self._submit(flight)
                    continue
                damaged = getattr(error, "blob", "") if isinstance(error, CheckpointError) else ""
                self._hear(
                    Finish(
                        segment.trial,
                        segment.token,
                        "lost",
                        segment.step,
                        error=str(error or ""),
                        damaged=damaged,
                    )
                )
        with contextlib.suppress(queue.Empty):
            while True:
                self._heed(self._courier.news.get_nowait())
        for number in list(self._heart.lost):
            self._heart.lost.discard(number)
            if number in self._flights:
                self._drop(number, "trial was taken over by another worker")

    def _heed(self, news: News) -> None:
        flight = self._flights.get(news.trial)
        mine = flight is not None and flight.segment.token == news.token
        if news.kind == "gone":
            self._leave("gone", StudyMissing(news.text))
        if flight is None and news.kind == "done":
            self._delivered(news.trial, news.token)
        elif flight is None and news.kind == "lost":
            # Its folder may be in use again, by whoever has the trial now.
            self._heart.release(news.trial)
            self._ending.pop((news.trial, news.token), None)
        elif mine and news.kind in ("lost", "gone"):
            self._drop(news.trial, news.text)
        elif news.kind == "refused":
            self._overruled.setdefault(news.trial, ("failed", news.text))
        elif mine and news.kind in ("stop", "pause"):
            self.executor.signal(news.trial, news.kind)

    def _drop(self, number: int, reason: str) -> None:
        """Ends a trial that is no longer this worker's; nothing more is said about it."""
        flight = self._flights.pop(number, None)
        self._heart.release(number)
        self._overruled.pop(number, None)
        if flight is None:
            return
        log.warning("trial %d is ended here: %s", number, reason)
        self._courier.forget(number, flight.segment.token)
        if flight.ready:
            self.executor.kill(number, "killed", reason)

    def _check_flights(self) -> None:
        limit = self.terms.trial_timeout
        if limit is None:
            return
        for number, flight in list(self._flights.items()):
            if flight.ready and time.monotonic() - flight.began > limit:
                self.executor.kill(number, "timed_out", f"took longer than {limit:g} seconds")

    # ------------------------------------------------------------------ what trainings say

    def _hear(self, message: FromWorker) -> Answer:
        flight = self._flights.get(message.trial)
        if flight is None or flight.segment.token != message.token:
            return Answer("stop", error="the trial is no longer this worker's")
        if isinstance(message, Finish):
            self._finish(flight, message)
            return Answer()
        try:
            answer = self._suggest(message) if isinstance(message, Suggest) else self._courier.send(message)
        except (LeaseLost, StudyMissing) as error:
            if isinstance(error, StudyMissing):
                self._leave("gone", error)
            log.warning("%s", error)
            self._forget(message.trial)
            return Answer("stop", error=str(error))
        except TunewrightError as error:
            kind: Literal["failed", "lost"] = "lost" if isinstance(error, StoreUnavailable) else "failed"
            self._overruled[message.trial] = (kind, str(error))
            return Answer("stop", error=str(error))
        answer = answer or Answer()
        if not answer.verdict and self._leaving:
            return Answer("pause", answer.value, answer.error)
        return answer

    @property
    def _leaving(self) -> bool:
        return self._stopping is not None or self._signals > 0

    def _suggest(self, message: Suggest) -> Answer:
        """The training cannot go on without the answer, so it waits while the server is away."""
        end, again = time.monotonic() + self.terms.patience, False
        while True:
            try:
                return self._courier.ask(message, again)
            except StoreUnavailable:
                if time.monotonic() > end or self._signals:
                    raise
                again = True
                time.sleep(_DICE.uniform(_POLL, 5 * _POLL))

    def _finish(self, flight: _Flight, message: Finish) -> None:
        number = message.trial
        if message.cost is None:
            message = msgspec.structs.replace(message, cost=round(time.monotonic() - flight.began, 6))
        overruled = self._overruled.pop(number, None)
        if overruled is not None:
            message = failed(message, overruled[1])
            if overruled[0] == "lost":
                message = msgspec.structs.replace(message, outcome="lost")
        if self._leaving and message.outcome in ("paused", "killed") and message.cause is None:
            message = msgspec.structs.replace(message, cause=self._cause())
        try:
            said = self._courier.send(message)
        except LeaseLost as error:
            log.warning("%s", error)
            self._forget(number)
            return
        except StudyMissing as error:
            self._leave("gone", error)
            self._forget(number)
            return
        except TunewrightError as error:
            message = failed(message, str(error))
            with contextlib.suppress(TunewrightError):
                self._courier.send(message)
            said = Answer()
        self._flights.pop(number, None)
        self._ask_at, self._empty = 0.0, 0
        self._idle_since = time.monotonic()
        self._shift.ended += message.outcome in _FINAL
        self._ending[number, message.token] = message.outcome in _FINAL
        if said is not None:
            self._courier.forget(number, message.token)
            self._delivered(number, message.token)
        log.info("trial %d %s", number, message.outcome)
        reason = self._failures.count(message.outcome, message.error) if message.outcome in _FINAL else None
        if message.fatal:
            reason = (
                f"The worker stopped at trial {number}, because no other would do better:\n{message.error}"
            )
        if reason is not None:
            self._leave("failures", TooManyFailures(reason))

    def _delivered(self, trial: int, token: int) -> None:
        """The last word about an attempt is known to the server."""
        self._heart.release(trial)
        self._luggage.clear(trial, over=self._ending.pop((trial, token), False))

    def _forget(self, number: int) -> None:
        flight = self._flights.pop(number, None)
        self._heart.release(number)
        if flight is not None:
            self._courier.forget(number, flight.segment.token)

    # ------------------------------------------------------------------ the server

    def _say(self, word: bytes, again: bool) -> Answer:
        data = self.store.say(self.study.id, word, worker=self._worker, again=again)
        answer = to_worker(data)
        assert isinstance(answer, Answer)
        return answer

    # ------------------------------------------------------------------ leaving

    def _cause(self) -> Cause:
        terminated = {getattr(signal, n, None) for n in ("SIGTERM", "SIGHUP")} - {None}
        return "preempted" if self._shift.signal in terminated else "shutdown"

    def _kill_all(self) -> None:
        for number, flight in list(self._flights.items()):
            if flight.ready:
                self.executor.kill(number, "killed", "the worker was shut down")
            self._interrupt(number)

    def _abandon(self) -> None:
        """Gives back what is still under way, so that another worker begins it at once."""
        for number in list(self._flights):
            self._interrupt(number)

    def _give_back(self) -> None:
        """Trials that the server hands out just when the worker leaves go back at once."""
        if not self._asker.busy or self._signals > 1 or self._courier.away:
            return
        answer = self._asker.answer(_POLL if self._asked_wait else self.store.deadline)
        for data in answer.trials if isinstance(answer, wire.AskAnswer) else ():
            segment = msgspec.json.decode(data, type=Segment)
            self._flights[segment.trial] = _Flight(segment, time.monotonic())
            self._interrupt(segment.trial)

    def _interrupt(self, number: int) -> None:
        flight = self._flights.get(number)
        if flight is not None:
            segment = flight.segment
            message = Finish(
                number,
                segment.token,
                "killed",
                segment.step,
                error="the worker was shut down",
                cause=self._cause(),
            )
            with contextlib.suppress(TunewrightError):
                self._courier.send(message)
            self._flights.pop(number, None)
            self._heart.release(number)

    def interrupt(self) -> None:
        """Asks the worker, from any thread, to pause everything and leave, as a signal does."""
        self._signals += 1

    def _signalled(self, number: int, frame: FrameType | None) -> None:
        self._signals += 1
        self._shift.signal = number
