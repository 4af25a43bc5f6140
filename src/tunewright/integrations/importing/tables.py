"""Reads tables with one trial a row: CSV, JSON lines and Parquet, of any tool that can write one.

Which columns are parameters is told by their names where these say it (``params_lr``, ``config/lr``, ``param.lr``), else
every column that is no metric and none of the words below is one. What a parameter may be is taken from the values that
were tried, unless the user says it.
"""

from __future__ import annotations

import csv
import json
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tunewright.core.domains import Bool, Choice, Domain, Float, Int
from tunewright.core.options import MAX_OPTIONS
from tunewright.core.problem import Goal
from tunewright.errors import ConfigError, SchemaError, missing_extra
from tunewright.integrations.importing.foreign import ForeignStudy, ForeignTrial, State, seconds_of

_PREFIXES = ("params_", "param.", "params.", "config/", "config.", "hyperparameters.")
_ATTRS = ("user_attrs_", "user_attr.", "attr.")
_NUMBER = ("number", "trial", "trial_id", "id", "")
_STATE = ("status", "state")
_BEGAN = ("started", "datetime_start", "start_time", "created", "created at", "createdat")
_ENDED = ("ended", "datetime_complete", "end_time", "completed at")
_COST = ("cost", "duration", "runtime", "time_total_s", "seconds")
_ERROR = ("error",)
_ASIDE = (
    "step",
    "attempts",
    "name",
    "sweep",
    "user",
    "until",
    "token",
    "worker",
    "by",
    "why",
    "parent",
    "tags",
    "notes",
)
_WORDS: dict[str, State] = {
    **dict.fromkeys(("", "complete", "completed", "finished", "terminated", "done", "success", "ok"), "completed"),
    **dict.fromkeys(("pruned", "stopped", "early_stopped"), "stopped"),
    **dict.fromkeys(("fail", "failed", "error", "crashed", "invalid", "timed_out", "out_of_memory", "lost", "killed"), "failed"),
    **dict.fromkeys(("running", "paused"), "running"),
    **dict.fromkeys(("waiting", "pending", "queued"), "waiting"),
}  # fmt: skip
_WIDE, _SKEWED = 100.0, 0.2
_FEW = 2


def read(
    path: Path,
    name: str,
    goals: Mapping[str, Goal],
    params: Sequence[str] | None = None,
) -> ForeignStudy:
    """Reads a table.

    Args:
        path: The file, by its ending ``.csv``, ``.jsonl``, ``.ndjson`` or ``.parquet``.
        name: What to call the study.
        goals: Goal of each objective, by column.
        params: Columns that are parameters; None to tell by their names.

    Raises:
        ConfigError: If an objective or a parameter is not among the columns.
        SchemaError: If the file cannot be read as what its ending says.
        MissingExtra: If it is Parquet and pyarrow is not installed.
    """
    rows = [_flat(row) for row in _rows(path)]
    study = ForeignStudy(name, path.suffix.removeprefix("."), dict(goals), at=path.stat().st_mtime)
    return fill(study, rows, params)


def fill(
    study: ForeignStudy, rows: Sequence[Mapping[str, Any]], params: Sequence[str] | None = None
) -> ForeignStudy:
    """Makes trials of flat rows; the same for tables in memory.

    Args:
        study: Empty but for its objectives.
        rows: One mapping from column to value per trial.
        params: Columns that are parameters; None to tell by their names.

    Raises:
        ConfigError: If an objective or a parameter is not among the columns.
    """
    every = list(dict.fromkeys(str(key) for row in rows for key in row))
    for wanted in (*study.goals, *(params or ())):
        if wanted not in every:
            raise ConfigError(
                f"'{wanted}' must be a column; got {', '.join(every[:30]) or 'an empty table'}. Correct the name."
            )
    chosen = _params(every, study.goals, params)
    for i, row in enumerate(rows):
        study.trials.append(_trial(i, row, chosen, study.goals))
    _number(study.trials)
    for name in chosen.values():
        values = [t.params[name] for t in study.trials if name in t.params]
        if values:
            study.domains[name] = guessed(values)
            if isinstance(study.domains[name], Float):
                for trial in study.trials:
                    if name in trial.params:
                        trial.params[name] = float(trial.params[name])
    return study


