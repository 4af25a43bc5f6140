"""MOBSTER's searcher."""

from __future__ import annotations

import numpy as np
import pytest

from tunewright.bench.simulate import Task, simulate
from tunewright.core.algorithm import Start, generator
from tunewright.core.domains import Float
from tunewright.core.events import Ended, Event, Paused, Reported, Started
from tunewright.core.problem import Fidelity, Problem
from tunewright.core.space import Space
from tunewright.errors import ConfigError
from tunewright.samplers.joint import Joint, JointState
from tunewright.samplers.random import Random
from tunewright.schedulers.asha import Asha

SPACE = Space(x=Float(0, 1), y=Float(0, 1))
PROBLEM = Problem(SPACE, fidelity=Fidelity(27))


def loss(x: float, y: float, step: int) -> float:
    return (x - 0.7) ** 2 + (y - 0.2) ** 2 + 1.0 / step


def told(joint: Joint, trials: int, problem: Problem = PROBLEM) -> JointState:
    rng = np.random.default_rng(0)
    events: list[Event] = []
    for i in range(trials):
        x, y = rng.random(2)
        events.append(Started(i, {"x": x, "y": y}, 27))
        last = (1, 1, 3, 9)[i % 4]
        events += [Reported(i, 1, s, {"loss": loss(x, y, s)}) for s in range(1, last + 1)]
        events.append(Paused(i, 1, last))
    return joint.tell(joint.init(problem), events)


def proposed(joint: Joint, state: JointState, slots: int = 1, index: int = 0) -> list[Start]:
    actions = joint.ask(state, slots, generator(0, index))
    return [a for a in actions if isinstance(a, Start)]


@pytest.mark.parametrize("acquisition", ["mean", "log_ei"])
@pytest.mark.parametrize("kernel", ["decay", "matern"])
def test_it_proposes_where_early_losses_are_low(acquisition: str, kernel: str) -> None:
    joint = Joint(acquisition=acquisition, kernel=kernel, candidates=400)  # type: ignore[arg-type]
    config = proposed(joint, told(joint, 40))[0].config
    assert abs(config["x"] - 0.7) < 0.15
    assert abs(config["y"] - 0.2) < 0.15


def test_it_begins_with_a_design() -> None:
    joint = Joint(initial=4)
    state = joint.init(PROBLEM)
    starts = proposed(joint, state, 4)
    assert len({repr(s.config) for s in starts}) == 4
    assert all("design" in (s.why or {}) for s in starts)


@pytest.mark.parametrize("acquisition", ["mean", "log_ei"])
def test_proposals_of_one_decision_differ(acquisition: str) -> None:
    joint = Joint(acquisition=acquisition)  # type: ignore[arg-type]
    starts = proposed(joint, told(joint, 20), 3)
    assert len({repr(s.config) for s in starts}) == 3


def test_enough_is_the_highest_level_with_more_results_than_parameters() -> None:
    joint = Joint(level="enough")
    staged = joint.init(PROBLEM).staged
    assert joint._level(staged, np.array([20, 9, 5, 1])) == 2
    assert joint._level(staged, np.array([2, 0, 0, 0])) == 0
    assert Joint()._level(staged, np.array([2, 0, 0, 0])) == 3


def test_hyperparameters_do_not_depend_on_when_somebody_asked() -> None:
    joint = Joint()
    often, once = told(joint, 33), told(joint, 33)
    early = told(joint, 20)
    proposed(joint, early)
    assert proposed(joint, often)[0] == proposed(joint, often)[0] == proposed(joint, once)[0]
    assert len(early.hyper) == 1


def test_failed_configurations_are_avoided() -> None:
    joint = Joint(candidates=300)
    events: list[Event] = []
    rng = np.random.default_rng(1)
    for i in range(40):
        x, y = rng.random(2)
        events.append(Started(i, {"x": x, "y": y}, 27))
        if x > 0.6:
            events.append(Ended(i, 1, "failed"))
        else:
            events += [Reported(i, 1, 1, {"loss": 1.0 - x}), Paused(i, 1, 1)]
    state = joint.tell(joint.init(PROBLEM), events)
    assert np.mean([proposed(joint, state, 1, i)[0].config["x"] for i in range(5)]) < 0.68


def test_it_works_without_steps() -> None:
    problem = Problem(SPACE)

    def curve(c: dict[str, float]) -> tuple[np.ndarray, np.ndarray]:
        return np.array([loss(c["x"], c["y"], 1)]), np.ones(1)

    task = Task("bowl", problem, curve, 1.0, 1.5)  # type: ignore[arg-type]
    ours = np.mean([simulate(Joint(), task, seed=s, trials=25).incumbent[-1] for s in range(3)])
    chance = np.mean([simulate(Random(), task, seed=s, trials=25).incumbent[-1] for s in range(3)])
    assert ours < chance


def test_halving_around_it_beats_halving_around_chance() -> None:
    def curve(c: dict[str, float]) -> tuple[np.ndarray, np.ndarray]:
        steps = np.arange(1, 28)
        value = (c["x"] - 0.7) ** 2 + (c["y"] - 0.2) ** 2
        return value + 0.3 * (1.5 - c["x"]) / steps, np.ones(27)

    task = Task("bowl", PROBLEM, curve, 0.0, 0.5)  # type: ignore[arg-type]

    def regret(method: Asha) -> float:
        return float(np.mean([simulate(method, task, seed=s, steps=200).incumbent[-1] for s in range(4)]))

    assert regret(Asha(Joint())) < regret(Asha(Random()))


@pytest.mark.parametrize(
    "settings",
    [
        {"initial": 0},
        {"candidates": 0},
        {"belief": -1.0},
        {"eta": 1.0},
        {"acquisition": "ucb"},
        {"level": "low"},
        {"kernel": "rbf"},
    ],
)
def test_settings_are_checked(settings: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        Joint(**settings)  # type: ignore[arg-type]
