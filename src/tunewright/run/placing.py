"""Chooses where training happens: this process, or worker processes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tunewright.core.units import whole
from tunewright.run.executor import Executor, InProcess


def executor_for(
    train: Callable[..., Any],
    workers: int = 1,
    trial_timeout: float | None = None,
    memory: int | None = None,
    devices: Sequence[str | int] = (),
    fresh: bool | None = None,
) -> Executor:
    """This process when that can do what was asked for, else worker processes.

    Args:
        train: The training function.
        workers: Trials at a time.
        trial_timeout: Seconds that one segment may take.
        memory: Resident memory of one trial, in bytes.
        devices: GPUs to share out over the workers.
        fresh: A new process for every trial; by default when ``devices`` are given.

    Raises:
        ConfigError: If the number of workers cannot be used.
    """
    whole("workers", workers)
    if workers == 1 and trial_timeout is None and memory is None and not devices and not fresh:
        return InProcess(train)
    from tunewright.run.processes import Limits, Processes

    limits = Limits(memory, tuple(str(d) for d in devices), bool(devices) if fresh is None else fresh)
    return Processes(train, workers, limits)
