"""The page of comparisons is that of the stored results."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from benchmarks import compared


def test_the_page_is_up_to_date() -> None:
    assert compared.PAGE.read_text(encoding="utf-8") == compared.render(), "run python -m benchmarks.compared"


def test_what_is_behind_stands_out() -> None:
    assert compared._times(0.5) == "**0.50**"
    assert compared._times(1.0) == "no difference"
    assert compared._times(2.0) == "2 times"
