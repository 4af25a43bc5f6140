"""Builds and arms ``shim.c``: wrong clocks, slow locks and failing calls in a process started with ``LD_PRELOAD``.

Needs a C compiler and Linux; where either is missing, ``library`` returns None and the caller says what it left out.
"""

from __future__ import annotations

import atexit
import ctypes
import os
import shutil
import subprocess
import sys
import tempfile
from functools import lru_cache
from pathlib import Path

KINDS = ("write", "fsync", "rename", "truncate", "open", "lock", "unlink", "connect", "send", "recv")
ACTIONS = ("once", "on", "kill", "short", "after")
"""Fail once, fail from there on, die instead, do half of a write and die, do it and die."""


@lru_cache(maxsize=1)
def library() -> str | None:
    """Path of the built library, removed when this process ends; None where it cannot be built."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None or sys.platform != "linux":
        return None
    folder = Path(tempfile.mkdtemp(prefix="tunewright-shim-"))
    atexit.register(_remove, folder, os.getpid())
    target = folder / "shim.so"
    command = [
        compiler,
        "-shared",
        "-fPIC",
        "-O1",
        "-o",
        str(target),
        str(Path(__file__).with_name("shim.c")),
        "-ldl",
    ]
    done = subprocess.run(command, check=False, capture_output=True, timeout=60)
    return str(target) if done.returncode == 0 else None


def _remove(folder: Path, maker: int) -> None:
    if os.getpid() == maker:
        shutil.rmtree(folder, ignore_errors=True)


def environment(*, clock: float = 0.0, slow_locks_ms: int = 0) -> dict[str, str]:
    """What to add to a process's environment.

    Args:
        clock: Seconds that its time of day is ahead.
        slow_locks_ms: Mean delay of every lock of a file, in milliseconds.

    Raises:
        RuntimeError: If the library cannot be built here.
    """
    path = library()
    if path is None:
        raise RuntimeError("Faults of the operating system need Linux and a C compiler; install gcc.")
    found = {"LD_PRELOAD": path}
    if clock:
        found["FAKETIME"] = f"{clock:+g}s"
    if slow_locks_ms:
        found["TUNEWRIGHT_SLOW_LOCKS_MS"] = str(slow_locks_ms)
    return found


def arm(kind: str, nth: int, action: str = "once", code: int = 5, where: str = "") -> None:
    """Arms the ``nth`` call of a kind on paths that contain ``where``, in this process; 0 only counts."""
    own = ctypes.CDLL(None)
    own.tunewright_arm.argtypes = [ctypes.c_int, ctypes.c_long, ctypes.c_int, ctypes.c_int, ctypes.c_char_p]
    own.tunewright_arm(KINDS.index(kind), nth, ACTIONS.index(action), code, where.encode())


def disarm() -> int:
    """Ends it, and returns how many calls there were."""
    own = ctypes.CDLL(None)
    own.tunewright_seen.restype = ctypes.c_long
    return int(own.tunewright_seen())
