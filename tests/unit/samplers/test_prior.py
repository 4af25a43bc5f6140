"""Guesses: hidden from the sampler, followed at first, and given up when they prove wrong."""

from __future__ import annotations

import numpy as np
import pytest

from tunewright.core.algorithm import generator
from tunewright.core.domains import Choice, Float
from tunewright.core.events import Edited, Ended, Started
from tunewright.core.problem import Problem
from tunewright.core.space import Space
from tunewright.errors import ConfigError
from tunewright.samplers.prior import Prior, trust
from tunewright.samplers.random import Random
from tunewright.samplers.tpe import Tpe

SPACE = Space(
    x=Float(0, 1, guess=0.2, confidence=0.9), c=Choice(["a", "b"], guess="b", confidence=0.9), y=Float(0, 1)
)


def play(algorithm, problem, trials, loss):
    state, configs = algorithm.init(problem), []
    for i in range(trials):
        (start,) = algorithm.ask(state, 1, generator(problem.seed, i))
        configs.append(start.config)
        events = [Started(i, start.config), Ended(i, 0, "completed", {"loss": loss(start.config)})]
        state = algorithm.tell(state, events)
    return configs


def test_the_sampler_does_not_see_the_guesses():
    state = Prior(Random()).init(Problem(SPACE))
    assert state.history.problem.space is SPACE


def test_the_first_trials_follow_the_guesses():
    first = [play(Prior(Random()), Problem(SPACE, seed=s), 1, lambda c: 0.0)[0] for s in range(60)]
    assert np.mean([abs(c["x"] - 0.2) < 0.3 for c in first]) > 0.85
    assert np.mean([c["c"] == "b" for c in first]) > 0.85


def test_trust_prefers_what_explains_the_best_trials():
    near, far = np.array([[0.2, 0.75, 0.5]]), np.array([[0.9, 0.25, 0.5]])
    assert trust(SPACE, near) > 0.5
    assert trust(SPACE, far) < 0.05
    # One column by hand: prior 0.1 + 0.9 N(0; 0.1), incumbent 0.5 + 0.5 N(0; 0.25), both at their centre.
    line = Space(x=Float(0, 1, guess=0.5, confidence=0.9))
    prior = 0.1 + 0.9 * 3.98942280401
    incumbent = 0.5 + 0.5 * 1.59576912161
    assert trust(line, np.array([[0.5]])) == pytest.approx(prior / (prior + incumbent))


def test_without_guesses_the_sampler_is_alone():
    problem = Problem(Space(x=Float(0, 1)))
    state = Prior(Random()).init(problem)
    assert Prior(Random()).ask(state, 2, generator(0, 0)) == Random().ask(
        Random().init(problem), 2, generator(0, 0)
    )


def test_a_good_guess_helps_and_a_bad_one_is_recovered_from():
    def bowl(at):
        return lambda c: sum((c[f"x{i}"] - at) ** 2 for i in range(4))

    space = Space({f"x{i}": Float(0, 1, guess=0.8, confidence=0.9) for i in range(4)})
    plain = Space({f"x{i}": Float(0, 1) for i in range(4)})

    def best(algorithm, where, at, trials):
        runs = [play(algorithm, Problem(where, seed=s), trials, bowl(at)) for s in range(8)]
        return np.mean([min(map(bowl(at), configs)) for configs in runs])

    assert best(Prior(Tpe()), space, 0.8, 10) < 0.5 * best(Tpe(), plain, 0.8, 10)
    assert best(Prior(Tpe()), space, 0.1, 60) < 2.0 * best(Tpe(), plain, 0.1, 60) + 0.02


def test_edits_keep_the_guesses_hidden():
    wider = Space(x=Float(0, 2, guess=1.5, confidence=0.9), c=Choice(["a", "b"]), y=Float(0, 1))
    algorithm = Prior(Tpe())
    state = algorithm.tell(algorithm.init(Problem(SPACE)), [Edited(wider.to_dict())])
    (start,) = algorithm.ask(state, 1, generator(0, 0))
    assert wider.check(start.config) == start.config
    assert state.inner.history.problem.space.defaults() == {}


@pytest.mark.parametrize("belief", [0.0, -1.0, float("inf"), float("nan")])
def test_settings_out_of_range_are_refused(belief):
    with pytest.raises(ConfigError, match="Prior needs a finite belief"):
        Prior(Random(), belief=belief)
