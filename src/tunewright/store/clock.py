"""Time and identity on one host: a clock that nobody can set, and names from which a dead process can be told.

A lease is measured on ``CLOCK_BOOTTIME``: it is the same for every process of a host, goes on during sleep, and does
not move when somebody sets the wall clock. A worker is named ``host/boot/pid/start/tag``; ``boot`` holds the boot and
the process namespace, and ``start`` the time at which the process began, so that a reused number is not mistaken for
the old process.
"""

from __future__ import annotations

import os
import platform
import sys
import time
from functools import lru_cache
from pathlib import Path

EXTERNAL = "external"
_PARTS = 5


def now() -> float:
    """Seconds since boot, sleep included where the system can tell; never steps."""
    return time.clock_gettime(_CLOCK) if _CLOCK is not None else time.monotonic()


_CLOCK: int | None = getattr(time, "CLOCK_BOOTTIME", None)


@lru_cache(maxsize=1)
def place() -> str:
    """``host/boot`` of this process: where its clock and its process numbers mean something."""
    host = platform.node().replace("/", "_") or "localhost"
    try:
        boot = (
            Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip().replace("-", "")[:16]
        )
    except OSError:
        # Without a boot id, the time of boot to the minute tells two boots apart.
        boot = f"{int((time.time() - time.monotonic()) // 60):x}"
    try:
        space = str(Path("/proc/self/ns/pid").stat().st_ino)
    except OSError:
        space = "0"
    return f"{host}/{boot}.{space}"


def worker_id(tag: str = "") -> str:
    """Names this process for the log.

    Args:
        tag: Told apart from other workers of the same process by this; any text.
    """
    pid = os.getpid()
    return f"{place()}/{pid}/{_started(pid) or 0}/{tag}"


def worker_alive(worker: str) -> bool | None:
    """Whether the process behind a name from ``worker_id`` lives.

    Returns:
        None where this process cannot know: another host, another container, an external worker.
    """
    parts = worker.split("/", _PARTS - 1)
    if len(parts) != _PARTS or parts[0] == EXTERNAL:
        return None
    if rebooted("/".join(parts[:2])):
        return False
    if "/".join(parts[:2]) != place() or not parts[2].isdigit():
        return None
    pid = int(parts[2])
    if sys.platform == "win32":
        return None
    started = _started(pid)
    if started is not None:
        return started > 0 and (parts[3] in ("0", str(started)))
    if Path("/proc/self/stat").exists():
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def rebooted(elsewhere: str) -> bool:
    """Whether a ``host/boot`` is this host before its last boot."""
    host, _, boot = elsewhere.partition("/")
    here, _, present = place().partition("/")
    return host == here and boot.partition(".")[0] != present.partition(".")[0]


def _started(pid: int) -> int | None:
    """When a process began, in ticks since boot; 0 for one that is dead but not reaped, None for none at all."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    # The name is in brackets and may hold anything, so the fields are counted from the last bracket.
    fields = text.rpartition(")")[2].split()
    return 0 if fields[0] in ("Z", "X") else int(fields[19])


class Pulse:
    """Remembers who lives, so that each process is looked at no more often than every ``every`` seconds."""

    def __init__(self, every: float = 0.5) -> None:
        self._every = every
        self._seen: dict[str, tuple[float, bool | None]] = {}

    def alive(self, worker: str) -> bool | None:
        """The same as ``worker_alive``, up to ``every`` seconds old."""
        moment = time.monotonic()
        seen = self._seen.get(worker)
        if seen is not None and (seen[1] is False or moment - seen[0] < self._every):
            return seen[1]
        if len(self._seen) > 10_000:
            self._seen.clear()
        alive = worker_alive(worker)
        self._seen[worker] = (moment, alive)
        return alive
