"""A real server in a thread, on a port of its own."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn

from tunewright.store.base import Store
from tunewright.store.memory import MemoryStore
from tunewright.web import serving
from tunewright.web.app import build
from tunewright.web.serving import Place
from tunewright.web.state import Settings


class Live:
    """One server; ``end`` asks it to end, as a signal does."""

    def __init__(self, place: Place, store: Store | None, **settings: Any) -> None:
        settings.setdefault("logs", "none")
        self.place = place
        self.app = build(store or MemoryStore(expiring=True), Settings(**settings))
        self._listener, self.address = serving._listen(place)
        self.port = self._listener.getsockname()[1] if place.socket is None else 0
        self._server = uvicorn.Server(serving._config(self.app, place))
        self._caught: list[int] = []
        self._ready = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()
        assert self._ready.wait(10.0)

    def _run(self) -> None:
        asyncio.run(serving._serve(self._server, self.app, self._listener, self._ready.set, self._caught))

    def end(self) -> None:
        self._caught.append(15)

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=10.0)

    def ask(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> tuple[int, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20.0)
        try:
            connection.request(
                method, path, None if body is None else json.dumps(body).encode(), headers or {}
            )
            answer = connection.getresponse()
            data = answer.read()
            return answer.status, json.loads(data) if data else None
        finally:
            connection.close()


@contextmanager
def live(place: Place | None = None, store: Store | None = None, **settings: Any) -> Iterator[Live]:
    """A server for as long as the block lasts."""
    found = Live(place or Place(port=0, grace=2.0), store, **settings)
    try:
        yield found
    finally:
        found.end()
        found.thread.join(15.0)
        found._listener.close()
        assert not found.thread.is_alive(), "the server did not end"
