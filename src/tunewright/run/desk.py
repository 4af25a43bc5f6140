"""What a study hands to a worker, and what it makes of the worker's words: trials to segments, messages to events.

The driver works with it for workers of its own, the server for workers that come over the network.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tunewright.core.algorithm import generator
from tunewright.core.domains import Permutation, Subset, domain_from_dict
from tunewright.core.events import Amended, Cause, Dropped, Ended, Event, Interrupted, Paused, Reported, Saved
from tunewright.core.recorder import grow, infer
from tunewright.core.replicates import seed_of
from tunewright.core.trial import Trial
from tunewright.errors import SpaceError
from tunewright.run.messages import Answer, Finish, Report, Save, Segment, Suggest
from tunewright.run.session import Session

_SUGGEST = 11
_RECENT = 100
Watch = Callable[[Event, Session], None]


class Desk:
    """Between a study and its workers; keeps nothing of its own, so any process can take over.

    Args:
        session: This process's handle on the study.
        cause: Why work that is cut short now is cut short.
        leaving: Whether running trials should save and pause now.
        watch: Called with every event recorded here.
    """

    def __init__(
        self,
        session: Session,
        *,
        cause: Callable[[], Cause] = lambda: "preempted",
        leaving: Callable[[], bool] = lambda: False,
        watch: Watch | None = None,
    ) -> None:
        self.session = session
        self._cause = cause
        self._leaving = leaving
        self._watch = watch

    # ------------------------------------------------------------------ to the worker

    def segment(self, trial: Trial, blobs: str | None = None) -> Segment | None:
        """The work that a running trial means for a worker, or None when it turns out to be done already.

        Args:
            trial: The trial.
            blobs: Where the worker finds checkpoints; the store's own place when not given.
        """
        session = self.session
        problem = session.ledger.problem
        checkpoint, step = (trial.checkpoint[1], trial.checkpoint[0]) if trial.checkpoint else (None, 0)
        high = problem.fidelity.high if problem.fidelity is not None else None
        if trial.until is not None and step >= trial.until and trial.reports:
            self._close_gap(trial, step, checkpoint, high)
            return None
        return Segment(
            trial=trial.id,
            token=trial.token,
            config=trial.config,
            objectives=[(o.name, o.goal) for o in problem.objectives],
            blobs=session.store.blobs(session.info.id) if blobs is None else blobs,
            step=step,
            until=trial.until if trial.until is not None else high,
            high=high,
            checkpoint=checkpoint,
            seed=seed_of(problem.seed, trial.id, trial.start.why),
            attempt=trial.attempts,
            teacher=self._teacher(trial),
            flush=session.store.flushes,
            stages=list(problem.scale.stages) if problem.scale is not None else [],
        )

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
                trial.id, trial.token, "completed", dict(trial.metrics), step, cost=spent(trial) or None
            )
        self._record(event)

    # ------------------------------------------------------------------ from the worker

    def report(self, message: Report) -> Answer:
        """Records a measurement, lets the method stop or pause trials, and says whether this one goes on.

        Raises:
            LeaseLost: If the attempt no longer owns its trial.
        """
        session = self.session
        self._record(
            Reported(
                message.trial, message.token, message.step, message.metrics, message.bad, message.variance, message.cost
            )
        )  # fmt: skip
        session.steer()
        signalled = session.ledger.trials[message.trial].signal
        if signalled == "stop":
            return Answer("stop")
        return Answer("pause") if signalled == "pause" or self._is_leaving() else Answer()

    def saved(self, message: Save) -> Answer:
        """Records that a checkpoint is safe.

        Raises:
            LeaseLost: If the attempt no longer owns its trial.
        """
        self.session.record(Saved(message.trial, message.token, message.step, message.checkpoint))
        return Answer("pause") if self._is_leaving() else Answer()

    def _is_leaving(self) -> bool:
        return self._leaving() or self.session.ledger.control == "stop"

    def suggest(self, message: Suggest) -> Answer:
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

    def finish(self, message: Finish, wall: float) -> list[Event]:
        """Records what a finished segment comes to.

        Args:
            message: The worker's last word about it.
            wall: Seconds that it took, where the message does not say.

        Returns:
            The events, recorded.

        Raises:
            LeaseLost: If the attempt no longer owns its trial.
        """
        trial = self.session.ledger.trials[message.trial]
        cost = spent(trial)
        if message.rest is not None:
            cost += message.rest
        elif not cost:
            cost = message.cost if message.cost is not None else wall
        events = self._endings(message, trial, cost)
        for event in events:
            self._record(event)
        if message.met is not None and message.outcome == "completed":
            self._learn_conditions()
        return events

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
            return [Interrupted(number, token, message.cause or self._cause(), message.error[-500:])]
        if message.outcome == "paused":
            planned = trial.signal == "pause" or (
                trial.until is not None
                and message.step >= trial.until
                and not self._was_cut(trial, message.step)
            )
            if planned:
                return [Paused(number, token, message.step, message.checkpoint)]
            cause = "shutdown" if self.session.ledger.control == "stop" else self._cause()
            return [Interrupted(number, token, message.cause or cause, "paused with the study")]
        met = [_amended(trial, message.met)] if message.met is not None else []
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
        return [*(e for e in met if e is not None), ended]

    def _was_cut(self, trial: Trial, step: int) -> bool:
        high = self.session.ledger.problem.fidelity
        return high is not None and trial.until == high.high and step < high.high

    def _record(self, event: Event) -> None:
        self.session.record(event)
        if self._watch is not None:
            self._watch(event, self.session)


def _amended(trial: Trial, met: list[str]) -> Event | None:
    """A define-by-run trial did not meet everything that was planned for it."""
    config = {k: v for k, v in trial.config.items() if k in met}
    return Amended(trial.id, config) if config != trial.config else None


def spent(trial: Trial) -> float:
    """Cost of a trial as its reports tell, all segments together; 0 when they say nothing about cost."""
    return sum(r.cost for r in trial.reports if r.cost is not None)
