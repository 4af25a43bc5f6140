"""The application: the interface in front, pages for people behind it.

``build`` puts both together. The interface is plain ASGI, because layers of middleware would cost more than a quick
method's decision; everything else goes to a Starlette application, to which pages are added.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any
from urllib.parse import quote

from starlette.applications import Starlette
from starlette.routing import BaseRoute

from tunewright.errors import StudyMissing
from tunewright.store.base import Store
from tunewright.web import ui
from tunewright.web.doors import SECURITY, carried
from tunewright.web.openapi import document
from tunewright.web.refusals import Headers, Refused
from tunewright.web.replies import Call, Reply, Stream, explained, problem
from tunewright.web.state import Settings, State
from tunewright.web.strict import Malformed, parse
from tunewright.web.table import Route, find, largest, streams

log = logging.getLogger("tunewright.web")
_LARGE = 1 << 16
_SLOWEST = 60.0
Scope = dict[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]


class Interface:
    """Answers requests to the addresses of the table, and lets the others through to the pages.

    Args:
        state: What the server holds.
        pages: What answers everything else.
    """

    def __init__(self, state: State, pages: Callable[[Scope, Receive, Send], Awaitable[None]]) -> None:
        self.state = state
        self._pages = pages

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request; never with a traceback."""
        if scope["type"] != "http":
            await self._pages(scope, receive, send)
            return
        began = time.perf_counter()
        path = scope.get("raw_path") or quote(scope["path"]).encode()
        ours = path.startswith(b"/api/") or path == b"/metrics"
        state = self.state
        state.running += 1
        name, who = "", ""
        try:
            try:
                call, route = self._admitted(scope, receive, path, ours)
                if call is None or route is None:
                    reply = None
                else:
                    name, who = route.path, call.who.id
                    if route.body is not None and not streams(route):
                        await _read(call, route)
                    reply = await route.handler(call)
            except Exception as error:  # noqa: BLE001 - every error becomes an answer
                reply = self._failed(error, scope, path)
            if reply is None:
                status = await self._paged(scope, receive, send)
            else:
                status = reply.status
                await self._send(reply, receive, send)
        finally:
            state.running -= 1
        seconds = time.perf_counter() - began
        state.metrics.count(scope["method"], name or "other", status, seconds)
        if state.settings.logs != "none":
            _write(state.settings.logs, scope, path, status, seconds, who)

    async def _paged(self, scope: Scope, receive: Receive, send: Send) -> int:
        """Lets a page answer, adds the headers that it does not set itself, and returns its status."""
        status = 0

        async def guarded(message: Any) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                given = {name.lower() for name, _ in message["headers"]}
                message["headers"] = [*message["headers"], *((n, v) for n, v in SECURITY if n not in given)]
            await send(message)

        try:
            await self._pages(scope, receive, guarded)
        except Exception as error:  # noqa: BLE001 - Starlette raises again what it has answered
            reply = explained(error, None)
            if not status:
                status = reply.status
                await self._send(reply, receive, send)
        return status

    def _admitted(
        self, scope: Scope, receive: Receive, path: bytes, ours: bool
    ) -> tuple[Call | None, Route | None]:
        """Lets a request in, as a call of a route, or as nothing where it is for the pages.

        Raises:
            Refused: If it may not come in.
        """
        state = self.state
        authorization = state.doors.check(scope)
        if not ours:
            return None, None
        if state.running > state.settings.concurrent:
            raise Refused(503, "HTTP", "Too many requests at a time. Ask again later.", retry=1)
        found = find(path)
        if found is None:
            raise Refused(404, "HTTP", "There is nothing at this address. See /api/v1/openapi.json.")
        ways, study, item = found
        route = ways.get(scope["method"])
        if route is None:
            allow = ", ".join(sorted(ways)).encode()
            raise Refused(405, "HTTP", "This address has other methods.", headers=[(b"allow", allow)])
        who = state.guests.who(authorization)
        if state.settings.readonly and route.level > 0:
            raise Refused(403, "HTTP", "This server only shows; it was started with --read-only.")
        if route.level >= 0:
            if who is None:
                raise self._unknown(scope, authorization)
            if who.level < route.level:
                raise Refused(403, "HTTP", f"This needs a token with the scope {route.scope}.")
            if not state.rates.take(who.id):
                raise Refused(429, "HTTP", "Too many requests with this token. Slow down.", retry=1)
        return Call(state, who or state.guests.nobody, scope, receive, study, item), route

    def _unknown(self, scope: Scope, authorization: bytes | None) -> Refused:
        """The refusal for whoever has no token that we know; guessing is slowed down by address."""
        client = scope.get("client")
        if authorization is not None and not self.state.failures.take(client[0] if client else ""):
            return Refused(429, "HTTP", "Too many wrong tokens from this address. Wait.", retry=10)
        return Refused(
            401,
            "HTTP",
            "This needs a token. Send the header 'Authorization: Bearer TOKEN', from 'tunewright token new'.",
            headers=[(b"www-authenticate", b"Bearer")],
        )

    def _failed(self, error: Exception, scope: Scope, path: bytes) -> Reply:
        if isinstance(error, Malformed):
            return problem(Refused(422, "HTTP", str(error)))
        if isinstance(error, StudyMissing):
            found = find(path)
            if found is not None and found[1]:
                self.state.shelf.missing(found[1])
                error = StudyMissing(f"No study '{found[1][:256]}' on this server; see GET /api/v1/studies.")
        headers = dict(reversed(scope["headers"]))
        authorization = headers.get(b"authorization")
        if authorization is None:
            authorization = carried(headers.get(b"cookie", b""), headers.get(b"host", b""))
        return explained(error, self.state.guests.who(authorization))

    async def _send(self, reply: Reply | Stream, receive: Receive, send: Send) -> None:
        given = {name for name, _ in reply.headers}
        headers: Headers = [*reply.headers, *(pair for pair in SECURITY if pair[0] not in given)]
        if isinstance(reply, Reply):
            if reply.status not in (204, 304) and not any(k == b"content-length" for k, _ in reply.headers):
                headers.append((b"content-length", str(len(reply.body)).encode()))
            await send({"type": "http.response.start", "status": reply.status, "headers": headers})
            await send({"type": "http.response.body", "body": reply.body})
            return
        await send({"type": "http.response.start", "status": reply.status, "headers": headers})
        await _pour(reply, receive, send)