def guessed(values: Sequence[Any]) -> Domain:
    """What a parameter may be, from the values that were tried: their range, on a log scale where they span much and most are small."""
    distinct = list(dict.fromkeys((type(v), v) for v in values))
    kinds = {kind for kind, _ in distinct}
    plain = [v for _, v in distinct]
    if kinds == {bool}:
        return Bool() if len(plain) == _FEW else Choice(plain)
    numbers = bool(kinds) and kinds <= {int, float}
    if numbers and all(math.isfinite(v) for v in plain) and min(plain) < max(plain):
        low, high = min(plain), max(plain)
        log = low > 0 and high / low >= _WIDE and (statistics.median(values) - low) / (high - low) < _SKEWED
        if kinds == {int} and abs(low) < 2**45 and abs(high) < 2**45:
            return Int(low, high, log=log)
        return Float(float(low), float(high), log=log)
    if len(plain) > MAX_OPTIONS:
        raise ConfigError(
            f"A choice may have {MAX_OPTIONS} options; got {len(plain)}, such as {plain[0]!r:.80}. Leave that column out with --params."
        )
    return Choice(plain)


def _params(every: Sequence[str], goals: Mapping[str, Goal], given: Sequence[str] | None) -> dict[str, str]:
    """Name of the parameter in each column that holds one."""
    if given is not None:
        return {column: _stripped(column) for column in given}
    marked = {c: _stripped(c) for c in every if _stripped(c) != c}
    if marked:
        return marked
    known = {*_NUMBER, *_STATE, *_BEGAN, *_ENDED, *_COST, *_ERROR, *_ASIDE}
    out = {}
    for column in every:
        aside = (
            column in goals
            or column.lower() in known
            or column.startswith((*_ATTRS, "metric.", "metrics.", "_", "system_attrs_"))
        )
        if not aside:
            out[column] = column
    return out


def _stripped(column: str) -> str:
    for prefix in _PREFIXES:
        if column.startswith(prefix) and len(column) > len(prefix):
            return column.removeprefix(prefix)
    return column


def _trial(
    i: int, row: Mapping[str, Any], chosen: Mapping[str, str], goals: Mapping[str, Goal]
) -> ForeignTrial:
    lower = {str(k).lower(): v for k, v in row.items() if v is not None and v != ""}
    number = next((lower[k] for k in _NUMBER if isinstance(lower.get(k), int)), i)
    state = str(next((lower[k] for k in _STATE if k in lower), "")).rpartition(".")[2].lower()
    trial = ForeignTrial(number, _WORDS.get(state, "completed"))
    trial.params = {n: row[c] for c, n in chosen.items() if not _absent(row.get(c))}
    trial.reports = _reports(row.get("reports"))
    for column, value in row.items():
        if column in chosen or value is None or value == "":
            continue
        if column.startswith(_ATTRS):
            trial.attrs[column.partition("_attrs_")[2] or column.partition(".")[2]] = value
        elif column in goals or column.startswith(("metric.", "metrics.")) or _is_metric(column, value):
            name = column if column in goals else column.removeprefix("metrics.").removeprefix("metric.")
            number_ = _real(value)
            if number_ is not None:
                trial.values[name] = number_
    if trial.state == "completed" and not any(g in trial.values for g in goals):
        trial.state, trial.error = "failed", "the table has no result"
    trial.began = next((seconds_of(lower[k]) for k in _BEGAN if k in lower), None)
    trial.ended = next((seconds_of(lower[k]) for k in _ENDED if k in lower), None)
    trial.cost = next((_duration(lower[k]) for k in _COST if k in lower), None)
    if trial.ended is None and trial.began is not None and trial.cost is not None:
        trial.ended = trial.began + trial.cost
    trial.error = trial.error or str(next((lower[k] for k in _ERROR if k in lower), ""))
    return trial


def _absent(value: Any) -> bool:
    """Whether a cell is empty; pandas writes NaN there."""
    return value is None or value == "" or (isinstance(value, float) and math.isnan(value))


