"""Figures that the README states are those of the stored results: it may say less than was measured, never more."""

from __future__ import annotations

import json
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks" / "results"


def measured() -> dict[str, list[float]]:
    """Ratios by the beginning of their row in the README's table."""
    table = {
        r["what"]: r for r in json.loads((RESULTS / "overhead.json").read_text(encoding="utf-8"))["table"]
    }
    rates = {
        (r["system"], r["kind"], r["processes"]): r["rate"]
        for r in json.loads((RESULTS / "storage.json").read_text(encoding="utf-8"))["rates"]
    }

    def less(*rows: str) -> list[float]:
        return [table[row]["optuna"] / table[row]["tunewright"] for row in rows]

    return {
        "ask and tell, TPE": less("tpe at 100", "tpe at 1000", "tpe at 10000"),
        "ask, Gaussian process": less("gp ask at 50", "gp ask at 100", "gp ask at 300"),
        "ask and tell, random": less("random ask+tell"),
        "durable trials in SQLite": [
            rates["tunewright", "process", n] / rates["optuna", "sqlite", n] for n in (1, 8)
        ],
        "the same in PostgreSQL": [
            rates["tunewright", "postgres", n] / rates["optuna", "postgres", n] for n in (1, 8)
        ],
    }


def test_the_readme_claims_no_more_than_was_measured() -> None:
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    for row, ratios in measured().items():
        line = next(text for text in lines if text.startswith(f"| {row}"))
        stated = [float(n) for n in re.findall(r"\d+", line.split("|")[2])]
        assert len(stated) == len(ratios), row
        assert all(s <= r + 0.5 for s, r in zip(stated, ratios, strict=True)), (row, ratios)
        assert "times" in line


def test_the_versions_are_those_that_were_measured() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for name in ("overhead", "storage"):
        optuna = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))["optuna"]
        assert f"Optuna {optuna}" in readme
