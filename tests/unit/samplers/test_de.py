"""Differential evolution: selection by place, the memory of factors, and the vectors."""

from __future__ import annotations

import time

import numpy as np
import pytest

from tunewright.bench.functions import function_task
from tunewright.bench.simulate import simulate
from tunewright.core.algorithm import generator
from tunewright.core.domains import Choice, Float, Int
from tunewright.core.events import Ended, Started
from tunewright.core.problem import Objective, Problem
from tunewright.core.space import Space
from tunewright.errors import ConfigError
from tunewright.samplers.de import De

SPACE = Space(x=Float(0, 1), y=Float(0, 1))


def fold(de, losses, problem=None):
    state = de.init(problem or Problem(SPACE))
    for i, loss in enumerate(losses):
        state = de.tell(state, [Started(i, {"x": (0.1 + 0.37 * i) % 1, "y": (0.7 * i) % 1})])
        metrics = loss if isinstance(loss, dict) else {"loss": loss}
        end = Ended(i, 0, "failed") if loss is None else Ended(i, 0, "completed", metrics)
        state = de.tell(state, [end])
    return state


def test_a_trial_takes_its_place_if_it_is_no_worse():
    state = fold(De(size=4), [4.0, 3.0, 2.0, 1.0, 5.0, 2.5, 2.0, None])
    # Places 0 to 3 were challenged by 5 (worse), 2.5 (better), 2 (equal) and a failure.
    assert state.members == [0, 5, 6, 3]
    assert state.archive == [1]


def test_the_memory_takes_the_weighted_means_of_what_succeeded():
    de = De(size=4, memory=3)
    state = fold(de, [4.0, 4.0, 4.0, 4.0])
    rows = [(4, 3.0), (5, 1.0)]
    for i, _ in rows:
        state = de.tell(state, [Started(i, {"x": 0.5, "y": 0.5})])
    state.factors[4], state.factors[5] = (0.4, 0.2), (0.8, 0.6)
    for i, loss in rows:
        state = de.tell(state, [Ended(i, 0, "completed", {"loss": loss})])
    for i in (6, 7):
        state = de.tell(state, [Started(i, {"x": 0.5, "y": 0.5}), Ended(i, 0, "failed")])
    # By hand: weights 1/4 and 3/4; CR = .05 + .45; F = (.04 + .48) / (.1 + .6).
    assert state.memory_cr.tolist() == pytest.approx([0.5, 0.5, 0.5])
    assert state.memory_f[0] == pytest.approx(0.52 / 0.7)
    assert state.memory_f[1:].tolist() == [0.5, 0.5]
    assert state.turn == 1


def test_gains_that_cannot_be_measured_weigh_the_same():
    de = De(size=4)
    state = fold(de, [None, None, 1e300, 1e300])
    for i, loss in ((4, 3.0), (5, -1e300)):
        state = de.tell(state, [Started(i, {"x": 0.5, "y": 0.5})])
        state.factors[i] = (0.2 * (i - 3), 0.3)
        state = de.tell(state, [Ended(i, 0, "completed", {"loss": loss})])
    for i in (6, 7):
        state = de.tell(state, [Started(i, {"x": 0.5, "y": 0.5}), Ended(i, 0, "failed")])
    assert state.memory_f[0] == pytest.approx((0.04 + 0.16) / 0.6)


def test_the_factors_of_a_trial_are_those_its_vector_was_made_with():
    de = De(size=4)
    state = fold(de, [4.0, 3.0, 2.0, 1.0])
    state = de.tell(state, [Started(4, {"x": 0.5, "y": 0.5})])
    assert state.factors[4] == de._factors(state, 4)
    f, cr = state.factors[4]
    assert 0.0 < f <= 1.0
    assert 0.0 <= cr <= 1.0
    assert De(adaptive=False)._factors(state, 4) == (0.5, 0.9)


def test_a_vector_without_crossing_changes_one_column():
    de = De(size=4)
    state = fold(de, [4.0, 3.0, 2.0, 1.0])
    state.memory_cr[:] = -9.0
    changed = []
    for seed in range(20):
        row = de._vector(state, [3, 2, 1, 0], 4, generator(seed, 0))
        changed.append(int((row != state.population.history.codes[0]).sum()))
    assert set(changed) <= {0, 1}
    assert 1 in changed


def test_several_objectives_win_by_rank():
    two = Problem(SPACE, (Objective("a"), Objective("b")))
    points = [(1, 9), (9, 1), (5, 5), (6, 6), (9, 9), (9, 2), (4, 4), (2, 7)]
    state = fold(De(size=4), [{"a": float(a), "b": float(b)} for a, b in points], two)
    assert state.members[:3] == [0, 1, 6]
    assert state.members[3] == 7


def test_a_mixed_bowl_is_descended_by_parallel_workers():
    space = Space(x=Float(0, 1), n=Int(0, 9), c=Choice(["a", "b", "c"]))
    de, problem = De(), Problem(space)
    state, configs, running = de.init(problem), [], []
    best = np.inf
    while len(configs) < 200:
        for action in de.ask(state, 6 - len(running), generator(0, len(configs))):
            running.append(len(configs))
            state = de.tell(state, [Started(len(configs), action.config)])
            configs.append(action.config)
        c = configs[running[0]]
        loss = (c["x"] - 0.3) ** 2 + (c["n"] / 9 - 0.7) ** 2 + (c["c"] != "b")
        best = min(best, loss)
        state = de.tell(state, [Ended(running.pop(0), 0, "completed", {"loss": loss})])
    assert best < 0.01


def test_settings_are_refused():
    with pytest.raises(ConfigError, match="size >= 4"):
        De(size=3)
    with pytest.raises(ConfigError, match="memory >= 1"):
        De(memory=0)


def test_two_hundred_parameters_are_quick():
    began = time.process_time()
    trace = simulate(De(), function_task("sphere", 200), trials=100)
    assert time.process_time() - began < 3.0
    assert trace.incumbent[-1] < trace.incumbent[5]
