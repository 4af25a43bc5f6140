"""Boosters that get more trees in parts go on exactly from a checkpoint."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import pytest

import tunewright as tw
from tunewright.run.checkpoint import pack_tree, unpack_tree

RNG = np.random.default_rng(0)
X = RNG.normal(size=(200, 5))
Y = X[:, 0] ** 2 + np.sin(3 * X[:, 1]) + 0.1 * RNG.normal(size=200)


def lightgbm_step(booster: Any, step: int, rate: float) -> Any:
    import lightgbm as lgb

    params = {"learning_rate": rate, "num_leaves": 6, "verbose": -1, "num_threads": 1, "seed": step,
              "bagging_fraction": 0.7, "bagging_freq": 1, "min_data_in_leaf": 5}  # fmt: skip
    return lgb.train(params, lgb.Dataset(X, Y, free_raw_data=False), 4, init_model=booster)


def xgboost_step(booster: Any, step: int, rate: float) -> Any:
    import xgboost as xgb

    params = {"eta": rate, "max_depth": 3, "nthread": 1, "seed": step, "subsample": 0.7}
    return xgb.train(params, xgb.DMatrix(X, Y), 4, xgb_model=booster)


def said(booster: Any) -> Any:
    if type(booster).__module__.startswith("xgboost"):
        import xgboost as xgb

        return booster.predict(xgb.DMatrix(X), output_margin=True)
    return booster.predict(X, raw_score=True)


@pytest.fixture(params=["lightgbm", "xgboost"])
def package(request: pytest.FixtureRequest) -> tuple[Any, Any]:
    """``BoosterState`` of one package, and what trains four trees with it."""
    pytest.importorskip(request.param)
    module = importlib.import_module(f"tunewright.integrations.{request.param}")
    return module.BoosterState, globals()[f"{request.param}_step"]


@pytest.mark.parametrize("pause", [0, 1, 3])
def test_a_pause_changes_nothing(package: tuple[Any, Any], pause: int) -> None:
    made, train = package
    whole, first, second = made(), made(), made()
    for step in range(5):
        whole.booster = train(whole.booster, step, 0.1)
    for step in range(pause):
        first.booster = train(first.booster, step, 0.1)
    second.load_state_dict(unpack_tree(pack_tree({"b": first}))["b"])
    for step in range(pause, 5):
        second.booster = train(second.booster, step, 0.1)
    assert np.array_equal(said(second.booster), said(whole.booster))


def test_a_fork_goes_on_with_its_own_rate(package: tuple[Any, Any]) -> None:
    made, train = package
    donor, fork = made(), made()
    donor.booster = train(None, 0, 0.1)
    fork.load_state_dict(unpack_tree(pack_tree(donor)))
    assert np.array_equal(said(fork.booster), said(donor.booster))
    fork.booster, donor.booster = train(fork.booster, 1, 0.4), train(donor.booster, 1, 0.1)
    assert np.mean((said(fork.booster) - Y) ** 2) < np.mean((said(donor.booster) - Y) ** 2)


def test_promoted_trials_add_trees_to_those_they_have(package: tuple[Any, Any]) -> None:
    made, train = package
    steps = 0

    def run(trial: tw.Attempt) -> None:
        nonlocal steps
        state = made()
        trial.keep(state=state)
        for step in trial.steps():
            state.booster = train(state.booster, step, trial["rate"])
            steps += 1
            trial.report(step, loss=float(np.mean((said(state.booster) - Y) ** 2)))

    study = tw.Study.open("s", {"rate": tw.Float(0.01, 0.5)}, steps=9, method="asha", storage="memory")
    study.run(run, trials=5, progress="none")
    assert steps == sum(t.step for t in study.trials)
    assert study.best.step == 9
