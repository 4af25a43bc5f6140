"""A worker process: reads segments, runs them, says how they went. Started by ``run.processes``; not for users."""

from __future__ import annotations

import os
import signal
import socket
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from tunewright.run.guard import end_strays
from tunewright.run.messages import Answer, Finish, FromWorker, Segment, pack, to_worker
from tunewright.run.target import Target, resolve
from tunewright.run.worker import error_text, execute
from tunewright.store.access import take_tokens
from tunewright.store.depots import beside

_HEAD = struct.Struct("<I")
MAX_FRAME = 64 * 1024 * 1024


class Bounds(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the kernel holds a worker and each of its children to; 0 for no limit.

    Attributes:
        memory: Bytes of private memory at which allocation fails.
        files: Open files and sockets.
        file_size: Bytes of a file that may be written.
    """

    memory: int = 0
    files: int = 0
    file_size: int = 0

    def hold(self) -> None:
        """Takes effect in this process from here on."""
        import resource

        wanted = {
            resource.RLIMIT_DATA: self.memory,
            resource.RLIMIT_NOFILE: self.files,
            resource.RLIMIT_FSIZE: self.file_size,
        }
        for kind, most in wanted.items():
            hard = resource.getrlimit(kind)[1]
            if most:
                most = most if hard == resource.RLIM_INFINITY else min(most, hard)
                resource.setrlimit(kind, (most, most))


class Hello(msgspec.Struct, frozen=True, omit_defaults=True):
    """The first frame a worker gets: what to run, and where.

    Attributes:
        target: The training function.
        path: ``sys.path`` of the driver.
        bounds: What it is held to.
        tokens: What shows servers who asks, for checkpoints that are kept there.
    """

    target: Target
    path: list[str]
    bounds: Bounds = Bounds()
    tokens: dict[str, str] = {}


class Wire:
    """Length-prefixed frames over a socket."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock

    def send(self, data: bytes) -> None:
        """Sends one frame.

        Raises:
            OSError: If the other side is gone.
        """
        self.sock.sendall(_HEAD.pack(len(data)) + data)

    def receive(self) -> bytes | None:
        """The next frame, or None when the other side is gone."""
        head = self._exactly(_HEAD.size)
        if head is None:
            return None
        (size,) = _HEAD.unpack(head)
        return self._exactly(size) if size <= MAX_FRAME else None

    def _exactly(self, size: int) -> bytes | None:
        parts = []
        while size:
            try:
                part = self.sock.recv(min(size, 1 << 20))
            except OSError:
                return None
            if not part:
                return None
            parts.append(part)
            size -= len(part)
        return b"".join(parts)


def log_path(blobs: str, trial: int) -> Path:
    """Where a trial's output goes; for checkpoints at an address, a folder of the machine that the trial runs on."""
    return beside(blobs) / "logs" / f"trial-{trial}.log"


def redirect(segment: Segment) -> None:
    """Sends what the training prints to the trial's own file, so that it cannot garble the driver's terminal."""
    path = log_path(segment.blobs, segment.trial)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    except OSError:
        return
    for target in (1, 2):
        os.dup2(fd, target)
    os.close(fd)


def serve(wire: Wire, function: Callable[..., Any]) -> None:
    """Runs segments until the driver hangs up."""

    def channel(message: FromWorker) -> Answer:
        try:
            wire.send(pack(message))
        except OSError:
            os._exit(1)
        reply = wire.receive()
        if reply is None:
            os._exit(1)
        answer = to_worker(reply)
        assert isinstance(answer, Answer)
        return answer

    while (frame := wire.receive()) is not None:
        segment = to_worker(frame)
        if isinstance(segment, Segment):
            redirect(segment)
            execute(segment, function, channel, child=True)
            sys.stdout.flush()
            sys.stderr.flush()
            end_strays()


def work(fd: int) -> None:
    """What a spawned worker does; ``fd`` is the descriptor of its socket."""
    wire = Wire(socket.socket(fileno=fd))
    frame = wire.receive()
    if frame is None:
        return
    hello = msgspec.json.decode(frame, type=Hello)
    sys.path[:] = hello.path
    os.environ["TUNEWRIGHT_WORKER"] = "1"
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    hello.bounds.hold()
    take_tokens(hello.tokens)
    try:
        function = resolve(hello.target)
    except Exception as error:  # noqa: BLE001 - user code runs while its module is imported
        text = f"importing the training function failed\n{error_text(error)}"
        refuse(wire, text)
        return
    serve(wire, function)


def refuse(wire: Wire, text: str) -> None:
    """Answers the first segment with the reason why this worker cannot run anything."""
    frame = wire.receive()
    segment = to_worker(frame) if frame is not None else None
    if isinstance(segment, Segment):
        wire.send(pack(Finish(segment.trial, segment.token, "failed", error=text, fatal=True)))
        wire.receive()
