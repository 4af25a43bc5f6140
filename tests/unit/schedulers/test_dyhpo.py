"""DyHPO: budgets, what the network sees, and who gets the next steps."""

from __future__ import annotations

import numpy as np
import pytest

from tunewright.bench.simulate import Task, simulate
from tunewright.core.algorithm import Resume, Start, generator
from tunewright.core.closing import closed
from tunewright.core.domains import Float
from tunewright.core.events import Ended, Event, Paused, Reported, Started
from tunewright.core.problem import Fidelity, Objective, Problem
from tunewright.core.space import Space
from tunewright.errors import ConfigError, UnsupportedError
from tunewright.models.kernel import columns_of
from tunewright.models.warp import fit_warp
from tunewright.samplers.random import Random
from tunewright.schedulers import dyhpo
from tunewright.schedulers.dyhpo import Dyhpo, DyhpoState, budgets_of

SPACE = Space(x=Float(0, 1), y=Float(0, 1))
PROBLEM = Problem(SPACE, fidelity=Fidelity(10))


def told(method: Dyhpo, curves: list[list[float]]) -> DyhpoState:
    rng = np.random.default_rng(0)
    events: list[Event] = []
    for i, losses in enumerate(curves):
        events.append(Started(i, {"x": rng.random(), "y": rng.random()}, len(losses)))
        events += [Reported(i, 1, s, {"loss": v}) for s, v in enumerate(losses, 1)]
        done = len(losses) == 10
        events.append(
            Ended(i, 1, "completed", {"loss": losses[-1]}, 10) if done else Paused(i, 1, len(losses))
        )
    return method.tell(method.init(PROBLEM), events)


def test_budgets_are_equal_parts_and_end_with_a_full_training() -> None:
    assert budgets_of(1, 10, 5) == (2, 4, 6, 8, 10)
    assert budgets_of(1, 81, 27) == tuple(range(3, 82, 3))
    assert budgets_of(4, 10, 5) == (4, 6, 8, 10)
    assert budgets_of(1, 7, 3) == (3, 6, 7)
    assert budgets_of(1, 1, 27) == (1,)


def test_the_network_sees_only_what_came_before_the_budget() -> None:
    columns = columns_of(SPACE.layout.levels, SPACE.layout.categorical)
    losses = np.array([[4.0, 2.0, 1.0], [3.0, np.nan, np.nan]])
    warp = fit_warp(np.array([1.0, 2.0, 3.0, 4.0]))
    codes = np.array([[0.1, 0.2], [0.3, 0.4]])
    x = dyhpo._inputs(columns, codes, losses, warp, np.array([0, 0, 1]), np.array([0, 2, 1]))
    assert np.isnan(x[0, -3:]).all()
    w = warp(np.array([4.0, 2.0, 3.0]))
    np.testing.assert_allclose(x[1, -3:], [w[1], w[1] - w[0], w[0]])
    np.testing.assert_allclose(x[2, -3:], [w[2], 0.0, w[2]])
    np.testing.assert_allclose(x[:, -5], [1 / 3, 1.0, 2 / 3])


def test_a_curve_that_falls_is_continued_and_one_that_rests_is_not() -> None:
    method = Dyhpo(Random(), budgets=10)
    falling = [[1.0, 0.8, 0.6, 0.4, 0.2]]
    resting = [[1.0 + 0.01 * i, 0.99, 0.98, 0.98, 0.97] for i in range(6)]
    state = told(method, resting + falling)
    picked = [closed(method).ask(state, 1, generator(0, i))[0] for i in range(3)]
    assert all(isinstance(a, Resume) and (a.trial, a.until) == (6, 6) for a in picked)


def test_new_configurations_win_when_nothing_known_is_good() -> None:
    method = Dyhpo(Random(), budgets=10)
    state = told(method, [[1.0 + 0.1 * i] * 9 for i in range(8)])
    kinds = [type(method.ask(state, 1, generator(0, i))[0]) for i in range(5)]
    assert kinds.count(Start) >= 4


def test_a_study_with_all_its_trials_ends_when_nothing_may_beat_the_best() -> None:
    method = Dyhpo(Random(), budgets=10)
    best = list(np.linspace(1.0, 0.01, 10))
    state = told(method, [best, *([5.0 + i] * 9 for i in range(8))])
    assert closed(method).ask(state, 2, generator(0, 0)) == ()


def test_trials_that_diverged_never_go_on() -> None:
    method = Dyhpo(Random(), budgets=10)
    events: list[Event] = [
        Started(0, {"x": 0.1, "y": 0.1}, 1),
        Reported(0, 1, 1, {}, {"loss": "nan"}),
        Paused(0, 1, 1),
    ]
    state = method.tell(method.init(PROBLEM), events)
    assert closed(method).ask(state, 1, generator(0, 0)) == ()
    assert isinstance(method.ask(state, 1, generator(0, 0))[0], Start)


def test_it_finds_more_than_full_trainings_at_random() -> None:
    def curve(c: dict[str, float]) -> tuple[np.ndarray, np.ndarray]:
        end = (c["x"] - 0.7) ** 2 + (c["y"] - 0.2) ** 2
        return end + 0.5 * np.exp(-np.arange(1, 11) / 3.0), np.ones(10)

    task = Task("bowl", PROBLEM, curve, 0.0, 0.5)  # type: ignore[arg-type]
    ours = np.mean([simulate(Dyhpo(Random()), task, seed=s, steps=100).incumbent[-1] for s in range(2)])
    chance = np.mean([simulate(Random(), task, seed=s, steps=100).incumbent[-1] for s in range(2)])
    assert ours < chance


def test_it_needs_steps_one_objective_and_sensible_settings() -> None:
    method = Dyhpo(Random())
    with pytest.raises(UnsupportedError):
        method.init(Problem(SPACE))
    with pytest.raises(UnsupportedError):
        method.init(Problem(SPACE, (Objective("loss"), Objective("size")), Fidelity(10)))
    for settings in ({"first": 1}, {"proposals": 0}, {"budgets": 0}):
        with pytest.raises(ConfigError):
            Dyhpo(Random(), **settings)
