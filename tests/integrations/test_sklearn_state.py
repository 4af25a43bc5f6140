"""Estimators that learn in parts go on exactly from a checkpoint."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tunewright as tw
from tunewright.errors import CheckpointError, ConfigError
from tunewright.run.checkpoint import pack_tree, unpack_tree

pytest.importorskip("skops")
from sklearn.cluster import MiniBatchKMeans
from sklearn.decomposition import IncrementalPCA
from sklearn.ensemble import (
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
)
from sklearn.linear_model import SGDClassifier, SGDRegressor
from sklearn.naive_bayes import GaussianNB
from sklearn.neural_network import MLPClassifier, MLPRegressor

from tunewright.integrations.sklearn import EstimatorState

RNG = np.random.default_rng(0)
X = RNG.normal(size=(120, 5))
Y = (X[:, 0] + 0.3 * RNG.normal(size=120) > 0).astype(int)

ESTIMATORS: dict[str, Any] = {
    "mlp": lambda: MLPClassifier((6,), random_state=0),
    "mlp_sgd": lambda: MLPRegressor(
        hidden_layer_sizes=(6,), solver="sgd", random_state=np.random.RandomState(1)
    ),
    "sgd": lambda: SGDClassifier(random_state=0, average=True),
    "sgd_regressor": lambda: SGDRegressor(random_state=0),
    "bayes": lambda: GaussianNB(),
    "kmeans": lambda: MiniBatchKMeans(3, random_state=0, n_init=1, batch_size=40),
    "pca": lambda: IncrementalPCA(2),
    "gradient": lambda: GradientBoostingClassifier(
        warm_start=True, max_depth=2, subsample=0.7, random_state=0
    ),
    "histogram": lambda: HistGradientBoostingRegressor(
        warm_start=True, max_leaf_nodes=4, early_stopping=False, random_state=0
    ),
    "forest": lambda: RandomForestClassifier(warm_start=True, random_state=0, n_jobs=1),
    "extra": lambda: ExtraTreesRegressor(warm_start=True, random_state=0, n_jobs=1),
}


def train(estimator: Any, step: int) -> None:
    """One step: a pass over the data, or three more trees."""
    if not hasattr(estimator, "partial_fit"):
        name = "max_iter" if "max_iter" in estimator.get_params() else "n_estimators"
        estimator.set_params(**{name: 3 * step}).fit(X, Y)
    elif hasattr(estimator, "predict_proba") or isinstance(estimator, SGDClassifier):
        estimator.partial_fit(X, Y, classes=[0, 1])
    else:
        estimator.partial_fit(X, Y)


def said(estimator: Any) -> Any:
    for name in ("predict_proba", "decision_function", "predict", "transform"):
        if hasattr(estimator, name):
            return getattr(estimator, name)(X)
    raise AssertionError(estimator)


@pytest.mark.parametrize("name", ESTIMATORS)
@pytest.mark.parametrize("pause", [1, 3])
def test_a_pause_changes_nothing(name: str, pause: int) -> None:
    whole, first, second = (ESTIMATORS[name]() for _ in range(3))
    for step in range(1, 5):
        train(whole, step)
    state = EstimatorState(first)
    for step in range(1, pause + 1):
        train(first, step)
    data = pack_tree({"model": state})
    EstimatorState(second).load_state_dict(unpack_tree(data)["model"])
    assert np.array_equal(said(second), said(first))
    for step in range(pause + 1, 5):
        train(second, step)
    assert np.array_equal(said(second), said(whole))


def test_a_fork_keeps_its_own_parameters() -> None:
    donor = MLPClassifier((6,), alpha=0.1, learning_rate_init=0.01, random_state=0)
    state = EstimatorState(donor)
    train(donor, 1)
    fork = MLPClassifier((6,), alpha=0.2, learning_rate_init=0.004, random_state=0)
    EstimatorState(fork).load_state_dict(unpack_tree(pack_tree(state)))
    assert (fork.alpha, fork.learning_rate_init) == (0.2, 0.004)
    assert fork._optimizer.learning_rate_init == 0.004
    assert np.array_equal(said(fork), said(donor))
    train(fork, 2)
    train(donor, 2)
    assert not np.array_equal(said(fork), said(donor))


def test_what_the_training_set_itself_is_restored() -> None:
    first = ESTIMATORS["forest"]()
    state = EstimatorState(first)
    train(first, 2)
    second = ESTIMATORS["forest"]()
    EstimatorState(second).load_state_dict(unpack_tree(pack_tree(state)))
    assert second.n_estimators == 6 == len(second.estimators_)


class Shifted(SGDRegressor):
    """An estimator of somebody's own."""


def test_foreign_classes_need_trust() -> None:
    state = EstimatorState(Shifted(random_state=0)).state_dict()
    name = f"{Shifted.__module__}.Shifted"
    with pytest.raises(CheckpointError, match=f"this one has .'{name}'"):
        EstimatorState(Shifted()).load_state_dict(state)
    EstimatorState(Shifted(), trusted=[name]).load_state_dict(state)


def test_another_kind_of_estimator_is_refused() -> None:
    state = EstimatorState(SGDRegressor()).state_dict()
    with pytest.raises(CheckpointError, match="must hold a SGDClassifier; it has a SGDRegressor"):
        EstimatorState(SGDClassifier()).load_state_dict(state)
    with pytest.raises(ConfigError, match="got a int"):
        EstimatorState(3)


def test_promoted_trials_go_on_exactly() -> None:
    final: dict[int, Any] = {}
    passes = 0

    def run(trial: tw.Attempt) -> None:
        nonlocal passes
        model = SGDClassifier(alpha=trial["alpha"], random_state=0)
        trial.keep(model=EstimatorState(model))
        for step in trial.steps():
            train(model, step)
            passes += 1
            trial.report(step, loss=1 - model.score(X, Y))
        final[trial.number] = model.coef_

    study = tw.Study.open(
        "s", {"alpha": tw.Float(1e-4, 1, log=True)}, steps=9, method="asha", storage="memory"
    )
    study.run(run, trials=6, progress="none")
    assert passes == sum(t.step for t in study.trials), "no step is trained twice"
    for trial in study.trials:
        whole = SGDClassifier(alpha=trial.params["alpha"], random_state=0)
        for step in range(1, trial.step + 1):
            train(whole, step)
        assert np.array_equal(final[trial.number], whole.coef_)
