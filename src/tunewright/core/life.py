"""A trial, and what each event of the log makes of it: ``begin`` and ``follow``."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from tunewright.core.events import (
    Amended,
    Dropped,
    Ended,
    Interrupted,
    Paused,
    Record,
    Reported,
    Resumed,
    Saved,
    Signalled,
    Started,
)

Status = Literal[
    "running",
    "paused",
    "waiting",
    "completed",
    "stopped",
    "failed",
    "invalid",
    "timed_out",
    "out_of_memory",
    "lost",
    "killed",
]
FINISHED = frozenset(
    {"completed", "stopped", "failed", "invalid", "timed_out", "out_of_memory", "lost", "killed"}
)
FAILURES = frozenset({"failed", "invalid", "timed_out", "out_of_memory", "lost", "killed"})
Saving = tuple[int, str]
Savings = tuple[Saving | None, Saving | None]
_reports_decoder = msgspec.json.Decoder(list[Reported])


class Trial(msgspec.Struct, gc=False, eq=False):
    """One configuration and everything known about its training. Made only by the ledger; read it, never write it.

    Not tracked by the garbage collector, which would else walk through every trial again and again; a trial is part
    of no reference cycle.

    Attributes:
        start: The event that started it.
        end: The event that ended it, or None.
        status: ``running``, ``paused`` (may be resumed by the method), ``waiting`` (was interrupted and will be
            retried), or how it ended.
        step: Steps done.
        peak: Most steps ever reported; larger than ``step`` while a retry catches up.
        until: Step at which its present segment ends; None for a training without steps.
        token: Position of the event that began its latest attempt.
        first: Position of the event that began it.
        attempts: 1, and one more for every time its worker was lost.
        losses: How often its worker was lost since a checkpoint went further than any before it; 0 once it is over.
        reach: Steps in the furthest checkpoint that it ever had; 0 once it is over.
        signal: A verdict that its worker has not obeyed yet, or None.
        checkpoint: ``(step, name)`` of its newest checkpoint whose step was also measured, or None. A fork begins
            with that of the trial it was forked from. A trial that was stopped or failed has none.
        fresh: ``(step, name)`` of a newer checkpoint whose measurement has not come yet, or None.
        at: Wall-clock start time, seconds since 1970.
        ended_at: Wall-clock end time, or None.
        worker: Who runs or ran it.
    """

    start: Started
    token: int
    at: float
    worker: str
    end: Ended | None = None
    status: Status = "running"
    step: int = 0
    peak: int = 0
    until: int | None = None
    attempts: int = 1
    losses: int = 0
    reach: int = 0
    signal: str | None = None
    checkpoint: tuple[int, str] | None = None
    fresh: tuple[int, str] | None = None
    ended_at: float | None = None
    amended: dict[str, Any] | None = None
    stored: list[Reported] | msgspec.Raw | None = None
    first: int = 0

    def __post_init__(self) -> None:
        self.first = self.first or self.token
        if self.start.parent is not None:
            self.step = self.peak = self.start.parent[1]

    @property
    def id(self) -> int:
        """Its number, dense from 0."""
        return self.start.trial

    @property
    def number(self) -> int:
        """Its number, dense from 0."""
        return self.start.trial

    @property
    def config(self) -> dict[str, Any]:
        """Its parameters by name."""
        return self.start.config if self.amended is None else self.amended

    @property
    def params(self) -> dict[str, Any]:
        """Its parameters by name; the same as ``config``."""
        return self.config

    @property
    def parent(self) -> tuple[int, int] | None:
        """``(trial, step)`` whose checkpoint it started from, or None."""
        return self.start.parent

    @property
    def why(self) -> dict[str, Any]:
        """Scalars that explain why it was started."""
        return self.start.why or {}

    @property
    def restart(self) -> int:
        """Step from which an interrupted trial goes on: that of its newest checkpoint that loses no measurement.

        A checkpoint taken before its step was reported would skip that report, so it counts only where training
        goes on after it and the trial reports nothing on the way.
        """
        if self.fresh is not None and not self.reports and (self.until is None or self.fresh[0] < self.until):
            return self.fresh[0]
        return self.checkpoint[0] if self.checkpoint is not None else 0

    @property
    def finished(self) -> bool:
        """Whether it is over for good."""
        return self.end is not None

    @property
    def reports(self) -> list[Reported]:
        """Its reports, in order of step."""
        if isinstance(self.stored, msgspec.Raw):
            self.stored = _reports_decoder.decode(self.stored)
        return [] if self.stored is None else self.stored

    @property
    def metrics(self) -> dict[str, float]:
        """Final values by name; of a trial that is not over, or was stopped, those of its last report."""
        if self.end is not None and self.end.metrics is not None:
            return self.end.metrics
        reports = self.reports
        return reports[-1].metrics if reports else {}

    @property
    def error(self) -> str:
        """What went wrong, or an empty string."""
        return self.end.error if self.end is not None else ""

    @property
    def cost(self) -> float | None:
        """Total cost in the study's unit, if known."""
        return self.end.cost if self.end is not None else None

    def __repr__(self) -> str:
        return f"Trial({self.number}, {self.status}, step={self.step}, {self.metrics})"


