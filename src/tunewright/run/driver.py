"""The one loop: ask for decisions, hand segments to an executor, record what comes back, until a limit is reached."""

from __future__ import annotations

import contextlib
import logging
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import FrameType
from typing import Literal

from tunewright.core.events import Cause, Ended, Event, Interrupted
from tunewright.core.trial import Trial
from tunewright.errors import LeaseLost, StoreError, StoreUnavailable, TooManyFailures
from tunewright.run.desk import Desk
from tunewright.run.executor import Executor, InProcess
from tunewright.run.failing import Failures
from tunewright.run.heart import Heart
from tunewright.run.messages import Answer, Finish, FromWorker, Report, Save, Segment, Suggest
from tunewright.run.orders import order
from tunewright.run.retention import Retention
from tunewright.run.session import Session
from tunewright.run.signals import heard
from tunewright.run.watching import Watchers, Watching
from tunewright.store.clock import EXTERNAL

log = logging.getLogger(__name__)
Why = Literal[
    "trials", "timeout", "target", "finished", "cost", "interrupted", "failures", "regret", "stopped"
]
_POLL = 0.2
_LISTEN = 0.25


@dataclass(frozen=True, slots=True)
class Budget:
    """When to stop.

    Args:
        trials: Trials that the study is to begin in all, those of earlier runs included; when they are begun,
            the run goes on until none of them can be continued. Forks of partly trained ones do not count. None for
            no limit.
        timeout: Seconds of wall time of this run after which no trial is begun and running ones are paused.
        target: Loss (minimised) that is good enough.
        trial_timeout: Seconds that one segment may take.
        failures: ``"auto"`` gives up when the first three trials fail alike or most of ten have failed; a number
            gives up after that many failures; None never does.
        grace: Seconds that trials get to save a checkpoint and return when the run is interrupted.
        stop: Says whether what is known is enough; asked often, so it must answer at once when nothing has changed.
    """

    trials: int | None = None
    timeout: float | None = None
    target: float | None = None
    trial_timeout: float | None = None
    failures: int | Literal["auto"] | None = "auto"
    grace: float = 10.0
    stop: Callable[[Session], bool] | None = None


@dataclass(slots=True)
class Summary:
    """What a run came to.

    Attributes:
        why: What ended it.
        ended: Trials that ended in this run.
        failed: Those among them that failed.
        seconds: Wall time.
        signal: Number of the signal that interrupted it, or None.
    """

    why: Why
    ended: int = 0
    failed: int = 0
    seconds: float = 0.0
    signal: int | None = None


@dataclass(slots=True)
class _Flight:
    """A segment under way in this process."""

    segment: Segment
    began: float


