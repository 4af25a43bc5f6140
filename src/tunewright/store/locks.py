"""Locks between processes that the kernel gives back when their holder dies.

SQLite makes a process that finds the file locked sleep and try again, so under load one process can wait for seconds
while another writes thousands of times. ``turn`` puts a turnstile in front: whoever waits for the write lock holds the
queue lock, so a process that has just written cannot overtake it. The turnstile is about fairness only: SQLite's own
lock still decides who may write, so a system without these locks is slower, not wrong.
"""

from __future__ import annotations

import contextlib
import os
import random
import struct
import threading
import time
from collections.abc import Iterator
from functools import lru_cache

_DICE = random.SystemRandom()  # pauses must not advance the generator that trainings draw from

try:
    import fcntl
except ImportError:  # pragma: no cover - there is no such module on Windows
    fcntl = None  # type: ignore[assignment]

_QUEUE, _WRITE, _STUDIES = 0, 1, 1024
_FLOCK = "hhqqi4x"
# Short naps for the one at the head of the queue, so that the file is never idle for long; long ones for the others,
# whose polling would cost the head its processor. Measured with 8 processes on 2 cores.
_FIRST, _OTHERS = 20e-6, 2e-3


class FileLocks:
    """Byte-range locks on a small file beside the store; one object per process and store.

    Args:
        path: The lock file; created when missing. Where that fails, every lock is granted at once.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._fd: int | None = None
        self._broken = fcntl is None
        self._mutex = threading.Lock()
        self._deciding: dict[int, tuple[threading.RLock, list[int]]] = {}

    @contextlib.contextmanager
    def turn(self, deadline: float) -> Iterator[bool]:
        """Waits for this process's turn to write; the caller keeps its own threads apart.

        Args:
            deadline: On ``time.monotonic``.

        Yields:
            False when the deadline passed; then nothing is held.
        """
        granted = False
        if self._take(_QUEUE, deadline, _OTHERS):
            try:
                granted = self._take(_WRITE, deadline, _FIRST)
            finally:
                self._drop(_QUEUE)
        try:
            yield granted
        finally:
            if granted:
                self._drop(_WRITE)

    @contextlib.contextmanager
    def deciding(self, study: int, patience: float) -> Iterator[None]:
        """Holds the advisory lock of one study; may be nested in one thread.

        After ``patience`` seconds the caller goes on without it: the lock saves work, it protects nothing.
        """
        with self._mutex:
            lock, depth = self._deciding.setdefault(study, (threading.RLock(), [0]))
        deadline = time.monotonic() + patience
        if not lock.acquire(timeout=patience):
            yield
            return
        held = False
        try:
            depth[0] += 1
            if depth[0] == 1:
                held = self._take(_STUDIES + study, deadline, 2 * _OTHERS)
            yield
        finally:
            depth[0] -= 1
            if held:
                self._drop(_STUDIES + study)
            lock.release()

    def close(self) -> None:
        """Gives everything back; the next lock opens the file again."""
        with self._mutex:
            if self._fd is not None:
                os.close(self._fd)
                self._fd = None

    def forget(self) -> None:
        """Called in a forked child: its copy of the file must not keep the parent's locks alive."""
        self._mutex = threading.Lock()
        self._deciding = {}
        self.close()

    def _file(self) -> int | None:
        if self._fd is None and not self._broken:
            with self._mutex:
                if self._fd is None:
                    try:
                        self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
                    except OSError:
                        self._broken = True
        return self._fd

    def _take(self, byte: int, deadline: float, nap: float) -> bool:
        fd = self._file()
        if fd is None:
            return True
        while True:
            try:
                _lock(fd, byte, exclusive=True)
            except (BlockingIOError, PermissionError):
                if time.monotonic() > deadline:
                    return False
                time.sleep(nap * (0.5 + _DICE.random()))
            except OSError:
                # No locks on this file system; SQLite's own will have to do.
                self._broken = True
                self.close()
                return True
            else:
                return True

    def _drop(self, byte: int) -> None:
        if self._fd is not None:
            with contextlib.suppress(OSError):
                _lock(self._fd, byte, exclusive=False)


def _lock(fd: int, byte: int, *, exclusive: bool) -> None:
    """Takes or gives back one byte, without waiting.

    Locks of the open file are preferred to those of the process, which vanish when any copy of the file is closed.
    """
    if _COMMAND is not None:
        fcntl.fcntl(fd, _COMMAND, _request(byte, exclusive))
    else:  # pragma: no cover - only where open file description locks are missing
        fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB if exclusive else fcntl.LOCK_UN, 1, byte)


_COMMAND = getattr(fcntl, "F_OFD_SETLK", None)


@lru_cache(maxsize=256)
def _request(byte: int, exclusive: bool) -> bytes:
    return struct.pack(_FLOCK, fcntl.F_WRLCK if exclusive else fcntl.F_UNLCK, os.SEEK_SET, byte, 1, 0)
