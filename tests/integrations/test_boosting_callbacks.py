"""Callbacks of LightGBM, XGBoost and CatBoost report, stop, and leave a model that goes on from where it was."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import pytest

import tunewright as tw
from tunewright.errors import ConfigError
from tunewright.integrations.reporting import Reporter, pick

RNG = np.random.default_rng(0)
X = RNG.normal(size=(300, 5))
Y = (X[:, 0] + X[:, 1] * X[:, 2] + 0.3 * RNG.normal(size=300) > 0).astype(int)
XV, YV, X, Y = X[200:], Y[200:], X[:200], Y[:200]


class Told:
    """A trial that is told to end after some steps, and remembers what was reported."""

    objectives = ("loss",)

    def __init__(self, most: int, step: int = 0, until: int | None = None) -> None:
        self.most, self.step, self.until = most, step, until
        self.seen: list[tuple[int, dict[str, Any]]] = []

    def report(self, step: int, /, **metrics: Any) -> bool:
        self.seen.append((step, metrics))
        return step < self.most


def lightgbm_fit(report: Any, rounds: int, start: Any = None, rate: float = 0.1) -> tuple[Any, int]:
    import lightgbm as lgb

    params = {"objective": "binary", "learning_rate": rate, "num_leaves": 7, "verbose": -1, "num_threads": 1}
    data = lgb.Dataset(X, Y, free_raw_data=False)
    valid = lgb.Dataset(XV, YV, reference=data, free_raw_data=False)
    booster = lgb.train(
        params, data, rounds, valid_sets=[data, valid], init_model=start, callbacks=[report] if report else []
    )
    return booster, booster.current_iteration()


def xgboost_fit(report: Any, rounds: int, start: Any = None, rate: float = 0.1) -> tuple[Any, int]:
    import xgboost as xgb

    params = {"objective": "binary:logistic", "eta": rate, "max_depth": 3, "nthread": 1}
    data, valid = xgb.DMatrix(X, Y), xgb.DMatrix(XV, YV)
    booster = xgb.train(
        params,
        data,
        rounds,
        evals=[(data, "train"), (valid, "valid")],
        verbose_eval=False,
        xgb_model=start,
        callbacks=[report] if report else [],
    )
    return booster, booster.num_boosted_rounds()


def catboost_fit(report: Any, rounds: int, start: Any = None, rate: float = 0.1) -> tuple[Any, int]:
    from catboost import CatBoostClassifier

    model = CatBoostClassifier(
        iterations=rounds,
        learning_rate=rate,
        depth=3,
        thread_count=1,
        verbose=0,
        allow_writing_files=False,
        use_best_model=False,
        random_seed=0,
        boost_from_average=False,
        bootstrap_type="No",
        random_strength=0,
        boosting_type="Plain",
    )
    model.fit(X, Y, eval_set=(XV, YV), init_model=start, callbacks=[report] if report else None)
    return model, model.tree_count_


PACKAGES = {
    "lightgbm": (lightgbm_fit, "binary_logloss", "BoosterState", "booster"),
    "xgboost": (xgboost_fit, "logloss", "BoosterState", "booster"),
    "catboost": (catboost_fit, "Logloss", "ModelState", "model"),
}


@pytest.fixture(params=list(PACKAGES))
def package(request: pytest.FixtureRequest) -> tuple[Any, ...]:
    """The integration's module, what trains, the metric's name, the state's class and its attribute."""
    pytest.importorskip(request.param)
    fit, metric, state, attribute = PACKAGES[request.param]
    module = importlib.import_module(f"tunewright.integrations.{request.param}")
    return module, fit, metric, getattr(module, state), attribute


def test_reports_every_so_many_trees_and_stops(package: tuple[Any, ...]) -> None:
    module, fit, metric, _, _ = package
    trial = Told(3)
    report = module.ReportCallback(trial, metric, every=4)
    _, trees = fit(report, 40)
    assert [step for step, _ in trial.seen] == [1, 2, 3]
    assert 12 <= trees <= 13, "CatBoost stops a tree later than it is told"
    assert report.stopped
    losses = [m["loss"] for _, m in trial.seen]
    assert losses == sorted(losses, reverse=True) and 0 < losses[-1] < 0.69