def begin(record: Record, full: int | None) -> Trial:
    """The trial that an event of kind ``started`` begins.

    Args:
        record: The event at its place.
        full: Steps of a full training at that place; None when trials have no steps.
    """
    event: Any = record.event
    trial = Trial(event, record.seq, record.at, record.worker)
    # A segment without an end of its own runs to the end of a full training.
    trial.until = full if event.until is None else event.until
    return trial


def follow(trial: Trial, record: Record, full: int | None) -> None:
    """What an event makes of a trial that has begun; events that change no trial are passed over.

    Args:
        trial: The trial that it is about.
        record: The event at its place.
        full: Steps of a full training at that place; None when trials have no steps.
    """
    event = record.event
    if isinstance(event, Reported):
        report(trial, event)
    elif isinstance(event, Ended):
        end(trial, event, record.at)
    elif isinstance(event, Resumed):
        _resume(trial, event, record, full)
    elif isinstance(event, Paused):
        trial.step = max(trial.step, event.step)
        trial.signal, trial.status = None, "paused"
        if event.checkpoint is not None:
            hold(trial, (event.step, event.checkpoint), None)
    elif isinstance(event, Saved):
        # It counts at once when its step was reported before, else once that report comes.
        saving = (event.step, event.checkpoint)
        hold(trial, *((trial.checkpoint, saving) if event.step > trial.step else (saving, None)))
    elif isinstance(event, Dropped):
        hold(trial, *without((trial.checkpoint, trial.fresh), event.checkpoint))
    elif isinstance(event, Interrupted):
        trial.attempts += event.cause == "lost"
        trial.losses += event.cause == "lost"
        trial.status = "waiting"
    elif isinstance(event, Signalled):
        trial.signal = event.verdict
    elif isinstance(event, Amended):
        trial.amended = event.config


def report(trial: Trial, event: Reported) -> bool:
    """Takes in a report; whether its step was never reported before."""
    trial.step = event.step
    if trial.fresh is not None and event.step >= trial.fresh[0]:
        hold(trial, trial.fresh, None)
    news = event.step > trial.peak
    if news:
        trial.peak = event.step
    if trial.stored is None:
        trial.stored = [event]
    else:
        trial.reports.append(event)
    return news


def end(trial: Trial, event: Ended, at: float) -> None:
    """Takes in how a trial ended, at a time in seconds since 1970; what only mattered to a live one is forgotten."""
    trial.end, trial.ended_at = event, at
    trial.step = max(trial.step, event.step)
    if event.checkpoint is not None:
        hold(trial, (trial.step, event.checkpoint), None)
    elif event.outcome != "completed":
        hold(trial, None, None)
    trial.status = event.outcome
    trial.losses = trial.reach = 0


def _resume(trial: Trial, event: Resumed, record: Record, full: int | None) -> None:
    fresh = trial.fresh
    at_fresh = fresh is not None and fresh[0] == event.step
    hold(trial, fresh if at_fresh else trial.checkpoint, None)
    trial.step, trial.token = event.step, record.seq
    trial.worker, trial.signal, trial.status = record.worker, None, "running"
    trial.until = full if event.until is None else event.until
    # A retried trial measures again what it had measured after its last checkpoint.
    reports = trial.reports
    while reports and reports[-1].step > event.step:
        reports.pop()


def hold(trial: Trial, checkpoint: Saving | None, fresh: Saving | None) -> None:
    """Gives a trial other checkpoints; one further than any before forgives the losses until then."""
    trial.checkpoint, trial.fresh = checkpoint, fresh
    if checkpoint is not None and checkpoint[0] > trial.reach:
        trial.reach, trial.losses = checkpoint[0], 0


def without(savings: Savings, name: str) -> Savings:
    """The checkpoints but for the one of that name."""
    checkpoint, fresh = (None if c is not None and c[1] == name else c for c in savings)
    return checkpoint, fresh
