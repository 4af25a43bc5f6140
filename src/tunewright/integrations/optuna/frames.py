"""Trials as a pandas data frame with Optuna's columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tunewright.errors import ConfigError, missing_extra
from tunewright.integrations.optuna.trial import FrozenTrial

if TYPE_CHECKING:
    import pandas

_KNOWN = (
    "number", "value", "values", "datetime_start", "datetime_complete", "duration", "params", "user_attrs",
    "system_attrs", "intermediate_values", "state",
)  # fmt: skip


def trials_dataframe(
    trials: Sequence[FrozenTrial], attrs: Sequence[str], names: Sequence[str]
) -> pandas.DataFrame:
    """One row per trial; mappings become one column per key, ``params_lr``.

    Args:
        trials: Records.
        attrs: Attributes of a record, in the order of the columns.
        names: Metric of each objective.

    Raises:
        MissingExtra: If pandas is not installed.
        ConfigError: If an attribute is unknown.
    """
    try:
        import pandas
    except ImportError as error:
        raise missing_extra("pandas", "frames") from error
    unknown = [a for a in attrs if a not in _KNOWN]
    if unknown:
        raise ConfigError(f"A column must be one of {', '.join(_KNOWN)}; got {unknown}. Correct it.")
    table = [_row(t, attrs, len(names)) for t in trials]
    columns = list(dict.fromkeys(name for attr in attrs for row in table for name in row[attr]))
    flat = [{k: v for group in row.values() for k, v in group.items()} for row in table]
    return pandas.DataFrame(flat, columns=columns)


def _row(trial: FrozenTrial, attrs: Sequence[str], m: int) -> dict[str, dict[str, Any]]:
    """The columns that each attribute comes to."""
    out: dict[str, dict[str, Any]] = {}
    for attr in attrs:
        if attr in ("value", "values"):
            values: Sequence[Any] = trial.values if trial.values is not None else [None] * m
            out[attr] = {"value" if m == 1 else f"values_{i}": v for i, v in enumerate(values)}
        elif attr == "state":
            out[attr] = {"state": trial.state.name}
        else:
            value = getattr(trial, attr)
            keyed = isinstance(value, dict)
            out[attr] = {f"{attr}_{k}": v for k, v in value.items()} if keyed else {attr: value}
    return out