async def _read(call: Call, route: Route) -> None:
    """Reads and decodes a body, which ends the request as soon as it is too large."""
    most = largest(route)
    announced = call.header(b"content-length")
    if announced is not None and (len(announced) > 15 or int(announced) > most):
        raise _too_large(most)
    message = await call.receive()
    body = message.get("body", b"")
    if message.get("more_body"):
        parts, size = [body], len(body)
        while message.get("more_body"):
            message = await call.receive()
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if size > most:
                raise _too_large(most)
        body = b"".join(parts)
    if message["type"] == "http.disconnect":
        raise Refused(400, "HTTP", "The body ended too early. Send it again.")
    if len(body) > most:
        raise _too_large(most)
    if route.decoder is None:
        call.body = body
    elif len(body) < _LARGE:
        call.body = parse(body, route.decoder)
    else:
        decoder = route.decoder
        call.body = await asyncio.get_running_loop().run_in_executor(
            call.state.pools.looking, lambda: parse(body, decoder)
        )


async def _pour(stream: Stream, receive: Receive, send: Send) -> None:
    """Sends a stream until it ends or nobody listens any more, which only ``receive`` tells."""
    gone = asyncio.ensure_future(_gone(receive))
    following: asyncio.Future[bytes | None] | None = None
    try:
        while True:
            following = asyncio.ensure_future(_next(stream.chunks))
            await asyncio.wait((gone, following), return_when=asyncio.FIRST_COMPLETED)
            if gone.done():
                return
            chunk = await following
            if chunk is None:
                break
            async with asyncio.timeout(_SLOWEST):
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
    except TimeoutError:
        # Whoever does not take what it asked for is hung up on, by ending without the end.
        return
    finally:
        for task in (gone, following):
            if task is not None and not task.done():
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
        await stream.chunks.aclose()


async def _next(chunks: AsyncGenerator[bytes, None]) -> bytes | None:
    # Not anext() with a default, which loses a cancellation on Python 3.11.
    try:
        return await anext(chunks)
    except StopAsyncIteration:
        return None


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _too_large(most: int) -> Refused:
    return Refused(
        413,
        "HTTP",
        f"A body may take {most:,} bytes here; got more. Send it in parts.",
        headers=[(b"connection", b"close")],
    )


def _write(kind: str, scope: Scope, path: bytes, status: int, seconds: float, who: str) -> None:
    """One line per request, without what stands behind the question mark and without tokens."""
    client = scope.get("client")
    shown = path[:300].decode("latin-1")
    if kind == "json":
        line = {"client": client[0] if client else "", "token": who, "method": scope["method"], "path": shown,
                "status": status, "ms": round(1000 * seconds, 2)}  # fmt: skip
        log.info("%s", json.dumps(line))
    else:
        log.info(
            "%s %s %s %s %d %.1fms",
            client[0] if client else "-", who or "-", scope["method"], shown, status, 1000 * seconds,
        )  # fmt: skip


def build(store: Store, settings: Settings | None = None, pages: Sequence[BaseRoute] = ()) -> Interface:
    """The application of one server, for any ASGI server that runs one process.

    Args:
        store: Where the studies are.
        settings: How it is run.
        pages: Further routes, which come before those of the pages for people.
    """
    state = State(store, settings or Settings(), document)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        yield
        await state.news.close()
        state.close()

    behind = Starlette(
        routes=[*pages, *ui.routes(state)],
        lifespan=lifespan,
        exception_handlers={404: _nothing, 405: _nothing, 500: _nothing},
    )
    return Interface(state, behind)


async def _nothing(request: Any, error: Exception) -> Any:
    from starlette.responses import Response

    status = int(getattr(error, "status_code", 500))
    text = "There is nothing at this address. See /api/v1/openapi.json."
    if status >= 500:
        text = "The server made a mistake; its log has the details. Report it to who runs it."
    body = problem(Refused(status, "HTTP", text)).body
    return Response(body, status, {"content-type": "application/json"})
