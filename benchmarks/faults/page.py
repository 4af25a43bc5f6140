"""The table of faults survived: kept as JSON, written as a page of the documentation."""

from __future__ import annotations

import fcntl
import json
from typing import Any

from benchmarks.faults.rows import ROWS, Fault
from benchmarks.overhead import RESULTS, ROOT

FIGURES = RESULTS / "crash.json"
PAGE = ROOT / "docs" / "concepts" / "faults.md"
PLACES = {
    "sqlite": "SQLite", "full": "SQLite, `durability=full`", "pg": "PostgreSQL", "http": "`tunewright serve`",
    "sqlite_hb": "SQLite, heartbeat 1 s", "wal": "SQLite, WAL", "journal": "journal file", "grpc": "gRPC proxy",
    "pg_hb": "PostgreSQL, heartbeat 1 s",
}  # fmt: skip
SYSTEMS = {"tunewright": "Tunewright", "optuna": "Optuna"}
HEAD = """# Faults survived

What was done to studies, and what they lost. Every worker keeps its own record of what it began and of what was
acknowledged; afterwards the records are compared with the store. Optuna {optuna} met the same faults in the same run,
with its random sampler and its defaults, unless a heartbeat is named.

This page is written by `python -m benchmarks.crash --save` from `benchmarks/results/crash.json`. Numbers other than 0
are broken promises, counted. `python -m benchmarks.crash --only ROW` repeats one row. What is promised, and why it
holds, is on the page about [durability](durability.md).

## In short

"""


def load() -> dict[str, Any]:
    """The kept figures."""
    if FIGURES.is_file() and FIGURES.stat().st_size:
        found: dict[str, Any] = json.loads(FIGURES.read_text(encoding="utf-8"))
        return found
    return {"versions": {}, "rows": {}}


def keep(key: str, system: str, kind: str, cell: dict[str, Any], versions: dict[str, str]) -> None:
    """Adds what was measured to the kept figures, also while other runs do the same."""
    FIGURES.parent.mkdir(parents=True, exist_ok=True)
    with FIGURES.open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        kept = load()
        kept["versions"] = versions
        row = kept["rows"].setdefault(key, {}).setdefault(system, {})
        row[kind] = cell
        order = [*(ROWS[key].ours if system == "tunewright" else ROWS[key].theirs)]
        kept["rows"][key][system] = {k: row[k] for k in order if k in row}
        kept["rows"] = {k: kept["rows"][k] for k in ROWS if k in kept["rows"]}
        FIGURES.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")


def write(kept: dict[str, Any]) -> None:
    """Writes the page."""
    PAGE.write_text(text(kept), encoding="utf-8")


def text(kept: dict[str, Any]) -> str:
    """The page."""
    rows = {key: kept["rows"][key] for key in ROWS if key in kept["rows"]}
    lines = [HEAD.format(optuna=kept["versions"].get("optuna", "")).rstrip("\n"), ""]
    lines += ["| fault | Tunewright | Optuna |", "| --- | --- | --- |"]
    for key, row in rows.items():
        cells = [_summary(row.get(system, {})) for system in SYSTEMS]
        lines.append(f"| [{ROWS[key].title}](#fault-{key.replace('_', '-')}) | {cells[0]} | {cells[1]} |")
    lines.append("")
    for key, row in rows.items():
        lines += _section(key, ROWS[key], row)
    return "\n".join(lines).rstrip() + "\n"


def _summary(cells: dict[str, Any]) -> str:
    """One system in one row: whether it survived in every place, or what broke first in which."""
    told = {kind: cell["broken"] for kind, cell in cells.items() if "broken" in cell}
    if not told:
        return "-"
    hurt = []
    for kind, broken in told.items():
        first = next(((count, promise) for promise, count in broken.items() if count), None)
        if first is not None:
            hurt.append(f"{PLACES[kind]}: {first[0]} {first[1]}")
    if not hurt:
        return f"survived ({len(told)} of {len(told)})"
    return "; ".join(hurt) + (f"; survived on {len(told) - len(hurt)}" if len(hurt) < len(told) else "")


def _section(key: str, fault: Fault, row: dict[str, Any]) -> list[str]:
    lines = [
        f"(fault-{key.replace('_', '-')})=",
        f"## {fault.title}",
        "",
        f"{fault.how[0].upper()}{fault.how[1:]}.",
        "",
    ]
    lines += ["| system | broken promises | measured |", "| --- | --- | --- |"]
    for system, name in SYSTEMS.items():
        for kind, cell in row.get(system, {}).items():
            lines.append(f"| {name}, {PLACES[kind]} | {_broken(cell)} | {_told(cell)} |")
    return [*lines, ""]


def _broken(cell: dict[str, Any]) -> str:
    if "skipped" in cell:
        return f"not measured: {cell['skipped']}"
    if "failed" in cell:
        return f"could not be run: {cell['failed']}".replace("|", "/").replace("\n", " ")
    bad = [f"**{count}** {promise}" for promise, count in cell["broken"].items() if count]
    return ", ".join(bad) or "none"


def _told(cell: dict[str, Any]) -> str:
    def shown(value: Any) -> str:
        if value is None:
            return "not in time"
        if isinstance(value, dict):
            return ", ".join(f"{k} {v}" for k, v in value.items())
        return str(value)

    return ", ".join(f"{key}: {shown(value)}" for key, value in cell.get("told", {}).items())
