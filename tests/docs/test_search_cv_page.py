"""The page about scikit-learn says what was measured."""

from __future__ import annotations

import json
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "integrations" / "scikit-learn.md").read_text(encoding="utf-8")
RESULTS = json.loads((ROOT / "benchmarks" / "results" / "search_cv.json").read_text(encoding="utf-8"))


def test_the_table_is_what_was_measured() -> None:
    for name, found in RESULTS["estimators"].items():
        random, ours, folds = (found[k] for k in ("random", "ours", "ours, by folds"))
        often = ", ".join(map(str, ours["better_equal_worse"]))
        row = f"| {name} | {random['score']:.4f} | {ours['score']:.4f} | {often} | {folds['score']:.4f} |"
        assert row in PAGE, f"the page should have: {row}"


def test_the_costs_are_what_was_measured() -> None:
    costs = [
        round(RESULTS["overhead_ms_per_fit"][k], 1)
        for k in ("RandomizedSearchCV", "SearchCV", "SearchCV, method tpe")
    ]
    said = re.search(
        r"([\d.]+) ms in `RandomizedSearchCV`, ([\d.]+) ms in `SearchCV`, ([\d.]+) ms with", PAGE
    )
    assert said is not None
    assert [float(x) for x in said.groups()] == costs
    assert f"{RESULTS['candidates']} candidates, {RESULTS['folds']} folds, {RESULTS['rows']} digits" in PAGE
    assert f"{RESULTS['seeds']} seeds" in PAGE


def test_the_goals_are_met() -> None:
    """Better than random search at equal fits for every estimator, and less than 5 ms per fit over it."""
    assert len(RESULTS["estimators"]) >= 3 and RESULTS["seeds"] >= 5
    assert all(found["ours"]["gain"] > 0 for found in RESULTS["estimators"].values())
    costs = RESULTS["overhead_ms_per_fit"]
    assert costs["SearchCV"] - costs["RandomizedSearchCV"] < 5
