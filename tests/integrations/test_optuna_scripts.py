"""Programs written for Optuna, run by ours and by Optuna with nothing but the module exchanged: the same kinds of results."""

from __future__ import annotations

import importlib
import math
import warnings
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(params=["tunewright.integrations.optuna", "optuna"])
def optuna(request: pytest.FixtureRequest) -> Any:
    module = pytest.importorskip(request.param)
    before = module.logging.get_verbosity()
    module.logging.set_verbosity(module.logging.CRITICAL)
    yield module
    module.logging.set_verbosity(before)


def states(study: Any) -> list[str]:
    return [t.state.name for t in study.trials]


def conditional(trial: Any) -> float:
    """Two classifiers with parameters of their own, scored by a formula."""
    kind = trial.suggest_categorical("classifier", ["svc", "forest"])
    if kind == "svc":
        c = trial.suggest_float("svc_c", 1e-10, 1e10, log=True)
        return abs(math.log10(c) - 1) / 10
    depth = trial.suggest_int("forest_depth", 2, 32, log=True)
    return 0.3 + abs(depth - 8) / 100


def test_a_conditional_objective(optuna: Any) -> None:
    study = optuna.create_study(direction="minimize", sampler=optuna.samplers.TPESampler(seed=3))
    study.optimize(conditional, n_trials=40)
    assert states(study) == ["COMPLETE"] * 40
    for trial in study.trials:
        other = "svc_c" if trial.params["classifier"] == "svc" else "forest_depth"
        assert set(trial.params) == {"classifier", other}
        assert trial.values == [conditional(optuna.trial.FixedTrial(trial.params))]
    assert study.best_value == min(t.value for t in study.trials) == study.best_trial.value < 0.2
    assert study.best_params["classifier"] == "svc"


def test_a_real_classifier(optuna: Any) -> None:
    pytest.importorskip("sklearn")
    from sklearn.datasets import load_iris
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.model_selection import cross_val_score
    from sklearn.svm import SVC

    x, y = load_iris(return_X_y=True)

    def objective(trial: Any) -> float:
        name = trial.suggest_categorical("classifier", ["SVC", "RandomForest"])
        if name == "SVC":
            model: Any = SVC(C=trial.suggest_float("svc_c", 1e-3, 1e3, log=True), gamma="auto")
        else:
            depth = int(trial.suggest_float("rf_max_depth", 2, 32, log=True))
            model = RandomForestClassifier(max_depth=depth, n_estimators=5, random_state=0)
        return float(cross_val_score(model, x, y, cv=3).mean())

    study = optuna.create_study(direction="maximize")
    study.optimize(objective, n_trials=12)
    assert states(study) == ["COMPLETE"] * 12
    assert study.best_trial.value > 0.9


def test_pruning_by_the_median(optuna: Any) -> None:
    def objective(trial: Any) -> float:
        x = trial.suggest_float("x", 0.0, 1.0)
        for step in range(20):
            trial.report(x + 1.0 / (step + 1), step)
            if trial.should_prune():
                raise optuna.TrialPruned()
        return x

    study = optuna.create_study(
        sampler=optuna.samplers.RandomSampler(seed=1),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=3),
    )
    study.optimize(objective, n_trials=40)
    pruned = study.get_trials(states=(optuna.trial.TrialState.PRUNED,))
    assert states(study)[:5] == ["COMPLETE"] * 5
    assert 8 < len(pruned) < 35
    for trial in pruned:
        last = max(trial.intermediate_values)
        assert 3 <= last <= 19
        assert trial.value == trial.intermediate_values[last]
    assert all(len(t.intermediate_values) == 20 for t in study.trials if t.state.name == "COMPLETE")
    assert study.best_value < 0.2


@pytest.mark.parametrize("pruner", ["SuccessiveHalvingPruner", "HyperbandPruner", "NopPruner", None])
def test_other_pruners(optuna: Any, pruner: str | None) -> None:
    def objective(trial: Any) -> float:
        x = trial.suggest_float("x", 0.0, 1.0)
        for step in range(1, 28):
            trial.report(x, step)
            if trial.should_prune():
                raise optuna.TrialPruned
        return x

    given = None if pruner is None else getattr(optuna.pruners, pruner)()
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1), pruner=given)
    study.optimize(objective, n_trials=40)
    assert ("PRUNED" in states(study)) == (pruner != "NopPruner")
    assert study.best_value < 0.1


