"""Quasi-random search: trial i gets point i."""

import numpy as np

from tunewright.core.algorithm import generator
from tunewright.core.constraints import Linear
from tunewright.core.domains import Choice, Float, Int
from tunewright.core.events import Edited, Ended, Started
from tunewright.core.problem import Problem
from tunewright.core.space import Space
from tunewright.samplers import quasirandom
from tunewright.samplers.quasirandom import QuasiRandom

SPACE = Space(x=Float(0.0, 1.0), k=Choice(["a", "b", "c", "d"]))


def configs(problem, n, chunk=1):
    method = QuasiRandom()
    state, out = method.init(problem), []
    while len(out) < n:
        for action in method.ask(state, chunk, generator(problem.seed, len(out))):
            state = method.tell(state, [Started(len(out), action.config)])
            out.append(action.config)
    return out[:n]


def test_batches_do_not_change_the_sequence():
    problem = Problem(SPACE, seed=5)
    assert configs(problem, 24) == configs(problem, 24, 6)
    assert configs(problem, 8) != configs(Problem(SPACE, seed=6), 8)


def test_options_and_numbers_are_spread_evenly():
    found = configs(Problem(SPACE, seed=1), 64)
    counts = [sum(c["k"] == k for c in found) for k in "abcd"]
    assert counts == [16] * 4
    assert sorted(int(c["x"] * 64) for c in found) == list(range(64))


def test_branches_only_hold_their_own_parameters():
    space = Space(m=Choice({"svm": {"c": Float(1e-3, 1e3, log=True)}, "tree": {"depth": Int(1, 9)}}))
    found = configs(Problem(space), 32)
    assert {tuple(sorted(c)) for c in found} == {("c", "m"), ("depth", "m")}


def test_points_that_break_a_constraint_are_skipped_and_counted():
    free = Space(a=Float(0, 1), b=Float(0, 1))
    space = Space(a=Float(0, 1), b=Float(0, 1), constraints=[Linear({"a": 1.0, "b": 1.0}, 0.7)])
    allowed = [c for c in configs(Problem(free, seed=2), 200) if space.feasible(c)]
    assert configs(Problem(space, seed=2), 30) == configs(Problem(space, seed=2), 30, 7) == allowed[:30]
    actions = QuasiRandom().ask(QuasiRandom().init(Problem(space, seed=2)), 20, generator(2, 0))
    points = [a.why["point"] for a in actions]
    skipped = [a.why.get("skipped", 0) for a in actions]
    assert points == sorted(set(points))
    assert sum(skipped) == points[-1] + 1 - 20 > 0


def test_a_tiny_feasible_part_falls_back_to_the_prior_and_says_so(monkeypatch):
    monkeypatch.setattr(quasirandom, "_SKIPS", 3)
    space = Space(a=Float(0, 1), constraints=[Linear({"a": 1.0}, 0.02)])
    actions = QuasiRandom().ask(QuasiRandom().init(Problem(space)), 4, generator(0, 0))
    assert any(a.why.get("drawn") for a in actions)
    assert all(space.feasible(a.config) for a in actions)


def test_every_trial_takes_a_point_whoever_started_it():
    method, problem = QuasiRandom(), Problem(SPACE, seed=5)
    state = method.tell(method.init(problem), [Started(0, {"x": 0.5, "k": "a"}, by="user")])
    (action,) = method.ask(state, 1, generator(5, 0))
    assert action.config == configs(problem, 2)[1]
    assert action.why == {"point": 1}


def test_no_parameters_and_a_new_version_of_the_space():
    assert configs(Problem(Space()), 2) == [{}, {}]
    method = QuasiRandom()
    state = method.init(Problem(SPACE))
    state = method.tell(state, [Started(0, {"x": 0.5, "k": "a"}), Ended(0, 1, metrics={"loss": 1.0})])
    wider = Space(x=Float(0.0, 1.0), k=Choice(["a", "b", "c", "d"]), z=Int(1, 5))
    state = method.tell(state, [Edited(wider.to_dict())])
    assert state.next == 1
    (action,) = method.ask(state, 1, np.random.default_rng(0))
    assert set(action.config) == {"x", "k", "z"}
