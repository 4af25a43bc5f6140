"""The page of what was measured across sizes is that of the stored results."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from benchmarks import scaling_page


def test_the_page_is_up_to_date() -> None:
    assert scaling_page.PAGE.read_text(encoding="utf-8") == scaling_page.render(), (
        "run python -m benchmarks.scaling_page"
    )


def test_what_was_missed_stands_out() -> None:
    missed = [line for line in scaling_page.render().splitlines() if line.endswith("| **no** |")]
    assert any("gradient noise" in line for line in missed)
