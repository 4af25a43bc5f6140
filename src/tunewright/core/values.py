"""The one policy for measured values, whatever the store and the worker.

Numbers become float64; NaN and infinities are kept by name but never count as a result; strings, bytes, complex
numbers, ``Decimal``, ``Fraction`` and containers are mistakes, said at once, and so are whole numbers that a float
would change. -0.0 becomes 0.0, True becomes 1.0.
"""

from __future__ import annotations

import contextlib
import difflib
import math
from collections.abc import Mapping, Sequence
from typing import Any

from tunewright.core.limits import STEP, check_metrics
from tunewright.errors import ConfigError

_EXACT = 2**53


def measured(name: str, value: Any) -> float:
    """A metric as float64.

    Raises:
        ConfigError: If the value is not a real number.
    """
    if isinstance(value, float):
        return float(value) + 0.0
    if isinstance(value, int) and not isinstance(value, bool):
        return _exact(name, value)
    item = getattr(value, "item", None)
    if (callable(item) and getattr(value, "size", None) in (1, None)) or _one_element(value):
        try:
            return measured(name, item())  # type: ignore[misc]
        except (ValueError, RuntimeError, TypeError):
            pass
    if isinstance(value, bool):
        return float(value)
    raise ConfigError(
        f"Metric '{name}' must be a number; got {value!r:.120} of type {type(value).__name__}. Return a float."
    )


def _exact(name: str, value: int) -> float:
    """A whole number as a float, refused where that would change it."""
    if -_EXACT <= value <= _EXACT:
        return float(value)
    near = None
    if value.bit_length() <= 1024:
        with contextlib.suppress(OverflowError):
            near = float(value)
    if near is not None and int(near) == value:
        return near
    got = (
        f"a whole number of {value.bit_length()} bits"
        if near is None
        else f"{value}, which would become {int(near)}"
    )
    raise ConfigError(
        f"Metric '{name}' must fit a 64-bit float; got {got}. Round it yourself, or report its logarithm."
    )


def _one_element(value: Any) -> bool:
    numel = getattr(value, "numel", None)
    return callable(numel) and numel() == 1


def split(metrics: Mapping[Any, Any]) -> tuple[dict[str, float], dict[str, str] | None]:
    """Finite metrics, and the names of those that are not finite with ``"nan"``, ``"inf"`` or ``"-inf"``.

    Raises:
        ConfigError: If a name is not a short string or a value is not a number.
    """
    check_metrics(metrics)
    good: dict[str, float] = {}
    bad: dict[str, str] = {}
    for name, raw in metrics.items():
        value = measured(name, raw)
        if math.isfinite(value):
            good[name] = value
        else:
            bad[name] = str(value)
    return good, bad or None


def counted(step: Any) -> int:
    """A number of finished steps.

    Raises:
        ConfigError: If it is not a whole number from 1 to 2**53.
    """
    if type(step) is int and 0 < step <= STEP:
        return step
    found = step.item() if callable(getattr(step, "item", None)) else step
    if (
        isinstance(found, int | float)
        and not isinstance(found, bool)
        and 1 <= found <= STEP
        and int(found) == found
    ):
        return int(found)
    raise ConfigError(
        f"A step must be a whole number from 1, at most 2**53; got {step!r:.80}. Count finished steps."
    )


def spent(cost: Any) -> float | None:
    """A cost; None where it is not known.

    Raises:
        ConfigError: If it is not a finite number from 0.
    """
    if cost is None:
        return None
    found = measured("cost", cost)
    if not 0.0 <= found < math.inf:
        raise ConfigError(f"A cost must be a finite number from 0; got {found!r}. Report what was spent.")
    return found


def spread(variance: Mapping[Any, Any] | None) -> dict[str, float] | None:
    """Variances by metric; one that is not finite counts as not known.

    Raises:
        ConfigError: If one is negative or no number, or a name cannot be kept.
    """
    if variance is None:
        return None
    check_metrics(variance)
    found = {name: measured(name, value) for name, value in variance.items()}
    for name, value in found.items():
        if value < 0.0:
            raise ConfigError(
                f"The variance of '{name}' must not be negative; got {value!r}. Square the deviation."
            )
    return {name: value for name, value in found.items() if math.isfinite(value)} or None


def returned(value: Any, objectives: Sequence[str]) -> dict[str, Any]:
    """What a training function returned, as metrics by name.

    Args:
        value: A number, a mapping from metric to number, or a list or tuple with one number per objective.
        objectives: Names of the objectives in order.

    Raises:
        ConfigError: If it is something else, or the objective is not among the metrics.
    """
    first = objectives[0]
    if isinstance(value, Mapping):
        missing = [o for o in objectives if o not in value]
        if missing:
            close = difflib.get_close_matches(missing[0], [str(k) for k in value], 1)
            hint = (
                f" Did you mean '{close[0]}'? Call it '{missing[0]}'."
                if close
                else f" Return {{'{missing[0]}': ...}}."
            )
            raise ConfigError(
                f"A trial must report what the study optimises, '{missing[0]}'; got {sorted(map(str, value))}.{hint}"
            )
        return dict(value)
    if isinstance(value, list | tuple):
        if len(value) != len(objectives):
            raise ConfigError(
                f"A trial must return one number per objective, {list(objectives)}; got {len(value)} of them: {value!r:.120}."
            )
        return dict(zip(objectives, value, strict=True))
    if value is None:
        raise ConfigError(
            f"A training function must return or report '{first}'; it returned None and reported nothing. "
            f"Return a number, or call trial.report(step, {first}=...)."
        )
    if len(objectives) > 1:
        raise ConfigError(
            f"A trial must return one number per objective, {list(objectives)}; got {value!r:.120}. Return a dict."
        )
    return {first: measured(first, value)}
