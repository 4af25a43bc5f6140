"""The ledger: the fold that turns the log of a study into its present state.

What an event makes of the trial that it is about is said in ``life``; the ledger adds what must be found without looking
at every trial. It looks at trials that are over only when a replicate of one of them ends.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Literal

import msgspec

from tunewright.core.events import (
    Amended,
    Controlled,
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
    Tagged,
)
from tunewright.core.life import (
    FAILURES,
    FINISHED,
    Savings,
    Status,
    Trial,
    begin,
    end,
    follow,
    hold,
    report,
    without,
)
from tunewright.core.problem import Problem
from tunewright.core.replicates import Pools, original_of
from tunewright.core.roll import Roll
from tunewright.core.rows import pack
from tunewright.core.space import Space

__all__ = ["CHUNK", "FAILURES", "FAR", "FINISHED", "Ledger", "Status", "Trial"]

CHUNK = 256
FAR = 20_000
_NEWS = (Paused, Signalled, Amended)
About = Resumed | Paused | Saved | Interrupted | Signalled | Amended
_ABOUT = (Resumed, Paused, Saved, Interrupted, Signalled, Amended)
_NONE: Savings = (None, None)


class Ledger:
    """The present state of a study, folded from its log; O(1) per event.

    Attributes:
        problem: The problem, with the newest version of the space.
        spaces: ``(position, space)`` of every version, oldest first.
        lengths: ``(position, steps of a full training)``, oldest first; None when trials have no steps.
        trials: All trials by number.
        starts: Position at which every ``CHUNK``-th trial began.
        running: Trials with a live attempt.
        waiting: Interrupted trials that will be retried, oldest first.
        paused: Positions of the first and the newest event of each trial that may be resumed by the method.
        far: Rows of trials that are over or paused and not to be read from the log: much happened while they lived, or
            they are paused forks, which began with what another trial had.
        queue: Enqueued items that no trial serves yet, by position.
        keys: Position of each enqueued item by its key.
        decisions: Number of decisions in the log, retries of interrupted work left out.
        begun: Number of trials that began from their first step; forks of partly trained ones do not count.
        saves: ``(checkpoint, fresh)`` of every trial that has one of them, by number.
        held: How many trials need each checkpoint, by its name.
        finals: ``(violation, loss)`` of each completed trial that has a checkpoint, by its number: excess over the
            limits, and the first objective's loss, without bound where there is none.
        cursor: Position of the last folded record.
        counts: Number of trials by status.
        best: The completed trial with the lowest loss that meets the limits, for one objective; with replicates, the
            first trial of the configuration with the lowest mean among those with the most results.
        notes: Events of kind ``noted``, with their position.
        control: What people want of the study: None to go on, else ``"pause"`` or ``"stop"``.
        tags: Tags in the order in which they were put on, by the trial's number; None is the study.
        failed_in_a_row: Failures since the last trial that ended well.
        replicated: Whether a trial replicates another one.
        pools: Results by configuration, once a replicate has completed.
    """

    __slots__ = (
        "_best_key",
        "_lists",
        "_rows",
        "begun",
        "best",
        "control",
        "counts",
        "cursor",
        "decisions",
        "failed_in_a_row",
        "far",
        "finals",
        "held",
        "keys",
        "lengths",
        "notes",
        "paused",
        "pools",
        "problem",
        "queue",
        "replicated",
        "running",
        "saves",
        "spaces",
        "starts",
        "tags",
        "trials",
        "waiting",
    )

    def __init__(self, problem: Problem) -> None:
        fidelity = problem.fidelity
        self.problem = problem
        self.spaces: list[tuple[int, Space]] = [(0, problem.space)]
        self.lengths: list[tuple[int, int | None]] = [(0, None if fidelity is None else fidelity.high)]
        self.trials: Roll[Trial] = Roll()
        self.starts: list[int] = []
        self.running: dict[int, Trial] = {}
        self.waiting: dict[int, Trial] = {}
        self.paused: dict[int, tuple[int, int]] = {}
        self.far: dict[int, msgspec.Raw] = {}
        self.queue: dict[int, Enqueued] = {}
        self.keys: dict[str, int] = {}
        self.decisions = 0
        self.begun = 0
        self.saves: dict[int, Savings] = {}
        self.held: dict[str, int] = {}
        self.finals: dict[int, tuple[float, float]] = {}
        self.cursor = 0
        self.counts: dict[str, int] = {}
        self.best: Trial | None = None
        self.notes: list[tuple[int, Noted]] = []
        self.control: Literal["pause", "stop"] | None = None
        self.tags: dict[int | None, tuple[str, ...]] = {}
        self.failed_in_a_row = 0
        self.replicated = False
        self.pools: Pools | None = None
        self._best_key = (math.inf, math.inf)
        self._rows = self.trials.rows
        self._lists = {"running": self.running, "waiting": self.waiting}

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
        if isinstance(event, _ABOUT):
            return self._changed(event, record)
        return self._of_study(event, record)

    def length(self, seq: int) -> int | None:
        """Steps of a full training at a position of the log; None when trials have no steps."""
        lengths = self.lengths
        i = len(lengths) - 1
        while lengths[i][0] > seq:
            i -= 1
        return lengths[i][1]

    def neighbours(self, number: int) -> tuple[int, int]:
        """The nearest trial at or before that one whose beginning is remembered, and its position."""
        if number in self.paused:
            return number, self.paused[number][0]
        return number - number % CHUNK, self.starts[number // CHUNK]

    def _started(self, event: Started, record: Record) -> None:
        number = event.trial
        assert number == len(self._rows), f"trial {number} is not the next number, {len(self._rows)}"
        trial = begin(record, self.lengths[-1][1])
        self._rows.append(trial)
        if number % CHUNK == 0:
            self.starts.append(record.seq)
        if event.parent is None:
            self.begun += 1
        else:
            self._fork(trial, event.parent)
        self.running[number] = trial
        self.decisions += 1
        self.counts["running"] = self.counts.get("running", 0) + 1
        if event.queue:
            self.queue.pop(event.queue, None)

    def _fork(self, trial: Trial, parent: tuple[int, int]) -> None:
        """A fork owns its donor's checkpoint from the start, so that no later decision can take it away."""
        replicate = original_of(trial.start) is not None
        self.replicated = self.replicated or replicate
        self.begun += parent[1] == 0
        donor = self.saves.get(parent[0], _NONE)[0]
        if donor is not None and not replicate:
            # A student counts from the step that its donor is named at, whatever the checkpoint has seen.
            hold(trial, (min(parent[1], donor[0]), donor[1]), None)
            self._recount(trial.id, _NONE, (trial.checkpoint, None))

    def keep(self, number: int, savings: Savings) -> None:
        """Puts back the checkpoints of a trial from a snapshot."""
        self._recount(number, _NONE, savings)

    def _recount(self, number: int, before: Savings, after: Savings) -> None:
        """Counts who needs which checkpoint."""
        if after == _NONE:
            self.saves.pop(number, None)
        else:
            self.saves[number] = after
        old = {c[1] for c in before if c is not None}
        new = {c[1] for c in after if c is not None}
        for name in new - old:
            self.held[name] = self.held.get(name, 0) + 1
        for name in old - new:
            self.held[name] -= 1
            if not self.held[name]:
                del self.held[name]

    def _reported(self, event: Reported) -> bool:
        trial = self._rows[event.trial] or self.trials[event.trial]
        if trial.fresh is None:
            return report(trial, event)
        before = trial.checkpoint, trial.fresh
        news = report(trial, event)
        self._recount(event.trial, before, (trial.checkpoint, trial.fresh))
        return news

    def _changed(self, event: About, record: Record) -> bool:
        """Takes in an event about one trial; whether it is news."""
        number = event.trial
        trial = self._rows[number] or self.trials[number]
        if isinstance(event, Amended) and trial.end is not None:
            # What a worker meets that was given up does not belong to the result.
            return False
        before, status = (trial.checkpoint, trial.fresh), trial.status
        follow(trial, record, self.lengths[-1][1])
        after = trial.checkpoint, trial.fresh
        if after != before:
            self._recount(number, before, after)
        if trial.status != status:
            self._move(trial, status)
        if trial.status == "paused":
            self.paused[number] = trial.first, record.seq
            self._place(trial, record.seq, trial.parent is not None)
        elif status == "paused":
            del self.paused[number]
            self.far.pop(number, None)
        if isinstance(event, Resumed):
            # A retry is no choice: what comes after it draws as if nothing had been interrupted.
            self.decisions += event.by != "retry"
            return event.by != "retry"
        self.decisions += isinstance(event, Signalled)
        return isinstance(event, _NEWS)

    def _ended(self, event: Ended, record: Record) -> None:
        number, seq = event.trial, record.seq
        trial = self._rows[number] or self.trials[number]
        before, status = (trial.checkpoint, trial.fresh), trial.status
        end(trial, event, record.at)
        if before != _NONE or trial.checkpoint is not None:
            self._recount(number, before, (trial.checkpoint, trial.fresh))
        self._move(trial, status)
        if status == "paused":
            del self.paused[number]
            self.far.pop(number, None)
        self._place(trial, seq, False)
        self.failed_in_a_row = self.failed_in_a_row + 1 if event.outcome in FAILURES else 0
        if event.outcome == "completed":
            if trial.checkpoint is not None:
                losses = self.problem.losses(trial.metrics)
                worth = math.inf if losses is None else losses[0]
                self.finals[number] = (self.problem.violation(trial.metrics), worth)
            if len(self.problem.objectives) == 1:
                self.crown(trial)

    def _place(self, trial: Trial, seq: int, stays: bool) -> None:
        """Keeps the row of a trial at rest that is not to be read from the log."""
        span = seq - trial.first
        if stays or (span > FAR and span > seq // 20):
            self.far[trial.start.trial] = pack(trial)

    def crown(self, trial: Trial) -> None:
        """Makes a completed trial the best one if it beats the present best."""
        if self.replicated:
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
        if self.pools is not None:
            self.pools.add(trial)
        else:
            self.pools = Pools(self.problem)
            for other in self.trials:
                if other.status == "completed":
                    self.pools.add(other)
        first = self.pools.best
        if first is None or self.best is None or self.best.id != first:
            self.best = None if first is None else self.trials[first]

    def _of_study(self, event: Event, record: Record) -> bool:
        """Takes in an event that is about no trial, or about what is kept of one; whether it is news."""
        if isinstance(event, Dropped):
            self._drop(event.trial, event.checkpoint)
        elif isinstance(event, Enqueued):
            self.queue[record.seq] = event
            if event.key:
                self.keys[event.key] = record.seq
        elif isinstance(event, Edited):
            self.problem = self.problem.revised(event.space)
            self.spaces.append((record.seq, self.problem.space))
        elif isinstance(event, Extended):
            self.problem = self.problem.extended(event.high)
            self.lengths.append((record.seq, event.high))
        elif isinstance(event, Noted):
            self.notes.append((record.seq, event))
        elif isinstance(event, Controlled):
            self.control = None if event.action == "resume" else event.action
        elif isinstance(event, Tagged):
            self._tag(event)
        return isinstance(event, Edited | Extended)

    def _tag(self, event: Tagged) -> None:
        """Takes tags off and puts tags on."""
        had = self.tags.get(event.trial, ())
        kept = (*(t for t in had if t not in event.remove or t in event.add), *event.add)
        if kept:
            self.tags[event.trial] = tuple(dict.fromkeys(kept))
        else:
            self.tags.pop(event.trial, None)

    def _drop(self, number: int, name: str) -> None:
        """A checkpoint is given up, mostly of a trial that was over long ago and need not be in memory."""
        before = self.saves.get(number, _NONE)
        after = without(before, name)
        trial = self._rows[number]
        if trial is not None:
            trial.checkpoint, trial.fresh = after
        self._recount(number, before, after)
        if after[0] is None:
            self.finals.pop(number, None)

    def _move(self, trial: Trial, before: Status) -> None:
        """Keeps the indexes by status in step."""
        number, counts, lists = trial.start.trial, self.counts, self._lists
        counts[before] -= 1
        counts[trial.status] = counts.get(trial.status, 0) + 1
        if before in lists:
            del lists[before][number]
        if trial.status in lists:
            lists[trial.status][number] = trial

    def release(self) -> None:
        """Lets go of trials that are over or paused; whoever looks at one again has it read from the log.

        The best one and those that somebody holds stay.
        """
        if self.trials.source is not None:
            self.trials.source.release(self._rows, set() if self.best is None else {self.best.id})