def _reports(given: Any) -> list[tuple[int, dict[str, float]]]:
    """Reports as our own export writes them: a list of ``{"step": ..., "metrics": {...}}``."""
    out = []
    for entry in given if isinstance(given, list) else ():
        if (
            isinstance(entry, dict)
            and isinstance(entry.get("step"), int)
            and isinstance(entry.get("metrics"), dict)
        ):
            found = {str(k): float(v) for k, v in entry["metrics"].items() if _real(v) is not None}
            out.append((entry["step"], found))
    return sorted(out, key=lambda r: r[0])


def _is_metric(column: str, value: Any) -> bool:
    """Whether a column that is neither parameter nor objective holds a number worth keeping."""
    known = {*_NUMBER, *_STATE, *_BEGAN, *_ENDED, *_COST, *_ERROR, *_ASIDE}
    return column.lower() not in known and not column.startswith("_") and _real(value) is not None


def _number(trials: Sequence[ForeignTrial]) -> None:
    """Numbers by row, where those in the table are not one for each trial."""
    if len({t.number for t in trials}) < len(trials):
        for i, trial in enumerate(trials):
            trial.number = i


def _real(value: Any) -> float | None:
    if isinstance(value, bool):
        return float(value)
    if isinstance(value, int | float):
        return float(value)
    return None


def _duration(value: Any) -> float | None:
    """Seconds of a number, or of pandas' ``0 days 00:01:02.5``."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value) if math.isfinite(value) and value >= 0 else None
    days, _, clock = str(value).rpartition("days ")
    try:
        hours, minutes, seconds = (float(part) for part in clock.strip().split(":"))
        return float(days or 0) * 86_400 + hours * 3_600 + minutes * 60 + seconds
    except ValueError:
        return None


# ------------------------------------------------------------------ rows


def _rows(path: Path) -> Iterable[Mapping[str, Any]]:
    kind = path.suffix.lower()
    try:
        if kind == ".csv":
            with path.open(encoding="utf-8-sig", newline="") as stream:
                return [
                    {k: scalar(v) for k, v in row.items() if k is not None} for row in csv.DictReader(stream)
                ]
        if kind in (".jsonl", ".ndjson"):
            return _json_lines(path)
        return _parquet(path)
    except (csv.Error, UnicodeDecodeError) as error:
        raise SchemaError(
            f"{path} must be a table in UTF-8; reading it gave '{error}'. Correct it."
        ) from None


def _json_lines(path: Path) -> list[Mapping[str, Any]]:
    rows: list[Mapping[str, Any]] = []
    with path.open(encoding="utf-8-sig") as stream:
        for number, line in enumerate(stream, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise SchemaError(
                    f"Every line must be a JSON object; line {number} of {path} gave '{error}'. Correct it."
                ) from None
            if not isinstance(row, dict):
                raise SchemaError(
                    f"Every line must be a JSON object; line {number} of {path} is {row!r:.80}. Correct it."
                )
            rows.append(row)
    return rows


def _parquet(path: Path) -> list[dict[str, Any]]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise missing_extra("pyarrow", "frames") from None
    try:
        rows: list[dict[str, Any]] = pyarrow.parquet.read_table(path).to_pylist()
    except (pyarrow.ArrowException, OSError) as error:
        raise SchemaError(f"{path} must be a Parquet file; reading it gave '{error}'. Correct it.") from None
    return [{k: _scalar(v) for k, v in row.items()} for row in rows]


def _scalar(value: Any) -> Any:
    """Timestamps as text; what pandas leaves as NaN in a column of numbers is a gap only where there is no number."""
    return value.isoformat() if hasattr(value, "isoformat") else value


def scalar(text: Any) -> Any:
    """What a cell of a CSV file means: a whole number, a number, true or false, else text."""
    if not isinstance(text, str):
        return text
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return {"true": True, "false": False}.get(text.lower(), text)


def _flat(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row with its nested parts, such as ``{"params": {"lr": 0.1}}``, as columns ``params.lr``."""
    flat: dict[str, Any] = {}
    for key, value in row.items():
        if isinstance(value, dict) and key in ("metrics", "metric"):
            flat |= {(f"metrics.{k}" if k in row else str(k)): v for k, v in value.items()}
        elif isinstance(value, dict) and key in ("params", "config", "param", "hyperparameters"):
            flat |= {f"{'config' if key == 'config' else 'params'}.{k}": v for k, v in value.items()}
        else:
            flat[str(key)] = value
    return flat
