from __future__ import annotations

import math
from typing import Any

import pytest
from driving import LINE, Drive

import tunewright as tw
from tunewright.core.algorithm import Start, Stop
from tunewright.core.events import Ended, Paused, Reported, Resumed, Started
from tunewright.core.problem import Fidelity, Limit, Problem
from tunewright.errors import ConfigError, UnsupportedError
from tunewright.samplers.random import Random
from tunewright.schedulers.cost_halting import CostHalting

LONG = Problem(LINE, fidelity=Fidelity(1000))


def drive(trials: int, of: Problem = LONG, **settings: Any) -> Drive:
    out = Drive(CostHalting(Random(), **settings), of)
    out.begin(trials)
    return out


def spend(study: Drive, trial: int, step: int, cost: float | None, loss: float = 0.0) -> None:
    study.tell(Reported(trial, 1, step, {"loss": loss}, cost=cost))


def stopped(study: Drive) -> dict[int, dict[str, float]]:
    return {a.trial: a.why for a in study.ask(0) if isinstance(a, Stop)}


def test_trials_are_compared_by_what_they_reached_for_the_same_cost() -> None:
    study = drive(3, low=10.0)
    for step in range(1, 11):
        spend(study, 0, step, 1.0, 5.0)
    spend(study, 1, 1, 4.0, 9.0)
    assert [r.n for r in study.state.ladder.rungs] == [1, 0, 0, 0, 0, 0]
    spend(study, 1, 2, 6.0, 8.0)
    assert stopped(study) == {1: {"cost": 10.0, "better": 1, "of": 2}}
    spend(study, 2, 1, 10.0, 4.0)
    assert 2 not in stopped(study)


def test_one_dear_step_may_pass_several_levels() -> None:
    study = drive(3, low=1.0, rungs=4)
    spend(study, 0, 1, 9.5, 1.0)
    assert [r.n for r in study.state.ladder.rungs] == [1, 1, 1, 0, 0]
    spend(study, 1, 1, 3.0, 2.0)
    assert stopped(study)[1] == {"cost": 3.0, "better": 1, "of": 2}
    spend(study, 0, 2, 1e9, 1.0)
    assert [r.n for r in study.state.ladder.rungs] == [2, 2, 1, 1, 0], (
        "beyond the last level nobody is judged"
    )


def test_without_costs_levels_are_in_steps() -> None:
    study = drive(1)
    for step in (1, 2, 3, 8, 9):
        spend(study, 0, step, None)
    assert [r.n for r in study.state.ladder.rungs] == [1, 1, 1, 0, 0, 0]


@pytest.mark.parametrize("unknown", [None, math.nan, -1.0, math.inf])
def test_what_says_nothing_of_its_cost_is_charged_the_mean(unknown: float | None) -> None:
    study = drive(2, low=10.0)
    spend(study, 0, 2, 4.0)
    spend(study, 1, 4, unknown)
    assert study.state.accounts[1].spent == 8.0
    spend(study, 1, 5, unknown)
    assert study.state.accounts[1].spent == 10.0
    assert study.state.ladder.rungs[0].n == 1


def test_a_completed_trial_counts_at_every_level() -> None:
    study = drive(2, low=10.0)
    spend(study, 0, 1, 1.0, 3.0)
    study.tell(Ended(0, 1, "completed", {"loss": 3.0}, 1, cost=1.0))
    assert [r.n for r in study.state.ladder.rungs] == [1] * 6
    spend(study, 1, 1, 30.0, 4.0)
    assert 1 in stopped(study)
    assert 0 not in study.state.accounts


def test_failed_trials_count_as_the_worst_and_diverged_ones_are_stopped() -> None:
    study = drive(3, low=10.0)
    study.tell(Ended(0, 1, "failed"))
    assert study.state.ladder.rungs[0].n == 1
    study.tell(Reported(1, 1, 1, {}, {"loss": "nan"}, cost=11.0))
    assert set(stopped(study)) == {1}


def test_limits_come_before_losses() -> None:
    bound = Problem(LINE, fidelity=Fidelity(1000), limits=(Limit("size", 1.0),))
    study = drive(2, bound, low=10.0, eta=2)
    study.tell(Reported(0, 1, 1, {"loss": 9.0, "size": 0.0}, cost=10.0))
    study.tell(Reported(1, 1, 1, {"loss": 0.0}, cost=10.0))
    assert set(stopped(study)) == {1}


def test_a_trial_paused_by_hand_keeps_its_account() -> None:
    study = drive(1, low=10.0)
    spend(study, 0, 1, 6.0)
    study.tell(Paused(0, 1, 1), Resumed(0, 1, 1000))
    spend(study, 0, 2, 5.0)
    assert study.state.accounts[0].spent == 11.0
    assert study.state.ladder.rungs[0].n == 1
    assert study.state.ladder.heading == [0, 1, 0, 0, 0, 0, 0]


def test_a_fork_pays_for_its_own_steps() -> None:
    study = drive(1, low=10.0)
    study.tell(Started(1, {"x": 0.5}, None, (0, 7)), Reported(1, 1, 9, {"loss": 0.0}))
    assert study.state.accounts[1].spent == 2.0


def test_starts_are_full_trainings() -> None:
    study = drive(0)
    (action,) = study.ask(1)
    assert isinstance(action, Start)
    assert action.until is None


@pytest.mark.parametrize("low", [0.0, -1.0, math.inf, math.nan, "1", True])
def test_low_is_checked(low: Any) -> None:
    with pytest.raises(ConfigError, match="finite low > 0"):
        CostHalting(Random(), low=low)


@pytest.mark.parametrize("setting", [{"eta": 1}, {"rungs": 0}, {"ranking": "best"}])
def test_settings_are_checked(setting: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="CostHalting needs"):
        CostHalting(Random(), **setting)
    with pytest.raises(UnsupportedError, match="report by step"):
        CostHalting(Random()).init(Problem(LINE))


def test_a_real_study_stops_what_costs_too_much() -> None:
    def train(trial: Any) -> None:
        for step in trial.steps():
            trial.report(step, loss=1.0 / step, cost=100.0 if trial["slow"] else 1.0)

    method = CostHalting(Random(), low=10.0, eta=2)
    space = {"slow": tw.Bool(), "x": tw.Float(0, 1)}
    study = tw.Study.open("cost", storage="memory", space=space, steps=100, method=method)
    study.run(train, trials=30, progress="none")
    slow = [t for t in study.trials if t.config["slow"]]
    assert {t.status for t in slow[2:]} == {"stopped"}
    assert max(t.step for t in slow[2:]) <= 2
    assert study.best.config["slow"] is False
