"""Runs segments in worker processes of this machine.

A function that can be imported by name reaches a freshly started interpreter; any other (a closure, a lambda, a
function typed into a notebook) reaches a forked copy of this process. Workers are reused unless ``fresh`` is set.
Each worker leads its own session, so that it can be ended together with everything it started.
"""

from __future__ import annotations

import contextlib
import logging
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec

from tunewright.errors import ConfigError, UnsupportedError
from tunewright.run.child import Hello, Wire, die_with_parent, log_path, serve
from tunewright.run.executor import Sink
from tunewright.run.messages import Answer, End, Finish, Segment, from_worker, pack
from tunewright.run.target import Target, target_of

log = logging.getLogger(__name__)
_TAIL = 4000
_MEMORY_EVERY = 0.25


@dataclass(frozen=True, slots=True)
class Limits:
    """What a worker may use.

    Args:
        memory: Bytes of resident memory for a trial with everything it starts; None for no limit.
        devices: Devices to share out, one per worker, as ``CUDA_VISIBLE_DEVICES`` lists them; empty for none.
        fresh: Start a new process for every segment, so that nothing is carried over (GPU memory, globals).
    """

    memory: int | None = None
    devices: Sequence[str] = ()
    fresh: bool = False


class _Worker:
    """One child process and what it is doing."""

    def __init__(
        self, pid: int, sock: socket.socket, slot: int, popen: subprocess.Popen[bytes] | None
    ) -> None:
        self.pid = pid
        self.wire = Wire(sock)
        self.slot = slot
        self.popen = popen
        self.segment: Segment | None = None
        self.verdict: Literal["", "stop", "pause"] = ""
        self.doom: tuple[End, str] | None = None

    def end(self) -> int | None:
        """Ends the process with its whole session and returns its exit status, negative for a signal."""
        self.wire.sock.close()
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(self.pid, signal.SIGKILL)
        for pid in _session(self.pid):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        return self.reap()

    def reap(self) -> int | None:
        """Waits for the ended process."""
        if self.popen is not None:
            return self.popen.wait()
        try:
            return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        except ChildProcessError:
            return None


