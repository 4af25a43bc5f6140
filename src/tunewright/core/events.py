"""The facts and decisions that make up a study's log. Append-only, JSON, never edited.

Decisions (``Started``, ``Resumed``, ``Signalled``) carry ``basis``: the position of the log their decider had
folded. Facts about a running attempt carry ``token``: the position at which that attempt was started or resumed.
New fields always have defaults, so old logs stay readable.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

Why = dict[str, Any]
Verdict = Literal["stop", "pause"]
Outcome = Literal["completed", "stopped", "failed", "invalid", "timed_out", "out_of_memory", "lost", "killed"]
Cause = Literal["lost", "preempted", "shutdown"]
Control = Literal["pause", "resume", "stop"]


class Started(msgspec.Struct, frozen=True, tag_field="kind", tag="started", omit_defaults=True, gc=False):
    """A trial began.

    Attributes:
        trial: Its number, dense from 0.
        config: Its parameters.
        until: Step at which its segment ends; None when trials have no steps.
        parent: ``(trial, step)`` whose checkpoint it starts from.
        basis: Log position its decider had folded.
        by: Who decided: the name of the method, ``"queue"`` or ``"user"``.
        queue: Position of the ``Enqueued`` event it serves, or 0.
        why: Scalars that explain the decision.
    """

    trial: int
    config: dict[str, Any]
    until: int | None = None
    parent: tuple[int, int] | None = None
    basis: int = 0
    by: str = ""
    queue: int = 0
    why: Why | None = None


class Resumed(msgspec.Struct, frozen=True, tag_field="kind", tag="resumed", omit_defaults=True, gc=False):
    """A paused or interrupted trial goes on from ``step``.

    Attributes:
        trial: Its number.
        step: Step of the checkpoint it continues from.
        until: Step at which the new segment ends.
        basis: Log position its decider had folded.
        by: The method, or ``"retry"`` for interrupted work.
        why: Scalars that explain the decision.
    """

    trial: int
    step: int = 0
    until: int | None = None
    basis: int = 0
    by: str = ""
    why: Why | None = None


class Signalled(msgspec.Struct, frozen=True, tag_field="kind", tag="signalled", omit_defaults=True, gc=False):
    """A running or paused trial is told to stop or to pause."""

    trial: int
    verdict: Verdict
    basis: int = 0
    by: str = ""
    why: Why | None = None


class Reported(msgspec.Struct, frozen=True, tag_field="kind", tag="reported", omit_defaults=True, gc=False):
    """A running trial measured something at a step.

    Attributes:
        trial: Its number.
        token: The attempt that speaks.
        step: Steps done so far; strictly increasing within a trial.
        metrics: Finite values by name.
        bad: Values that are not finite, by name: ``"nan"``, ``"inf"``, ``"-inf"``.
        variance: Variance of a metric, where known.
        cost: Cost of the steps since the previous report, in the study's unit (seconds by default).
    """

    trial: int
    token: int
    step: int
    metrics: dict[str, float]
    bad: dict[str, str] | None = None
    variance: dict[str, float] | None = None
    cost: float | None = None


class Paused(msgspec.Struct, frozen=True, tag_field="kind", tag="paused", omit_defaults=True, gc=False):
    """A segment ended as planned, or on request; the trial can be resumed from ``step``.

    Attributes:
        trial: Its number.
        token: The attempt that speaks.
        step: Steps done.
        checkpoint: Name of the checkpoint blob, if one was saved.
    """

    trial: int
    token: int
    step: int = 0
    checkpoint: str | None = None


class Saved(msgspec.Struct, frozen=True, tag_field="kind", tag="saved", omit_defaults=True, gc=False):
    """A checkpoint of a running trial is safely on disk.

    Attributes:
        trial: Its number.
        token: The attempt that speaks.
        step: Steps done when it was taken.
        checkpoint: Name of the blob.
    """

    trial: int
    token: int
    step: int
    checkpoint: str


class Interrupted(
    msgspec.Struct, frozen=True, tag_field="kind", tag="interrupted", omit_defaults=True, gc=False
):
    """A segment was cut off: its worker died, was pre-empted or shut down. The driver will retry it.

    Algorithms ignore this event: to them the trial is still running.
    """

    trial: int
    token: int
    cause: Cause = "lost"
    detail: str = ""


class Ended(msgspec.Struct, frozen=True, tag_field="kind", tag="ended", omit_defaults=True, gc=False):
    """A trial is over for good.

    Attributes:
        trial: Its number.
        token: The attempt that speaks.
        outcome: How it ended.
        metrics: Final finite values by name.
        step: Steps done.
        variance: Variance of a metric, where known.
        cost: Total cost, in the study's unit (seconds by default).
        error: What went wrong, last lines first cut.
        checkpoint: Name of the final checkpoint blob, if any.
    """

    trial: int
    token: int
    outcome: Outcome = "completed"
    metrics: dict[str, float] | None = None
    step: int = 0
    variance: dict[str, float] | None = None
    cost: float | None = None
    error: str = ""
    checkpoint: str | None = None


class Enqueued(msgspec.Struct, frozen=True, tag_field="kind", tag="enqueued", omit_defaults=True, gc=False):
    """Somebody wants this configuration evaluated.

    Attributes:
        config: Parameters; missing ones are filled in when the trial starts.
        key: Same key, same item: a repeated request adds nothing.
        by: Who asked.
    """

    config: dict[str, Any]
    key: str = ""
    by: str = "user"


class Edited(msgspec.Struct, frozen=True, tag_field="kind", tag="edited", omit_defaults=True, gc=False):
    """The space got a new version; trials of earlier versions are kept."""

    space: dict[str, Any]
    by: str = "user"


class Extended(msgspec.Struct, frozen=True, tag_field="kind", tag="extended", omit_defaults=True, gc=False):
    """A full training got more steps. Methods are asked anew from the whole log, with the new length of a training.

    Attributes:
        high: Steps of a full training from now on.
        before: Steps of a full training until now.
        by: Who asked.
    """

    high: int
    before: int
    by: str = "user"


class Dropped(msgspec.Struct, frozen=True, tag_field="kind", tag="dropped", omit_defaults=True, gc=False):
    """A checkpoint was given up: it was damaged, or the study keeps fewer.

    Attributes:
        trial: The trial that could have been continued from it.
        checkpoint: Name of the blob.
        why: The reason, in words.
    """

    trial: int
    checkpoint: str
    why: str = ""


class Amended(msgspec.Struct, frozen=True, tag_field="kind", tag="amended", omit_defaults=True, gc=False):
    """A define-by-run trial met a parameter that its configuration did not hold yet."""

    trial: int
    config: dict[str, Any]


class Noted(msgspec.Struct, frozen=True, tag_field="kind", tag="noted", omit_defaults=True, gc=False):
    """Something worth keeping that changes no state: a late result, a choice of method, a user's note."""

    topic: str
    data: dict[str, Any]
    trial: int | None = None


