"""What tells a tracking tool about a study while it runs, or afterwards, without being able to slow or harm it.

An ``Observer`` is four methods. ``Observed`` makes it a watcher for ``study.run(..., watch=...)``: it hands plain facts
to a thread of its own, so that a server that answers late delays nothing, and one that does not answer is named once in
the log and then left alone. ``keep`` tells an observer about a study that is there already, with the true times.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from tunewright.core.events import Ended, Event, Reported, Started
from tunewright.core.trial import Trial
from tunewright.run.session import Session
from tunewright.run.watching import Guard
from tunewright.view import View

log = logging.getLogger(__name__)
_ROOM = 10_000


@dataclass(frozen=True, slots=True)
class StudyFacts:
    """What an observer is told about a study.

    Attributes:
        name: Its name.
        method: What decides.
        goals: Goal of each objective, by metric.
        parameters: What each parameter may be, in the stored form.
        created: Seconds since 1970.
    """

    name: str
    method: str
    goals: Mapping[str, str]
    parameters: Mapping[str, Mapping[str, Any]]
    created: float


@dataclass(frozen=True, slots=True)
class TrialFacts:
    """What an observer is told about a trial, as it stood when it was told.

    Attributes:
        study: Its study.
        number: Its number.
        params: Its parameters by name.
        status: ``running``, or how it ended.
        metrics: Its results by name.
        step: Steps done.
        began: Seconds since 1970.
        ended: Seconds since 1970, or None.
        error: What went wrong.
        by: Who proposed it.
    """

    study: StudyFacts
    number: int
    params: Mapping[str, Any] = field(default_factory=dict)
    status: str = "running"
    metrics: Mapping[str, float] = field(default_factory=dict)
    step: int = 0
    began: float = 0.0
    ended: float | None = None
    error: str = ""
    by: str = ""


class Observer(Protocol):
    """Keeps a study somewhere else. Methods may raise and may take long; they are called in order, in one thread."""

    def began(self, trial: TrialFacts) -> None:
        """A trial begins, or is told about for the first time."""
        ...

    def reported(self, trial: TrialFacts, step: int, metrics: Mapping[str, float], at: float) -> None:
        """A trial measured something at a step.

        Args:
            trial: The trial.
            step: Steps done.
            metrics: Finite values by name.
            at: Seconds since 1970.
        """
        ...

    def ended(self, trial: TrialFacts) -> None:
        """A trial is over."""
        ...

    def finish(self) -> None:
        """The run ends, or everything was told; more may follow in a later run."""
        ...


class Observed:
    """An observer as a watcher of runs.

    Args:
        observer: Whom to tell.
        name: Names it in the log.
        patience: Seconds that the end of a run waits for what has not been told yet.
        direct: Whether to tell at once, in the thread of the run, for observers that only write files.
    """

    def __init__(
        self, observer: Observer, name: str, *, patience: float = 30.0, direct: bool = False
    ) -> None:
        self.observer = observer
        self._guard = Guard(name)
        self._patience = patience
        self._direct = direct
        self._known: set[int] = set()
        self._study: StudyFacts | None = None
        self._calls: queue.Queue[tuple[Callable[..., None], tuple[Any, ...]] | None] = queue.Queue(_ROOM)
        self._thread: threading.Thread | None = None
        self._lost = 0

    def __call__(self, event: Event, session: Session) -> None:
        """Tells the observer what an event means; quick, and safe to call from one thread at a time."""
        if isinstance(event, Started | Reported | Ended):
            self.tell(event, session, time.time())

    def tell(self, event: Started | Reported | Ended, session: Session, at: float) -> None:
        """Tells the observer about an event of a time, in seconds since 1970."""
        trial = session.ledger.trials[event.trial]
        facts = self._facts(trial, session, event)
        if trial.number not in self._known:
            self._known.add(trial.number)
            self._put(self.observer.began, facts)
        if isinstance(event, Reported):
            self._put(self.observer.reported, facts, event.step, dict(event.metrics), at)
        elif isinstance(event, Ended):
            self._put(self.observer.ended, facts)
            self._known.discard(trial.number)

    def finish(self, session: Session | None = None) -> None:
        """Waits, at most as long as the patience, until everything was told."""
        self._put(self.observer.finish)
        # A trial that paused with the run is told about anew when it goes on.
        self._known.clear()
        if self._thread is not None:
            thread, self._thread = self._thread, None
            try:
                self._calls.put(None, timeout=self._patience)
            except queue.Full:
                self._lost += 1
            thread.join(self._patience)
            if thread.is_alive():
                log.warning(
                    "%s did not take everything within %g seconds; the rest is not kept there",
                    self._guard.name,
                    self._patience,
                )
        if self._lost:
            log.warning("%s was too slow; %d messages are not kept there", self._guard.name, self._lost)
            self._lost = 0

    def _put(self, function: Callable[..., None], *args: Any) -> None:
        if self._direct:
            self._guard(function, *args)
            return
        if self._thread is None:
            self._thread = threading.Thread(
                target=self._serve, name=f"tunewright-{self._guard.name}", daemon=True
            )
            self._thread.start()
        try:
            self._calls.put_nowait((function, args))
        except queue.Full:
            self._lost += 1

    def _serve(self) -> None:
        while (call := self._calls.get()) is not None:
            self._guard(call[0], *call[1])

    def _facts(self, trial: Trial, session: Session, event: Event) -> TrialFacts:
        if self._study is None or self._study.name != session.info.name:
            problem = session.ledger.problem
            self._study = StudyFacts(
                session.info.name,
                session.method,
                {o.name: o.goal for o in problem.objectives},
                {n: d.to_dict() for n, d in problem.space.domains.items()},
                session.info.created,
            )
        over = isinstance(event, Ended)
        return TrialFacts(
            self._study,
            trial.number,
            dict(trial.params),
            trial.status if over else "running",
            dict(trial.metrics) if over else {},
            trial.step,
            trial.at,
            trial.ended_at if over else None,
            trial.error if over else "",
            trial.start.by,
        )


def keep(study: View, watch: Observed) -> int:
    """Tells an observer about everything that is in a study, with the times at which it happened.

    Args:
        study: The study.
        watch: From ``mlflow_logger``, ``tensorboard_logger`` or ``wandb_logger``.

    Returns:
        Number of trials told about.
    """
    session = study.session
    told = set()
    session.sync()
    for record in session.store.read(session.info.id):
        if isinstance(record.event, Started | Reported | Ended) and record.event.trial < len(
            session.ledger.trials
        ):
            watch.tell(record.event, session, record.at)
            told.add(record.event.trial)
    watch.finish(session)
    return len(told)


def label(facts: TrialFacts) -> str:
    """What a trial is called elsewhere."""
    return f"trial-{facts.number:05d}"
