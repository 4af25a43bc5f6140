"""Reads runs of Weights & Biases from a local directory, with the standard library alone.

An offline run is one file ``run-ID.wandb``: records in the log format of LevelDB (32 KiB blocks; CRC, length and type
before each piece), each a protocol buffer. Only the five kinds of records that say what was configured, measured and how
it ended are decoded here; field numbers are those of ``wandb_internal.proto``.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeGuard

from tunewright.core.domains import Float
from tunewright.core.problem import Goal
from tunewright.errors import ConfigError, SchemaError
from tunewright.integrations.importing.foreign import ForeignStudy, ForeignTrial
from tunewright.integrations.importing.tables import guessed

_BLOCK, _HEAD, _MAGIC = 32 * 1024, 7, b":W&B"
_FULL, _FIRST, _LAST = 1, 2, 4
_HISTORY, _SUMMARY, _CONFIG, _RUN, _EXIT = 2, 3, 5, 17, 18


def runs(folder: Path) -> list[Path]:
    """The run files under a folder, by time; the folder of one run, a ``wandb`` folder or one that holds it."""
    return sorted(folder.rglob("run-*.wandb"), key=lambda p: (p.parent.name, p.name))


def read(folder: Path, name: str, goals: Mapping[str, Goal]) -> ForeignStudy:
    """Reads every run under a folder as a trial.

    Args:
        folder: Where the runs are.
        name: What to call the study.
        goals: Goal of each objective, by the name under which runs log it.

    Raises:
        ConfigError: If there is no run, or none logs the objective.
        SchemaError: If a file is not one of Weights & Biases.
    """
    paths = runs(folder)
    if not paths:
        raise ConfigError(
            f"A folder must hold runs (run-*.wandb); {folder} has none. Give the folder 'wandb'."
        )
    study = ForeignStudy(name, "wandb", dict(goals))
    for i, path in enumerate(paths):
        study.trials.append(_trial(i, path, study))
    study.trials.sort(key=lambda t: (t.began or 0.0, t.number))
    for i, trial in enumerate(study.trials):
        trial.number = i
    seen = sorted({n for t in study.trials for n in (*t.values, *(k for _, m in t.reports for k in m))})
    for goal in goals:
        if goal not in seen:
            raise ConfigError(
                f"A run must log '{goal}'; got {', '.join(seen[:30]) or 'nothing'}. Correct the name."
            )
    for parameter in dict.fromkeys(n for t in study.trials for n in t.params):
        study.domains[parameter] = guessed(
            [t.params[parameter] for t in study.trials if parameter in t.params]
        )
        if isinstance(study.domains[parameter], Float):
            for trial in study.trials:
                if parameter in trial.params:
                    trial.params[parameter] = float(trial.params[parameter])
    return study


def _trial(number: int, path: Path, study: ForeignStudy) -> ForeignTrial:
    trial = ForeignTrial(number, "running")
    config: dict[str, Any] = {}
    summary: dict[str, Any] = {}
    last = 0.0
    for kind, body in _records(path):
        if kind == _RUN:
            _run(trial, config, body)
        elif kind == _CONFIG:
            config.update(_items(body))
        elif kind == _SUMMARY:
            summary.update(_items(body))
        elif kind == _HISTORY:
            last = _history(trial, _items(body), study, last)
        elif kind == _EXIT:
            code = next((v for n, v in _fields(body) if n == 1 and isinstance(v, int)), 0)
            trial.state = "failed" if code else "completed"
            trial.error = f"the run ended with exit code {code}" if code else ""
    trial.params = {n: v for n, v in _leaves(config) if n.partition(".")[0] != "_wandb"}
    trial.values |= {n: float(v) for n, v in summary.items() if _number(v) and not n.startswith("_")}
    runtime = summary.get("_runtime") or summary.get("_wandb.runtime")
    if trial.began is not None and trial.state != "running":
        trial.ended = max(last, trial.began + (float(runtime) if _number(runtime) else 0.0))
    return trial


def _run(trial: ForeignTrial, config: dict[str, Any], body: bytes) -> None:
    for field, value in _fields(body):
        if field == 4 and isinstance(value, bytes):
            config.update(_items(value))
        elif field in (1, 8) and isinstance(value, bytes):
            trial.attrs["wandb.id" if field == 1 else "wandb.name"] = value.decode("utf-8", "replace")
        elif field == 17 and isinstance(value, bytes):
            parts = dict(_fields(value))
            trial.began = _whole(parts.get(1)) + _whole(parts.get(2)) / 1e9


def _history(trial: ForeignTrial, row: Mapping[str, Any], study: ForeignStudy, last: float) -> float:
    """Takes in one logged row; returns the time of the last one."""
    found = {n: float(v) for n, v in row.items() if _number(v) and not n.startswith("_")}
    at = row.get("_timestamp")
    at = float(at) if _number(at) else last
    trial.values |= found
    if any(goal in found for goal in study.goals):
        trial.reports.append((int(row.get("_step", len(trial.reports))) + 1, found))
        trial.times.append(at)
    return at


def _leaves(data: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Nested settings as ``model.width``; lists and the like as text."""
    for key, value in data.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{key}.")
        elif value is not None:
            yield (
                f"{prefix}{key}",
                value if isinstance(value, bool | int | float | str) else json.dumps(value),
            )


