"""What one trial may use while it runs in a worker process."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict

from tunewright.core.units import seconds, size, whole
from tunewright.errors import ConfigError
from tunewright.run.messages import End
from tunewright.run.tree import Usage

_FEWEST_FILES = 64
_MIB = 1 << 20


class Allowance(TypedDict, total=False):
    """What a trial may use, as people write it in ``Study.run``; see ``Limits`` for what each means.

    Attributes:
        cpu: Seconds, or a text such as ``"10min"``.
        memory: Bytes, or a text such as ``"2GiB"``.
        processes: At a time.
        files: Open at a time, in each process.
        file_size: Bytes, or a text such as ``"10GiB"``.
        devices: Such as ``[0, 1]``.
        per_device: Trials on each, or a fraction of one.
        fresh: A new process for every trial; None for only when there are devices.
    """

    cpu: float | str | None
    memory: int | str | None
    processes: int | None
    files: int | None
    file_size: int | str | None
    devices: Sequence[str | int]
    per_device: float | None
    fresh: bool | None


@dataclass(frozen=True, slots=True)
class Limits:
    """What a trial may use, with everything it started. Memory, processor time and processes need Linux.

    Args:
        memory: Bytes of resident memory; None for no limit.
        devices: Devices to share out, as ``CUDA_VISIBLE_DEVICES`` lists them; empty for none.
        fresh: Start a new process for every segment, so that nothing is carried over (GPU memory, globals).
        cpu: Seconds of processor time of a segment.
        per_device: Trials that share a device, a whole number; or a fraction, such as 0.5 for trials that take two
            devices each. None shares them out evenly over the workers, however many these are.
        processes: How many processes it may have at a time.
        files: Files and sockets that each of its processes may have open, at least 64.
        file_size: Bytes of any file that it writes, its own output included.

    Raises:
        ConfigError: If one of them cannot be used.
    """

    memory: int | None = None
    devices: Sequence[str] = ()
    fresh: bool = False
    cpu: float | None = None
    per_device: float | None = None
    processes: int | None = None
    files: int | None = None
    file_size: int | None = None

    def __post_init__(self) -> None:
        for name, least in (
            ("memory", 1),
            ("cpu", 0),
            ("processes", 1),
            ("files", _FEWEST_FILES),
            ("file_size", 1),
        ):
            value = getattr(self, name)
            if value is not None and (
                isinstance(value, bool) or not least <= value < float("inf") or value == 0
            ):
                raise ConfigError(
                    f"A limit must be a number, {name} at least {least or 'a little'}; got {value!r}. Correct it."
                )
        share = self.per_device
        if share is None:
            return
        if not self.devices:
            raise ConfigError(
                f"per_device needs devices to share; got {share!r} and none. Pass devices=[0, 1]."
            )
        parts = share if share >= 1 else 1 / share if share > 0 else 0.5
        if (
            isinstance(share, bool)
            or abs(parts - round(parts)) > 1e-6
            or round(1 / share) > len(self.devices)
        ):
            raise ConfigError(
                f"per_device must be a whole number of trials on a device, or one over the devices that a trial takes; "
                f"got {share!r} for {len(self.devices)} devices. Try 2, 1 or 0.5."
            )

    @property
    def places(self) -> int | None:
        """How many trials the devices have room for; None for any number."""
        if self.per_device is None:
            return None
        if self.per_device >= 1:
            return len(self.devices) * round(self.per_device)
        return len(self.devices) // round(1 / self.per_device)

    def devices_of(self, slot: int) -> str:
        """What a worker sees as its devices; neighbours get different ones before any is shared."""
        if self.per_device is None or self.per_device >= 1:
            return str(self.devices[slot % len(self.devices)])
        each = round(1 / self.per_device)
        first = slot % (len(self.devices) // each) * each
        return ",".join(str(d) for d in self.devices[first : first + each])

    @property
    def alone(self) -> bool:
        """Whether nothing of this needs a worker process."""
        asked = (self.memory, self.cpu, self.processes, self.files, self.file_size)
        return not self.devices and not self.fresh and all(x is None for x in asked)

    @property
    def watched(self) -> bool:
        """Whether the driver has to look at what trials use."""
        return any(x is not None for x in (self.memory, self.cpu, self.processes))

    def exceeded(self, used: Usage, before: float, *, caged: bool) -> tuple[End, str] | None:
        """How a trial ends that uses too much, and why; None where it does not.

        Args:
            used: What it and its children use.
            before: Seconds of processor time that its worker had used when it began.
            caged: Whether the kernel watches its memory.
        """
        if self.memory is not None and not caged and used.memory > self.memory:
            got, most = used.memory // _MIB, self.memory // _MIB
            return "out_of_memory", f"used {got} MiB, more than the limit of {most} MiB"
        if self.cpu is not None and used.cpu - before > self.cpu:
            took = used.cpu - before
            return (
                "timed_out",
                f"used {took:.1f} seconds of processor time, more than the limit of {self.cpu:g}",
            )
        if self.processes is not None and used.processes > self.processes:
            return "failed", f"had {used.processes} processes, more than the limit of {self.processes}"
        return None


def limits_of(given: Mapping[str, Any]) -> Limits:
    """The limits from an ``Allowance``.

    Raises:
        TypeError: If something else is given.
        ConfigError: If a value cannot be used.
    """
    unknown = sorted(set(given) - Allowance.__optional_keys__)
    if unknown:
        near = difflib.get_close_matches(unknown[0], Allowance.__optional_keys__, 1)
        hint = f"; did you mean '{near[0]}'?" if near else ""
        raise TypeError(f"run() got an unexpected keyword argument '{unknown[0]}'{hint}")
    devices = tuple(str(d) for d in given.get("devices") or ())
    fresh = given.get("fresh")
    return Limits(
        size(given.get("memory")),
        devices,
        bool(devices) if fresh is None else bool(fresh),
        seconds(given.get("cpu")),
        given.get("per_device"),
        whole("processes", given.get("processes")),
        whole("files", given.get("files")),
        size(given.get("file_size")),
    )
