"""The page on trainings by step is that of the stored results."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from benchmarks import multifidelity_page as made

AT = {
    "1": {
        "standings": [
            {"name": "tw:asha(tpe)", "regret": 0.25, "rank": 1.0, "seeds": 3},
            {"name": "peer", "regret": 0.5, "rank": 2.0, "seeds": 3},
        ]
    },
    "4": {"standings": [{"name": "tw:asha(tpe)", "regret": 0.125, "rank": 1.0, "seeds": 3}]},
}


def test_the_page_is_up_to_date() -> None:
    if made.stored():
        assert made.PAGE.read_text(encoding="utf-8") == made.render(), (
            "run python -m benchmarks.multifidelity_page"
        )
    else:
        assert not made.PAGE.exists()


def test_a_section_has_a_row_per_tool_the_best_first() -> None:
    tool = {"ms_per_report": 0.5, "seeds": 3, "version": "v 1"}
    summary = {
        "tasks": ["a", "b"],
        "at": AT,
        "tools": {"peer": tool, "tw:asha(tpe)": tool},
        "savings": {"tw:asha(tpe)": {"suite": 3.25}},
    }
    rows = made._section("xgb", summary).splitlines()[-2:]
    assert rows == [
        "| `asha(tpe)` | 0.250 (1.0) | 0.125 (1.0) | 3.2 | 0.500 | 3 | v 1 |",
        "| peer | 0.500 (2.0) | - | - | 0.500 | 3 | v 1 |",
    ]
    assert made.regrets(summary, "1") == {"tw:asha(tpe)": 0.25, "peer": 0.5}
    once = {"1": {"standings": [{"name": "peer", "regret": 0.5, "rank": 1.0, "seeds": 1}]}}
    assert made.regrets({"at": once}, "1") == {}, "one seed is no leader"
    seconds = made._section("xgb", summary | {"seconds": AT}).splitlines()[-2:]
    assert seconds == ["| `asha(tpe)` | 0.250 (1.0) | 0.125 (1.0) |", "| peer | 0.500 (2.0) | - |"]
