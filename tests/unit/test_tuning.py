"""A function whose signature is the space: marked, called as before, and tuned."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import pytest

import tunewright as tw
from tunewright.errors import ConfigError, SpaceError


@tw.objective(maximize="acc")
def train(
    lr: Annotated[float, tw.log(1e-4, 0.3)] = 0.1,
    leaves: Annotated[int, tw.log(7, 255)] = 31,
    boost: Annotated[str, tw.one_of("gbdt", "dart")] = "gbdt",
) -> float:
    """Trains."""
    return -abs(lr - 0.01) - abs(leaves - 60) / 100 - (boost == "dart")


def test_defaults_are_trial_0_and_the_signature_is_the_space() -> None:
    study = tw.tune(train, trials=8, progress="none", seed=0)
    assert study.trials[0].params == {"lr": 0.1, "leaves": 31, "boost": "gbdt"}
    assert study.space == tw.Space(
        lr=tw.log(1e-4, 0.3), leaves=tw.log(7, 255), boost=tw.one_of("gbdt", "dart")
    )
    assert [(o.name, o.goal) for o in study.problem.objectives] == [("acc", "maximize")]
    assert len(study.trials) == 8 and study.name == "train"
    assert study.best.metrics["acc"] >= study.trials[0].metrics["acc"]


def test_it_is_called_as_before() -> None:
    assert train(0.01, leaves=60) == 0.0
    assert train.__name__ == "train" and train.__doc__ == "Trains."
    assert "objective" in repr(train)


def test_workers_find_it_by_name() -> None:
    study = tw.tune(train, trials=4, workers=2, progress="none", seed=0)
    assert study.counts == {"completed": 4}


def test_a_plain_function_is_tuned_too(tmp_path: Path) -> None:
    def loss(x: Annotated[float, tw.Float(0, 1)] = 0.5) -> float:
        return x

    where = {"name": "kept", "storage": tmp_path / "s.db", "progress": "none"}
    with tw.tune(loss, trials=3, **where) as first:
        assert first.trials[0].params == {"x": 0.5}
    with tw.tune(loss, trials=5, **where) as again:
        assert len(again.trials) == 5 and again.problem.objectives[0].name == "loss"


def test_trainings_with_steps() -> None:
    @tw.objective(minimize="loss", steps=9)
    def curve(trial: tw.Attempt, rate: Annotated[float, tw.Float(0.1, 0.9)] = 0.5) -> None:
        for step in trial.steps():
            trial.report(step, loss=rate**step)

    study = tw.tune(curve, trials=6, progress="none", seed=0)
    assert study.problem.fidelity is not None and study.problem.fidelity.high == 9
    assert study.trials[0].params == {"rate": 0.5} and study.counts.get("completed")


def test_another_goal_replaces_that_of_the_mark() -> None:
    study = tw.tune(train, trials=1, minimize="time", progress="none")
    assert [(o.name, o.goal) for o in study.problem.objectives] == [("time", "minimize")]


def test_an_end_is_needed() -> None:
    with pytest.raises(ConfigError, match="neither trials nor timeout"):
        tw.tune(train)


def test_mistakes_show_where_the_function_is_marked() -> None:
    with pytest.raises(SpaceError, match="at least one parameter"):

        @tw.objective(minimize="loss")
        def nothing(x: float) -> float:
            return x

    with pytest.raises(SpaceError, match="default of 'x'"):

        @tw.objective(minimize="loss")
        def outside(x: Annotated[float, tw.Float(0, 1)] = 2.0) -> float:
            return x
