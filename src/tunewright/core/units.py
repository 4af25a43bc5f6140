"""Durations and sizes as people write them."""

from __future__ import annotations

import re
from typing import Any

from tunewright.errors import ConfigError

_TIMES = {
    "ms": 1e-3,
    "s": 1.0,
    "sec": 1.0,
    "m": 60.0,
    "min": 60.0,
    "h": 3600.0,
    "hour": 3600.0,
    "d": 86400.0,
    "day": 86400.0,
}
_SIZES = {
    "b": 1,
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
    "kib": 2**10,
    "mib": 2**20,
    "gib": 2**30,
    "k": 2**10,
    "m": 2**20,
    "g": 2**30,
}
_PART = re.compile(r"\s*([0-9]*\.?[0-9]+)\s*([A-Za-z]*)")


def seconds(value: Any) -> float | None:
    """Seconds from a number or a text such as ``"90s"``, ``"10min"`` or ``"1h30m"``; None stays None.

    Raises:
        ConfigError: If it is neither, or not positive.

    Example:
        >>> seconds("1h30m")
        5400.0
    """
    if value is None:
        return None
    total = _total(value, _TIMES, "s") if isinstance(value, str) else value
    if isinstance(total, bool) or not isinstance(total, int | float) or not 0 < total < float("inf"):
        raise ConfigError(
            f"A time must be a positive number of seconds or a text like '10min'; got {value!r}. Correct it."
        )
    return float(total)


def size(value: Any) -> int | None:
    """Bytes from a number or a text such as ``"2GiB"`` or ``"500MB"``; None stays None.

    Raises:
        ConfigError: If it is neither, or not positive.

    Example:
        >>> size("2GiB")
        2147483648
    """
    if value is None:
        return None
    total = _total(value, _SIZES, "b") if isinstance(value, str) else value
    if isinstance(total, bool) or not isinstance(total, int | float) or not 0 < total < float("inf"):
        raise ConfigError(
            f"A size must be a positive number of bytes or a text like '2GiB'; got {value!r}. Correct it."
        )
    return int(total)


def whole(name: str, value: Any) -> int | None:
    """A positive whole number; None stays None.

    Raises:
        ConfigError: If it is anything else.
    """
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConfigError(f"{name} must be a whole number from 1; got {value!r}. Correct it.")
    return value


def _total(text: str, units: dict[str, Any], default: str) -> float | None:
    """Sum of the parts of a text, or None when it cannot be read."""
    total, position = 0.0, 0
    text = text.strip()
    while position < len(text):
        match = _PART.match(text, position)
        if match is None:
            return None
        unit = match[2].lower()
        unit = (
            unit[:-1] if unit.endswith("s") and unit[:-1] in units and unit != "ms" and unit != "s" else unit
        )
        if unit and unit not in units:
            return None
        total += float(match[1]) * units[unit or default]
        position = match.end()
    return total if text else None
