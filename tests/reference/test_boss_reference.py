"""Students and teachers against the chances that drawing two of eight gives, and the schedule of the paper."""

from __future__ import annotations

import heapq
from collections import Counter

import numpy as np
from scipy import stats

from tunewright.core.algorithm import generator
from tunewright.core.domains import Float
from tunewright.core.events import Ended, Started
from tunewright.core.problem import Objective, Problem
from tunewright.core.space import Space
from tunewright.samplers.boss import Boss
from tunewright.samplers.random import Random

PROBLEM = Problem(Space(x=Float(0, 1)), (Objective("accuracy", "maximize"),))


def told(boss, accuracies):
    state = boss.init(PROBLEM)
    for i, accuracy in enumerate(accuracies):
        state = boss.tell(state, [Started(i, {"x": 0.5})])
        state = boss.tell(state, [Ended(i, 0, "completed", {"accuracy": float(accuracy)})])
    return state


def test_of_128_trials_the_first_32_are_trained_alone():
    # Lee et al. 2023, section 4: 128 observations, of which 32 are the warm-up.
    boss, alone = Boss(Random()), 0
    state = boss.init(PROBLEM)
    for i in range(128):
        (start,) = boss.ask(state, 1, generator(0, i))
        alone += start.parent is None
        state = boss.tell(state, [Started(i, start.config, parent=start.parent)])
        state = boss.tell(state, [Ended(i, 0, "completed", {"accuracy": start.config["x"]})])
    assert alone == 32


def test_pairs_are_drawn_evenly_from_the_best_eight():
    # Algorithm 1: two of the top K, K = 8 (section 4). All 8 x 7 ordered pairs have equal chances; chi-squared by SciPy,
    # the best eight by heapq of the standard library.
    accuracies = np.random.default_rng(3).random(40)
    boss = Boss(Random())
    state = told(boss, accuracies)
    best = {i for _, i in heapq.nlargest(8, [(a, i) for i, a in enumerate(accuracies)])}
    draws = boss.ask(state, 5600, generator(1, 0))
    pairs = Counter((a.why["student"], a.why["teacher"]) for a in draws)
    assert {i for pair in pairs for i in pair} == best
    assert len(pairs) == 56
    assert stats.chisquare(list(pairs.values())).pvalue > 0.01
    assert all(a.parent == (a.why["student"], 0) for a in draws)


def test_settings_are_left_to_the_sampler():
    # Algorithm 1 takes the settings from plain Bayesian optimisation: students and teachers do not change them.
    state = told(Boss(Random()), np.arange(40.0))
    configs = [a.config for a in Boss(Random()).ask(state, 5, generator(2, 0))]
    plain = Random().ask(Random().init(PROBLEM), 5, generator(2, 0))
    assert configs == [a.config for a in plain]
