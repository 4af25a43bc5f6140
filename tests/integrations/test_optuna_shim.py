"""What the shim refuses, where it differs from Optuna, and that it stands on our log."""

from __future__ import annotations

import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tunewright as tw
from tunewright.errors import ConfigError, SpaceError, StudyExists, StudyMissing, UnsupportedError
from tunewright.integrations import optuna


@pytest.fixture(autouse=True)
def _quiet() -> Any:
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.CRITICAL)
    yield
    optuna.logging.set_verbosity(before)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: optuna.create_study(direction="up"), "minimize' or 'maximize"),
        (lambda: optuna.create_study(direction="minimize", directions=["minimize"]), "Give one of them"),
        (lambda: optuna.create_study(directions=[]), "at least one direction"),
        (lambda: optuna.create_study(sampler=object()), "Change its import too"),
        (lambda: optuna.create_study(pruner=object()), "Change its import too"),
        (lambda: optuna.create_study(sampler="tpee"), "Did you mean 'tpe'"),
        (lambda: optuna.create_study(storage="mysql://u:p@h/db"), "sqlite:///path"),
        (lambda: optuna.samplers.TPESampler(gamma=lambda n: n), "gamma"),
        (lambda: optuna.samplers.TPESampler(n_startup_trial=3), "Did you mean 'n_startup_trials'"),
        (lambda: optuna.samplers.QMCSampler(qmc_type="halton"), "sobol"),
        (lambda: optuna.pruners.PercentilePruner(25.0), "median"),
        (lambda: optuna.pruners.MedianPruner(interval_steps=2), "every report"),
        (lambda: optuna.pruners.HyperbandPruner(bootstrap_count=2), "bootstrap_count"),
        (lambda: optuna.pruners.PatientPruner(None, 1), "PatientPruner"),
        (lambda: optuna.pruners.ThresholdPruner(upper=1.0), "ThresholdPruner"),
        (lambda: optuna.pruners.WilcoxonPruner(), "WilcoxonPruner"),
        (lambda: optuna.storages.RDBStorage("sqlite:///a.db", engine_kwargs={}), "engine_kwargs"),
        (lambda: optuna.create_trial(params={"x": 1}), "needs a distribution"),
        (lambda: optuna.create_study().stop(), "does not"),
        (lambda: optuna.create_study().optimize(lambda t: 1.0, n_trials=1, n_jobs=0), "n_jobs"),
        (lambda: optuna.create_study().tell(3, 1.0), "Ask first"),
        (lambda: optuna.create_study().set_user_attr("f", object()), "JSON"),
        (lambda: optuna.create_study().best_value, "completed trial"),
        (lambda: optuna.load_study(study_name=None, storage="memory"), "0 studies"),
    ],
)  # fmt: skip
def test_what_has_no_counterpart_is_refused_with_a_sentence(make: Any, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make()
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("make", "method", "options"),
    [
        (
            lambda: optuna.samplers.CmaEsSampler(seed=1, popsize=6, sigma0=0.2, with_margin=True),
            "cmaes",
            {"size": 6, "sigma": 0.2, "margin": True},
        ),
        (lambda: optuna.samplers.NSGAIISampler(seed=1, population_size=8), "nsga2", {"size": 8}),
    ],
)
def test_evolutionary_samplers_keep_their_settings(make: Any, method: str, options: dict[str, Any]) -> None:
    sampler = make()
    assert (sampler.method, sampler.options) == (method, options)
    study = optuna.create_study(sampler=sampler, directions=["minimize", "maximize"])
    study.optimize(lambda t: (t.suggest_float("x", 0, 1), t.suggest_int("n", 1, 8)), n_trials=20)
    assert len(study.trials) == 20


