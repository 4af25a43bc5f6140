from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tunewright.bench import tables
from tunewright.errors import ConfigError

ENTRIES: list[dict[str, Any]] = [
    {
        "name": "kind",
        "type": "cat",
        "choices": ["a", "b"],
        "cond": None,
        "low": None,
        "high": None,
        "log": False,
    },
    {"name": "rate", "type": "float", "low": 0.01, "high": 1.0, "log": True, "cond": None, "choices": None},
    {
        "name": "n",
        "type": "int",
        "low": 0,
        "high": 10,
        "log": False,
        "cond": ["kind", ["b"]],
        "choices": None,
    },
]


@pytest.fixture
def stump(tmp_path: Path) -> Path:
    """Two trees: one splits on kind == a, the other on n <= 0.5."""
    path = tmp_path / "stump.npz"
    np.savez(
        path,
        feature=np.array([0, 0, 0, 3, 0, 0], dtype=np.int32),
        threshold=np.array([0.5, 0, 0, 0.5, 0, 0]),
        left=np.array([1, 1, 2, 4, 4, 5], dtype=np.int32),
        right=np.array([2, 1, 2, 5, 4, 5], dtype=np.int32),
        value=np.array([[0, 0], [4, 2], [8, 6], [0, 0], [0, 0], [2, 2]], dtype=np.float32),
        roots=np.array([0, 3], dtype=np.int32),
        space=json.dumps(ENTRIES),
    )
    return path


def test_spaces_are_read_with_their_conditions() -> None:
    space = tables.read_space(ENTRIES)
    assert space.names == ("kind", "rate", "n")
    assert sorted(space.decode(space.encode({"kind": "a", "rate": 0.1}))) == ["kind", "rate"]
    assert "n" in space.decode(space.encode({"kind": "b", "rate": 0.1, "n": 3}))


def test_a_forest_predicts_the_mean_of_its_trees(stump: Path) -> None:
    forest = tables.Forest(stump)
    assert forest.features({"kind": "a", "rate": 0.1}).tolist() == pytest.approx([1, 0, 0.5, -1])
    assert forest({"kind": "a", "rate": 0.1}).tolist() == [4.0, 3.0]
    assert forest({"kind": "b", "rate": 0.1, "n": 9}).tolist() == [3.0, 2.0]


def test_a_missing_table_says_what_to_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TUNEWRIGHT_PEERBENCH", str(tmp_path))
    assert tables.folder("peerbench") == tmp_path
    with pytest.raises(ConfigError, match="Set TUNEWRIGHT_PEERBENCH"):
        tables.curve_task("mlp_digits")


@pytest.mark.skipif(not tables.folder("peerbench").exists(), reason="needs the peerbench tables")
def test_recorded_curves_fall_between_best_and_worst() -> None:
    task = tables.curve_task("mlp_breast_cancer", low=3)
    rng = np.random.default_rng(0)
    losses = [task.curve(task.problem.space.draw(rng))[0] for _ in range(20)]
    assert all(c.shape == (81,) and c.min() >= task.best - 1e-9 for c in losses)
    assert task.problem.fidelity is not None
    assert (task.problem.fidelity.low, task.problem.fidelity.high) == (3, 81)


@pytest.mark.skipif(not tables.folder("data").exists(), reason="needs the LCBench tables")
def test_lcbench_curves_are_the_recorded_ones() -> None:
    pandas = pytest.importorskip("pandas")
    home = tables.folder("data") / "lcbench_table"
    curves = pandas.read_parquet(home / "curves.parquet")
    config = pandas.read_parquet(home / "configs.parquet").astype(object).to_dict("records")[17]
    name = tables.lcbench_names()[2]
    rows = curves[(curves.task.astype(str) == name) & (curves.config_id == config.pop("config_id"))]
    errors, seconds = tables.lcbench_task(name).curve(config)
    assert errors.tolist() == pytest.approx((100 - rows.sort_values("epoch").val_accuracy).tolist())
    assert seconds.sum() == pytest.approx(rows.time.max(), rel=1e-4)
    with pytest.raises(ConfigError, match="An LCBench task must be one of"):
        tables.lcbench_task("no such")