def test_several_objectives(optuna: Any) -> None:
    def objective(trial: Any) -> tuple[float, float]:
        x, y = trial.suggest_float("x", 0, 5), trial.suggest_float("y", 0, 3)
        return 4 * x**2 + 4 * y**2, -((x - 5) ** 2) - (y - 5) ** 2

    study = optuna.create_study(directions=["minimize", "maximize"])
    study.optimize(objective, n_trials=40)
    assert [d.name for d in study.directions] == ["MINIMIZE", "MAXIMIZE"]
    front = study.best_trials
    assert len(front) > 2
    for a in front:
        assert list(a.values) == list(objective(optuna.trial.FixedTrial(a.params)))
        assert not any(
            b.values[0] <= a.values[0] and b.values[1] >= a.values[1] and b.values != a.values for b in front
        )
    with pytest.raises((RuntimeError, ValueError)):
        _ = study.best_trial


def test_attributes_callbacks_and_stopping(optuna: Any) -> None:
    def objective(trial: Any) -> float:
        trial.set_user_attr("square", trial.number**2)
        return trial.suggest_float("x", -1, 1)

    seen: list[tuple[int, Any]] = []

    def callback(study: Any, trial: Any) -> None:
        seen.append((trial.number, trial.user_attrs["square"]))
        if trial.number == 6:
            study.stop()

    study = optuna.create_study()
    study.set_user_attr("data", "iris")
    study.optimize(objective, n_trials=100, callbacks=[callback])
    assert seen == [(n, n * n) for n in range(7)]
    assert study.user_attrs == {"data": "iris"}
    assert study.trials[3].user_attrs == {"square": 9}
    more = optuna.study.MaxTrialsCallback(9, states=(optuna.trial.TrialState.COMPLETE,))
    study.optimize(objective, callbacks=[more, lambda s, t: None])
    assert len(study.trials) == 9


def test_enqueued_trials_come_first(optuna: Any) -> None:
    study = optuna.create_study()
    study.enqueue_trial({"x": 5, "y": 0.5}, user_attrs={"by": "me"})
    study.enqueue_trial({"x": 1})
    study.optimize(lambda t: t.suggest_int("x", 0, 10) + t.suggest_float("y", 0, 1), n_trials=4)
    assert study.trials[0].params == {"x": 5, "y": 0.5}
    assert study.trials[0].user_attrs == {"by": "me"}
    assert study.trials[1].params["x"] == 1
    assert 0 <= study.trials[1].params["y"] <= 1
    for again in ({"x": 5, "y": 0.5}, {"x": 1}, {"x": 9, "y": 1.0}):
        study.enqueue_trial(again, skip_if_exists=True)
    study.optimize(lambda t: t.suggest_int("x", 0, 10) + t.suggest_float("y", 0, 1), n_trials=1)
    assert study.trials[-1].params == {"x": 9, "y": 1.0}
    assert len(study.trials) == 5


def test_ask_and_tell(optuna: Any) -> None:
    study = optuna.create_study(direction="maximize")
    for _ in range(10):
        trial = study.ask()
        x = trial.suggest_float("x", -10, 10)
        study.tell(trial, -(x**2))
    lost, bad = study.ask(), study.ask()
    study.tell(lost, state=optuna.trial.TrialState.FAIL)
    study.tell(bad.number, state=optuna.trial.TrialState.PRUNED)
    fixed = study.ask({"x": optuna.distributions.FloatDistribution(-10, 10)})
    assert -10 <= fixed.params["x"] <= 10
    study.tell(fixed, 1.0)
    assert states(study) == ["COMPLETE"] * 10 + ["FAIL", "PRUNED", "COMPLETE"]
    assert study.best_trial.number == fixed.number
    with pytest.raises(ValueError):
        study.tell(fixed, 2.0)
    assert study.tell(fixed, 2.0, skip_if_finished=True).value == 1.0


def test_threads(optuna: Any) -> None:
    study = optuna.create_study()
    study.optimize(conditional, n_trials=30, n_jobs=2)
    assert sorted(t.number for t in study.trials) == list(range(30))
    assert states(study) == ["COMPLETE"] * 30


def test_failures(optuna: Any) -> None:
    def objective(trial: Any) -> Any:
        trial.suggest_float("x", 0, 1)
        if trial.number == 1:
            raise ValueError("expected")
        if trial.number == 2:
            return float("nan")
        if trial.number == 3:
            return None
        if trial.number == 5:
            raise KeyError("unexpected")
        return 1.0

    study = optuna.create_study()
    with pytest.raises(KeyError, match="unexpected"):
        study.optimize(objective, n_trials=10, catch=(ValueError,))
    assert states(study) == ["COMPLETE", "FAIL", "FAIL", "FAIL", "COMPLETE", "FAIL"]
    assert study.trials[1].values is None
    study.optimize(objective, timeout=0.0)
    assert len(study.trials) <= 7


