"""Energy used by this machine, to report as cost: its processors (RAPL) and its NVIDIA accelerators (NVML).

The counters see everything that runs on the machine, not one process alone, and what it uses when nothing runs. Since
Linux 5.10 those of processors are readable by root only, unless an administrator permits more.

Sources: the ``powercap`` interface of Linux, Documentation/power/powercap/powercap.rst; NVML API reference,
``nvmlDeviceGetTotalEnergyConsumption``, for Volta and later.
"""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tunewright.errors import ConfigError
from tunewright.run.metering import Meter

_COUNTERS = Path("/sys/class/powercap")


class EnergyMeter:
    """Joules used by all processor packages since the meter was made.

    The counters start again from 0 every few minutes to hours; the meter must be read at least once in between.

    Args:
        folder: Where the counters are.

    Attributes:
        joules: Energy used up to the last lap.

    Raises:
        ConfigError: If no counter can be read.

    Example:
        In the training function::

            meter = EnergyMeter()
            for step in trial.steps():
                trial.report(step, loss=train_one_epoch(), cost=meter.lap())
    """

    def __init__(self, folder: Path = _COUNTERS) -> None:
        self.joules = 0.0
        self._last: dict[Path, int] = {}
        self._range: dict[Path, int] = {}
        for zone in sorted(folder.glob("*-rapl:*")):
            try:
                # Zones within a package, and the one for the whole platform, count the same energy again.
                if (zone / "name").read_text().startswith("package"):
                    self._last[zone] = _read(zone / "energy_uj")
                    self._range[zone] = _read(zone / "max_energy_range_uj")
            except (OSError, ValueError):
                self._last.pop(zone, None)
        if not self._last:
            raise ConfigError(
                f"An energy meter needs a readable counter; {folder} has none. Report seconds as cost, or ask for read "
                f"access to energy_uj."
            )

    def lap(self) -> float:
        """Joules since the previous lap, or since the meter was made."""
        used = 0
        for zone, last in self._last.items():
            now = _read(zone / "energy_uj")
            used += now - last if now >= last else now - last + self._range[zone]
            self._last[zone] = now
        self.joules += used * 1e-6
        return used * 1e-6

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        self.lap()


def _read(path: Path) -> int:
    return int(path.read_text())


class AcceleratorMeter:
    """Joules used by the NVIDIA accelerators of this machine since the meter was made.

    Args:
        library: The NVML library; replaced in tests.

    Raises:
        ConfigError: If there is none, or none of its devices counts energy.
    """

    def __init__(self, library: Any = None) -> None:
        self._devices: list[Any] = []
        self._last: list[int] = []
        count = ctypes.c_uint(0)
        try:
            self._library = library or ctypes.CDLL("libnvidia-ml.so.1")
            if self._library.nvmlInit_v2() == 0:
                self._library.nvmlDeviceGetCount_v2(ctypes.byref(count))
        except (OSError, AttributeError):
            count.value = 0
        for number in range(count.value):
            device, used = ctypes.c_void_p(), ctypes.c_ulonglong(0)
            if self._library.nvmlDeviceGetHandleByIndex_v2(number, ctypes.byref(device)) != 0:
                continue
            if self._library.nvmlDeviceGetTotalEnergyConsumption(device, ctypes.byref(used)) == 0:
                self._devices.append(device)
                self._last.append(used.value)
        if not self._devices:
            raise ConfigError(
                "An energy meter needs an accelerator that counts; NVML has none. Report seconds as cost."
            )

    def lap(self) -> float:
        """Joules since the previous lap, or since the meter was made."""
        total = 0
        for i, device in enumerate(self._devices):
            now = ctypes.c_ulonglong(0)
            if self._library.nvmlDeviceGetTotalEnergyConsumption(device, ctypes.byref(now)) == 0:
                # The counter starts again when the driver is loaded anew.
                total += max(0, now.value - self._last[i])
                self._last[i] = now.value
        return total * 1e-3


class Sum:
    """Several meters as one.

    Args:
        meters: What is added up.
    """

    def __init__(self, meters: Sequence[Meter]) -> None:
        self._meters = tuple(meters)

    def lap(self) -> float:
        """What all of them counted since the previous lap."""
        return sum(meter.lap() for meter in self._meters)


def machine_meter(folder: Path = _COUNTERS, library: Any = None) -> Meter:
    """Counts all the energy of this machine that it tells of.

    Raises:
        ConfigError: If it tells of none.
    """
    found: list[Meter] = []
    refusal: ConfigError | None = None
    with contextlib.suppress(ConfigError):
        found.append(AcceleratorMeter(library))
    try:
        found.append(EnergyMeter(folder))
    except ConfigError as error:
        refusal = error
    if not found:
        assert refusal is not None
        raise refusal
    return found[0] if len(found) == 1 else Sum(found)
