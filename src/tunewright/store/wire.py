"""What the server and its clients say to each other: the bodies of requests and answers, as typed JSON.

The address of a study is ``/api/v1/studies/NAME``, or ``/api/v1/studies/@KEY`` with its key, which also works for names
with slashes. Every request but those of health and of the description carries ``Authorization: Bearer TOKEN`` where the
server has tokens. Refusals carry an ``ErrorAnswer`` with the code of ``tunewright.errors``.

What the client of this package uses, below ``/api/v1``:

- ``GET /studies?specs=true`` gives ``list[StudyAnswer]``, ``POST /studies`` takes ``NewStudy`` and gives ``StudyAnswer``.
- ``GET /studies/NAME`` gives ``StudyAnswer`` with ``spec``; ``DELETE /studies/NAME`` gives 204.
- ``GET /studies/NAME/events?after=0&limit=1000&wait=0`` gives ``RecordsAnswer``; with ``wait`` it answers once there is a
  record after that position or the seconds are over; ``limit=0`` gives the position alone.
- ``POST`` to ``/studies/NAME/events``, ``/graft``, ``/ask``, ``/say``, ``/queue``, ``/leases`` takes the body of that name.
- ``GET /studies/NAME/leases`` gives ``list[store.base.Lease]``.
- ``GET /studies/NAME/snapshot`` gives bytes and their position in the header ``POSITION``, or 204 when there is none;
  ``PUT /studies/NAME/snapshot?position=9`` keeps one.
- ``GET /studies/NAME/checkpoints`` gives ``list[FileAnswer]``; ``GET``, ``HEAD``, ``PUT`` and ``DELETE`` of
  ``/studies/NAME/checkpoints/FILE`` reads, finds, writes and removes a file, whose name is one of ``store.blobs``. A body
  that does not have the digest in its name is refused with TW053; what is missing is 404.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from tunewright.core.events import Control, Event, Record

PREFIX = "/api/v1"
LARGEST_BODY = 8 * 2**20
MOST_RECORDS = 10_000
LONGEST_WAIT = 30.0
POSITION = "Tunewright-Position"
LONGEST_LEASE = 30 * 86_400.0
MOST_SLOTS = 1000
# Bounds that a server checks as it reads a body, and that its description names.
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
Seconds = Annotated[float, msgspec.Meta(ge=0.0, le=LONGEST_LEASE)]
Wait = Annotated[float, msgspec.Meta(ge=0.0, le=LONGEST_WAIT)]
Slots = Annotated[int, msgspec.Meta(ge=0, le=MOST_SLOTS)]
Count = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
Step = Annotated[int, msgspec.Meta(ge=1, le=2**53)]
Pairs = Annotated[list[tuple[Count, Count]], msgspec.Meta(max_length=MOST_RECORDS)]
Events = Annotated[list[Event], msgspec.Meta(min_length=1, max_length=MOST_RECORDS)]
Records = Annotated[list[Record], msgspec.Meta(max_length=MOST_RECORDS)]
STATUS = {
    "TW010": 422, "TW011": 409, "TW020": 422, "TW030": 422, "TW031": 500, "TW032": 501, "TW040": 500, "TW041": 409,
    "TW042": 404, "TW043": 409, "TW044": 409, "TW045": 500, "TW046": 503, "TW053": 422,
}  # fmt: skip
"""Status of the answer for each code of error; 500 for any other."""


class Problem(msgspec.Struct, frozen=True):
    """Why a request was refused.

    Attributes:
        code: Code of the error, such as ``TW044``; ``HTTP`` for refusals that have nothing to do with studies.
        message: What must hold, what was got, what to do.
    """

    code: str
    message: str


class ErrorAnswer(msgspec.Struct, frozen=True):
    """Body of every refusal."""

    error: Problem


class StudyAnswer(msgspec.Struct, frozen=True, omit_defaults=True):
    """A study, as the server lists it.

    Attributes:
        id: Key in the server's store.
        name: Its name.
        created: Seconds since 1970.
        method: Name of the method that decides.
        last: Position of the last record.
        counts: Number of trials by status.
        best: The best completed trial, of a study with one objective.
        spec: The problem, the method and settings; only when one study is asked for.
    """

    id: int
    name: str
    created: float
    method: str
    last: int
    counts: dict[str, int]
    best: dict[str, Any] | None = None
    spec: dict[str, Any] | None = None


class NewStudy(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """``POST /studies``: a new study, in the words of ``Study.open``, or as another store's ``spec``.

    Attributes:
        name: Its name.
        space: Parameters by name: text such as ``"log 1e-5..1e-1"``, ``"1..8"``, ``"adam|sgd"``, or the JSON form of a domain.
        minimize: Metric or metrics to make small.
        maximize: Metric or metrics to make large.
        steps: Steps of a full training, or ``[fewest, full]``.
        limits: Largest acceptable value of other metrics.
        method: Name of the method.
        options: Its options.
        seed: Root of all randomness.
        spec: Instead of all these, what ``StudyAnswer.spec`` holds.
        created: When it was made, for a copy.
        exist_ok: Whether it may be there already.
    """

    name: Name
    space: dict[str, Any] | None = None
    minimize: str | list[str] = ""
    maximize: str | list[str] = ""
    steps: int | tuple[int, int] | None = None
    limits: dict[str, float] = {}
    method: str = "auto"
    options: dict[str, Any] = {}
    seed: int = 0
    spec: dict[str, Any] | None = None
    created: float | None = None
    exist_ok: bool = False


class AskBody(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """``POST /studies/NAME/ask``: the method takes its next decisions for this worker.

    Attributes:
        worker: Who asks: one name per process, such as from ``store.clock.worker_id``, or any text.
        slots: Trials wanted; 0 to let the method only pause and stop.
        limit: Trials that the study is to begin in all; None for no limit.
        lease: Seconds that the attempts may stay silent.
        held: Trials that the worker knows to be its own. With it, a trial that was begun for this worker and is not among
            them, because the answer was lost, is handed out again. None leaves that out.
        after: Where given, the answer brings the records after that position.
        wait: Seconds that the server may wait for work when there is none.
        attempts: How often a trial is begun, without its checkpoints getting any further, before it counts as lost.
    """

    worker: str = ""
    slots: Slots = 1
    limit: Count | None = None
    lease: Seconds = 30.0
    held: Annotated[list[Count], msgspec.Meta(max_length=MOST_RECORDS)] | None = None
    after: Count | None = None
    wait: Wait = 0.0
    attempts: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] = 3


class AskAnswer(msgspec.Struct, frozen=True, omit_defaults=True):
    """What there is to do.

    Attributes:
        trials: The trials begun: number, token, params, and for trainings in parts step, until and checkpoint; the
            fields of ``run.messages.Segment``.
        finished: Whether the method has nothing more to begin, now or later.
        records: Records after ``after``, where that was asked for.
        stopped: Whether somebody stopped the study: workers save, pause and leave.
    """

    trials: list[msgspec.Raw]
    finished: bool = False
    records: list[Record] | None = None
    stopped: bool = False


class EventsBody(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """``POST /studies/NAME/events``: see ``Store.append``.

    Attributes:
        events: What happened.
        worker: Who says so.
        expected: For decisions: the position the log must end at.
        lease: Seconds that attempts begun here may stay silent.
        again: Whether an earlier request with these events got no answer.
    """

    events: Events
    worker: str = ""
    expected: Count | None = None
    lease: Seconds = 30.0
    again: bool = False


class GraftBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``POST /studies/NAME/graft``: records of another store, as they are."""

    records: Records


