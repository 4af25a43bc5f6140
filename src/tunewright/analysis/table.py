"""Trials as rows: flat dicts, data frames, Parquet files."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TextIO

from tunewright.core.scale import Scale
from tunewright.core.trial import Trial
from tunewright.errors import missing_extra

if TYPE_CHECKING:
    import pandas
    import polars

_BEFORE = ("number", "status")
_AFTER = ("step", "cost", "started", "ended", "attempts", "error")


def columns(
    trials: Sequence[Trial], scale: Scale | None = None
) -> tuple[list[str], dict[str, str], dict[str, str]]:
    """The columns of a table of trials.

    Args:
        trials: The trials.
        scale: Of the study; its sizes then have columns, ``size.`` and their name, and ``size.step``.

    Returns:
        All column names in order; the column of each parameter; the column of each metric. A parameter or metric
        whose name is taken already gets ``param.`` or ``metric.`` before it.
    """
    names: dict[str, str] = {}
    metrics: dict[str, str] = {}
    after = [*_sizes(scale), *_AFTER]
    taken = {*_BEFORE, *after}
    for trial in trials:
        for name in trial.config:
            if name not in names:
                names[name] = f"param.{name}" if name in taken else name
    taken |= set(names.values())
    for trial in trials:
        for name in trial.metrics:
            if name not in metrics:
                metrics[name] = f"metric.{name}" if name in taken else name
    return [*_BEFORE, *names.values(), *metrics.values(), *after], names, metrics


def _sizes(scale: Scale | None) -> list[str]:
    return [] if scale is None else [f"size.{name}" for name in (*scale.sizes, "step")]


def rows(trials: Sequence[Trial], scale: Scale | None = None) -> Iterator[dict[str, Any]]:
    """One flat dict per trial, all with the same keys in the same order; None where a trial has no value.

    Times are seconds since 1970; the cost is in the study's unit, seconds unless the training says otherwise.
    """
    keys, names, metrics = columns(trials, scale)
    for trial in trials:
        row: dict[str, Any] = dict.fromkeys(keys)
        row["number"], row["status"] = trial.number, trial.status
        for name, value in trial.config.items():
            row[names[name]] = value
        for name, value in trial.metrics.items():
            row[metrics[name]] = value
        if scale is not None:
            place = scale.place(trial.step)
            row |= zip(_sizes(scale), (*place.sizes.values(), place.step), strict=True)
        row["step"], row["cost"] = trial.step, trial.cost
        row["started"], row["ended"] = trial.at, trial.ended_at
        row["attempts"], row["error"] = trial.attempts, trial.error
        yield row


def write_csv(trials: Sequence[Trial], stream: TextIO, scale: Scale | None = None) -> None:
    """Writes one line per trial, with commas, after a line of names."""
    writer = csv.DictWriter(stream, columns(trials, scale)[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows(trials, scale))


def write_jsonl(trials: Sequence[Trial], stream: TextIO, plain: Callable[[Trial], dict[str, Any]]) -> None:
    """Writes one JSON object per trial and line, with its reports.

    Args:
        trials: The trials.
        stream: Where to.
        plain: Makes plain data of a trial, without its reports.
    """
    stream.writelines(json.dumps(full(t, plain), ensure_ascii=False) + "\n" for t in trials)


def full(trial: Trial, plain: Callable[[Trial], dict[str, Any]]) -> dict[str, Any]:
    """A trial as plain data, with its reports."""
    return {**plain(trial), "reports": [{"step": r.step, "metrics": r.metrics} for r in trial.reports]}


def to_pandas(trials: Sequence[Trial], scale: Scale | None = None) -> pandas.DataFrame:
    """The trials as a pandas data frame.

    Raises:
        MissingExtra: If pandas is not installed.
    """
    try:
        import pandas
    except ImportError:
        raise missing_extra("pandas", "frames") from None
    return pandas.DataFrame(list(rows(trials, scale)), columns=columns(trials, scale)[0])


def to_polars(trials: Sequence[Trial], scale: Scale | None = None) -> polars.DataFrame:
    """The trials as a polars data frame; a column whose values differ in type becomes text.

    Raises:
        MissingExtra: If polars is not installed.
    """
    try:
        import polars
    except ImportError:
        raise missing_extra("polars", "frames") from None
    return polars.DataFrame(_even(trials, scale))


def to_parquet(trials: Sequence[Trial], path: Path | BinaryIO, scale: Scale | None = None) -> None:
    """Writes the trials as Parquet to a path or an open file; a column whose values differ in type becomes text.

    Raises:
        MissingExtra: If pyarrow is not installed.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise missing_extra("pyarrow", "frames") from None
    pyarrow.parquet.write_table(pyarrow.table(_even(trials, scale)), path)


def _even(trials: Sequence[Trial], scale: Scale | None) -> dict[str, list[Any]]:
    """Columns of one type each: whole numbers next to fractions become fractions, any other mixture text."""
    table: dict[str, list[Any]] = {key: [] for key in columns(trials, scale)[0]}
    for row in rows(trials, scale):
        for key, value in row.items():
            table[key].append(value)
    for key, values in table.items():
        kinds = {type(v) for v in values if v is not None}
        if kinds == {int, float}:
            table[key] = [None if v is None else float(v) for v in values]
        elif len(kinds) > 1:
            table[key] = [None if v is None else str(v) for v in values]
    return table
