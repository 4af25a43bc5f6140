from __future__ import annotations

import numpy as np
import pytest

from tunewright.bench import curves, tables
from tunewright.bench.curves import Curves, entries_of, suite_task, task_of
from tunewright.core.problem import Objective
from tunewright.errors import ConfigError

needs_data = pytest.mark.skipif(
    not (tables.folder("data") / "tasks.csv").exists(), reason="needs the recorded tables"
)
COLUMNS = {
    "extra": [None, 5, 9, None],
    "rate": [0.001, 0.01, 0.1, 1.0],
    "width": [2, 4, 7, 10],
    "kind": ["plain", "rich", "rich", "plain"],
    "scaled": [True, False, True, False],
}


def recorded(seen: np.ndarray | None = None, truth: np.ndarray | None = None) -> Curves:
    """Four trainings of three steps; row i ends at ten times i."""
    values = np.arange(4.0)[:, None] * np.array([4.0, 7.0, 10.0])
    seen = values if seen is None else seen
    return Curves(COLUMNS, seen, seen if truth is None else truth, np.full((4, 3), 2.0))


def test_a_space_is_read_off_recorded_columns() -> None:
    by_name = {e["name"]: e for e in entries_of(COLUMNS)}
    assert [e["name"] for e in entries_of(COLUMNS)][-1] == "extra", "after what it depends on"
    assert by_name["extra"]["cond"] == ["kind", ["rich"]]
    assert (by_name["rate"]["type"], by_name["rate"]["log"]) == ("float", True)
    assert (by_name["width"]["type"], by_name["width"]["log"]) == ("int", False)
    assert by_name["kind"]["choices"] == ["plain", "rich"]
    assert by_name["scaled"]["choices"] == ["False", "True"]
    space = tables.read_space(entries_of(COLUMNS))
    assert tables.write_space(space) == entries_of(COLUMNS)


def test_an_absence_that_nothing_explains_is_refused() -> None:
    with pytest.raises(ConfigError, match="absent value must follow from an option.*'x'"):
        entries_of({"x": [1.0, None, 3.0], "kind": ["a", "a", "b"]})


def test_a_recorded_configuration_has_its_own_curve_and_others_the_nearest() -> None:
    task = task_of("four", recorded(), Objective("score"), "epoch")
    for i in range(4):
        config = {
            n: str(v[i]) if n in ("kind", "scaled") else v[i] for n, v in COLUMNS.items() if v[i] is not None
        }
        assert task.curve(config)[0].tolist() == [4.0 * i, 7.0 * i, 10.0 * i]
        assert task.curve(config)[1].tolist() == [2.0, 2.0, 2.0]
    near = {"extra": 8, "rate": 0.09, "width": 6, "kind": "rich", "scaled": "True"}
    assert task.curve(near)[0][-1] == 20.0
    assert (task.best, task.usual) == (0.0, 15.0)
    assert task.problem.fidelity is not None
    assert (task.problem.fidelity.high, task.problem.fidelity.unit) == (3, "epoch")


def test_maximised_metrics_are_judged_as_losses_and_by_their_mean() -> None:
    noisy = np.array([[0.0, 0.0], [1.0, 9.0], [2.0, np.nan], [3.0, 3.0]])
    mean = np.array([[0.0, 1.0], [1.0, 4.0], [2.0, np.nan], [3.0, 6.0]])
    curves_ = Curves(COLUMNS, noisy, mean, np.ones((4, 2)))
    task = task_of("noisy", curves_, Objective("score", "maximize"), "epoch")
    config = {"extra": 5, "rate": 0.01, "width": 4, "kind": "rich", "scaled": "False"}
    assert task.curve(config)[0].tolist() == [1.0, 9.0]
    assert task.truth is not None
    assert task.truth(config).tolist() == [1.0, 4.0]
    assert (task.best, task.usual) == (-6.0, -2.5)
    assert task.regret(-4.0) == pytest.approx(2.0 / 3.5)


def test_between_measurements_the_last_one_stays() -> None:
    at, values = np.array([0.05, 0.25, 1.0]), np.array([3.0, 2.0, 1.0])
    asked = np.array([0.01, 0.05, 0.2, 0.25, 0.99, 1.0])
    assert curves._last_known(at, values, asked).tolist() == [3.0, 3.0, 3.0, 2.0, 2.0, 1.0]


def test_unknown_tasks_are_refused() -> None:
    with pytest.raises(ConfigError, match="must be one of curves:mlp_digits.*got rbv2:no"):
        suite_task("rbv2", "no")
    with pytest.raises(ConfigError, match="got no:mnist"):
        suite_task("no", "mnist")


def test_missing_tables_say_what_to_set(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    monkeypatch.setenv("TUNEWRIGHT_DATA", str(tmp_path))
    with pytest.raises(ConfigError, match="Set TUNEWRIGHT_DATA"):
        curves._classifiers("svm__1220")


@needs_data
@pytest.mark.parametrize(
    ("suite", "name", "steps"),
    [
        ("lcbench", "168868", 50),
        ("arlbench", "cc_cartpole_dqn", 10),
        ("arlbench", "cc_pendulum_sac", 10),
        ("rbv2", "svm__40966", 20),
        ("xgb", "mnist", 50),
        ("algoperf", "ogbg", 20),
    ],
)
def test_recorded_tasks_hold_what_they_promise(suite: str, name: str, steps: int) -> None:
    task = suite_task(suite, name)
    space, sign = task.problem.space, task.problem.objectives[0].sign
    assert task.best < task.usual
    assert tables.read_space(tables.write_space(space)).digest == space.digest
    for config in (space.draw(np.random.default_rng(i)) for i in range(20)):
        values, seconds = task.curve(config)
        assert values.shape == seconds.shape == (steps,)
        assert (seconds > 0).all()
        truth = values if task.truth is None else task.truth(config)
        assert np.nanmin(sign * truth) >= task.best
    assert curves.recorded_times(suite) == (suite in ("lcbench", "xgb", "algoperf"))


@needs_data
def test_digits_cost_what_was_recorded() -> None:
    pandas = pytest.importorskip("pandas")
    home = tables.folder("data") / "xgb_mnist"
    config = pandas.read_parquet(home / "configs.parquet").astype(object).to_dict("records")[3]
    runs = pandas.read_parquet(home / "evals.parquet")
    runs = runs[runs["config_id"] == config.pop("config_id")].sort_values("train_size")
    errors, seconds = suite_task("xgb", "mnist").curve(config)
    assert errors[-1] == runs["test_error"].iloc[-1]
    assert errors[0] == runs["test_error"][runs["train_size"] <= 1120].iloc[-1]
    assert seconds.sum() == pytest.approx(runs["time_s"].max(), rel=1e-3)
