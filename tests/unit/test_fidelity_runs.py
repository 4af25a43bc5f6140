"""Schedulers with real trainings: pause, resume, forks, longer trainings, nothing trained twice."""

from __future__ import annotations

from pathlib import Path

import pytest
from study_helpers import open_, quiet, train

import tunewright as tw

METHODS = ["sha(random)", "bohb", "dehb", "pasha(random)", "topk", "deepening(random)"]


def stepwise(trial: tw.Attempt) -> None:
    """A training whose checkpoint counts the steps that were really done."""
    kept = trial.checkpoint.load({"done": 0})
    done = int(kept["done"])
    for step in trial.steps():
        done += 1
        assert done == step, f"step {step} on top of a checkpoint of {done - 1}"
        trial.checkpoint.save({"done": done}, step=step)
        trial.report(step, loss=train(trial.params["x"], trial.params["n"]) + 1 / step)


@pytest.mark.parametrize("method", METHODS)
def test_trials_go_on_from_their_checkpoints_and_the_best_is_trained_to_the_end(method: str) -> None:
    study = open_(method=method, steps=9)
    study.run(stepwise, trials=40, **quiet())
    assert not [t.error for t in study.trials if t.error]
    assert study.best.step == 9
    assert study.best.status == "completed"
    resumed = [t for t in study.trials if len({r.token for r in t.reports}) > 1]
    assert resumed
    assert all(r.step == i + 1 for t in study.trials if t.parent is None for i, r in enumerate(t.reports))
    assert study.replay().skipped == 0


@pytest.mark.parametrize("method", ["deepening(random)", "deepening(tpe)", "topk", "dehb", "pasha(random)"])
def test_a_study_whose_trainings_become_longer_keeps_what_was_paid_for(method: str, tmp_path: Path) -> None:
    study = open_(tmp_path, method=method, steps=3)
    study.run(stepwise, trials=20, **quiet())
    begun = len(study.trials)
    study = open_(tmp_path, method=method, steps=9)
    study.run(stepwise, trials=50, **quiet())
    assert not [t.error for t in study.trials if t.error]
    assert study.best.step == 9
    forks = [t for t in study.trials if t.parent is not None]
    assert all(t.reports[0].step == 4 for t in forks), "a fork goes on from its donor's checkpoint"
    if method.startswith("deepening"):
        assert forks
        assert min(t.parent[0] for t in forks if t.parent) < begun
    assert study.replay().skipped == 0


@pytest.mark.parametrize("method", METHODS)
def test_trainings_that_fail_or_diverge_hold_nothing_up(method: str) -> None:
    study = open_(method=method, steps=9)

    def fragile(trial: tw.Attempt) -> None:
        for step in trial.steps():
            if trial.number % 4 == 1:
                raise ValueError("it broke")
            loss = float("nan") if trial.number % 4 == 2 and step == 3 else trial.params["x"]
            trial.report(step, loss=loss)

    study.run(fragile, trials=30, failures=None, **quiet())
    assert study.counts["failed"] > 3
    assert study.best.step == 9
