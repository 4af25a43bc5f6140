"""Our sampler inside Optuna's studies: what it learns from, what it refuses, what it costs."""

from __future__ import annotations

import pickle
import warnings
from typing import Any

import pytest

optuna = pytest.importorskip("optuna")

from tunewright.errors import ConfigError  # noqa: E402
from tunewright.integrations.optuna_sampler import TunewrightSampler  # noqa: E402


@pytest.fixture(autouse=True)
def _quiet() -> Any:
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    yield
    optuna.logging.set_verbosity(before)


def conditional(trial: Any) -> float:
    if trial.suggest_categorical("kind", ["a", "b"]) == "a":
        return (trial.suggest_float("x", -5, 5) - 1) ** 2
    return 1.0 + trial.suggest_int("n", 1, 9)


def test_auto_finds_the_optimum_of_a_conditional_objective() -> None:
    sampler = TunewrightSampler(seed=1)
    study = optuna.create_study(sampler=sampler)
    study.optimize(conditional, n_trials=40)
    assert study.best_value < 0.01
    (view,) = sampler._views.values()
    assert view.folds[-1]._problem.space.when == {"x": {"kind": [0]}, "n": {"kind": [1]}}


def test_each_trial_is_told_once() -> None:
    sampler = TunewrightSampler("tpe", seed=1)
    study = optuna.create_study(sampler=sampler)
    study.optimize(lambda t: t.suggest_float("x", -1, 1) ** 2, n_trials=50)
    (view,) = sampler._views.values()
    (fold,) = view.folds
    history = fold._state.history
    assert history.n == 50
    assert history.loss[:49].tolist() == [t.value for t in study.trials[:49]]


def test_trials_from_before_count() -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    study.optimize(lambda t: (t.suggest_float("x", -10, 10) - 3) ** 2, n_trials=30)
    study.sampler = TunewrightSampler("bayes", seed=0)
    study.optimize(lambda t: (t.suggest_float("x", -10, 10) - 3) ** 2, n_trials=6)
    assert min(abs(t.params["x"] - 3) for t in study.trials[30:]) < 0.05


def test_the_same_seed_gives_the_same_trials_and_another_does_not() -> None:
    def params(seed: int) -> list[dict[str, Any]]:
        study = optuna.create_study(sampler=TunewrightSampler("tpe", seed=seed))
        study.optimize(conditional, n_trials=25)
        return [t.params for t in study.trials]

    assert params(1) == params(1) != params(2)


def test_a_pickled_sampler_goes_on_with_the_study() -> None:
    first = optuna.create_study(sampler=TunewrightSampler("tpe", seed=3))
    first.optimize(conditional, n_trials=20)
    copy = pickle.loads(pickle.dumps(first.sampler))
    again = optuna.create_study(sampler=copy)
    again.add_trials(first.trials)
    again.optimize(conditional, n_trials=5)
    first.optimize(conditional, n_trials=5)
    assert [t.params for t in again.trials] == [t.params for t in first.trials]


def test_reseeding_changes_the_draws() -> None:
    one, two = TunewrightSampler("random", seed=3), TunewrightSampler("random", seed=3)
    two.reseed_rng()
    values = []
    for sampler in (one, two):
        study = optuna.create_study(sampler=sampler)
        study.optimize(lambda t: t.suggest_float("x", 0, 1), n_trials=3)
        values.append([t.value for t in study.trials])
    assert values[0] != values[1]


def test_constraints_keep_it_in_the_allowed_region() -> None:
    def objective(trial: Any) -> float:
        x = trial.suggest_float("x", -1, 1)
        trial.set_user_attr("excess", -x)
        return (x - 0.6) ** 2 if x >= 0 else (x + 0.5) ** 2 - 1

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sampler = TunewrightSampler("tpe", seed=5, constraints_func=lambda t: (t.user_attrs["excess"],))
    study = optuna.create_study(sampler=sampler)
    study.optimize(objective, n_trials=50)
    assert sum(t.params["x"] >= 0 for t in study.trials[25:]) > 18
    assert 0 <= study.best_value < 0.001


