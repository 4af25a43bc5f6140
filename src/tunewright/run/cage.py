"""A control group (cgroup v2) around a worker, where this user may make one: the kernel then holds it to its memory.

Most containers and login sessions do not permit it. Nothing is said then, for memory is also looked at from outside.

Source: Documentation/admin-guide/cgroup-v2.rst of Linux.
"""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

_ROOT, _OWN = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
_NEEDED = {"memory", "pids"}


class Cage:
    """One control group with one worker in it.

    Args:
        folder: The group; it exists.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @property
    def starved(self) -> bool:
        """Whether the kernel ended a process in it for want of memory."""
        with contextlib.suppress(OSError, ValueError):
            for line in (self._folder / "memory.events").read_text().splitlines():
                name, _, count = line.partition(" ")
                if name == "oom_kill":
                    return int(count) > 0
        return False

    def close(self) -> None:
        """Ends what is still in it, and removes it."""
        end = self._folder / "cgroup.kill"
        with contextlib.suppress(OSError):
            if end.exists():
                end.write_text("1")
        for attempt in range(20):
            try:
                self._folder.rmdir()
                return
            except OSError:
                if not self._folder.exists():
                    return
                time.sleep(0.001 * attempt)


def caged(
    pid: int, memory: int | None, processes: int | None, *, root: Path = _ROOT, own: Path = _OWN
) -> Cage | None:
    """Puts a process into a group of its own; None where that is not permitted.

    Args:
        pid: The process; what it starts from now on is in the group, too.
        memory: Bytes that the group may use.
        processes: How many processes it may have.
        root: Where control groups are mounted.
        own: Where the system says which group this process is in.
    """
    for parent in _parents(root, own):
        folder = parent / f"tunewright-{os.getpid()}-{pid}"
        cage = Cage(folder)
        try:
            folder.mkdir()
            if memory is not None:
                (folder / "memory.max").write_text(str(memory))
                with contextlib.suppress(OSError):
                    (folder / "memory.swap.max").write_text("0")
            if processes is not None:
                (folder / "pids.max").write_text(str(processes + 1))
            (folder / "cgroup.procs").write_text(str(pid))
        except OSError:
            if folder.is_dir():
                cage.close()
            continue
        return cage
    return None


def _parents(root: Path, own: Path) -> list[Path]:
    """Groups that hand memory and processes on to groups within them, and that we may write to."""
    try:
        line = next(x for x in own.read_text().splitlines() if x.startswith("0::/"))
    except (OSError, StopIteration):
        return []
    here = root / line.removeprefix("0::/")
    found = []
    for folder in (here, here.parent):
        with contextlib.suppress(OSError):
            inside = folder == root or root in folder.parents
            handed = set((folder / "cgroup.subtree_control").read_text().split())
            if inside and handed >= _NEEDED and os.access(folder, os.W_OK):
                found.append(folder)
    return found
