"""Plain values, and what every parameter with options or beliefs checks about them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from tunewright.core.limits import OPTIONS, WHOLE, short
from tunewright.core.texts import cleaned
from tunewright.errors import SpaceError

Value = bool | int | float | str | None
MAX_OPTIONS = OPTIONS


def plain(value: Any) -> Value:
    """Turns NumPy scalars, enumerations and the like into Python values and refuses what JSON cannot hold.

    Raises:
        SpaceError: If the value is not a bool, whole number of 64 bits, finite float, str or None.
    """
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        if -WHOLE <= value < WHOLE:
            return int(value)
    elif isinstance(value, float):
        if math.isfinite(value):
            return float(value) + 0.0
    elif isinstance(value, str) and cleaned(value) == value:
        return str.__str__(value)
    raise SpaceError(
        f"A parameter value must be a bool, a finite number, a string or None, without NUL or broken characters, and a whole number within 64 bits; got {short(value)} "
        f"of type {type(value).__name__}. Use a name for it and look the object up in your code."
    )


def key(value: Value) -> tuple[str, Value]:
    """Tells True, 1 and 1.0 apart, which Python does not."""
    return type(value).__name__, value


def check_belief(name: str, confidence: Any) -> None:
    """Refuses a confidence outside ``[0, 1)``.

    Raises:
        SpaceError: Naming the type of parameter.
    """
    if isinstance(confidence, bool) or not isinstance(confidence, int | float) or not 0.0 <= confidence < 1.0:
        raise SpaceError(
            f"{name} needs 0 <= confidence < 1; got {confidence!r}. 0 ignores the guess, 0.5 is a fair guess, 0.9 a strong one."
        )


def check_options(name: str, options: Sequence[Value], most: int = MAX_OPTIONS) -> None:
    """Refuses options of which there are none or too many, or that repeat.

    Raises:
        SpaceError: Naming the type of parameter.
    """
    if not options:
        raise SpaceError(f"{name} needs at least one option; got none. List the values to choose from.")
    if len(options) > most:
        raise SpaceError(
            f"{name} takes at most {most} options; got {len(options)}. Use Int and look them up."
        )
    if len({key(o) for o in options}) < len(options):
        raise SpaceError(f"{name} needs distinct options; got {list(options)!r}. Remove the repeated ones.")


_DEFAULTS: dict[str, Any] = {"log": False, "step": None, "guess": None, "confidence": 0.5}


def compact(kind: str, domain: Any, fields: tuple[str, ...]) -> dict[str, Any]:
    """JSON form of a domain without the fields that hold their default."""
    out: dict[str, Any] = {"type": kind}
    for field in fields:
        value = getattr(domain, field)
        if field in _DEFAULTS and (
            value == _DEFAULTS[field] or (field == "step" and kind == "int" and value == 1)
        ):
            continue
        out[field] = list(value) if isinstance(value, tuple) else value
    return out
