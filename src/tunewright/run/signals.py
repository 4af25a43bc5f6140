"""Signals that ask a run to pause and leave, heard while it runs and not on import."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType


@contextlib.contextmanager
def heard(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Inside, SIGINT, SIGTERM and SIGHUP call ``handler``; outside of the main thread nothing is changed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = [getattr(signal, n) for n in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, n)]
    before = {n: signal.signal(n, handler) for n in numbers}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)
