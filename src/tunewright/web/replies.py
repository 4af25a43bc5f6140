"""What handlers get and give: a call, a reply, a stream, a refusal."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

import msgspec

from tunewright.errors import TunewrightError
from tunewright.store import wire
from tunewright.web.refusals import Headers, Refused
from tunewright.web.tokens import LEVEL, Who

if TYPE_CHECKING:
    from tunewright.web.state import State

log = logging.getLogger(__name__)
encode = msgspec.json.Encoder().encode
JSON = (b"content-type", b"application/json")
EVENTS = (b"content-type", b"text/event-stream; charset=utf-8")
BYTES = (b"content-type", b"application/octet-stream")
TEXT = (b"content-type", b"text/plain; version=0.0.4; charset=utf-8")


class Reply:
    """A whole answer."""

    __slots__ = ("body", "headers", "status")

    def __init__(self, status: int, body: bytes, headers: Headers) -> None:
        self.status = status
        self.body = body
        self.headers = headers


class Stream:
    """An answer that is sent piece by piece; ``chunks`` is closed in any case."""

    __slots__ = ("chunks", "headers", "status")

    def __init__(self, status: int, chunks: AsyncGenerator[bytes, None], headers: Headers) -> None:
        self.status = status
        self.chunks = chunks
        self.headers = headers


class Call:
    """A request that was let in.

    Attributes:
        state: The server.
        who: Who makes it.
        scope: The ASGI scope.
        receive: The ASGI source of its body.
        study: Name or ``@key`` of the study in its address.
        item: Number of the trial or name of the file in its address.
        body: What its body says, decoded; None where it has none.
    """

    __slots__ = ("_query", "body", "item", "receive", "scope", "state", "study", "who")

    def __init__(
        self,
        state: State,
        who: Who,
        scope: dict[str, Any],
        receive: Callable[[], Awaitable[Any]],
        study: str,
        item: str,
    ) -> None:
        self.state = state
        self.who = who
        self.scope = scope
        self.receive = receive
        self.study = study
        self.item = item
        self.body: Any = None
        self._query: dict[str, str] | None = None

    @property
    def query(self) -> dict[str, str]:
        """What stands behind the question mark.

        Raises:
            Refused: If something stands there twice or is no text.
        """
        if self._query is None:
            try:
                pairs = parse_qsl(
                    self.scope.get("query_string", b"").decode("ascii"),
                    keep_blank_values=True,
                    strict_parsing=bool(self.scope.get("query_string")),
                    errors="strict",
                    max_num_fields=20,
                )
            except ValueError as error:
                raise Refused(400, "HTTP", f"The query must be name=value; {error}. Correct it.") from None
            self._query = dict(pairs)
            if len(self._query) != len(pairs):
                raise Refused(400, "HTTP", "Names in the query must differ; one is given twice. Remove one.")
        return self._query

    def whole(self, name: str, default: int, low: int, high: int) -> int:
        """A whole number of the query.

        Raises:
            Refused: If it is none from ``low`` to ``high``.
        """
        text = self.query.get(name)
        if text is None:
            return default
        if text.isascii() and text.isdigit() and len(text) < 20 and low <= int(text) <= high:
            return int(text)
        raise Refused(
            422,
            "HTTP",
            f"'{name}' must be a whole number from {low} to {high}; got {text[:40]!r}. Correct it.",
        )

    def header(self, name: bytes) -> bytes | None:
        """The first header of a name, in small letters."""
        return next((value for key, value in self.scope["headers"] if key == name), None)


Handler = Callable[[Call], Awaitable[Reply | Stream]]


def answer(body: Any, status: int = 200) -> Reply:
    """A JSON answer."""
    return Reply(status, encode(body), [JSON])


def raw(body: bytes, status: int = 200) -> Reply:
    """A JSON answer that is encoded already."""
    return Reply(status, body, [JSON])


def nothing() -> Reply:
    """The answer without content."""
    return Reply(204, b"", [])


def problem(refused: Refused) -> Reply:
    """The answer that a refusal comes to."""
    body = wire.ErrorAnswer(wire.Problem(refused.code, str(refused)))
    return Reply(refused.status, encode(body), [JSON, *refused.headers])


def explained(error: Exception, who: Who | None) -> Reply:
    """The answer to an error.

    What went wrong inside is said to those who may know the server, an admin; to others only that it did.
    """
    if isinstance(error, Refused):
        return problem(error)
    if isinstance(error, asyncio.TimeoutError):
        return problem(Refused(503, "HTTP", "The answer took too long. Ask again.", retry=1))
    if isinstance(error, TunewrightError):
        status = wire.STATUS.get(error.code, 500)
        text = str(error)
        if status >= 500:
            log.warning("a request failed: [%s] %s", error.code, error)
            if who is None or who.level < LEVEL["admin"]:
                text = "The server cannot do this now; its log says why. Try again later, or ask who runs it."
        return problem(Refused(status, error.code, text, retry=1 if status == 503 else None))
    log.error("a request failed inside", exc_info=error)
    return problem(
        Refused(500, "HTTP", "The server made a mistake; its log has the details. Report it to who runs it.")
    )