class Driver:
    """Runs a study with one executor until its budget is used up.

    Args:
        session: This process's handle on the study.
        executor: Where training happens.
        budget: When to stop.
        watch: Called with every event this run records: displays, loggers.
        lifts: Whether beginning the run takes back that the study was paused or stopped.
    """

    def __init__(
        self,
        session: Session,
        executor: Executor,
        budget: Budget,
        watch: Watching = None,
        *,
        lifts: bool = True,
    ) -> None:
        self.session = session
        self._lifts = lifts
        self.executor = executor
        self.budget = budget
        self._watch = watch if isinstance(watch, Watchers) else Watchers(watch)
        self._flights: dict[int, _Flight] = {}
        self._summary = Summary("finished")
        self._stopping: Why | None = None
        self._signals = 0
        self._fatal: str | None = None
        self._failures = Failures(budget.failures)
        self._deadline = float("inf")
        self._heart = Heart(session)
        self._retention = Retention(session)
        self._listened = 0.0
        self._desk = Desk(session, cause=self._cause, leaving=self._leaving, watch=self._watch)
        executor.connect(self._hear)

    def run(self) -> Summary:
        """Runs until the budget is used up, the method is finished, or a signal comes.

        Raises:
            TooManyFailures: If the failure policy gives up; everything that ended is in the log.
        """
        began = time.monotonic()
        if self.budget.timeout is not None:
            self._deadline = began + self.budget.timeout
        try:
            with heard(self._signalled), self._heart:
                if self._lifts:
                    order(self.session, "resume", by="run")
                self._loop()
        finally:
            self.executor.close()
            self._abandon()
            self._retention.tidy()
            self._watch.finish(self.session)
            self.session.close()
        self._summary.seconds = time.monotonic() - began
        if self._fatal is not None:
            raise TooManyFailures(self._fatal)
        return self._summary

    def _loop(self) -> None:
        leave_by = float("inf")
        while True:
            self._retention.tidy()
            self._listen()
            if self._stopping is None:
                self._stopping = self._reason()
                if self._stopping is None:
                    self._fill()
            elif leave_by == float("inf"):
                self._pause_all()
                leave_by = time.monotonic() + self.budget.grace
            if not self._flights:
                if self._stopping is not None:
                    self._summary.why = self._stopping
                    return
                self._wait_for_others()
                continue
            if time.monotonic() > leave_by or self._signals > 1:
                self._kill_all()
                continue
            self.executor.poll(
                min(_POLL, max(0.0, self._deadline - time.monotonic())) if self._stopping is None else _POLL
            )
            self._check_times()

    def _listen(self) -> None:
        """Learns what people want of the study, also while its trials have nothing to say."""
        now = time.monotonic()
        if now - self._listened > _LISTEN:
            self._listened = now
            with contextlib.suppress(StoreUnavailable):
                self.session.sync()

    # ------------------------------------------------------------------ beginning trials

    def _fill(self) -> None:
        """Begins segments until every slot is taken or the method has nothing to begin."""
        while len(self._flights) < self.executor.capacity and not self.session.ledger.control:
            trial = self.session.ask(limit=self.budget.trials)
            if trial is None:
                break
            self._begin(trial)

    def _wait_for_others(self) -> None:
        """Nothing runs here: the method is finished, or waits for trials of other processes."""
        held = self.session.ledger.control == "pause"
        ledger = self.session.sync()
        if ledger.control == "stop":
            self._stopping = "stopped"
            return
        full = self.budget.trials is not None and ledger.begun >= self.budget.trials
        # What was asked while it was paused says nothing about the method, even if somebody lets it go on just now.
        held = (held or ledger.control == "pause") and not (full and ledger.problem.fidelity is None)
        # A trial that a person asked for may take days; once all are begun there is nothing to wait for.
        asked = full and all(t.worker.startswith(f"{EXTERNAL}/") for t in ledger.running.values())
        if held or ledger.waiting or (ledger.running and not asked):
            time.sleep(_POLL / 4)
        elif full:
            self._stopping = "trials"
        else:
            self._stopping = "finished"

    def _begin(self, trial: Trial) -> None:
        segment = self._desk.segment(trial)
        if segment is None:
            return
        self._flights[trial.id] = _Flight(segment, time.monotonic())
        self._heart.hold(trial.id, trial.token)
        self._tell(trial.start)
        self.executor.submit(segment)

    # ------------------------------------------------------------------ what workers say

    def _hear(self, message: FromWorker) -> Answer:
        try:
            if isinstance(message, Report):
                return self._desk.report(message)
            if isinstance(message, Save):
                return self._desk.saved(message)
            if isinstance(message, Suggest):
                return self._desk.suggest(message)
            self._finish(message)
        except LeaseLost as error:
            log.warning("%s", error)
            self._drop(message.trial)
            return Answer("stop", error=str(error) if not isinstance(message, Finish) else "")
        return Answer()

    def _leaving(self) -> bool:
        return self._stopping is not None or self._signals > 0 or time.monotonic() > self._deadline

    def _finish(self, message: Finish) -> None:
        flight = self._flights.get(message.trial)
        if flight is None or flight.segment.token != message.token:
            return
        for event in self._desk.finish(message, time.monotonic() - flight.began):
            if isinstance(event, Ended):
                self._count(event)
        self._drop(message.trial)
        if message.fatal and self._fatal is None:
            self._give_up(
                f"The study stopped at trial {message.trial}, because no other would do better:\n{message.error}"
            )

    def _cause(self) -> Cause:
        """Why trials of this run are cut short: a terminating signal is what schedulers of machines send."""
        terminated = {getattr(signal, n, None) for n in ("SIGTERM", "SIGHUP")} - {None}
        return "preempted" if self._signal in terminated else "shutdown"

    # ------------------------------------------------------------------ ending

    def _reason(self) -> Why | None:
        """Why the run should end now, or None."""
        best = self.session.ledger.best
        if self._signals:
            self._summary.signal = self._signal
            return "interrupted"
        if self._fatal is not None:
            return "failures"
        if self.session.ledger.control == "stop":
            return "stopped"
        if time.monotonic() >= self._deadline:
            return "timeout"
        if self.budget.target is not None and best is not None:
            losses = self.session.ledger.problem.losses(best.metrics)
            if losses is not None and losses[0] <= self.budget.target:
                return "target"
        if self.budget.stop is not None and self.budget.stop(self.session):
            return "regret"
        return None

    def _count(self, ended: Ended) -> None:
        reason = self._failures.count(ended.outcome, ended.error)
        self._summary.ended, self._summary.failed = self._failures.ended, self._failures.failed
        if reason is not None:
            self._give_up(reason)

    def _give_up(self, reason: str) -> None:
        if self._fatal is None:
            self._fatal = reason

    def _pause_all(self) -> None:
        for number in self._flights:
            self.executor.signal(number, "pause")

    def _kill_all(self) -> None:
        for number in list(self._flights):
            self.executor.kill(number, "killed", "the study was shut down")
            self._interrupt(number)

    def _abandon(self) -> None:
        """Gives back what is still in flight, so that the next run begins it at once."""
        for number in list(self._flights):
            self._interrupt(number)

    def _interrupt(self, number: int) -> None:
        flight = self._flights.get(number)
        if flight is not None:
            # Where even this cannot be written, the lease runs out and the next run takes the trial back.
            with contextlib.suppress(StoreError):
                self.session.record(
                    Interrupted(number, flight.segment.token, self._cause(), "the study was shut down")
                )
            self._drop(number)

    def _check_times(self) -> None:
        limit = self.budget.trial_timeout
        if limit is None:
            return
        now = time.monotonic()
        for number, flight in list(self._flights.items()):
            if now - flight.began > limit:
                self.executor.kill(number, "timed_out", f"took longer than {limit:g} seconds")

    def _drop(self, number: int) -> None:
        self._flights.pop(number, None)
        self._heart.release(number)

    def _tell(self, event: Event) -> None:
        self._watch(event, self.session)

    # ------------------------------------------------------------------ signals

    _signal: int | None = None

    def interrupt(self, number: int | None = None) -> None:
        """Asks the run, from any thread, to pause everything and end, as a signal does.

        Args:
            number: The signal that it was, for the summary.
        """
        self._signals += 1
        self._signal = number
        self.session.hurried = True

    def _signalled(self, number: int, frame: FrameType | None) -> None:
        self._signals += 1
        self._signal = number
        self.session.hurried = True
        if self._signals > 1 and isinstance(self.executor, InProcess):
            raise KeyboardInterrupt