def _items(body: bytes) -> dict[str, Any]:
    """The ``update`` or ``item`` entries of a record: a key, perhaps in parts, and a value as JSON."""
    out: dict[str, Any] = {}
    for field, value in _fields(body):
        if field == 1 and isinstance(value, bytes):
            key: list[str] = []
            data: Any = None
            for inner, part in _fields(value):
                if inner in (1, 2) and isinstance(part, bytes):
                    key.append(part.decode("utf-8", "replace"))
                elif inner == 16 and isinstance(part, bytes):
                    data = _json(part)
            out[".".join(k for k in key if k)] = data
    return out


def _json(text: bytes) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _number(value: Any) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _whole(value: Any) -> int:
    return value if isinstance(value, int) else 0


# ------------------------------------------------------------------ the file


def _records(path: Path) -> Iterator[tuple[int, bytes]]:
    """Kind and body of each record; an end that was never written is left out."""
    data = path.read_bytes()
    if data[:4] != _MAGIC:
        raise SchemaError(
            f"A run file must be one of Weights & Biases; {path} begins with {data[:8]!r}. Remove it."
        )
    for message in _messages(data):
        for field, value in _fields(message):
            if isinstance(value, bytes) and field in (_HISTORY, _SUMMARY, _CONFIG, _RUN, _EXIT):
                yield field, value


def _messages(data: bytes) -> Iterator[bytes]:
    """The messages of a LevelDB log; pieces of one that spans blocks are put together."""
    at, parts = _HEAD, b""
    while at + _HEAD <= len(data):
        left = _BLOCK - at % _BLOCK
        if left < _HEAD:
            at += left
            continue
        _, length, kind = struct.unpack_from("<IHB", data, at)
        piece = data[at + _HEAD : at + _HEAD + length]
        if kind == 0 or len(piece) < length:
            return
        at += _HEAD + length
        parts = piece if kind in (_FULL, _FIRST) else parts + piece
        if kind in (_FULL, _LAST):
            yield parts


def _fields(body: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Number and value of each field of a protocol buffer; ends where it is no longer one."""
    at = 0
    while at < len(body):
        tag, at = _varint(body, at)
        kind = tag & 7
        if kind == 0:
            value, at = _varint(body, at)
            yield tag >> 3, value
        elif kind == 2:
            size, at = _varint(body, at)
            if at + size > len(body):
                return
            yield tag >> 3, body[at : at + size]
            at += size
        elif kind in (1, 5):
            at += 8 if kind == 1 else 4
        else:
            return


def _varint(body: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(body) and shift < 70:
        byte = body[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if not byte & 128:
            break
    return value, at
