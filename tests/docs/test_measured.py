"""The page of measurements is that of the stored results, and what the guide advises is what they show."""

from __future__ import annotations

import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from benchmarks import guide

CHOOSING = guide.PAGE.with_name("choosing.md")


def test_the_page_is_up_to_date() -> None:
    assert guide.PAGE.read_text(encoding="utf-8") == guide.render(), "run python -m benchmarks.guide"


def test_the_advice_is_what_was_measured() -> None:
    # Rows read: | problem | method, method | suite at N |
    text = CHOOSING.read_text(encoding="utf-8")
    rows = re.findall(r"^\| [^|]+ \| ([^|]+) \| \[(\w+) at (\d+)\]", text, re.MULTILINE)
    assert len(rows) >= 5
    found = guide.stored()
    for methods, suite, at in rows:
        named = set(re.findall(r"`(\w+)`", methods))
        leaders = set(guide.leaders(found[suite], at))
        assert named & leaders, (suite, at, named, leaders)


def test_the_readme_states_the_stored_ratios() -> None:
    text = (guide.ROOT / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"measured\.md#(\w+)\) \| ([\d.]+) \| ([\d.]+) \|", text)
    assert {suite for suite, *_ in rows} == set(guide.stored())
    for suite, *stated in rows:
        found = [guide.against(guide.stored()[suite], at) for at in ("50", "100")]
        assert [f"{pair[1]:.2f}" for pair in found if pair] == stated, suite
