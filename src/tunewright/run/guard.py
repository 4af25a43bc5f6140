"""Stands between the driver and one worker, and ends all that the worker has started when either of them ends.

A worker may start children of its own, and these may leave its session and forget who started them. The guard is
their nearest *subreaper* (Linux): whoever loses its parent becomes a child of the guard, so nothing gets out of sight.
It outlives a worker that is killed, and it hears that the driver is gone by the end of their socket. It imports
nothing but the standard library, and does nothing until one of the two ends.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import select
import signal
import sys
import time
from pathlib import Path
from types import FrameType

_SUBREAPER = 36
_DEATH_SIGNAL = 1
_PATIENCE = 10.0


def die_with_parent(parent: int, number: int = signal.SIGKILL) -> None:
    """Asks the kernel to signal this process when its parent dies, so that none is left behind.

    Args:
        parent: Process id that the parent must have; where it is gone already, this process ends. 0 for any.
        number: The signal.
    """
    _prctl(_DEATH_SIGNAL, number)
    if sys.platform == "linux" and parent and os.getppid() != parent:
        os._exit(1)


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


def stand(fd: int, parent: int) -> None:
    """Forks: returns in the new process, which is to become the worker; the old one stays as its guard and ends with it.

    Args:
        fd: The worker's end of the socket; it hangs up when the driver is gone or closes its own end.
        parent: Process id of the driver.
    """
    gc.disable()  # a collection would copy pages that are shared with the driver
    _prctl(_SUBREAPER, 1)
    asked: list[int] = []

    def ask(number: int, frame: FrameType | None) -> None:
        asked.append(number)

    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    os.set_blocking(woken, False)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    signal.signal(signal.SIGTERM, ask)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    die_with_parent(parent, signal.SIGTERM)
    guard = os.getpid()
    worker = os.fork()
    if worker:
        os._exit(_wait(worker, fd, woken, asked))
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGTERM, signal.SIGCHLD, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    os.close(woken)
    os.close(wake)
    os.setsid()
    die_with_parent(guard)
    gc.enable()


def _wait(worker: int, fd: int, woken: int, asked: list[int]) -> int:
    """Waits until the worker or the driver is gone, ends the rest, and ends as the worker did."""
    poll = select.poll()
    poll.register(fd, getattr(select, "POLLRDHUP", 0) | select.POLLHUP)
    poll.register(woken, select.POLLIN)
    status: int | None = None
    while status is None and not asked:
        ready = dict(poll.poll())
        with contextlib.suppress(BlockingIOError):
            os.read(woken, 4096)
        if fd in ready:
            break
        status, _ = _reaped(worker)
    if status is None:
        _end(worker)
    end, left = time.monotonic() + _PATIENCE, True
    while left and time.monotonic() < end:
        if sys.platform != "linux":
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(worker, signal.SIGKILL)
        found, left = _reaped(worker)
        status = found if status is None else status
        for pid in _children(os.getpid()) if left else ():
            _end(pid)
        if left:
            time.sleep(0.001)
    return _end_like(status)


def _end(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signal.SIGKILL)


def _reaped(worker: int) -> tuple[int | None, bool]:
    """Takes note of children that ended: the worker's status when it is among them, and whether any are left."""
    status: int | None = None
    try:
        while True:
            pid, found = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return status, True
            if pid == worker:
                status = found
    except ChildProcessError:
        return status, False


def _children(parent: int) -> list[int]:
    """Children of a process, ended ones included (Linux); none where the system does not tell."""
    try:
        return [int(x) for x in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()]
    except (OSError, ValueError):
        return [pid for pid in _processes() if _parent(pid) == parent]


def _processes() -> list[int]:
    with contextlib.suppress(OSError):
        return [int(entry.name) for entry in Path("/proc").glob("[0-9]*")]
    return []


def _parent(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except (OSError, ValueError, IndexError):
        return 0


def _end_like(status: int | None) -> int:
    """The exit code to end with; where the worker was ended by a signal, this process ends by the same one."""
    if status is None:
        return 1
    code = os.waitstatus_to_exitcode(status)
    if code < 0:
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        with contextlib.suppress(OSError, ValueError):
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
        signal.pause()
    return code


def end_strays() -> None:
    """Ends, from within the worker, what the last training left behind: processes whose parent is gone."""
    guard, here = os.getppid(), os.getpid()
    if guard <= 1:
        return
    end = time.monotonic() + _PATIENCE
    while (strays := [p for p in _children(guard) if p != here]) and time.monotonic() < end:
        for pid in strays:
            _end(pid)
        time.sleep(0.001)
