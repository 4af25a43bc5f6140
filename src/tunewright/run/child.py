"""A worker process: reads segments, runs them, says how they went. Started by ``run.processes``; not for users."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from tunewright.run.messages import Answer, Finish, FromWorker, Segment, pack, to_worker
from tunewright.run.target import Target, resolve
from tunewright.run.worker import error_text, execute

_HEAD = struct.Struct("<I")
MAX_FRAME = 64 * 1024 * 1024


class Hello(msgspec.Struct, frozen=True, omit_defaults=True):
    """The first frame a worker gets: what to run, and where.

    Attributes:
        target: The training function.
        path: ``sys.path`` of the driver.
        memory: Bytes of private memory at which allocation fails, or 0 for no limit.
        parent: Process id of the driver.
    """

    target: Target
    path: list[str]
    memory: int = 0
    parent: int = 0


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


def die_with_parent(parent: int, number: int = signal.SIGKILL) -> None:
    """Asks the kernel to signal this process when its driver dies, so that none is left behind."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None, use_errno=True).prctl(1, number)
        if parent and os.getppid() != parent:
            os._exit(1)


def prepare(hello: Hello) -> None:
    """Sets up the process before user code is imported."""
    die_with_parent(hello.parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hello.memory:
        import resource

        resource.setrlimit(resource.RLIMIT_DATA, (hello.memory, hello.memory))


def log_path(blobs: str, trial: int) -> Path:
    """Where a trial's output goes."""
    return Path(blobs) / "logs" / f"trial-{trial}.log"


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


def main() -> None:
    """Entry point of a spawned worker; its socket is the file descriptor given as the only argument."""
    wire = Wire(socket.socket(fileno=int(sys.argv[1])))
    frame = wire.receive()
    if frame is None:
        return
    hello = msgspec.json.decode(frame, type=Hello)
    sys.path[:] = hello.path
    os.environ["TUNEWRIGHT_WORKER"] = "1"
    prepare(hello)
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


if __name__ == "__main__":
    main()
