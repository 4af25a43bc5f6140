"""Trials, and the ledger: the fold that turns the log of a study into its present state."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, Literal

import msgspec

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
)
from tunewright.core.problem import Problem
from tunewright.core.replicates import Pools, original_of
from tunewright.core.space import Space

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
_NEWS = (Paused, Signalled, Edited, Extended, Amended)
FAILURES = frozenset({"failed", "invalid", "timed_out", "out_of_memory", "lost", "killed"})
Saving = tuple[int, str]
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
        attempts: 1, and one more for every time its worker was lost.
        losses: How often its worker was lost since a checkpoint went further than any before it.
        reach: Steps in the furthest checkpoint that it ever had.
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

    def __post_init__(self) -> None:
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


class Ledger:
    """The present state of a study, folded from its log; O(1) per event.

    Attributes:
        problem: The problem, with the newest version of the space.
        spaces: ``(position, space)`` of every version, oldest first.
        trials: All trials by number.
        running: Trials with a live attempt.
        waiting: Interrupted trials that will be retried, oldest first.
        queue: Enqueued items that no trial serves yet, by position.
        keys: Position of each enqueued item by its key.
        decisions: Number of decisions in the log, retries of interrupted work left out.
        begun: Number of trials that began from their first step; forks of partly trained ones do not count.
        held: How many trials need each checkpoint, by its name.
        finals: Completed trials that have a checkpoint, by number.
        cursor: Position of the last folded record.
        counts: Number of trials by status.
        best: The completed trial with the lowest loss that meets the limits, for one objective; with replicates, the
            first trial of the configuration with the lowest mean among those with the most results.
        notes: Events of kind ``noted``, with their position.
        failed_in_a_row: Failures since the last trial that ended well.
    """

    __slots__ = (
        "_best_key",
        "_pools",
        "_replicated",
        "begun",
        "best",
        "counts",
        "cursor",
        "decisions",
        "failed_in_a_row",
        "finals",
        "held",
        "keys",
        "notes",
        "problem",
        "queue",
        "running",
        "spaces",
        "trials",
        "waiting",
    )

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.spaces: list[tuple[int, Space]] = [(0, problem.space)]
        self.trials: list[Trial] = []
        self.running: dict[int, Trial] = {}
        self.waiting: dict[int, Trial] = {}
        self.queue: dict[int, Enqueued] = {}
        self.keys: dict[str, int] = {}
        self.decisions = 0
        self.begun = 0
        self.held: dict[str, int] = {}
        self.finals: dict[int, Trial] = {}
        self.cursor = 0
        self.counts: dict[str, int] = {}
        self.best: Trial | None = None
        self.notes: list[tuple[int, Noted]] = []
        self.failed_in_a_row = 0
        self._best_key = (math.inf, math.inf)
        self._replicated = False
        self._pools: Pools | None = None

    def fold(self, records: Iterable[Record]) -> None:
        """Takes in records that follow directly on what was folded before."""
        for record in records:
            self.apply(record)

    def apply(self, record: Record) -> bool:
        """Takes in one record, which must follow directly on what was folded before.

        Returns:
            Whether the event is news to an algorithm: bookkeeping, retries and steps measured again are not.
        """
        assert record.seq == self.cursor + 1, f"log position {record.seq} does not follow {self.cursor}"
        self.cursor = record.seq
        event = record.event
        kind = type(event)
        if kind is Reported:
            return self._reported(event)  # type: ignore[arg-type]
        if kind is Started:
            self._started(event, record)  # type: ignore[arg-type]
            return True
        if kind is Ended:
            self._ended(event, record)  # type: ignore[arg-type]
            return True
        self._other(event, record)
        return isinstance(event, _NEWS) or (isinstance(event, Resumed) and event.by != "retry")

    def _started(self, event: Started, record: Record) -> None:
        assert event.trial == len(self.trials), (
            f"trial {event.trial} is not the next number, {len(self.trials)}"
        )
        trial = Trial(event, record.seq, record.at, record.worker)
        trial.until = self._until(event.until)
        self.trials.append(trial)
        if event.parent is None:
            self.begun += 1
        else:
            self._fork(trial, event.parent)
        self.running[event.trial] = trial
        self.decisions += 1
        self.counts["running"] = self.counts.get("running", 0) + 1
        if event.queue:
            self.queue.pop(event.queue, None)

    def _fork(self, trial: Trial, parent: tuple[int, int]) -> None:
        """A fork owns its donor's checkpoint from the start, so that no later decision can take it away."""
        replicate = original_of(trial.start) is not None
        self._replicated = self._replicated or replicate
        self.begun += parent[1] == 0
        donor = self.trials[parent[0]].checkpoint
        if donor is not None and not replicate:
            # A student counts from the step that its donor is named at, whatever the checkpoint has seen.
            self._hold(trial, (min(parent[1], donor[0]), donor[1]), None)

    def _hold(self, trial: Trial, checkpoint: Saving | None, fresh: Saving | None) -> None:
        """Gives a trial other checkpoints, and counts who needs which."""
        before = {c[1] for c in (trial.checkpoint, trial.fresh) if c is not None}
        trial.checkpoint, trial.fresh = checkpoint, fresh
        if checkpoint is not None and checkpoint[0] > trial.reach:
            trial.reach, trial.losses = checkpoint[0], 0
        after = {c[1] for c in (checkpoint, fresh) if c is not None}
        for name in after - before:
            self.held[name] = self.held.get(name, 0) + 1
        for name in before - after:
            self.held[name] -= 1
            if not self.held[name]:
                del self.held[name]

    def _until(self, until: int | None) -> int | None:
        """A segment without an end of its own runs to the end of a full training."""
        if until is not None or self.problem.fidelity is None:
            return until
        return self.problem.fidelity.high

    def _reported(self, event: Reported) -> bool:
        trial = self.trials[event.trial]
        trial.step = event.step
        if trial.fresh is not None and event.step >= trial.fresh[0]:
            self._hold(trial, trial.fresh, None)
        news = event.step > trial.peak
        if news:
            trial.peak = event.step
        if trial.stored is None:
            trial.stored = [event]
        else:
            trial.reports.append(event)
        return news

    def _ended(self, event: Ended, record: Record) -> None:
        trial = self.trials[event.trial]
        trial.end = event
        trial.ended_at = record.at
        trial.step = max(trial.step, event.step)
        if event.checkpoint is not None:
            self._hold(trial, (trial.step, event.checkpoint), None)
        elif event.outcome != "completed":
            self._hold(trial, None, None)
        if event.outcome == "completed" and trial.checkpoint is not None:
            self.finals[event.trial] = trial
        self._move(trial, event.outcome)
        self.failed_in_a_row = self.failed_in_a_row + 1 if event.outcome in FAILURES else 0
        if event.outcome == "completed" and len(self.problem.objectives) == 1:
            self.crown(trial)

    def crown(self, trial: Trial) -> None:
        """Makes a completed trial the best one if it beats the present best."""
        if self._replicated:
            self._pool(trial)
            return
        metrics = trial.end.metrics if trial.end is not None else None
        losses = self.problem.losses(metrics) if metrics is not None else None
        if losses is not None and metrics is not None:
            key = (self.problem.violation(metrics) if self.problem.limits else 0.0, losses[0])
            if self.best is None or key < self._best_key:
                self.best, self._best_key = trial, key

    def _pool(self, trial: Trial) -> None:
        """Once there are replicates, means are compared; the first one has the earlier results counted again."""
        if self._pools is not None:
            self._pools.add(trial)
        else:
            self._pools = Pools(self.problem)
            for other in self.trials:
                if other.status == "completed":
                    self._pools.add(other)
        self.best = None if self._pools.best is None else self.trials[self._pools.best]

    def restore(self, trial: Trial) -> None:
        """Puts back a trial from a snapshot, in order of number."""
        assert trial.id == len(self.trials)
        self.trials.append(trial)
        self.begun += trial.parent is None or trial.parent[1] == 0
        checkpoint, fresh = trial.checkpoint, trial.fresh
        trial.checkpoint = trial.fresh = None
        self._hold(trial, checkpoint, fresh)
        if trial.status == "completed" and checkpoint is not None:
            self.finals[trial.id] = trial
        self._replicated = self._replicated or original_of(trial.start) is not None
        self.counts[trial.status] = self.counts.get(trial.status, 0) + 1
        if trial.status == "running":
            self.running[trial.id] = trial
        elif trial.status == "waiting":
            self.waiting[trial.id] = trial

    def _other(self, event: Event, record: Record) -> None:
        if isinstance(event, Resumed):
            trial = self.trials[event.trial]
            fresh = trial.fresh
            at_fresh = fresh is not None and fresh[0] == event.step
            self._hold(trial, fresh if at_fresh else trial.checkpoint, None)
            _resumed(trial, event, record)
            trial.until = self._until(event.until)
            # A retry is no choice: what comes after it draws as if nothing had been interrupted.
            self.decisions += event.by != "retry"
            self._move(trial, "running")
        elif isinstance(event, Paused):
            trial = self.trials[event.trial]
            trial.step = max(trial.step, event.step)
            trial.signal = None
            if event.checkpoint is not None:
                self._hold(trial, (event.step, event.checkpoint), None)
            self._move(trial, "paused")
        elif isinstance(event, Saved):
            self._saved(self.trials[event.trial], event)
        elif isinstance(event, Dropped):
            self._drop(self.trials[event.trial], event.checkpoint)
        elif isinstance(event, Interrupted):
            trial = self.trials[event.trial]
            trial.attempts += event.cause == "lost"
            trial.losses += event.cause == "lost"
            self._move(trial, "waiting")
        elif isinstance(event, Signalled):
            self.decisions += 1
            self.trials[event.trial].signal = event.verdict
        elif isinstance(event, Amended):
            self.trials[event.trial].amended = event.config
        else:
            self._of_study(event, record)

    def _of_study(self, event: Event, record: Record) -> None:
        """What changes the study, not one trial of it."""
        if isinstance(event, Enqueued):
            self.queue[record.seq] = event
            if event.key:
                self.keys[event.key] = record.seq
        elif isinstance(event, Edited):
            self.problem = self.problem.revised(event.space)
            self.spaces.append((record.seq, self.problem.space))
        elif isinstance(event, Extended):
            self.problem = self.problem.extended(event.high)
        elif isinstance(event, Noted):
            self.notes.append((record.seq, event))

    def _saved(self, trial: Trial, event: Saved) -> None:
        """A checkpoint counts at once when its step was reported before, else once that report comes."""
        saving = (event.step, event.checkpoint)
        if event.step > trial.step:
            self._hold(trial, trial.checkpoint, saving)
        else:
            self._hold(trial, saving, None)

    def _drop(self, trial: Trial, name: str) -> None:
        kept = [None if c is not None and c[1] == name else c for c in (trial.checkpoint, trial.fresh)]
        self._hold(trial, kept[0], kept[1])
        if trial.checkpoint is None:
            self.finals.pop(trial.id, None)

    def _move(self, trial: Trial, status: Status) -> None:
        """Changes a trial's status and keeps the indexes by status in step."""
        number = trial.start.trial
        counts = self.counts
        counts[trial.status] -= 1
        counts[status] = counts.get(status, 0) + 1
        if trial.status == "running":
            del self.running[number]
        elif trial.status == "waiting":
            del self.waiting[number]
        trial.status = status
        if status == "running":
            self.running[number] = trial
        elif status == "waiting":
            self.waiting[number] = trial


def _drop_reports_after(trial: Trial, step: int) -> None:
    """A retried trial measures again what it had measured after its last checkpoint."""
    reports = trial.reports
    while reports and reports[-1].step > step:
        reports.pop()


def _resumed(trial: Trial, event: Resumed, record: Record) -> None:
    trial.step, trial.token = event.step, record.seq
    trial.worker, trial.signal = record.worker, None
    _drop_reports_after(trial, event.step)
