"""Runs segments in worker processes of this machine.

A function that can be imported by name reaches a freshly started interpreter; any other (a closure, a lambda, a
function typed into a notebook) reaches a forked copy of this process. Workers are reused unless ``fresh`` is set.
Each worker has a guard above it (see ``run.guard``), which ends it together with everything it started.
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
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import msgspec

from tunewright.core.limits import error_kept
from tunewright.errors import ConfigError, UnsupportedError
from tunewright.run.allowance import Limits
from tunewright.run.cage import Cage, caged
from tunewright.run.child import Bounds, Hello, Wire, log_path, serve
from tunewright.run.executor import Sink
from tunewright.run.guard import stand
from tunewright.run.hygiene import for_training
from tunewright.run.messages import Answer, End, Finish, Segment, from_worker, pack
from tunewright.run.target import Target, target_of
from tunewright.run.tree import descendants, usage
from tunewright.store.access import tokens_for

__all__ = ["Limits", "Processes"]
log = logging.getLogger(__name__)
_TAIL = 4000
_LOOK_EVERY = 0.25
_PATIENCE = 5.0


class _Worker:
    """One child process, seen through its guard, and what it is doing."""

    def __init__(
        self, pid: int, sock: socket.socket, slot: int, popen: subprocess.Popen[bytes] | None
    ) -> None:
        self.pid = pid
        self.wire = Wire(sock)
        self.slot = slot
        self.popen = popen
        self.cage: Cage | None = None
        self.segment: Segment | None = None
        self.cpu = 0.0
        self.verdict: Literal["", "stop", "pause"] = ""
        self.doom: tuple[End, str] | None = None

    def end(self) -> int | None:
        """Ends the process with all it started and returns its exit status, negative for a signal."""
        self.wire.sock.close()
        self._signal(self.pid, signal.SIGTERM)
        ended, status = self._wait(_PATIENCE)
        if not ended:
            # The guard is stopped or starved; what it would do is done here.
            for pid in (*descendants(self.pid), self.pid):
                self._signal(pid, signal.SIGKILL)
            _, status = self._wait(_PATIENCE)
        if self.cage is not None:
            if self.cage.starved:
                self.doom = self.doom or ("out_of_memory", "used more memory than its limit")
            self.cage.close()
        return status

    def _signal(self, pid: int, number: int) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)

    def _wait(self, seconds: float) -> tuple[bool, int | None]:
        """Waits for the guard; whether it has ended, and its status."""
        end, pause = time.monotonic() + seconds, 0.0005
        while True:
            if self.popen is not None:
                if self.popen.poll() is not None:
                    return True, self.popen.returncode
            else:
                try:
                    pid, status = os.waitpid(self.pid, os.WNOHANG)
                except ChildProcessError:
                    return True, None
                if pid:
                    return True, os.waitstatus_to_exitcode(status)
            if time.monotonic() > end:
                return False, None
            time.sleep(pause)
            pause = min(2 * pause, 0.02)


class Processes:
    """Runs up to ``capacity`` segments at a time, each in its own worker process.

    Args:
        function: The training function, or its name where that is known already.
        capacity: Number of workers.
        limits: What each may use.

    Raises:
        UnsupportedError: If the function cannot be imported by name and this system cannot fork.
    """

    def __init__(
        self, function: Callable[..., Any] | Target, capacity: int, limits: Limits | None = None
    ) -> None:
        if capacity < 1:
            raise ConfigError(f"A study needs at least one worker; got {capacity}. Pass workers=1 or more.")
        self.capacity = capacity
        self.limits = limits or Limits()
        self._function: Any = function
        self._target: Target | None = function if isinstance(function, Target) else target_of(function)
        if self._target is None and not hasattr(os, "fork"):
            raise UnsupportedError(
                "Worker processes must be able to import the training function; this one is defined inside another "
                "function or typed in. Move it to the top level of a file."
            )
        if self._target is None:
            log.info("the training function cannot be imported by name; workers are forked from this process")
        self._workers: list[_Worker] = []
        if self.limits.places is not None and capacity > self.limits.places:
            raise ConfigError(
                f"Workers must find a place on the devices; got {capacity} for {self.limits.places} places. "
                f"Use fewer workers, more devices, or a larger per_device."
            )
        self._selector = selectors.DefaultSelector()
        self._sink: Sink | None = None
        self._tokens: dict[str, str] = {}
        self._checked = 0.0
        self._closed = False

    def connect(self, sink: Sink) -> None:
        """Says where messages go."""
        self._sink = sink

    def submit(self, segment: Segment) -> None:
        """Hands a segment to an idle worker, starting one if need be."""
        self._tokens = tokens_for(segment.blobs)
        worker = next((w for w in self._workers if w.segment is None), None) or self._start()
        worker.segment, worker.verdict, worker.doom = segment, "", None
        if self.limits.cpu is not None:
            worker.cpu = usage([worker.pid])[worker.pid].cpu
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
        if self.limits.watched:
            timeout = min(timeout, _LOOK_EVERY)
        for key, _ in self._selector.select(timeout):
            self._hear(key.data)
        if self.limits.watched and time.monotonic() - self._checked > _LOOK_EVERY:
            self._check_usage()

    def kill(
        self, trial: int, outcome: Literal["timed_out", "out_of_memory", "killed", "lost"], reason: str
    ) -> None:
        """Ends a running segment at once, with all its processes."""
        for worker in list(self._workers):
            if worker.segment is not None and worker.segment.trial == trial:
                worker.doom = (outcome, reason)
                self._bury(worker)

    def condemn(
        self, trial: int, outcome: Literal["timed_out", "out_of_memory", "killed", "lost"], reason: str
    ) -> None:
        """Ends a running segment from another thread than the one that polls; ``poll`` delivers its ending."""
        for worker in list(self._workers):
            if worker.segment is not None and worker.segment.trial == trial:
                worker.doom = (outcome, reason)
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(worker.pid, signal.SIGTERM)

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
        text = error_kept(f"{reason}\n{tail}".strip())
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
        if self.limits.memory is not None or self.limits.processes is not None:
            worker.cage = caged(worker.pid, self.limits.memory, self.limits.processes)
        self._workers.append(worker)
        self._selector.register(ours, selectors.EVENT_READ, worker)
        return worker

    def _spawn(self, slot: int, ours: socket.socket, theirs: socket.socket) -> _Worker:
        popen = subprocess.Popen(  # noqa: S603 - our own interpreter, no shell
            [sys.executable, "-m", "tunewright.run.spawned", str(theirs.fileno()), str(os.getpid())],
            pass_fds=(theirs.fileno(),),
            stdin=subprocess.DEVNULL,
            env={**for_training(os.environ), **self._environment(slot)},
            start_new_session=True,
        )
        worker = _Worker(popen.pid, ours, slot, popen)
        assert self._target is not None
        path = [p or str(Path.cwd()) for p in sys.path]
        hello = Hello(self._target, path, self._bounds(), self._tokens)
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
            for sock in (ours, *(w.wire.sock for w in self._workers)):
                sock.close()
            stand(theirs.fileno(), parent)
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            environment = {**for_training(os.environ), **self._environment(slot)}
            for name in set(os.environ) - set(environment):
                del os.environ[name]
            os.environ.update(environment)
            self._bounds().hold()
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
            out["CUDA_VISIBLE_DEVICES"] = self.limits.devices_of(slot)
        return out

    def _bounds(self) -> Bounds:
        """What the kernel holds workers to; memory is a backstop, should it grow faster than it is looked at."""
        limits = self.limits
        memory = 2 * limits.memory + (1 << 30) if limits.memory is not None else 0
        return Bounds(memory, limits.files or 0, limits.file_size or 0)

    def _check_usage(self) -> None:
        self._checked = time.monotonic()
        used = usage([w.pid for w in self._workers if w.segment is not None])
        for worker in list(self._workers):
            if worker.segment is not None and worker.pid in used:
                worker.doom = self.limits.exceeded(
                    used[worker.pid], worker.cpu, caged=worker.cage is not None
                )
                if worker.doom is not None:
                    self._bury(worker)


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
