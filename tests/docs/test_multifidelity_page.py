"""The page on trainings by step is that of the stored results."""

from __future__ import annotations

import re
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


def test_the_readme_states_the_stored_ratios() -> None:
    text = (made.ROOT / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"multifidelity\.md#(\w+)\) \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \|", text)
    assert len(rows) >= 5
    for suite, *stated in rows:
        assert [f"{made.against(made.stored()[suite], at):.2f}" for at in ("4", "16", "50")] == stated, suite


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
    ahead = {"tw:hypertune": 0.25, "tw:random": 0.1, "peer": 0.5, "other": 1.0}
    standings = [{"name": n, "regret": r, "rank": 1.0, "seeds": 2} for n, r in ahead.items()]
    assert made.against({"at": {"4": {"standings": standings}}}, "4") == 0.5
    once = {"1": {"standings": [{"name": "peer", "regret": 0.5, "rank": 1.0, "seeds": 1}]}}
    assert made.regrets({"at": once}, "1") == {}, "one seed is no leader"
    seconds = made._section("xgb", summary | {"seconds": AT}).splitlines()[-2:]
    assert seconds == ["| `asha(tpe)` | 0.250 (1.0) | 0.125 (1.0) |", "| peer | 0.500 (2.0) | - |"]