class RecordsAnswer(msgspec.Struct, frozen=True):
    """Records, and the position of the last one in the log; there may be more between."""

    records: list[Record]
    last: int


class SayBody(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """``POST /studies/NAME/say``: one word of a worker about its trial; answered with ``run.messages.Answer``.

    Attributes:
        message: A ``Report``, ``Save``, ``Suggest`` or ``Finish`` of ``run.messages``.
        worker: Who says so.
        again: Whether an earlier request with this message got no answer.
    """

    message: msgspec.Raw
    worker: str = ""
    again: bool = False


class ReportBody(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """``POST /studies/NAME/trials/NUMBER/report``: measurements at a step, for clients without this package.

    Attributes:
        token: The attempt, as ``ask`` gave it.
        step: Steps done.
        metrics: Values by name; the texts ``"nan"``, ``"inf"`` and ``"-inf"`` stand for what JSON cannot write.
        worker: Who says so.
    """

    token: Count
    step: Step
    metrics: dict[str, float | str]
    worker: str = ""


class TellBody(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """``POST /studies/NAME/trials/NUMBER/tell``: how a trial ended, for clients without this package.

    Attributes:
        token: The attempt, as ``ask`` gave it.
        value: The objective, where there is one.
        metrics: Values by name, as for ``ReportBody``.
        outcome: How it ended.
        error: What went wrong.
        worker: Who says so.
    """

    token: Count
    value: float | str | None = None
    metrics: dict[str, float | str] | None = None
    outcome: Literal["completed", "failed", "invalid"] = "completed"
    error: str = ""
    worker: str = ""


class GoOn(msgspec.Struct, frozen=True):
    """Answer to a report: whether to go on training."""

    go_on: bool


class QueueBody(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """``POST /studies/NAME/queue``: a configuration to be tried next.

    Attributes:
        params: Values by name; missing ones are filled in when it starts.
        key: Same key, same item: a repeated request adds nothing.
    """

    params: dict[str, Any]
    key: str = ""


class QueueAnswer(msgspec.Struct, frozen=True):
    """Position of the item in the log."""

    position: int


class ControlBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``POST /studies/NAME/control``: what whoever runs the study is to do.

    Attributes:
        action: ``pause`` begins no trial, ``stop`` ends every run as Ctrl-C does, ``resume`` takes both back.
    """

    action: Control


class ControlAnswer(msgspec.Struct, frozen=True):
    """What holds now: ``pause``, ``stop`` or null; and whether that is new."""

    control: Literal["pause", "stop"] | None
    changed: bool


class NoteBody(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """``POST /studies/NAME/notes``: a note; the newest one counts.

    Attributes:
        text: The note; an empty one takes the earlier one back.
        trial: Number of the trial that it is about; null for the study.
    """

    text: str
    trial: Count | None = None


class TagsBody(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """``POST /studies/NAME/tags``: tags to put on and to take off.

    Attributes:
        trial: Number of the trial; null for the study.
        add: Tags to put on.
        remove: Tags to take off.
    """

    trial: Count | None = None
    add: list[str] = []
    remove: list[str] = []


class LeasesBody(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """``POST /studies/NAME/leases``: signs of life.

    Attributes:
        held: ``[trial, token]`` of each attempt.
        lease: Seconds that they may stay silent from now on.
    """

    held: Pairs
    lease: Seconds = 30.0


class LeasesAnswer(msgspec.Struct, frozen=True):
    """``[trial, token]`` of those among them that were taken over."""

    lost: list[tuple[int, int]]


class FileAnswer(msgspec.Struct, frozen=True):
    """A checkpoint file.

    Attributes:
        name: Its name, with the digest of its content.
        size: Bytes.
        mtime: When it was written, seconds since 1970.
    """

    name: str
    size: int
    mtime: float


class TrialsAnswer(msgspec.Struct, frozen=True):
    """A page of trials, and how many there are in all."""

    trials: list[dict[str, Any]]
    total: int