def test_other_refusals() -> None:
    with pytest.raises(StudyMissing):
        optuna.load_study(study_name="none", storage="memory")
    with pytest.raises(StudyMissing):
        optuna.delete_study(study_name="none", storage="memory")
    for name in ("visualization", "importance", "terminator"):
        with pytest.raises(AttributeError, match="no counterpart|counterpart here"):
            getattr(optuna, name)
    with pytest.raises(AttributeError, match="no attribute"):
        _ = optuna.nonsense
    trial = optuna.create_study(directions=["minimize", "minimize"]).ask()
    with pytest.raises(UnsupportedError, match="one objective"):
        trial.report(1.0, 0)
    with pytest.raises(UnsupportedError, match="constraints_func"):
        trial.set_constraint("c", 1.0)


def test_a_report_needs_growing_steps() -> None:
    trial = optuna.create_study().ask()
    trial.report(1.0, 3)
    with pytest.warns(UserWarning, match="must grow"):
        trial.report(2.0, 3)
    for step in (-1, "a"):
        with pytest.raises(ConfigError):
            trial.report(1.0, step)
    assert trial.study.trials[0].intermediate_values == {3: 1.0}


def test_a_parameter_keeps_its_type() -> None:
    trial = optuna.create_study().ask()
    trial.suggest_float("x", 0, 1)
    other = trial.study.ask()
    with pytest.raises(SpaceError, match="type and scale"):
        other.suggest_categorical("x", ["a", "b"])


def test_an_enqueued_value_out_of_range_is_replaced_with_a_warning() -> None:
    study = optuna.create_study()
    study.enqueue_trial({"x": np.float64(7.0)})
    with pytest.warns(UserWarning, match="must fit"):
        assert 0 <= study.ask().suggest_float("x", 0, 1) <= 1


def test_options_of_any_type_come_back_as_they_are() -> None:
    study = optuna.create_study()
    shapes = [(64,), (64, 32)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        study.optimize(lambda t: len(t.suggest_categorical("hidden", shapes)), n_trials=10)
    assert study.best_value == 1
    assert study.best_params == {"hidden": "(64,)"}


def test_the_default_is_what_auto_takes_and_learns_conditions() -> None:
    def objective(trial: Any) -> float:
        if trial.suggest_categorical("kind", ["a", "b"]) == "a":
            return (trial.suggest_float("x", -5, 5) - 1) ** 2
        return 1 + trial.suggest_int("n", 1, 9)

    study = optuna.create_study()
    study.optimize(objective, n_trials=30)
    assert study.best_value < 0.05
    assert study.core.space.when == {"x": {"kind": ["a"]}, "n": {"kind": ["b"]}}
    assert study.core.method.startswith("median(")


def test_the_study_is_one_of_ours(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    study = optuna.create_study(
        study_name="s", storage=f"sqlite:///{path}", sampler=optuna.samplers.TPESampler(seed=1)
    )
    study.optimize(lambda t: t.suggest_float("x", -1, 1) ** 2, n_trials=15)
    with tw.Study.open("s", storage=path, exist="must") as same:
        assert same.method == "median(tpe)"
        assert same.best.params == study.best_params
        assert [t.params for t in same.trials] == [t.params for t in study.trials]
    with pytest.raises(StudyExists):
        optuna.create_study(study_name="s", storage=path)
    with pytest.raises(ConfigError, match="keeps its directions"):
        optuna.create_study(study_name="s", storage=path, direction="maximize", load_if_exists=True)


def test_the_same_seed_gives_the_same_study() -> None:
    def values() -> list[float | None]:
        study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=4, n_startup_trials=3))
        study.optimize(lambda t: t.suggest_float("x", -1, 1) + t.suggest_int("n", 0, 3), n_trials=12)
        return [t.value for t in study.trials]

    assert values() == values()


