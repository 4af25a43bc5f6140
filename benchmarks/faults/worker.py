"""One process that is hurt: ``python -m benchmarks.faults.worker SYSTEM URL RECORD MODE [NUMBER]``.

It keeps its own record of the truth, one line per write, so that a kill tears at most the last line:
``START number item``, ``TELL number value``, ``ACK number value``, ``FENCED number``, ``ERROR what``.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from typing import Any

from benchmarks.faults.systems import Fenced, System, opened, truth


class Record:
    """A process's own record."""

    def __init__(self, path: str) -> None:
        self._fd = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o644)

    def write(self, *words: object) -> None:
        """One line, in one write."""
        os.write(self._fd, (" ".join(map(str, words)) + "\n").encode())


def one(system: System, record: Record, nap: float) -> None:
    """One trial."""
    handle, number, params, item = system.ask()
    record.write("START", number, item)
    time.sleep(nap)
    value = truth(params)
    record.write("TELL", number, repr(value))
    try:
        system.tell(handle, value)
    except Fenced:
        record.write("FENCED", number)
    else:
        record.write("ACK", number, repr(value))


def loop(system: System, record: Record, seconds: float) -> None:
    """Trials of 20 ms until the time is over; an error of the system is noted, and the next trial tried."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        begun = time.monotonic()
        try:
            one(system, record, 0.02)
        except Exception as error:
            record.write("ERROR", type(error).__name__, str(error)[:100].replace("\n", " "))
            time.sleep(0.1)
        record.write("TOOK", round(time.monotonic() - begun, 3))


def drain(system: System, record: Record, moment: float) -> None:
    """From a moment on, takes everything out of the queue as fast as it can."""
    while time.time() < moment:
        time.sleep(0.001)
    misses = errors = 0
    while misses < 3 and errors < 20:
        try:
            _, number, _, item = system.ask()
        except Exception as error:
            record.write("ERROR", type(error).__name__)
            errors += 1
            continue
        if not item:
            misses += 1
            continue
        record.write("START", number, item)


def hold(system: System, record: Record, span: float) -> None:
    """Takes one trial and trains for ever."""
    _, number, _, item = system.ask()
    record.write("START", number, item)
    time.sleep(3600)


def elsewhere(system: System, record: Record, span: float) -> None:
    """The same on what looks like another machine, where nobody here can see whether its processes live."""
    hold(system, record, span)


MODES: dict[str, Callable[[System, Record, float], None]] = {
    "loop": loop, "drain": drain, "hold": hold, "elsewhere": elsewhere,
}  # fmt: skip


def main(arguments: list[str]) -> None:
    """Opens the study and does what the mode says."""
    name, url, path, mode, *more = arguments
    if mode == "elsewhere" and name == "tunewright":
        from tunewright.store import clock

        place: Any = lambda: "another-machine/0123456789abcdef.1"  # noqa: E731
        clock.place = place
    # Leases are those of the library where the time to be free again is measured.
    system = opened(name, url, *([30.0] if mode in ("hold", "elsewhere") else []))
    record = Record(path)
    record.write("BOOT", os.getpid())
    MODES[mode](system, record, float(more[0]) if more else 0.0)


if __name__ == "__main__":
    main(sys.argv[1:])
