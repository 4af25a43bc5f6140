"""Runs the application: where it listens, who is kept out, and how it ends."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import stat
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import uvicorn

from tunewright.errors import ConfigError, StoreUnavailable, TunewrightError
from tunewright.web.app import Interface
from tunewright.web.doors import loopback
from tunewright.web.files import HEARD

log = logging.getLogger("tunewright.web")
_TICK = 0.25
_HEADERS = 15.0
_BODY = 60.0
_IDLE = 75
_CONNECTIONS = 2000


@dataclass(frozen=True, slots=True)
class Place:
    """Where a server listens.

    Args:
        host: Address or name.
        port: Number; 0 for any that is free.
        socket: Path of a unix socket instead.
        cert: File of a TLS certificate.
        key: File of its key.
        proxy: Whether another server in front speaks TLS with the clients.
        grace: Seconds that requests under way get to end.
    """

    host: str = "127.0.0.1"
    port: int = 8787
    socket: str | None = None
    cert: str | None = None
    key: str | None = None
    proxy: bool = False
    grace: float = 10.0

    @property
    def private(self) -> bool:
        """Whether only this machine can reach it."""
        return self.socket is not None or loopback(self.host)

    @property
    def scheme(self) -> str:
        """How it is spoken to."""
        return "https" if self.cert else "http"


def check(place: Place, tokens: bool) -> None:
    """Refuses to listen where strangers could come in or listen too.

    Args:
        place: Where.
        tokens: Whether there is at least one token.

    Raises:
        ConfigError: If others could reach it without a token, or read tokens on the way.
    """
    if (place.key is None) != (place.cert is None):
        raise ConfigError("TLS needs a certificate and its key; got one of them. Give --cert and --key.")
    for file in (place.cert, place.key):
        if file is not None and not Path(file).is_file():
            raise ConfigError(f"TLS needs files that are there; {file} is not. Correct the path.")
    if place.private:
        return
    if not tokens:
        raise ConfigError(
            f"A server that others can reach needs a token; got --host {place.host} and none. "
            "Make one with 'tunewright token new', or listen on 127.0.0.1."
        )
    if place.cert is None and not place.proxy:
        raise ConfigError(
            f"A server that others can reach needs TLS, or tokens could be read on the way; got --host {place.host} without. "
            "Give --cert and --key, or put it behind a proxy that speaks TLS and say --behind-proxy."
        )


def run(app: Interface, place: Place, ready: Callable[[str], None]) -> int:
    """Serves until a signal comes, then lets requests end.

    Args:
        app: The application.
        place: Where it listens.
        ready: Called with the address once it listens.

    Returns:
        The exit code: 128 and the number of the signal.

    Raises:
        StoreUnavailable: If the address cannot be listened on.
    """
    listener, address = _listen(place)
    server = uvicorn.Server(_config(app, place))
    caught: list[int] = []
    try:
        with _signals(caught), contextlib.suppress(KeyboardInterrupt):
            asyncio.run(_serve(server, app, listener, lambda: ready(address), caught))
    finally:
        listener.close()
        if place.socket is not None:
            Path(place.socket).unlink(missing_ok=True)
    return 128 + caught[0] if caught else 0


def _config(app: Interface, place: Place) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http="auto",
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=True,
        proxy_headers=place.proxy,
        forwarded_allow_ips="127.0.0.1,::1" if place.proxy and place.socket is None else None,
        ssl_certfile=place.cert,
        ssl_keyfile=place.key,
        backlog=1024,
        limit_concurrency=_CONNECTIONS,
        timeout_keep_alive=_IDLE,
        timeout_graceful_shutdown=max(1, round(place.grace)),
        h11_max_incomplete_event_size=1 << 16,
    )


async def _serve(
    server: uvicorn.Server,
    app: Interface,
    listener: socket.socket,
    ready: Callable[[], None],
    caught: list[int],
) -> None:
    watchman = asyncio.create_task(_watch(server, app, ready, caught))
    try:
        await server.serve(sockets=[listener])
    finally:
        watchman.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watchman


async def _watch(
    server: uvicorn.Server, app: Interface, ready: Callable[[], None], caught: list[int]
) -> None:
    """Looks around a few times a second: connections that dawdle, tokens that changed, studies that idle, the end."""
    state, tick = app.state, 0
    seen: dict[Any, tuple[Any, float]] = {}
    told = False
    while True:
        if server.started and not told:
            told = True
            ready()
        if caught:
            server.should_exit = True
        if server.should_exit:
            state.end()
        seen = _dawdlers(server, seen)
        tick += 1
        if tick % 4 == 0:
            try:
                state.guests.refresh()
            except TunewrightError as error:
                log.error("the tokens stay as they were: %s", error)
        if tick % 120 == 0:
            state.shelf.trim()
        await asyncio.sleep(_TICK)


def _dawdlers(server: uvicorn.Server, seen: dict[Any, tuple[Any, float]]) -> dict[Any, tuple[Any, float]]:
    """Hangs up on connections that take too long to say what they want or to take what they get.

    A request that is being worked on is left alone, and so is a connection that waits between two requests, for which
    uvicorn has a limit of its own.
    """
    moment = time.monotonic()
    now: dict[Any, tuple[Any, float]] = {}
    for connection in list(server.server_state.connections):
        stage, most, heard = _stage(connection)
        if stage is None:
            continue
        since = seen[connection][1] if connection in seen and seen[connection][0] == stage else moment
        since = max(since, heard)
        if moment - since <= most:
            now[connection] = (stage, since)
        elif connection.transport is not None:
            connection.transport.abort()
    return now


def _stage(connection: Any) -> tuple[Any, float, float]:
    """What a connection is waited for, for how long at most, and when it last got on with it; None for nothing."""
    cycle = getattr(connection, "cycle", None)
    if cycle is None:
        return "first", _HEADERS, 0.0
    if not cycle.response_complete:
        heard = cycle.scope.get(HEARD, 0.0)
        return (id(cycle), _BODY, heard) if cycle.more_body else (None, 0.0, 0.0)
    transport = connection.transport
    left = transport.get_write_buffer_size() if transport is not None else 0
    if left:
        return (id(cycle), left), _BODY, 0.0
    idle = getattr(connection, "timeout_keep_alive_task", None) is not None
    return (None, 0.0, 0.0) if idle else (("next", id(cycle)), _HEADERS, 0.0)


@contextlib.contextmanager
def _signals(caught: list[int]) -> Iterator[None]:
    """Keeps signals from ending the process, before and after uvicorn has its own handlers."""

    def keep(number: int, frame: FrameType | None) -> None:
        caught.append(number)

    numbers = [signal.SIGINT, signal.SIGTERM] + ([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])
    before = {n: signal.signal(n, keep) for n in numbers}
    try:
        yield
    finally:
        for n, handler in before.items():
            signal.signal(n, handler)


def _listen(place: Place) -> tuple[socket.socket, str]:
    """An open socket and its address for people."""
    if place.socket is not None:
        return _unix(place.socket), f"unix:{place.socket}"
    try:
        family, _, _, _, where = socket.getaddrinfo(
            place.host.strip("[]"), place.port, type=socket.SOCK_STREAM
        )[0]
        # Named as TCP, because asyncio turns off the delay of small packets only where the protocol is named.
        listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    except OSError as error:
        raise _unusable(f"{place.host}:{place.port}", error, "--port") from error
    try:
        if sys.platform != "win32":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(where)
    except OSError as error:
        listener.close()
        raise _unusable(f"{place.host}:{place.port}", error, "--port") from error
    name = f"[{place.host}]" if ":" in place.host and not place.host.startswith("[") else place.host
    return listener, f"{place.scheme}://{name}:{listener.getsockname()[1]}"


def _unix(path: str) -> socket.socket:
    """A unix socket that only its owner can reach."""
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISSOCK(Path(path).stat().st_mode):
            raise ConfigError(f"A socket must not replace a file; {path} is one. Choose another path.")
        Path(path).unlink()
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o177)
    try:
        listener.bind(path)
    except OSError as error:
        listener.close()
        raise _unusable(path, error, "--socket") from error
    finally:
        os.umask(mask)
    return listener


def _unusable(where: str, error: OSError, option: str) -> StoreUnavailable:
    return StoreUnavailable(
        f"The server needs an address of its own; {where} gave '{error}'. Choose another {option}."
    )