def test_pruned_and_failed_trials_are_learned_from() -> None:
    def objective(trial: Any) -> float:
        x = trial.suggest_float("x", -5, 5)
        if x < -3:
            raise ValueError("diverged")
        for step in range(5):
            trial.report((x - 1) ** 2, step)
            if trial.should_prune():
                raise optuna.TrialPruned
        return (x - 1) ** 2

    sampler = TunewrightSampler("tpe", seed=2)
    study = optuna.create_study(sampler=sampler, pruner=optuna.pruners.MedianPruner(n_startup_trials=3))
    study.optimize(objective, n_trials=60, catch=ValueError)
    found = {t.state.name for t in study.trials}
    assert found == {"COMPLETE", "PRUNED", "FAIL"}
    assert study.best_value < 0.01
    late = [t for t in study.trials[30:] if t.state.name == "FAIL"]
    assert len(late) <= 3


@pytest.mark.parametrize("pruner", ["HyperbandPruner", "SuccessiveHalvingPruner"])
def test_pruners_that_show_a_part_of_the_study(pruner: str) -> None:
    def objective(trial: Any) -> float:
        x = trial.suggest_float("x", -5, 5)
        for step in range(9):
            trial.report((x - 1) ** 2, step)
            if trial.should_prune():
                raise optuna.TrialPruned
        return (x - 1) ** 2

    study = optuna.create_study(
        sampler=TunewrightSampler("tpe", seed=2), pruner=getattr(optuna.pruners, pruner)()
    )
    study.optimize(objective, n_trials=60)
    assert study.best_value < 0.05


def test_several_objectives_spread_over_the_front() -> None:
    study = optuna.create_study(directions=["minimize", "maximize"], sampler=TunewrightSampler("tpe", seed=2))
    study.optimize(lambda t: (t.suggest_float("x", 0, 1) ** 2, t.suggest_float("y", 0, 1)), n_trials=60)
    assert min(t.values[0] for t in study.best_trials) < 0.01
    assert max(t.values[1] for t in study.best_trials) > 0.95


def test_running_trials_are_awaited() -> None:
    sampler = TunewrightSampler("bayes", seed=0)
    study = optuna.create_study(sampler=sampler)
    study.optimize(lambda t: (t.suggest_float("x", -5, 5) - 1) ** 2, n_trials=9)
    values = {study.ask().suggest_float("x", -5, 5) for _ in range(4)}
    (view,) = sampler._views.values()
    history = view.folds[-1]._state.history
    assert {c["x"] for c, p in zip(history.configs, history.pending, strict=True) if p} == values
    assert len(values) == 4


def test_parameters_met_only_once_do_not_pile_up() -> None:
    sampler = TunewrightSampler("tpe", seed=0)
    study = optuna.create_study(sampler=sampler)
    study.optimize(
        lambda t: t.suggest_float("x", 0, 1) + t.suggest_float(f"once{t.number}", 0, 1), n_trials=40
    )
    assert set(sampler.infer_relative_search_space(study, study.trials[-1])) == {"x"}


def test_what_only_stops_trials_is_no_sampler() -> None:
    with pytest.raises(ConfigError, match="method='tpe', and a pruner"):
        TunewrightSampler("asha(tpe)")
    with pytest.raises(ConfigError, match="takes no options"):
        TunewrightSampler(options={"initial": 3})
    with pytest.raises(ConfigError, match="must know its options"):
        TunewrightSampler("tpe", options={"initials": 3})
    with pytest.raises(ConfigError, match="Did you mean 'tpe'"):
        TunewrightSampler("tpee")
    assert str(TunewrightSampler("tpe")) == "TunewrightSampler(tpe)"
