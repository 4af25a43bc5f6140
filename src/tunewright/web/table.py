"""The one table of addresses: what the server answers, to whom, and how; the description is made from it too."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

import msgspec

from tunewright.run.messages import Answer
from tunewright.run.orders import Remark, Remarks
from tunewright.store import wire
from tunewright.store.base import Lease
from tunewright.web import (
    asking,
    comparing,
    control,
    export,
    files,
    listing,
    logs,
    looking,
    overview,
    shapes,
    showing,
)
from tunewright.web.replies import Handler
from tunewright.web.tokens import LEVEL, Scope


@dataclass(frozen=True, slots=True)
class Query:
    """A value behind the question mark: its name, its JSON schema, what it means."""

    name: str
    schema: dict[str, Any]
    what: str


@dataclass(frozen=True, slots=True)
class Route:
    """One method of one address.

    Attributes:
        method: ``GET`` and so on.
        path: The address with ``{study}``, ``{number}``, ``{file}`` or ``{kind}``.
        handler: What answers.
        scope: The scope that a token needs; None for everybody.
        what: One line for the description.
        body: Type of the JSON body; ``bytes`` for a body as it is; None for no body.
        answer: Type of the JSON answer; ``bytes`` or ``str`` for others; None for none.
        status: Status when all went well.
        query: Values behind the question mark.
        refusals: Statuses beyond those that any route may answer with.
        kinds: Content types of an answer of bytes that is not always the same.
    """

    method: str
    path: str
    handler: Handler
    scope: Scope | None
    what: str
    body: Any = None
    answer: Any = None
    status: int = 200
    query: tuple[Query, ...] = ()
    refusals: tuple[int, ...] = ()
    kinds: tuple[str, ...] = ()
    decoder: msgspec.json.Decoder[Any] | None = field(init=False)
    level: int = field(init=False)

    def __post_init__(self) -> None:
        json = self.body is not None and self.body is not bytes
        object.__setattr__(self, "decoder", msgspec.json.Decoder(self.body) if json else None)
        object.__setattr__(self, "level", -1 if self.scope is None else LEVEL[self.scope])


def _whole(low: int, high: int, default: int | None = None) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "integer", "minimum": low, "maximum": high}
    return schema if default is None else {**schema, "default": default}


_AFTER = Query("after", _whole(0, 2**62, 0), "Position after which to begin.")
_EVENTS = (
    _AFTER,
    Query("limit", _whole(0, wire.MOST_RECORDS, 1000), "Most records; 0 for the position alone."),
    Query(
        "wait",
        {"type": "number", "minimum": 0, "maximum": wire.LONGEST_WAIT, "default": 0},
        "Seconds to wait for a record.",
    ),
)
_STUDIES = (
    Query("after", _whole(0, 2**62, 0), "Key after which to begin."),
    Query("limit", _whole(1, 1000, 1000), "Most studies."),
    Query(
        "specs",
        {"type": "boolean", "default": False},
        "With their problems, and without counts and best trials.",
    ),
)
_TRIALS = (
    Query("after", _whole(0, 2**62), "Number after which to begin; from the first when not given."),
    Query("limit", _whole(1, 1000, 100), "Most trials."),
    Query("status", {"type": "string"}, "Only those of this status."),
)
_POSITION = (Query("position", _whole(0, 2**62), "Position that the snapshot was made at."),)
_SINCE = (
    Query(
        "since",
        _whole(0, 2**62, 0),
        "Position of the answer that the caller has; only what changed since is sent.",
    ),
)
_WITH = (Query("with", {"type": "string"}, "Names of the other studies, with commas between them."),)
_FORMAT = (Query("format", {"enum": list(export.FORMATS), "default": "csv"}, "Kind of file."),)
_TAIL = (Query("tail", _whole(1, looking.LONGEST_TAIL, looking.TAIL), "Bytes from the end, at most."),)
_TRANSFER = (
    Query("parameter", {"type": "string"}, "The rate that is followed from size to size, if not lr."),
    Query(
        "horizon", {"type": "string"}, "How to go to a longer training: shares, published, or an exponent."
    ),
)
_S = f"{wire.PREFIX}/studies/{{study}}"
_T = f"{_S}/trials/{{number}}"
_F = f"{_S}/checkpoints/{{file}}"

TABLE: tuple[Route, ...] = (
    Route("GET", f"{wire.PREFIX}/health", listing.health, None, "Whether the server is there.", answer=dict[str, str], refusals=(503,)),
    Route("GET", f"{wire.PREFIX}/openapi.json", listing.description, None, "This description.", answer=dict[str, Any]),
    Route("GET", "/metrics", listing.metrics, "read", "Counters in the text format of Prometheus.", answer=str),
    Route("GET", f"{wire.PREFIX}/studies", listing.studies, "read", "List the studies.", answer=list[wire.StudyAnswer], query=_STUDIES, refusals=(422,)),
    Route("POST", f"{wire.PREFIX}/studies", listing.create, "admin", "Make a study.", body=wire.NewStudy, answer=wire.StudyAnswer, status=201, refusals=(404, 409, 501)),
    Route("GET", _S, listing.study, "read", "One study with its problem.", answer=wire.StudyAnswer),
    Route("DELETE", _S, listing.delete, "admin", "Remove a study with its log and checkpoints.", status=204),
    Route("GET", f"{_S}/events", logs.events, "read", "Read the log, or follow it as a stream.", answer=wire.RecordsAnswer, query=_EVENTS, refusals=(422,)),
    Route("POST", f"{_S}/events", logs.append, "worker", "Append to the log.", body=wire.EventsBody, answer=wire.RecordsAnswer, refusals=(409,)),
    Route("POST", f"{_S}/graft", logs.graft, "admin", "Copy records of another store.", body=wire.GraftBody, answer=wire.RecordsAnswer, refusals=(409,)),
    Route("POST", f"{_S}/ask", asking.ask, "worker", "Get trials to train.", body=wire.AskBody, answer=wire.AskAnswer, refusals=(409, 501)),
    Route("POST", f"{_S}/say", asking.say, "worker", "A worker's word about its trial.", body=wire.SayBody, answer=Answer, refusals=(409,)),
    Route("POST", f"{_T}/report", asking.report, "worker", "Report measurements at a step.", body=wire.ReportBody, answer=wire.GoOn, refusals=(409,)),
    Route("POST", f"{_T}/tell", asking.tell, "worker", "End a trial with its result.", body=wire.TellBody, answer=dict[str, Any], refusals=(409,)),
    Route("POST", f"{_S}/queue", asking.queue, "worker", "Have a configuration tried next.", body=wire.QueueBody, answer=wire.QueueAnswer, refusals=(409,)),
    Route("POST", f"{_S}/control", control.order, "admin", "Pause the study, let it go on, or stop it.", body=wire.ControlBody, answer=wire.ControlAnswer),
    Route("GET", f"{_S}/notes", control.notes, "read", "Notes and tags of the study and its trials.", answer=Remarks),
    Route("POST", f"{_S}/notes", control.note, "worker", "Keep a note.", body=wire.NoteBody, answer=Remark),
    Route("POST", f"{_S}/tags", control.tag, "worker", "Put tags on, and take tags off.", body=wire.TagsBody, answer=Remark),
    Route("GET", f"{_S}/leases", logs.leases, "read", "Who works on what.", answer=list[Lease]),
    Route("POST", f"{_S}/leases", logs.renew, "worker", "Signs of life.", body=wire.LeasesBody, answer=wire.LeasesAnswer),
    Route("GET", f"{_S}/trials", listing.trials, "read", "List trials.", answer=wire.TrialsAnswer, query=_TRIALS, refusals=(422,)),
    Route("GET", _T, listing.trial, "read", "One trial with its measurements.", answer=dict[str, Any]),
    Route("GET", f"{_T}/log", looking.output, "read", "The end of what a trial printed.", answer=str, query=_TAIL, refusals=(422,)),
    Route("GET", f"{_T}/copy", looking.copy, "read", "The parameters of a trial, to be pasted.", answer=shapes.CopyAnswer),
    Route("GET", f"{_S}/best", listing.best, "read", "The best trial, or those that none beats.", answer=wire.TrialsAnswer),
    Route("GET", f"{_S}/snapshot", logs.snapshot, "read", "The newest snapshot.", answer=bytes, refusals=(204,)),
    Route("PUT", f"{_S}/snapshot", logs.keep_snapshot, "worker", "Keep a snapshot.", body=bytes, status=204, query=_POSITION, refusals=(413, 422)),
    Route("GET", f"{wire.PREFIX}/board", showing.board, "read", "The studies at a glance, for pages.", answer=shapes.BoardAnswer, refusals=(304,)),
    Route("GET", f"{_S}/overview", overview.overview, "read", "A study in words.", answer=shapes.OverviewAnswer, refusals=(304,)),
    Route("GET", f"{wire.PREFIX}/methods", comparing.methods, "read", "The methods, with what was found out about their claims.", answer=shapes.MethodsAnswer, refusals=(304,)),
    Route("GET", f"{_S}/compare", comparing.compare, "read", "Studies side by side.", answer=shapes.CompareAnswer, query=_WITH, refusals=(304, 422)),
    Route("GET", f"{_S}/export", export.export, "read", "All trials as a table, or all pages as one file.", answer=bytes, query=_FORMAT, refusals=(422, 501), kinds=tuple(kind.decode().partition(";")[0] for kind in export.FORMATS.values())),
    Route("GET", f"{_S}/columns", showing.columns, "read", "Trials as columns, or those that changed, for pages.", answer=shapes.ColumnsAnswer, query=_SINCE, refusals=(304, 422)),
    Route("GET", f"{_S}/charts", showing.charts, "read", "The charts that make sense for a study.", answer=list[shapes.ChartLine], refusals=(304, 422)),
    Route("GET", f"{_S}/charts/{{kind}}", showing.chart, "read", "A chart as data; options of its kind may follow the question mark.", answer=dict[str, Any], refusals=(304, 422)),
    Route("GET", f"{_S}/transfer", showing.transfer, "read", "Settings of the target of a study with a scale, or why there are none.", answer=shapes.TransferAnswer, query=_TRANSFER, refusals=(304, 422)),
    Route("GET", f"{_S}/checkpoints", files.listing, "read", "List checkpoint files.", answer=list[wire.FileAnswer]),
    Route("GET", _F, files.fetch, "read", "Get a checkpoint file.", answer=bytes, refusals=(422,)),
    Route("HEAD", _F, files.fetch, "read", "Whether a checkpoint file is there.", refusals=(422,)),
    Route("PUT", _F, files.keep, "worker", "Keep a checkpoint file.", body=bytes, status=204, refusals=(413, 422, 507)),
    Route("DELETE", _F, files.remove, "worker", "Remove a checkpoint file.", status=204, refusals=(422,)),
)  # fmt: skip
SNAPSHOT = 512 * 2**20


def largest(route: Route) -> int:
    """Bytes of a body that the server reads before the handler sees it."""
    return SNAPSHOT if route.body is bytes else wire.LARGEST_BODY


def streams(route: Route) -> bool:
    """Whether the handler reads the body itself, piece by piece."""
    return route.handler is files.keep


_WAYS: dict[str, dict[str, Route]] = {}
for _route in TABLE:
    _shape = (
        _route.path.replace("{study}", "*")
        .replace("{number}", "*")
        .replace("{file}", "*")
        .replace("{kind}", "*")
    )
    _WAYS.setdefault(_shape, {})[_route.method] = _route
_DEPTH = 4


def find(raw_path: bytes) -> tuple[dict[str, Route], str, str] | None:
    """What there is at an address: routes by method, the study and the item named in it; None when there is nothing.

    Every part is decoded once, after the address was taken apart, so that an encoded slash stays inside its part.
    """
    parts = raw_path.decode("latin-1").split("/")
    study = item = ""
    if len(parts) > _DEPTH and parts[3] == "studies":
        try:
            study = unquote(parts[4], errors="strict")
            parts[4] = "*"
            if len(parts) > 6:
                item = unquote(parts[6], errors="strict")
                parts[6] = "*"
        except UnicodeDecodeError:
            return None
        if not study or "\0" in study:
            return None
    ways = _WAYS.get("/".join(parts))
    if ways is None:
        return None
    if len(parts) > 6 and parts[5] == "trials" and not (item.isascii() and item.isdigit() and len(item) < 19):
        return None
    return ways, study, item