class Controlled(
    msgspec.Struct, frozen=True, tag_field="kind", tag="controlled", omit_defaults=True, gc=False
):
    """Somebody wants the study to pause, to go on or to stop; whoever runs it obeys.

    Attributes:
        action: ``"pause"``: no trial is begun or continued, running ones go on to where they end or pause anyway.
            ``"stop"``: running ones save and pause, too, and every run ends. ``"resume"`` takes both back.
        by: Who asked: ``"user"``, or ``"run"`` where beginning a run took it back.
    """

    action: Control
    by: str = "user"


class Tagged(msgspec.Struct, frozen=True, tag_field="kind", tag="tagged", omit_defaults=True, gc=False):
    """Tags were put on the study or on a trial, or taken off.

    Attributes:
        add: Tags to put on.
        remove: Tags to take off; what is in both is put on.
        trial: The trial's number; None for the study.
        by: Who asked.
    """

    add: tuple[str, ...] = ()
    remove: tuple[str, ...] = ()
    trial: int | None = None
    by: str = "user"


Event = (
    Started
    | Resumed
    | Signalled
    | Reported
    | Paused
    | Saved
    | Interrupted
    | Ended
    | Enqueued
    | Edited
    | Extended
    | Dropped
    | Amended
    | Noted
    | Controlled
    | Tagged
)
DECISIONS = (Started, Resumed, Signalled)


class Record(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """An event at its place in the log.

    Attributes:
        seq: Position, dense from 1.
        at: Wall-clock time of the append, seconds since 1970; for display only.
        worker: Who appended it.
        event: What happened.
    """

    seq: int
    at: float
    worker: str
    event: Event


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Event)


def encode_event(event: Event) -> bytes:
    """The JSON form of an event."""
    return _encoder.encode(event)


def decode_event(data: bytes | str) -> Event:
    """Rebuilds an event from its JSON form.

    Raises:
        msgspec.DecodeError: If the data is damaged or of an unknown kind.
    """
    event: Event = _decoder.decode(data)
    return event
