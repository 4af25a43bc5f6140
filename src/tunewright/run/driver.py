"""The one loop: ask for decisions, hand segments to an executor, record what comes back, until a limit is reached."""

from __future__ import annotations

import contextlib
import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import FrameType
from typing import Any, Literal

from tunewright.core.algorithm import generator
from tunewright.core.domains import Permutation, Subset, domain_from_dict
from tunewright.core.events import Amended, Cause, Dropped, Ended, Event, Interrupted, Paused, Reported, Saved
from tunewright.core.recorder import grow, infer
from tunewright.core.replicates import seed_of
from tunewright.core.trial import FAILURES, Trial
from tunewright.errors import LeaseLost, SpaceError, StoreError, TooManyFailures
from tunewright.run.executor import Executor, InProcess
from tunewright.run.heart import Heart
from tunewright.run.messages import Answer, Finish, FromWorker, Report, Save, Segment, Suggest
from tunewright.run.retention import Retention
from tunewright.run.session import Session
from tunewright.store.clock import EXTERNAL

log = logging.getLogger(__name__)
Why = Literal["trials", "timeout", "target", "finished", "cost", "interrupted", "failures", "regret"]
_POLL = 0.2
_SUGGEST = 11
_RECENT = 100


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


Watch = Callable[[Event, Session], None]


