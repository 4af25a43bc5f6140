"""Forecasting model search: who is begun, who goes on, what weights change, and when it ends."""

from __future__ import annotations

from typing import Any

import pytest
from driving import Drive, problem

import tunewright as tw
from tunewright.core.algorithm import Resume, Start, generator
from tunewright.core.closing import closed
from tunewright.core.domains import Int
from tunewright.core.events import Ended, Event, Paused, Reported, Resumed, Started
from tunewright.core.problem import Fidelity, Objective, Problem
from tunewright.core.space import Space
from tunewright.errors import ConfigError, UnsupportedError
from tunewright.schedulers.fms import Fms


class World:
    """One worker; losses ``x + 1/step``, and a hidden part that the weights tell."""

    def __init__(self, method: Any, of: Problem, *, weights: bool = False, noise: float = 0.0) -> None:
        self.method, self.weights, self.noise = method, weights, noise
        self.state = method.init(of)
        self.high = of.fidelity.high if of.fidelity is not None else 1
        self.configs: list[dict[str, Any]] = []
        self.steps: list[int] = []
        self.actions: list[Any] = []

    def turn(self, method: Any = None) -> bool:
        actions = (method or self.method).ask(self.state, 1, generator(0, len(self.actions)))
        if not actions:
            return False
        (action,) = actions
        self.actions.append(action)
        news: list[Event]
        if isinstance(action, Start):
            trial = len(self.configs)
            self.configs.append(action.config)
            self.steps.append(0)
            news = [Started(trial, action.config, action.until)]
        else:
            assert isinstance(action, Resume)
            trial = action.trial
            news = [Resumed(trial, self.steps[trial], action.until)]
        assert action.until is not None
        metrics: dict[str, float] = {}
        for step in range(self.steps[trial] + 1, action.until + 1):
            hidden = (trial * 7 % 5) / 5
            metrics = {"loss": self.configs[trial]["x"] + 1.0 / step + self.noise * hidden * step}
            news.append(Reported(trial, 0, step, metrics | ({"w/0": hidden} if self.weights else {})))
        self.steps[trial] = action.until
        over = action.until == self.high
        news.append(
            Ended(trial, 0, "completed", metrics, self.high) if over else Paused(trial, 0, action.until)
        )
        self.state = self.method.tell(self.state, news)
        return True


def test_it_begins_with_a_design_of_short_segments() -> None:
    world = World(Fms(initial=4), problem(81))
    for _ in range(4):
        world.turn()
    assert all(isinstance(a, Start) and a.until == 3 for a in world.actions)
    assert [a.why for a in world.actions] == [{"design": float(i)} for i in range(4)]
    world.turn()
    assert "log_ei" in world.actions[4].why


def test_the_best_trial_is_trained_to_its_end_with_few_others() -> None:
    world = World(Fms(), problem(27))
    while sum(world.steps) < 27 * 6:
        assert world.turn()
    done = [i for i, s in enumerate(world.steps) if s == 27]
    assert done
    best = min(range(len(world.configs)), key=lambda i: world.configs[i]["x"])
    assert world.steps[best] > 9
    assert min(world.configs[i]["x"] for i in done) < 0.1
    poor = [s for s, c in zip(world.steps, world.configs, strict=True) if c["x"] > 0.5]
    assert max(poor, default=0) < 27


def test_without_reported_weights_it_is_the_search_that_ignores_them() -> None:
    told, blind = (World(Fms(features=f), problem(27), noise=0.05) for f in ("w/", ""))
    seeing = World(Fms(), problem(27), weights=True, noise=0.05)
    for world in (told, blind, seeing):
        for _ in range(30):
            world.turn()
    assert told.actions == blind.actions
    assert seeing.actions != blind.actions


def test_a_closed_study_continues_what_is_there_and_ends() -> None:
    world = World(Fms(), problem(9))
    for _ in range(15):
        world.turn()
    shut = closed(world.method)
    begun = len(world.configs)
    turns = 0
    while world.turn(shut):
        turns += 1
        assert turns < 300
    assert len(world.configs) == begun
    assert max(world.steps) == 9
    assert min(world.steps) < 9


def test_a_finite_space_is_begun_once_over_and_then_ends() -> None:
    world = World(Fms(initial=2), Problem(Space(x=Int(0, 6)), fidelity=Fidelity(9)))
    turns = 0
    while world.turn():
        turns += 1
        assert turns < 200
    assert sorted(c["x"] for c in world.configs) == list(range(7))


def test_several_slots_get_different_work() -> None:
    drive = Drive(Fms(initial=3), problem(9))
    for trial in drive.begin(6):
        drive.finish(trial, 1.0 + trial)
    actions = drive.ask(5)
    assert len(actions) == 5
    assert len({repr(a.config) if isinstance(a, Start) else a.trial for a in actions}) == 5


def test_it_waits_for_nobody_while_no_trial_has_a_result() -> None:
    drive = Drive(Fms(initial=2), problem(9))
    assert len(drive.begin(20)) == 20
    assert len(drive.begin(3)) == 3


def test_a_failed_trial_is_left_alone() -> None:
    drive = Drive(Fms(initial=3), problem(9))
    for trial in drive.begin(5):
        drive.finish(trial, None if trial == 2 else 1.0 + trial)
    for _ in range(5):
        for action in drive.ask(2):
            assert not isinstance(action, Resume) or action.trial != 2


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"initial": 0}, "initial >= 1"),
        ({"segments": 0}, "segments >= 1"),
        ({"near": -1}, "near >= 0"),
        ({"growth": -0.1}, "finite growth"),
        ({"growth": float("nan")}, "finite growth"),
        ({"features": 3}, "beginning of metric names"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Fms(**settings)


def test_it_needs_steps_and_one_objective() -> None:
    with pytest.raises(UnsupportedError, match="by step"):
        Fms().init(Problem(Space(x=Int(0, 3))))
    with pytest.raises(UnsupportedError, match="one objective"):
        Fms().init(problem(9, objectives=(Objective("a"), Objective("b"))))


def test_a_study_runs_with_reported_weights() -> None:
    from tunewright.models.weights import weight_features

    def train(trial: Any) -> None:
        for step in trial.steps():
            w = [[trial.params["x"] * step, 1.0], [0.5, -1.0]]
            trial.report(step, loss=trial.params["x"] + 1 / step, **weight_features([w], [[0.1, step]]))

    study = tw.Study.open(
        "weights", storage="memory", space=tw.Space(x=tw.Float(0, 1)), steps=9, method="fms", minimize="loss"
    )
    study.run(train, trials=12)
    assert len(study.trials) == 12
    assert "w/23" in study.best.metrics
    assert study.best.metrics["loss"] < 0.6
