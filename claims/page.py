"""Writes the page of claims from the stored results, and the short form of them that comes with the package."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from claims.record import load, names, stored

PAGE = Path(__file__).resolve().parents[1] / "docs" / "methods" / "claims.md"
SHIPPED = PAGE.parents[2] / "src" / "tunewright" / "web" / "claims.json"
_HEAD = """# Claims checked

Every method comes with the claim that made it known, and a check of it that anybody can run:
`python -m claims run NAME` (`--quick` for less than a minute). This page is generated from the stored results by
`python -m claims page`; do not edit it.

A claim *holds at reduced scale* when the paper's direction is confirmed on smaller trainings than the paper's. The rule that
turns figures into a verdict is fixed before the run.
"""


def table() -> list[tuple[str, str, str]]:
    """Name, verdict and title of every claim."""
    rows = []
    for name in names():
        record = stored(name)
        verdict = str(record["verdict"]) if record is not None else "not run yet"
        rows.append((name, verdict, str(load(name).CLAIM.title)))
    return rows


def render() -> str:
    """The page as Markdown."""
    parts = [_HEAD, "| claim | verdict | |", "| --- | --- | --- |"]
    parts += [f"| [{name}](#{name}) | {verdict} | {title} |" for name, verdict, title in table()]
    for name in names():
        parts.append(_section(name, stored(name)))
    return "\n".join(parts) + "\n"


def _section(name: str, record: dict[str, Any] | None) -> str:
    claim = load(name).CLAIM
    lines = [
        f"\n## {name}",
        f"\n**{claim.title}** {claim.paper}.",
        f"\n*Checked here*: {claim.check}",
        f"\n*Rule*: {claim.rule}",
    ]
    if record is None:
        return "\n".join([*lines, "\nNot run yet."])
    found = ", ".join(f"{k} {v}" for k, v in record["versions"].items())
    lines += [
        f"\n**Verdict: {record['verdict']}.** {record['summary']}",
        f"\n*Baseline*: {record['baseline']}. *Test*: {record['test']}. *Seeds*: {len(record['seeds'])}. "
        f"*Cost*: {record['cpu_seconds']} CPU seconds. *Versions*: {found}.",
        "\n| figure | value |",
        "| --- | --- |",
        *(f"| {k.replace('_', ' ')} | {_number(v)} |" for k, v in record["figures"].items()),
    ]
    return "\n".join(lines)


def _number(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def write() -> Path:
    """Writes the page and the short form, and returns where the page is."""
    PAGE.parent.mkdir(parents=True, exist_ok=True)
    PAGE.write_text(render(), encoding="utf-8")
    SHIPPED.write_text(shipped(), encoding="utf-8")
    return PAGE


def shipped() -> str:
    """The verdicts as JSON, each with the methods of the catalogue that it is about: those whose module has its name."""
    from tunewright import catalog

    entries: list[Any] = [
        *catalog.METHODS.values(),
        *catalog.INSIDE.values(),
        *catalog.REMOVING.values(),
        *catalog.PREDICTING.values(),
    ]
    rows = []
    for name in names():
        record = stored(name)
        if record is None:
            continue
        seeds: Any = record["seeds"]
        about = {e.name for e in entries if name in (e.name, e.path.partition(":")[0].rpartition(".")[2])}
        rows.append(
            {
                "claim": name,
                "title": str(load(name).CLAIM.title),
                "paper": record["paper"],
                "verdict": record["verdict"],
                "summary": record["summary"],
                "seeds": len(seeds),
                "methods": sorted(about),
            }
        )
    return json.dumps(rows, indent=1, ensure_ascii=False) + "\n"
