"""Trials that cost what a meter counts: joules, tokens, money, whatever ``lap`` returns."""

from __future__ import annotations

import time
from typing import Literal, Protocol

import msgspec

from tunewright.run.executor import Executor, Sink
from tunewright.run.messages import Answer, Finish, FromWorker, Report, Segment

_EVERY = 10.0


class Meter(Protocol):
    """Anything that counts what is used, such as ``run.energy.EnergyMeter``."""

    def lap(self) -> float:
        """What was used since the previous call, or since the meter was made."""
        ...


class Metered:
    """An executor whose trials cost what a meter counts, shared evenly among those that run at the same time.

    A trial that reports costs of its own keeps them.

    Args:
        executor: Runs the trials, on this machine.
        meter: Counts.
    """

    def __init__(self, executor: Executor, meter: Meter) -> None:
        self.capacity = executor.capacity
        self._executor = executor
        self._meter = meter
        self._used: dict[int, float] = {}
        self._own: set[int] = set()
        self._read = time.monotonic()
        self._sink: Sink | None = None
        meter.lap()

    def connect(self, sink: Sink) -> None:
        """Says where messages go, once costs are filled in."""
        self._sink = sink
        self._executor.connect(self._hear)

    def submit(self, segment: Segment) -> None:
        """Takes a segment."""
        self._share()
        self._used[segment.trial] = 0.0
        self._executor.submit(segment)

    def signal(self, trial: int, verdict: Literal["stop", "pause"]) -> None:
        """Tells a running segment to end at its next report."""
        self._executor.signal(trial, verdict)

    def poll(self, timeout: float) -> None:
        """Delivers messages; the meter is read often enough not to miss that its counter started again."""
        if time.monotonic() - self._read > _EVERY:
            self._share()
        self._executor.poll(timeout)

    def kill(
        self, trial: int, outcome: Literal["timed_out", "out_of_memory", "killed", "lost"], reason: str
    ) -> None:
        """Ends a running segment at once."""
        self._executor.kill(trial, outcome, reason)

    def close(self) -> None:
        """Ends all workers."""
        self._executor.close()

    def _share(self) -> None:
        """Reads the meter, and divides what it counted."""
        self._read = time.monotonic()
        used = self._meter.lap()
        for trial in self._used:
            self._used[trial] += used / len(self._used)

    def _hear(self, message: FromWorker) -> Answer:
        assert self._sink is not None
        if isinstance(message, Report):
            self._share()
            used = self._used.get(message.trial, 0.0)
            self._used[message.trial] = 0.0
            if message.cost is None:
                message = msgspec.structs.replace(message, cost=round(used, 6))
            else:
                self._own.add(message.trial)
        elif isinstance(message, Finish):
            self._share()
            used = self._used.pop(message.trial, 0.0)
            if message.trial not in self._own:
                message = msgspec.structs.replace(message, rest=round(used, 6))
            self._own.discard(message.trial)
        return self._sink(message)
