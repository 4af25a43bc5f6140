"""Checkpoint files over HTTP: named by their content, kept only when the content has that name, never shown in a page."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import AsyncGenerator
from functools import partial
from pathlib import Path
from typing import BinaryIO

from tunewright.errors import CheckpointError
from tunewright.store import blobs, wire
from tunewright.store.depots import local
from tunewright.web.lanes import aside
from tunewright.web.logs import attachment
from tunewright.web.refusals import Refused
from tunewright.web.replies import BYTES, Call, Reply, Stream, answer, nothing

log = logging.getLogger(__name__)
HEARD = "tunewright.heard"
"""Where the scope of a request says when its body last got on."""
_CHUNK = 1 << 18
_STEADY = 1 << 16
_RESERVE = 1 << 26
_SLOWEST = 3600.0


async def listing(call: Call) -> Reply:
    """All checkpoint files of a study."""
    place = await _place(call)
    found = await aside(call.state.pools.moving, lambda: blobs.listing(place))
    return answer([wire.FileAnswer(e.name, e.size, e.mtime) for e in found if not e.name.endswith(".part")])


async def _place(call: Call) -> str:
    info = await call.state.shelf.info(call.study, call.who)
    return await aside(call.state.pools.moving, lambda: call.state.store.blobs(info.id))


async def fetch(call: Call) -> Reply | Stream:
    """A file; whoever gets it checks it against its name."""
    place, name = await _place(call), call.item
    file, size = await aside(call.state.pools.moving, lambda: _opened(place, name), _SLOWEST)
    headers = [BYTES, *attachment(name), (b"content-length", str(size).encode())]
    if call.scope["method"] == "HEAD":
        file.close()
        return Reply(200, b"", headers)
    return Stream(200, _read(call, file), headers)


def _opened(place: str, name: str) -> tuple[BinaryIO, int]:
    """The file, open, and its size. A link is never followed, not even one that is put there this moment."""
    folder = local(place)
    path = blobs.where(folder, name) if folder is not None else blobs.get_file(place, name)
    try:
        number = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0))
    except OSError:
        raise Refused(
            404, "TW053", f"No checkpoint {name[:120]} in this study. Take its name from the log."
        ) from None
    file = os.fdopen(number, "rb")
    return file, os.fstat(number).st_size


async def _read(call: Call, file: BinaryIO) -> AsyncGenerator[bytes, None]:
    try:
        while chunk := await aside(call.state.pools.moving, lambda: file.read(_CHUNK)):
            yield chunk
    finally:
        file.close()


async def keep(call: Call) -> Reply:
    """Takes a file in: to a temporary one first, which becomes the real one once its digest is the one in its name."""
    place, name = await _place(call), call.item
    await aside(call.state.pools.moving, lambda: _checked(place, name))
    folder = local(place)
    # Beside the others where they are a folder, for the place of temporary files may be small, or memory.
    where = folder if folder is not None else Path(tempfile.gettempdir())
    room = shutil.disk_usage(where).free - _RESERVE
    most = min(call.state.settings.largest_file, room)
    announced = call.header(b"content-length")
    if announced is not None and int(announced) > most:
        raise _too_large(call, int(announced), room)
    temporary = where / f".{secrets.token_hex(8)}.part"
    try:
        with temporary.open("xb") as file:
            size, digest = 0, hashlib.sha256()
            async for chunk in call_body(call):
                size += len(chunk)
                digest.update(chunk)
                if size > most:
                    raise _too_large(call, size, room)
                if len(chunk) < _CHUNK:
                    file.write(chunk)
                else:
                    await aside(call.state.pools.moving, partial(file.write, chunk))
        if not name.endswith(f".{digest.hexdigest()[:16]}"):
            raise CheckpointError(
                f"A checkpoint's name must end with the digest of its content; {name[:120]} does not. Send it again.",
                blob=name,
            )
        flush = call.state.store.flushes
        await aside(call.state.pools.moving, lambda: _settle(place, name, temporary, flush), _SLOWEST)
    except OSError as error:
        log.warning("a checkpoint could not be kept: %s", error)
        raise Refused(507, "TW046", "The server could not write the checkpoint. Free some space.") from None
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()
    return nothing()


def _too_large(call: Call, size: int, room: int) -> Refused:
    if size <= call.state.settings.largest_file:
        return Refused(
            507, "TW046", f"A checkpoint needs room on the server's disk; {size} bytes do not fit. Free some."
        )
    return Refused(
        413,
        "HTTP",
        f"A checkpoint may take {call.state.settings.largest_file} bytes; got {size}. Make it smaller.",
    )


def _checked(place: str, name: str) -> None:
    folder = local(place)
    blobs.where(folder if folder is not None else Path(tempfile.gettempdir()), name)


def _settle(place: str, name: str, temporary: Path, flush: bool) -> None:
    made = blobs.put_file(place, name.rpartition(".")[0], temporary, flush=flush)
    if made != name:
        blobs.remove(place, made)
        raise CheckpointError(
            f"A checkpoint's name must be one that a store gives; got {name[:120]!r}, not {made!r}. Use store.blobs."
        )


async def remove(call: Call) -> Reply:
    """Removes a file; a missing one is no error."""
    place, name = await _place(call), call.item
    await aside(call.state.pools.moving, lambda: _removed(place, name))
    return nothing()


def _removed(place: str, name: str) -> None:
    _checked(place, name)
    blobs.remove(place, name)


async def call_body(call: Call) -> AsyncGenerator[bytes, None]:
    """The pieces of a body as they come.

    Raises:
        Refused: If the caller goes away before the end.
    """
    fresh = 0
    while True:
        message = await call.receive()
        if message["type"] == "http.disconnect":
            raise Refused(400, "HTTP", "The body ended too early. Send it again.")
        chunk: bytes = message.get("body", b"")
        fresh += len(chunk)
        if fresh >= _STEADY:
            # A byte now and then does not count as getting on.
            call.scope[HEARD], fresh = time.monotonic(), 0
        if chunk:
            yield chunk
        if not message.get("more_body"):
            return
