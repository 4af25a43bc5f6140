"""Ready spaces are spaces, hold their libraries' defaults, and have the names of their libraries' arguments."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
from typing import Any

import pytest

import tunewright as tw
from tunewright import presets
from tunewright.errors import ConfigError

READY = [n for n in presets.__all__ if n != "torch_optimizer"]
ESTIMATORS = {
    "catboost": "catboost.CatBoostClassifier",
    "hist_gradient_boosting": "sklearn.ensemble.HistGradientBoostingClassifier",
    "lightgbm": "lightgbm.LGBMClassifier",
    "logistic_regression": "sklearn.linear_model.LogisticRegression",
    "mlp": "sklearn.neural_network.MLPClassifier",
    "random_forest": "sklearn.ensemble.RandomForestClassifier",
    "svm": "sklearn.svm.SVC",
    "xgboost": "xgboost.sklearn.XGBModel",
}


def arguments(name: str) -> Any:
    """The arguments of the estimator that a space is for."""
    module, _, kind = ESTIMATORS[name].rpartition(".")
    if importlib.util.find_spec(module.partition(".")[0]) is None:
        pytest.skip(f"{module} is not installed")
    return inspect.signature(getattr(importlib.import_module(module), kind).__init__).parameters


@pytest.mark.parametrize("name", READY)
def test_is_a_space_with_a_prefix_where_wanted(name: str) -> None:
    made = getattr(presets, name)
    assert tw.Space(made()).d == len(made())
    assert [f"a__{n}" for n in made()] == list(made(prefix="a__"))
    assert "Args:" in (inspect.getdoc(made) or "")


@pytest.mark.slow
@pytest.mark.parametrize("name", READY)
def test_names_and_defaults_are_those_of_the_library(name: str) -> None:
    """A guess is the default of the library; 0 on a log scale, and what it leaves to itself, apart."""
    known = arguments(name)
    space = getattr(presets, name)()
    assert set(space) <= set(known)
    for parameter, domain in space.items():
        default, guess = known[parameter].default, domain.guess
        assert domain.confidence == 0.0 or guess is None
        if guess is not None and isinstance(default, int | float | str):
            assert guess == default or (default == 0 and guess == 1e-8)


def test_trees_are_searched_on_request() -> None:
    assert "n_estimators" in presets.lightgbm(trees=True) and "n_estimators" not in presets.lightgbm()
    assert "n_estimators" in presets.xgboost(trees=True) and "iterations" in presets.catboost(trees=True)


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd", "rmsprop"])
def test_optimizers(name: str) -> None:
    space = tw.Space(presets.torch_optimizer(name, prefix="o_"))
    assert "o_lr" in space.names and space.defaults()["o_lr"] > 0


def test_an_unknown_optimizer_is_named() -> None:
    with pytest.raises(ConfigError, match="'lion'"):
        presets.torch_optimizer("lion")


def test_each_call_makes_a_new_dict() -> None:
    presets.svm()["C"] = tw.Float(1, 2)
    assert presets.svm()["C"] == tw.Float(1e-4, 1e4, log=True, guess=1.0, confidence=0.0)
