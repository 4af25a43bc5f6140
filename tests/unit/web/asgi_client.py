"""Talks to the application without a network: one event loop, raw ASGI."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from tunewright.store.base import Store
from tunewright.store.memory import MemoryStore
from tunewright.web.app import Interface, build
from tunewright.web.state import Settings
from tunewright.web.tokens import Scope, TokenFile

API = "/api/v1"


class Got:
    """An answer."""

    def __init__(self, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
        self.status = status
        self.headers = {k.decode(): v.decode() for k, v in headers}
        self.body = body

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """Code of the error; empty for none."""
        return self.json["error"]["code"] if self.status >= 400 else ""


class Talk:
    """A client of one application, which it also ends."""

    def __init__(self, store: Store | None = None, pages: Sequence[Any] = (), **settings: Any) -> None:
        self.store = store if store is not None else MemoryStore(expiring=True)
        settings.setdefault("logs", "none")
        self.app: Interface = build(self.store, Settings(**settings), pages)
        self.token = ""
        self._loop = asyncio.new_event_loop()

    def close(self) -> None:
        async def end() -> None:
            await self.app.state.news.close()
            self.app.state.close()

        self._loop.run_until_complete(end())
        self._loop.close()

    def __call__(self, method: str, path: str, body: Any = None, **more: Any) -> Got:
        return self._loop.run_until_complete(self.call(method, path, body, **more))

    def together(self, *calls: tuple[Any, ...]) -> list[Got]:
        """Several requests at the same time."""

        async def all_() -> list[Got]:
            return list(await asyncio.gather(*(self.call(*c) for c in calls)))

        return self._loop.run_until_complete(all_())

    async def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        headers: Sequence[tuple[str, str]] = (),
        token: str | None = None,
        host: str = "localhost:8787",
        chunks: Sequence[bytes] | None = None,
        events: int | None = None,
    ) -> Got:
        """One request.

        Args:
            method: Its method.
            path: Address below ``/api/v1``, or the whole one after an equals sign; as it is sent, so encoded.
            body: Bytes, or data to be sent as JSON.
            headers: More headers.
            token: Instead of ``self.token``; empty for none.
            host: The ``Host``.
            chunks: The body in pieces, instead.
            events: Pieces of a stream after which the client goes away.
        """
        target = path[1:] if path.startswith("=") else API + path
        raw, _, query = target.partition("?")
        data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        parts = list(chunks) if chunks is not None else [data]
        given = [(b"host", host.encode())] if host else []
        shown = self.token if token is None else token
        if shown:
            given.append((b"authorization", f"Bearer {shown}".encode()))
        if data:
            given.append((b"content-length", str(len(data)).encode()))
        given += [(k.lower().encode(), v.encode("latin-1")) for k, v in headers]
        scope = {
            "type": "http", "method": method, "path": unquote(raw), "raw_path": raw.encode("latin-1"),
            "query_string": query.encode("latin-1"), "headers": given, "scheme": "http", "client": ("127.0.0.1", 1),
        }  # fmt: skip
        sent: list[dict[str, Any]] = []
        gone = asyncio.Event()

        async def receive() -> dict[str, Any]:
            if parts:
                return {"type": "http.request", "body": parts.pop(0), "more_body": bool(parts)}
            if events is None:
                await asyncio.Event().wait()
            await gone.wait()
            return {"type": "http.disconnect"}

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)
            if events is not None and len(sent) > events:
                gone.set()

        await asyncio.wait_for(self.app(scope, receive, send), 60)
        return Got(sent[0]["status"], sent[0]["headers"], b"".join(m.get("body", b"") for m in sent[1:]))

    def study(self, name: str = "s", **more: Any) -> int:
        """Makes a study and returns its key."""
        body = {"name": name, "space": {"x": "0.0..1.0"}, "method": "random", **more}
        got = self("POST", "/studies", body)
        assert got.status == 201, got.body
        key: int = got.json["id"]
        return key

    def ask(self, name: str = "s", **more: Any) -> Any:
        """One trial, or None."""
        got = self("POST", f"/studies/{name}/ask", more)
        assert got.status == 200, got.body
        trials = got.json["trials"]
        return trials[0] if trials else None


@pytest.fixture
def talk() -> Iterator[Talk]:
    """A server without tokens, on this machine."""
    found = Talk()
    yield found
    found.close()


def made(folder: Path, *wanted: tuple[Scope, str]) -> tuple[Path, list[str]]:
    """A file of tokens, and the tokens."""
    file = TokenFile(folder / "tokens.json")
    return file.path, [file.new(scope, studies=[pattern])[0] for scope, pattern in wanted]