def test_reports_the_validation_data(package: tuple[Any, ...]) -> None:
    module, fit, metric, _, _ = package
    trial = Told(9)
    booster, _ = fit(module.ReportCallback(trial, metric), 5)
    if hasattr(booster, "predict_proba"):
        p = booster.predict_proba(XV)[:, 1]
    elif type(booster).__module__.startswith("xgboost"):
        import xgboost as xgb

        p = booster.predict(xgb.DMatrix(XV))
    else:
        p = booster.predict(XV)
    loss = -np.mean(np.where(YV == 1, np.log(p), np.log(1 - p)))
    assert trial.seen[-1][1]["loss"] == pytest.approx(loss, rel=1e-4)


def test_outside_a_trial_nothing_is_reported(package: tuple[Any, ...]) -> None:
    module, fit, metric, _, _ = package
    _, trees = fit(module.ReportCallback(None, metric), 6)
    assert trees == 6


def test_a_misspelled_metric_names_those_there(package: tuple[Any, ...]) -> None:
    module, fit, metric, _, _ = package
    with pytest.raises(Exception, match=f"'los', and there are '{metric}'"):
        fit(module.ReportCallback(Told(3), "los"), 3)


def test_a_paused_trial_goes_on_from_its_trees(package: tuple[Any, ...]) -> None:
    module, fit, metric, made, attribute = package
    segments: list[tuple[int, int, int]] = []

    def train(trial: Any) -> None:
        state, report = made(), module.ReportCallback(trial, metric, every=3)
        trial.keep(state=state)
        at = trial.step
        booster, trees = fit(report, report.rest, getattr(state, attribute), trial["rate"])
        setattr(state, attribute, booster)
        segments.append((trial.number, at, trees))

    study = tw.Study.open(
        "trees", {"rate": tw.Float(0.01, 0.5, log=True)}, minimize="loss", steps=9, method="asha(random)",
        storage="memory", seed=3,
    )  # fmt: skip
    study.run(train, trials=6, progress="none")
    assert {t.status for t in study.trials} <= {"paused", "completed"}
    assert any(at > 0 for _, at, _ in segments), "one trial must have been resumed"
    trees_of = {number: trees for number, _, trees in segments}
    assert trees_of == {t.number: 3 * t.step for t in study.trials}
    best = study.best
    again = Told(99)
    fit(module.ReportCallback(again, metric, every=3), 3 * best.step, None, best.params["rate"])
    assert best.metrics["loss"] == pytest.approx(again.seen[-1][1]["loss"], rel=1e-3)


def test_callbacks_work_in_estimators() -> None:
    lgb = pytest.importorskip("lightgbm")
    from tunewright.integrations.lightgbm import ReportCallback

    trial = Told(2)
    model = lgb.LGBMClassifier(n_estimators=10, verbose=-1, n_jobs=1)
    model.fit(X, Y, eval_X=XV, eval_y=YV, callbacks=[ReportCallback(trial)])
    assert [s for s, _ in trial.seen] == [1, 2] and model.booster_.current_iteration() == 2


def test_callbacks_work_in_cross_validation() -> None:
    lgb = pytest.importorskip("lightgbm")
    from tunewright.integrations.lightgbm import ReportCallback

    trial = Told(4)
    params = {"objective": "binary", "verbose": -1, "num_threads": 1, "num_leaves": 7}
    lgb.cv(params, lgb.Dataset(X, Y), 10, nfold=2, callbacks=[ReportCallback(trial, "binary_logloss")])
    assert len(trial.seen) == 4


def test_xgboost_cross_validation() -> None:
    xgb = pytest.importorskip("xgboost")
    from tunewright.integrations.xgboost import ReportCallback

    trial = Told(4)
    params = {"objective": "binary:logistic", "nthread": 1, "max_depth": 2}
    xgb.cv(params, xgb.DMatrix(X, Y), 10, nfold=2, callbacks=[ReportCallback(trial, "logloss")])
    assert len(trial.seen) == 4


def test_one_metric_needs_no_name() -> None:
    assert pick({"loss": 1.0}, None) == "loss"
    with pytest.raises(ConfigError, match="which metric"):
        pick({"loss": 1.0, "auc": 0.5}, None)


def test_other_numbers_come_along() -> None:
    trial = Told(9)
    reporter = Reporter(trial, "val_loss", None)
    assert reporter.say({"val_loss": 1.0, "auc": 0.5, "cost": 3.0, "text": "x", "bad": float("nan")})
    assert trial.seen == [(1, {"auc": 0.5, "cost_": 3.0, "loss": 1.0})]


def test_a_step_of_no_rounds_is_refused() -> None:
    with pytest.raises(ConfigError, match="every must be a whole number"):
        Reporter(None, None, None, 0)
