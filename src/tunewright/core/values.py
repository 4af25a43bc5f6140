"""The one policy for measured values, whatever the store and the worker.

Numbers become float64; NaN and infinities are kept by name but never count as a result; strings, bytes, complex
numbers and containers are mistakes, said at once. -0.0 becomes 0.0.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence
from typing import Any

from tunewright.errors import ConfigError

MAX_METRICS = 1000


def measured(name: str, value: Any) -> float:
    """A metric as float64.

    Raises:
        ConfigError: If the value is not a real number.
    """
    if isinstance(value, float | int) and not isinstance(value, bool):
        try:
            return float(value) + 0.0
        except OverflowError:
            raise ConfigError(
                f"Metric '{name}' must fit a float; got a whole number of {len(str(value))} digits."
            ) from None
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


def _one_element(value: Any) -> bool:
    numel = getattr(value, "numel", None)
    return callable(numel) and numel() == 1


def split(metrics: Mapping[Any, Any]) -> tuple[dict[str, float], dict[str, str] | None]:
    """Finite metrics, and the names of those that are not finite with ``"nan"``, ``"inf"`` or ``"-inf"``.

    Raises:
        ConfigError: If a name is not a short string or a value is not a number.
    """
    if len(metrics) > MAX_METRICS:
        raise ConfigError(
            f"A report takes at most {MAX_METRICS} metrics; got {len(metrics)}. Report a summary."
        )
    good: dict[str, float] = {}
    bad: dict[str, str] = {}
    for name, raw in metrics.items():
        if not isinstance(name, str) or not 0 < len(name) <= 256:
            raise ConfigError(
                f"A metric name must be a string of 1 to 256 characters; got {name!r:.80}. Rename it."
            )
        value = measured(name, raw)
        if math.isfinite(value):
            good[name] = value
        else:
            bad[name] = str(value)
    return good, bad or None


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
