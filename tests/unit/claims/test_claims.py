"""Stored results are complete, honest about their scale, and the page says what they say."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))
from claims import page, record, study
from claims.__main__ import main

NAMES = record.names()
# Ten seeds, but five where a seed is a whole grid of trainings, and one where released runs leave none to draw.
SEEDS = {
    "batch_size_law": 5,
    "bit_hyper_rule": 5,
    "critical_batch": 5,
    "mixture_ratio": 5,
    "mu_transfer_exploration": 5,
    "repeated_data": 5,
    "small_scale_laws": 1,
    "step_law": 1,
    "time_matters": 5,
    "time_transfer": 5,
}


def test_there_are_claims_and_the_helpers_are_not_among_them() -> None:
    assert {"asha", "gp", "hyperband", "tpe"} <= set(NAMES)
    assert not {"record", "page", "study", "__main__"} & set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_every_claim_says_what_it_checks_and_has_a_result(name: str) -> None:
    module = record.load(name)
    assert module.__doc__
    assert all(getattr(module.CLAIM, f) for f in ("title", "paper", "check", "rule"))
    result: dict[str, Any] | None = record.stored(name)
    assert result is not None, f"run python -m claims run {name}"
    assert result["verdict"] in get_args(record.Verdict)
    assert not result["quick"]
    assert len(result["seeds"]) >= SEEDS.get(name, 10)
    assert result["cpu_seconds"] < 480
    assert result["baseline"]
    assert result["test"]
    assert {"python", "numpy", "tunewright"} <= set(result["versions"])
    assert result["title"] == module.CLAIM.title, "the claim was changed after its run"
    assert result["rule"] == module.CLAIM.rule, "the rule was changed after the run"


def test_the_page_is_up_to_date() -> None:
    assert page.PAGE.read_text(encoding="utf-8") == page.render(), "run python -m claims page"
    assert page.SHIPPED.read_text(encoding="utf-8") == page.shipped(), "run python -m claims page"


def test_the_table_lists_every_claim(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["table"]) == 0
    out = capsys.readouterr().out
    assert [line.split()[0] for line in out.splitlines()] == NAMES


def test_unknown_claims_are_refused() -> None:
    with pytest.raises(SystemExit, match="A claim must be one of"):
        main(["run", "nonsense"])


def test_missing_data_is_a_verdict(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TUNEWRIGHT_PEERBENCH", str(tmp_path))
    study.tables._references.cache_clear()
    assert record.load("tpe").run(True).verdict == "cannot be checked here"


def test_speedup_is_the_geometric_mean_of_ratios() -> None:
    ours, theirs = np.full((2, 10), 2.0), np.array([[4.0] * 10, [16.0] * 10])
    figures = study.speedup(ours, theirs)
    assert figures["speedup"] == pytest.approx(4.0)
    assert figures["speedup_low"] < 4.0 < figures["speedup_high"]
    # Twenty pairs on one side: 2^-20 under the null.
    assert figures["p"] == pytest.approx(2.0**-20)
    assert study.speedup(theirs, ours)["p"] > 0.99


def test_comparisons_are_corrected_together() -> None:
    a, b = {"p": 0.01}, {"p": 0.04}
    study.corrected(a, b)
    assert (a["p"], b["p"]) == pytest.approx((0.02, 0.04))


def test_stored_numbers_are_plain() -> None:
    plain = record._plain({"a": np.float64(1 / 3), "b": np.int64(3), "c": {"d": math.pi}})
    assert plain == {"a": 0.33333, "b": 3, "c": {"d": 3.1416}}
    assert type(plain["b"]) is int
