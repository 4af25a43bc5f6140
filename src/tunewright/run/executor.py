"""Where segments are executed: the protocol, and the executor that runs them in the driver's own process.

Promises, held by the executor laws: every submitted segment ends in exactly one ``Finish``, even when its worker
dies; a signalled segment ends soon; ``close`` leaves no process behind.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Literal, Protocol

from tunewright.run.messages import Answer, FromWorker, Segment
from tunewright.run.worker import execute

Sink = Callable[[FromWorker], Answer]


class Executor(Protocol):
    """Runs segments and hands their messages to a sink, in the thread that polls."""

    capacity: int

    def connect(self, sink: Sink) -> None:
        """Says where messages go; called once, before the first segment."""
        ...

    def submit(self, segment: Segment) -> None:
        """Takes a segment; the caller keeps at most ``capacity`` under way."""
        ...

    def signal(self, trial: int, verdict: Literal["stop", "pause"]) -> None:
        """Tells a running segment to end at its next report; its worker hears it with the next answer."""
        ...

    def poll(self, timeout: float) -> None:
        """Delivers messages to the sink; returns after the first ones, or after ``timeout`` seconds."""
        ...

    def kill(
        self, trial: int, outcome: Literal["timed_out", "out_of_memory", "killed", "lost"], reason: str
    ) -> None:
        """Ends a running segment at once, with all its processes."""
        ...

    def close(self) -> None:
        """Ends all workers; safe to call twice."""
        ...


class InProcess:
    """Runs one segment at a time in the calling thread: simple, debuggable, and fast for small trainings.

    Args:
        function: The training function.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self.capacity = 1
        self._function = function
        self._waiting: deque[Segment] = deque()
        self._sink: Sink | None = None

    def connect(self, sink: Sink) -> None:
        """Says where messages go."""
        self._sink = sink

    def submit(self, segment: Segment) -> None:
        """Takes a segment; it runs at the next poll."""
        self._waiting.append(segment)

    def signal(self, trial: int, verdict: Literal["stop", "pause"]) -> None:
        """Nothing to do: the verdict travels with the answer to the next report."""

    def poll(self, timeout: float) -> None:
        """Runs the next segment to its end."""
        assert self._sink is not None
        if self._waiting:
            execute(self._waiting.popleft(), self._function, self._sink, child=False)

    def kill(
        self, trial: int, outcome: Literal["timed_out", "out_of_memory", "killed", "lost"], reason: str
    ) -> None:
        """Drops a segment that has not begun; a running one cannot be ended from its own thread."""
        self._waiting = deque(s for s in self._waiting if s.trial != trial)

    def close(self) -> None:
        """Drops what has not begun."""
        self._waiting.clear()
