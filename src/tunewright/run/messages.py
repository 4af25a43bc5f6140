"""What the driver and its workers say to each other; JSON, one frame a message."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from tunewright.core.events import Cause
from tunewright.core.scale import Stage

End = Literal[
    "completed", "paused", "stopped", "failed", "invalid", "timed_out", "out_of_memory", "lost", "killed"
]


class Segment(msgspec.Struct, frozen=True, tag_field="kind", tag="segment", omit_defaults=True):
    """Work for one worker: train a trial from ``step`` to ``until``.

    Attributes:
        trial: Number of the trial.
        token: The attempt.
        config: Parameters.
        objectives: ``(name, goal)`` of each objective.
        step: Steps that the checkpoint holds.
        until: Step at which to pause or end; None for a training without steps.
        high: Steps of a full training; None for a training without steps.
        checkpoint: Name of the checkpoint to start from, or None.
        blobs: Folder of the study's checkpoints.
        seed: Seed for the training's own randomness; the same for every attempt of the trial.
        attempt: 1, and one more for every time its worker was lost.
        teacher: Name of the checkpoint of the trial that is to teach this one, or None.
        flush: Whether checkpoints are to survive a power cut.
        stages: Sizes to train one after the other, where steps are points of a scale.
        sizes: Sizes of the model to train now.
        rule: Parametrization to train it under, where no parameter says so.
    """

    trial: int
    token: int
    config: dict[str, Any]
    objectives: list[tuple[str, str]]
    blobs: str
    step: int = 0
    until: int | None = None
    high: int | None = None
    checkpoint: str | None = None
    seed: int = 0
    attempt: int = 1
    teacher: str | None = None
    flush: bool = False
    stages: list[Stage] = []
    sizes: dict[str, int] = {}
    rule: str = ""


class Report(msgspec.Struct, frozen=True, tag_field="kind", tag="report", omit_defaults=True):
    """The trial measured something; answered with a verdict once it is safely in the log."""

    trial: int
    token: int
    step: int
    metrics: dict[str, float]
    bad: dict[str, str] | None = None
    variance: dict[str, float] | None = None
    cost: float | None = None


class Save(msgspec.Struct, frozen=True, tag_field="kind", tag="save"):
    """A checkpoint file is safely on disk."""

    trial: int
    token: int
    step: int
    checkpoint: str


class Suggest(msgspec.Struct, frozen=True, tag_field="kind", tag="suggest"):
    """A define-by-run trial asks for a parameter that its configuration does not hold."""

    trial: int
    token: int
    name: str
    domain: dict[str, Any]


class Finish(msgspec.Struct, frozen=True, tag_field="kind", tag="finish", omit_defaults=True):
    """The segment is over; nothing more comes from this worker about it.

    Attributes:
        damaged: Name of a checkpoint that could not be read, or empty; the trial is to begin again without it.
        cause: Why a segment was cut short, where the worker knows better than the driver.
        rest: Cost since the last report, where something counts it; None for the wall time.
    """

    trial: int
    token: int
    outcome: End
    step: int = 0
    metrics: dict[str, float] | None = None
    variance: dict[str, float] | None = None
    cost: float | None = None
    error: str = ""
    checkpoint: str | None = None
    met: list[str] | None = None
    fatal: bool = False
    damaged: str = ""
    cause: Cause | None = None
    rest: float | None = None


class Answer(msgspec.Struct, frozen=True, tag_field="kind", tag="answer", omit_defaults=True):
    """The driver's reply.

    Attributes:
        verdict: ``"stop"`` or ``"pause"`` when the trial should end here, else empty.
        value: The suggested value.
        error: Why a suggestion is impossible.
    """

    verdict: Literal["", "stop", "pause"] = ""
    value: Any = None
    error: str = ""


FromWorker = Report | Save | Suggest | Finish
ToWorker = Segment | Answer
_encode = msgspec.json.Encoder().encode
_from_worker = msgspec.json.Decoder(FromWorker)
_to_worker = msgspec.json.Decoder(ToWorker)


def pack(message: FromWorker | ToWorker) -> bytes:
    """The message as a frame body."""
    return _encode(message)


def from_worker(data: bytes) -> FromWorker:
    """Reads what a worker sent."""
    message: FromWorker = _from_worker.decode(data)
    return message


def to_worker(data: bytes) -> ToWorker:
    """Reads what the driver sent."""
    message: ToWorker = _to_worker.decode(data)
    return message
