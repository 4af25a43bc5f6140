"""Trials as rows and data frames."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from tunewright.analysis.table import columns, rows, to_pandas, to_parquet, to_polars
from tunewright.core.events import Ended, Record, Started
from tunewright.core.problem import Problem
from tunewright.core.space import Space
from tunewright.core.trial import Ledger, Trial
from tunewright.errors import MissingExtra


def trials(*given: tuple[dict[str, Any], dict[str, float] | None]) -> list[Trial]:
    ledger = Ledger(Problem(Space()))
    for number, (config, metrics) in enumerate(given):
        ledger.apply(Record(2 * number + 1, 10.0, "w", Started(number, config)))
        outcome: Any = "completed" if metrics else "failed"
        end = Ended(number, 2 * number + 1, outcome, metrics, 3, cost=1.5, error="" if metrics else "boom")
        ledger.apply(Record(2 * number + 2, 12.0, "w", end))
    return ledger.trials


SOME = trials(({"lr": 0.1, "opt": "adam"}, {"loss": 1.0, "acc": 0.5}), ({"lr": 1, "status": "x"}, None))


def test_rows_have_the_same_keys_and_names_do_not_clash() -> None:
    first, second = rows(SOME)
    assert list(first) == list(second) == columns(SOME)[0]
    assert first == {
        "number": 0, "status": "completed", "lr": 0.1, "opt": "adam", "param.status": None, "loss": 1.0, "acc": 0.5,
        "step": 3, "cost": 1.5, "started": 10.0, "ended": 12.0, "attempts": 1, "error": "",
    }  # fmt: skip
    assert (second["param.status"], second["loss"], second["error"]) == ("x", None, "boom")


def test_a_metric_named_like_a_parameter() -> None:
    (row,) = rows(trials(({"loss": 3}, {"loss": 0.25})))
    assert (row["loss"], row["metric.loss"]) == (3, 0.25)


def test_pandas_and_polars() -> None:
    frame: Any = to_pandas(SOME)
    assert frame["loss"].tolist()[0] == 1.0
    assert list(frame.columns) == columns(SOME)[0]
    other = to_polars(trials(({"v": 1}, {"loss": 1.0}), ({"v": "a"}, {"loss": 2.0}), ({"v": 0.5}, None)))
    assert other["v"].to_list() == ["1", "a", "0.5"]
    assert to_polars(SOME)["lr"].to_list() == [0.1, 1.0]
    assert to_pandas([]).empty


def test_parquet(tmp_path: Path) -> None:
    import pyarrow.parquet

    to_parquet(SOME, tmp_path / "t.parquet")
    assert pyarrow.parquet.read_table(tmp_path / "t.parquet").to_pylist()[0] == next(iter(rows(SOME))) | {
        "lr": 0.1
    }


@pytest.mark.parametrize(
    ("package", "make"), [("pandas", to_pandas), ("polars", to_polars), ("pyarrow", None)]
)
def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch, package: str, make: Any) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtra, match=package):
        make(SOME) if make else to_parquet(SOME, Path("x"))