class Driver:
    """Runs a study with one executor until its budget is used up.

    Args:
        session: This process's handle on the study.
        executor: Where training happens.
        budget: When to stop.
        watch: Called with every event this run records, for displays.
    """

    def __init__(
        self, session: Session, executor: Executor, budget: Budget, watch: Watch | None = None
    ) -> None:
        self.session = session
        self.executor = executor
        self.budget = budget
        self._watch = watch
        self._flights: dict[int, _Flight] = {}
        self._summary = Summary("finished")
        self._stopping: Why | None = None
        self._signals = 0
        self._fatal: str | None = None
        self._errors: list[str] = []
        self._deadline = float("inf")
        self._heart = Heart(session)
        self._retention = Retention(session)
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
            with self._handlers(), self._heart:
                self._loop()
        finally:
            self.executor.close()
            self._abandon()
            self._retention.tidy()
            self.session.close()
        self._summary.seconds = time.monotonic() - began
        if self._fatal is not None:
            raise TooManyFailures(self._fatal)
        return self._summary

    def _loop(self) -> None:
        leave_by = float("inf")
        while True:
            self._retention.tidy()
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

    # ------------------------------------------------------------------ beginning trials

    def _fill(self) -> None:
        """Begins segments until every slot is taken or the method has nothing to begin."""
        while len(self._flights) < self.executor.capacity:
            trial = self.session.ask(limit=self.budget.trials)
            if trial is None:
                break
            self._begin(trial)

    def _wait_for_others(self) -> None:
        """Nothing runs here: the method is finished, or waits for trials of other processes."""
        ledger = self.session.sync()
        full = self.budget.trials is not None and ledger.begun >= self.budget.trials
        # A trial that a person asked for may take days; once all are begun there is nothing to wait for.
        asked = full and all(t.worker.startswith(f"{EXTERNAL}/") for t in ledger.running.values())
        if ledger.waiting or (ledger.running and not asked):
            time.sleep(_POLL / 4)
        elif full:
            self._stopping = "trials"
        else:
            self._stopping = "finished"

    def _begin(self, trial: Trial) -> None:
        session = self.session
        problem = session.ledger.problem
        checkpoint, step = (trial.checkpoint[1], trial.checkpoint[0]) if trial.checkpoint else (None, 0)
        high = problem.fidelity.high if problem.fidelity is not None else None
        if trial.until is not None and step >= trial.until and trial.reports:
            self._close_gap(trial, step, checkpoint, high)
            return
        segment = Segment(
            trial=trial.id,
            token=trial.token,
            config=trial.config,
            objectives=[(o.name, o.goal) for o in problem.objectives],
            blobs=session.store.blobs(session.info.id),
            step=step,
            until=trial.until if trial.until is not None else high,
            high=high,
            checkpoint=checkpoint,
            seed=seed_of(problem.seed, trial.id, trial.start.why),
            attempt=trial.attempts,
            teacher=self._teacher(trial),
            flush=session.store.flushes,
        )
        self._flights[trial.id] = _Flight(segment, time.monotonic())
        self._heart.hold(trial.id, trial.token)
        self._tell(trial.start)
        self.executor.submit(segment)

    def _teacher(self, trial: Trial) -> str | None:
        """Checkpoint of the trial that the decision names as its teacher."""
        number = trial.why.get("teacher")
        trials = self.session.ledger.trials
        if not isinstance(number, int) or not 0 <= number < len(trials):
            return None
        saved = trials[number].checkpoint
        return saved[1] if saved is not None else None

    def _close_gap(self, trial: Trial, step: int, checkpoint: str | None, high: int | None) -> None:
        """Its worker was lost after the last report and before it could say that the segment was over."""
        event: Event = Paused(trial.id, trial.token, step, checkpoint)
        if high is not None and step >= high:
            event = Ended(
                trial.id, trial.token, "completed", dict(trial.metrics), step, cost=_spent(trial) or None
            )
        self.session.record(event)
        self._tell(event)

    # ------------------------------------------------------------------ what workers say

    def _hear(self, message: FromWorker) -> Answer:
        try:
            if isinstance(message, Report):
                return self._report(message)
            if isinstance(message, Save):
                return self._saved(message)
            if isinstance(message, Suggest):
                return self._suggest(message)
            self._finish(message)
        except LeaseLost as error:
            log.warning("%s", error)
            self._drop(message.trial)
            return Answer("stop", error=str(error) if not isinstance(message, Finish) else "")
        return Answer()

    def _report(self, message: Report) -> Answer:
        session = self.session
        event = Reported(
            message.trial,
            message.token,
            message.step,
            message.metrics,
            message.bad,
            message.variance,
            message.cost,
        )
        session.record(event)
        self._tell(event)
        session.steer()
        signalled = session.ledger.trials[message.trial].signal
        if signalled == "stop":
            return Answer("stop")
        return Answer("pause") if signalled == "pause" or self._leaving() else Answer()

    def _leaving(self) -> bool:
        return self._stopping is not None or self._signals > 0 or time.monotonic() > self._deadline

    def _saved(self, message: Save) -> Answer:
        self.session.record(Saved(message.trial, message.token, message.step, message.checkpoint))
        return Answer("pause") if self._leaving() else Answer()

    def _suggest(self, message: Suggest) -> Answer:
        """A define-by-run trial met a parameter that is new to it: grows the space and draws a value."""
        session = self.session
        session.sync()
        trial = session.ledger.trials[message.trial]
        try:
            domain = domain_from_dict(message.domain)
            space = grow(session.ledger.problem.space, message.name, domain)
            session.edit(space, by="define-by-run")
        except SpaceError as error:
            return Answer(error=str(error))
        purpose = _SUGGEST + sum(message.name.encode()) % 1000 + len(trial.config) * 1000
        rng = generator(session.ledger.problem.seed, trial.id, purpose)
        if isinstance(domain, Permutation | Subset):
            value: Any = domain.decode(domain.draw(rng, 1)[0].tolist())
        else:
            value = domain.coder()[1](float(rng.random()))
        session.amend(trial, {**trial.config, message.name: value})
        return Answer(value=value)

    def _finish(self, message: Finish) -> None:
        flight = self._flights.get(message.trial)
        if flight is None or flight.segment.token != message.token:
            return
        trial = self.session.ledger.trials[message.trial]
        wall = message.cost if message.cost is not None else time.monotonic() - flight.began
        cost = _spent(trial) or wall
        for event in self._endings(message, trial, cost):
            self.session.record(event)
            self._tell(event)
        if message.met is not None and message.outcome == "completed":
            self._learn_conditions()
        self._drop(message.trial)
        if message.fatal and self._fatal is None:
            self._give_up(
                f"The study stopped at trial {message.trial}, because no other would do better:\n{message.error}"
            )

    def _learn_conditions(self) -> None:
        """Puts parameters that some define-by-run trials did not meet under the choice that decides about them."""
        ledger = self.session.ledger
        recent = [t.config for t in ledger.trials[-_RECENT:] if t.status == "completed"]
        if len({frozenset(c) for c in recent}) > 1:
            space = infer(ledger.problem.space, [(c, frozenset(c)) for c in recent])
            self.session.edit(space, by="define-by-run")

    def _endings(self, message: Finish, trial: Trial, cost: float) -> list[Event]:
        """The events that a finished segment comes to."""
        number, token = message.trial, message.token
        if message.damaged:
            dropped = Dropped(number, message.damaged, "it was missing or damaged")
            return [dropped, Interrupted(number, token, "lost", message.error[-500:])]
        if message.outcome == "lost":
            return [Interrupted(number, token, "lost", message.error[-500:])]
        if message.outcome == "killed":
            return [Interrupted(number, token, self._cause(), message.error[-500:])]
        if message.outcome == "paused":
            planned = trial.signal == "pause" or (
                trial.until is not None
                and message.step >= trial.until
                and not self._was_cut(trial, message.step)
            )
            if planned:
                return [Paused(number, token, message.step, message.checkpoint)]
            return [Interrupted(number, token, self._cause(), "paused with the study")]
        met = [self._amended(trial, message.met)] if message.met is not None else []
        ended = Ended(
            number,
            token,
            message.outcome,
            message.metrics,
            message.step,
            message.variance,
            round(cost, 6),
            message.error,
            message.checkpoint if message.outcome == "completed" else None,
        )
        self._count(ended)
        return [*(e for e in met if e is not None), ended]

    def _cause(self) -> Cause:
        """Why trials of this run are cut short: a terminating signal is what schedulers of machines send."""
        terminated = {getattr(signal, n, None) for n in ("SIGTERM", "SIGHUP")} - {None}
        return "preempted" if self._signal in terminated else "shutdown"

    def _was_cut(self, trial: Trial, step: int) -> bool:
        high = self.session.ledger.problem.fidelity
        return high is not None and trial.until == high.high and step < high.high

    def _amended(self, trial: Trial, met: list[str]) -> Event | None:
        """A define-by-run trial did not meet everything that was planned for it."""
        config = {k: v for k, v in trial.config.items() if k in met}
        return Amended(trial.id, config) if config != trial.config else None

    # ------------------------------------------------------------------ ending

    def _reason(self) -> Why | None:
        """Why the run should end now, or None."""
        best = self.session.ledger.best
        if self._signals:
            self._summary.signal = self._signal
            return "interrupted"
        if self._fatal is not None:
            return "failures"
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
        self._summary.ended += 1
        if ended.outcome not in FAILURES or ended.outcome == "invalid":
            return
        self._summary.failed += 1
        self._errors.append(ended.error.strip().rpartition("\n")[2])
        policy, failed, total = self.budget.failures, self._summary.failed, self._summary.ended
        if policy == "auto":
            if total == failed == 3 and len(set(self._errors)) == 1:
                self._give_up(
                    f"The study stopped: its first 3 trials all failed in the same way. The error was:\n{ended.error}"
                )
            elif total >= 10 and failed > total / 2:
                self._give_up(
                    f"The study stopped: {failed} of its first {total} trials failed. The last error was:\n{ended.error}"
                )
        elif policy is not None and failed >= policy:
            self._give_up(
                f"The study stopped after {failed} failures, as asked. The last error was:\n{ended.error}"
            )

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
        if self._watch is not None:
            self._watch(event, self.session)

    # ------------------------------------------------------------------ signals

    @contextlib.contextmanager
    def _handlers(self) -> Iterator[None]:
        """While the loop runs, signals ask it to pause everything; a second one ends it at once."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        numbers = [getattr(signal, n) for n in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, n)]
        before = {n: signal.signal(n, self._signalled) for n in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    _signal: int | None = None

    def interrupt(self) -> None:
        """Asks the run, from any thread, to pause everything and end, as a signal does."""
        self._signals += 1

    def _signalled(self, number: int, frame: FrameType | None) -> None:
        self._signals += 1
        self._signal = number
        if self._signals > 1 and isinstance(self.executor, InProcess):
            raise KeyboardInterrupt


def _spent(trial: Trial) -> float:
    """Cost of a trial as its reports tell, all segments together; 0 when they say nothing about cost."""
    return sum(r.cost for r in trial.reports if r.cost is not None)


def watch_all(*watchers: Watch | None) -> Watch:
    """One watcher out of several."""
    some = [w for w in watchers if w is not None]

    def watch(event: Event, session: Any) -> None:
        for watcher in some:
            watcher(event, session)

    return watch