class Processes:
    """Runs up to ``capacity`` segments at a time, each in its own worker process.

    Args:
        function: The training function.
        capacity: Number of workers.
        limits: What each may use.

    Raises:
        UnsupportedError: If the function cannot be imported by name and this system cannot fork.
    """

    def __init__(self, function: Callable[..., Any], capacity: int, limits: Limits | None = None) -> None:
        if capacity < 1:
            raise ConfigError(f"A study needs at least one worker; got {capacity}. Pass workers=1 or more.")
        self.capacity = capacity
        self.limits = limits or Limits()
        self._function = function
        self._target: Target | None = target_of(function)
        if self._target is None and not hasattr(os, "fork"):
            raise UnsupportedError(
                "Worker processes must be able to import the training function; this one is defined inside another "
                "function or typed in. Move it to the top level of a file."
            )
        if self._target is None:
            log.info("the training function cannot be imported by name; workers are forked from this process")
        self._workers: list[_Worker] = []
        self._selector = selectors.DefaultSelector()
        self._sink: Sink | None = None
        self._checked = 0.0
        self._closed = False

    def connect(self, sink: Sink) -> None:
        """Says where messages go."""
        self._sink = sink

    def submit(self, segment: Segment) -> None:
        """Hands a segment to an idle worker, starting one if need be."""
        worker = next((w for w in self._workers if w.segment is None), None) or self._start()
        worker.segment, worker.verdict, worker.doom = segment, "", None
        try:
            worker.wire.send(pack(segment))
        except OSError:
            log.debug("worker %d died before it got its segment", worker.pid)

    def signal(self, trial: int, verdict: Literal["stop", "pause"]) -> None:
        """Remembers a verdict; the worker hears it with the next answer."""
        for worker in self._workers:
            if worker.segment is not None and worker.segment.trial == trial:
                worker.verdict = verdict

    def poll(self, timeout: float) -> None:
        """Delivers the messages that are there; waits for the first ones up to ``timeout`` seconds."""
        if self.limits.memory is not None:
            timeout = min(timeout, _MEMORY_EVERY)
        for key, _ in self._selector.select(timeout):
            self._hear(key.data)
        if self.limits.memory is not None and time.monotonic() - self._checked > _MEMORY_EVERY:
            self._check_memory(self.limits.memory)

    def kill(
        self, trial: int, outcome: Literal["timed_out", "out_of_memory", "killed", "lost"], reason: str
    ) -> None:
        """Ends a running segment at once, with all its processes."""
        for worker in list(self._workers):
            if worker.segment is not None and worker.segment.trial == trial:
                worker.doom = (outcome, reason)
                self._bury(worker)

    def close(self) -> None:
        """Ends all workers."""
        for worker in list(self._workers):
            with contextlib.suppress(KeyError, ValueError):
                self._selector.unregister(worker.wire.sock)
            worker.end()
        self._workers.clear()
        if not self._closed:
            self._selector.close()
            self._closed = True

    # ------------------------------------------------------------------ one worker

    def _hear(self, worker: _Worker) -> None:
        frame = worker.wire.receive()
        if frame is None:
            self._bury(worker)
            return
        assert self._sink is not None
        message = from_worker(frame)
        finished = isinstance(message, Finish)
        if finished:
            worker.segment = None
        answer = self._sink(message)
        if worker.verdict and not answer.verdict:
            answer = Answer(worker.verdict, answer.value, answer.error)
        with contextlib.suppress(OSError):
            worker.wire.send(pack(answer))
        if finished and self.limits.fresh:
            self._remove(worker)

    def _bury(self, worker: _Worker) -> None:
        """A worker is dead or doomed: takes it away and says what became of its segment."""
        status = self._remove(worker)
        segment = worker.segment
        if segment is None:
            return
        worker.segment = None
        outcome, reason = worker.doom or ("lost", _cause(status))
        tail = _tail(log_path(segment.blobs, segment.trial)) if worker.doom is None else ""
        assert self._sink is not None
        text = f"{reason}\n{tail}".strip()
        self._sink(Finish(segment.trial, segment.token, outcome, segment.step, error=text))

    def _remove(self, worker: _Worker) -> int | None:
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(worker.wire.sock)
        self._workers.remove(worker)
        return worker.end()

    def _start(self) -> _Worker:
        taken = {w.slot for w in self._workers}
        slot = next(i for i in range(self.capacity + 1) if i not in taken)
        ours, theirs = socket.socketpair()
        worker = self._fork(slot, ours, theirs) if self._target is None else self._spawn(slot, ours, theirs)
        theirs.close()
        self._workers.append(worker)
        self._selector.register(ours, selectors.EVENT_READ, worker)
        return worker

    def _spawn(self, slot: int, ours: socket.socket, theirs: socket.socket) -> _Worker:
        popen = subprocess.Popen(  # noqa: S603 - our own interpreter, no shell
            [sys.executable, "-m", "tunewright.run.child", str(theirs.fileno())],
            pass_fds=(theirs.fileno(),),
            stdin=subprocess.DEVNULL,
            env={**os.environ, **self._environment(slot)},
            start_new_session=True,
        )
        worker = _Worker(popen.pid, ours, slot, popen)
        assert self._target is not None
        hello = Hello(self._target, [p or str(Path.cwd()) for p in sys.path], self._backstop(), os.getpid())
        with contextlib.suppress(OSError):
            worker.wire.send(msgspec.json.encode(hello))
        return worker

    def _fork(self, slot: int, ours: socket.socket, theirs: socket.socket) -> _Worker:
        parent = os.getpid()
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid:
            return _Worker(pid, ours, slot, None)
        try:
            os.setsid()
            die_with_parent(parent)
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, signal.SIG_IGN if number == signal.SIGINT else signal.SIG_DFL)
            for sock in (ours, *(w.wire.sock for w in self._workers)):
                sock.close()
            os.environ.update(self._environment(slot))
            # A notebook or a test runner may have put an object of its own in their place.
            sys.stdout = open(1, "w", buffering=1, closefd=False)  # noqa: SIM115
            sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115
            serve(Wire(theirs), self._function)
        finally:
            os._exit(0)

    def _environment(self, slot: int) -> dict[str, str]:
        """Threads and devices are shared out, unless the user has settled them."""
        out = {}
        share = max(1, (os.cpu_count() or 1) // self.capacity)
        for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
            if name not in os.environ:
                out[name] = str(share)
        if self.limits.devices:
            out["CUDA_VISIBLE_DEVICES"] = self.limits.devices[slot % len(self.limits.devices)]
        return out

    def _backstop(self) -> int:
        """Allocation fails outright well above the limit, should memory grow faster than it is looked at."""
        return 2 * self.limits.memory + (1 << 30) if self.limits.memory is not None else 0

    def _check_memory(self, limit: int) -> None:
        self._checked = time.monotonic()
        used = _resident([w.pid for w in self._workers if w.segment is not None])
        for worker in list(self._workers):
            if worker.segment is not None and used.get(worker.pid, 0) > limit:
                mib = used[worker.pid] >> 20
                worker.doom = ("out_of_memory", f"used {mib} MiB, more than the limit of {limit >> 20} MiB")
                self._bury(worker)


def _session(leader: int) -> list[int]:
    """Processes of a session that moved to a process group of their own, as scripts do (Linux)."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            if int(fields[3]) == leader != int(fields[2]):
                found.append(int(entry.name))
        except (OSError, ValueError, IndexError):
            continue
    return found


def _resident(leaders: Sequence[int]) -> dict[int, int]:
    """Bytes of resident memory by session leader, over all processes of the session (Linux)."""
    total = dict.fromkeys(leaders, 0)
    page = os.sysconf("SC_PAGE_SIZE")
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            session = int(fields[3])
            if session in total:
                total[session] += int(fields[21]) * page
        except (OSError, ValueError, IndexError):
            continue
    return total


def _cause(status: int | None) -> str:
    if status is None:
        return "the worker process is gone"
    if status < 0:
        with contextlib.suppress(ValueError):
            return f"the worker process was ended by {signal.Signals(-status).name}"
    return f"the worker process ended with exit status {status}"


def _tail(path: Path) -> str:
    try:
        with path.open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - _TAIL))
            return file.read().decode("utf-8", "replace")
    except OSError:
        return ""