def test_a_study_is_continued(optuna: Any, tmp_path: Path) -> None:
    if optuna.__name__ == "optuna":
        pytest.importorskip("sqlalchemy")
    url = f"sqlite:///{tmp_path}/studies.db"
    for total in (5, 10):
        study = optuna.create_study(
            study_name="mine", storage=url, load_if_exists=True, sampler=optuna.samplers.TPESampler(seed=0)
        )
        study.optimize(conditional, n_trials=5)
        assert len(study.trials) == total
    again = optuna.load_study(study_name="mine", storage=url)
    assert again.best_value == study.best_value
    assert [t.params for t in again.trials] == [t.params for t in study.trials]
    with pytest.raises(optuna.exceptions.DuplicatedStudyError):
        optuna.create_study(study_name="mine", storage=url)
    (summary,) = optuna.get_all_study_summaries(url)
    assert (summary.study_name, summary.n_trials) == ("mine", 10)
    optuna.delete_study(study_name="mine", storage=url)
    assert optuna.get_all_study_names(url) == []


def test_a_data_frame(optuna: Any) -> None:
    pytest.importorskip("pandas")
    study = optuna.create_study()
    study.optimize(conditional, n_trials=12)
    frame = study.trials_dataframe(attrs=("number", "value", "params", "state"))
    assert list(frame["number"]) == list(range(12))
    assert {"value", "params_classifier", "state"} <= set(frame.columns)
    assert set(frame["state"]) == {"COMPLETE"}


def test_added_trials(optuna: Any) -> None:
    study = optuna.create_study()
    made = optuna.create_trial(
        params={"x": 2.0},
        distributions={"x": optuna.distributions.FloatDistribution(0, 10)},
        value=4.0,
        user_attrs={"from": "elsewhere"},
    )
    study.add_trials([made, made])
    study.optimize(lambda t: t.suggest_float("x", 0, 10) ** 2 + 5, n_trials=3)
    assert len(study.trials) == 5
    assert study.best_params == {"x": 2.0}
    assert study.best_trial.user_attrs == {"from": "elsewhere"}


def test_constraints(optuna: Any) -> None:
    def objective(trial: Any) -> float:
        x = trial.suggest_float("x", -1, 1)
        trial.set_user_attr("excess", 0.25 - x)
        return x

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sampler = optuna.samplers.TPESampler(seed=5, constraints_func=lambda t: (t.user_attrs["excess"],))
    study = optuna.create_study(sampler=sampler)
    study.optimize(objective, n_trials=40)
    assert 0.25 <= study.best_value < 0.6


def test_a_grid_ends(optuna: Any) -> None:
    sampler = optuna.samplers.GridSampler({"x": [-1, 0, 1], "y": ["a", "b"]})
    study = optuna.create_study(sampler=sampler)
    study.optimize(
        lambda t: t.suggest_int("x", -5, 5) ** 2 + (t.suggest_categorical("y", ["a", "b"]) == "a"),
        n_trials=100,
    )
    assert len(study.trials) == 6
    assert study.best_params == {"x": 0, "y": "b"}


def test_values_without_a_choice_and_old_names(optuna: Any) -> None:
    def objective(trial: Any) -> float:
        n = trial.suggest_int("n", 1, 3)
        return trial.suggest_int("m", 0, n - 1) + trial.suggest_float("one", 1.0, 1.0)

    study = optuna.create_study()
    study.optimize(objective, n_trials=15)
    assert states(study) == ["COMPLETE"] * 15
    assert {t.params["one"] for t in study.trials} == {1.0}
    assert all(t.params["m"] < t.params["n"] for t in study.trials)


def test_every_name_is_where_programs_import_it(optuna: Any) -> None:
    for path in (
        "study.Study", "study.StudyDirection", "study.MaxTrialsCallback", "trial.TrialState", "trial.FrozenTrial",
        "trial.Trial", "samplers.TPESampler", "pruners.MedianPruner", "exceptions.TrialPruned",
        "distributions.IntDistribution", "logging.set_verbosity", "storages.RDBStorage",
    ):  # fmt: skip
        module, name = path.split(".")
        assert hasattr(importlib.import_module(f"{optuna.__name__}.{module}"), name)
