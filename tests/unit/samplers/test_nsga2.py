"""NSGA-II: generations, tournaments, limits, and progress towards a known front."""

from __future__ import annotations

import numpy as np
import pytest

from tunewright.bench.multiobjective import front_task, run_trials
from tunewright.core.algorithm import generator
from tunewright.core.domains import Choice, Float
from tunewright.core.events import Ended, Started
from tunewright.core.problem import Limit, Objective, Problem
from tunewright.core.space import Space
from tunewright.errors import ConfigError
from tunewright.samplers.nsga2 import Nsga2, _winner
from tunewright.samplers.random import Random

TWO = Problem(Space(x=Float(0, 1)), (Objective("a"), Objective("b")))


def fold(method, points, problem=TWO):
    state = method.init(problem)
    for i, point in enumerate(points):
        metrics = None if point is None else dict(zip(("a", "b"), map(float, point), strict=True))
        end = Ended(i, 0, "failed") if metrics is None else Ended(i, 0, "completed", metrics)
        state = method.tell(state, [Started(i, {"x": 0.01 * i}), end])
    return state


def test_a_full_generation_competes_with_its_parents():
    method = Nsga2(size=3)
    state = fold(method, [(1, 9), (9, 1), (8, 8), (7, 7), (0, 8)])
    assert state.members == [0, 1, 2]
    assert state.children == [3, 4]
    state = fold(method, [(1, 9), (9, 1), (8, 8), (7, 7), (0, 8), None])
    # (9, 1) and (0, 8) are the first front and infinitely spread; (0, 8) dominates (1, 9), (7, 7) dominates (8, 8).
    assert set(state.members[:2]) == {1, 4}
    assert len(state.members) == 3
    assert state.generations == 2


def test_crowding_thins_the_last_front():
    points = [(0, 10), (4.5, 5.5), (5, 5), (9, 1), (10, 0), (20, 20)]
    state = fold(Nsga2(size=6), points)
    # By hand: gaps scaled by 10 are 1.0 for (4.5, 5.5), 0.9 for (5, 5) and 1.0 for (9, 1); the ends are infinite.
    assert set(state.members[:2]) == {0, 4}
    assert state.members[-2:] == [2, 5]


def test_a_tournament_goes_to_the_better_of_two():
    rng = np.random.default_rng(0)
    wins = np.bincount([_winner(4, rng) for _ in range(8000)], minlength=4) / 8000
    # By hand, with replacement: (2 (n - i) - 1) / n^2.
    assert wins == pytest.approx([7 / 16, 5 / 16, 3 / 16, 1 / 16], abs=0.02)


def test_failed_trials_never_replace_others():
    method = Nsga2(size=4)
    state = fold(method, [(1, 1), (1, 2), (2, 1), (2, 2), None, None, None, None])
    assert set(state.members) == {0, 1, 2, 3}


def test_limits_are_met_in_the_end():
    problem = Problem(
        Space(x=Float(0, 1), kind=Choice(["a", "b"])),
        (Objective("f"), Objective("g")),
        limits=(Limit("h", 0.0),),
    )

    def measure(config):
        x = config["x"]
        return {"f": x, "g": 1 - x, "h": 0.7 - x if config["kind"] == "a" else 1.0}, 1.0

    configs, _, _ = run_trials(Nsga2(size=10), problem, measure, seed=2, trials=120)
    # Of draws from the prior, 0.15 of them would.
    assert sum(c["kind"] == "a" and c["x"] >= 0.7 for c in configs[-40:]) >= 18


def test_it_dominates_more_than_random_search():
    task = front_task("zdt1", 6)
    shares = {}
    for method in (Nsga2(), Random()):
        runs = [run_trials(method, task.problem, task.measure, seed=s, trials=250)[1] for s in range(4)]
        shares[type(method)] = [task.share(r) for r in runs]
    assert np.mean(shares[Nsga2]) > np.mean(shares[Random]) + 0.02


def test_one_objective_is_an_ordinary_genetic_algorithm():
    problem = Problem(Space(x=Float(0, 1), y=Float(0, 1)))
    loss = lambda c: {"loss": (c["x"] - 0.3) ** 2 + (c["y"] - 0.6) ** 2}  # noqa: E731
    _, losses, _ = run_trials(Nsga2(), problem, lambda c: (loss(c), 1.0), seed=0, trials=200)
    assert losses.min() < 1e-3
    state = Nsga2().init(problem)
    assert len(Nsga2().ask(state, 5, generator(0, 0))) == 5


def test_settings_are_refused():
    for bad in ({"size": 1}, {"eta": 0.0}):
        with pytest.raises(ConfigError, match="Nsga2 needs"):
            Nsga2(**bad)
