"""Energy used by the processors of this machine, from the counters that Linux keeps (RAPL), to report as cost.

The counters see everything that runs on the machine, not one process alone, and no accelerators. Since Linux 5.10 they
are readable by root only, unless an administrator permits more.

Source: the ``powercap`` interface of Linux, Documentation/power/powercap/powercap.rst.
"""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Self

from tunewright.errors import ConfigError

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