def test_it_needs_no_optuna() -> None:
    code = (
        "import sys; sys.modules['optuna'] = None\n"
        "from tunewright.integrations import optuna\n"
        "optuna.logging.set_verbosity(optuna.logging.ERROR)\n"
        "study = optuna.create_study()\n"
        "study.optimize(lambda t: t.suggest_float('x', 0, 1), n_trials=3)\n"
        "assert len(study.trials) == 3\n"
        "try:\n    optuna.TunewrightSampler\n"
        "except ImportError as error:\n    assert 'tunewright[optuna]' in str(error), error\n"
        "else:\n    raise SystemExit('imported Optuna')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_a_study_moves_here_from_optuna() -> None:
    real = pytest.importorskip("optuna")
    real.logging.set_verbosity(real.logging.ERROR)
    theirs = real.create_study(sampler=real.samplers.RandomSampler(seed=0))

    def objective(trial: Any) -> float:
        x = trial.suggest_float("x", 1e-3, 1, log=True) + trial.suggest_int("n", 0, 10, step=5)
        trial.report(x, 4)
        if trial.number == 3:
            raise (real if trial.study is theirs else optuna).TrialPruned
        return x + (trial.suggest_categorical("c", ["u", (1, 2)]) == "u")

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs.optimize(objective, n_trials=8)
        ours = optuna.create_study()
        ours.add_trials(theirs.trials)
        assert [t.state.name for t in ours.trials] == [t.state.name for t in theirs.trials]
        assert [t.values for t in ours.trials] == [t.values for t in theirs.trials]
        assert ours.trials[3].intermediate_values == theirs.trials[3].intermediate_values
        assert {t.params.get("c") for t in ours.trials} == {"u", "(1, 2)", None}
        ours.optimize(objective, n_trials=4)
    assert len(ours.trials) == 12
    with pytest.raises(ConfigError, match="finished"):
        ours.add_trial(ours.trials[0].__class__(0, optuna.trial.TrialState.RUNNING, None, {}))


def test_processes_share_a_study(tmp_path: Path) -> None:
    code = (
        "from tunewright.integrations import optuna\n"
        "optuna.logging.set_verbosity(optuna.logging.ERROR)\n"
        "study = optuna.create_study(study_name='s', storage='sqlite:///s.db', load_if_exists=True, sampler='tpe')\n"
        "study.optimize(lambda t: t.suggest_float('x', 0, 1) + t.suggest_int('n', 0, 9), n_trials=15)\n"
    )
    running = [subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path) for _ in range(2)]
    assert [p.wait(timeout=60) for p in running] == [0, 0]
    study = optuna.load_study(study_name="s", storage=tmp_path / "s.db")
    assert [t.number for t in study.trials] == list(range(30))
    assert {t.state.name for t in study.trials} == {"COMPLETE"}


def test_a_trial_of_a_killed_process_is_run_again(tmp_path: Path) -> None:
    code = (
        "import os, sys\n"
        "from tunewright.integrations import optuna\n"
        "optuna.logging.set_verbosity(optuna.logging.ERROR)\n"
        "study = optuna.create_study(study_name='s', storage='sqlite:///s.db', load_if_exists=True, sampler='tpe')\n"
        "def objective(trial):\n"
        "    x = trial.suggest_float('x', 0, 1)\n"
        "    if trial.number == 4 and sys.argv[1] == 'die':\n        os._exit(9)\n"
        "    return x\n"
        "study.optimize(objective, n_trials=6)\n"
    )
    for word, status in (("die", 9), ("live", 0)):
        done = subprocess.run([sys.executable, "-c", code, word], cwd=tmp_path, timeout=60)
        assert done.returncode == status
    study = optuna.load_study(study_name="s", storage=tmp_path / "s.db")
    assert [t.state.name for t in study.trials] == ["COMPLETE"] * 10
    assert study.core.trials[4].attempts == 2


@pytest.mark.parametrize("name", ["BruteForceSampler", "NSGAIIISampler", "PartialFixedSampler"])
def test_a_sampler_without_a_counterpart_is_named_with_what_to_do(name: str) -> None:
    with pytest.raises(AttributeError, match=f"got '{name}', which has none. [A-Z]"):
        getattr(optuna.samplers, name)
    assert not hasattr(optuna.samplers, "NoSuchSampler")
