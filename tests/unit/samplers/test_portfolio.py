"""The greedy choice by hand, and the order in which picks are tried."""

from __future__ import annotations

import numpy as np
import pytest

from tunewright.core.algorithm import generator
from tunewright.core.domains import Choice, Float
from tunewright.core.events import Edited, Ended, Started
from tunewright.core.problem import Problem
from tunewright.core.space import Space
from tunewright.errors import ConfigError
from tunewright.models.sources import Source
from tunewright.samplers.portfolio import Portfolio, greedy
from tunewright.samplers.random import Random

SPACE = Space(x=Float(0, 1), m=Choice({"a": {"z": Float(0, 1)}, "b": None}))


def source(name, centre, seed=0):
    rng = np.random.default_rng(seed)
    configs = [SPACE.draw(rng) for _ in range(30)]
    return Source(name, tuple(configs), tuple((c["x"] - centre) ** 2 for c in configs))


def test_greedy_by_hand():
    # The middle one is best on average, then 0 for the first task and 3 for the second; 1 helps nobody more.
    losses = np.array([[0.0, 0.9, 0.3, 0.8], [0.9, 0.9, 0.3, 0.0]])
    assert greedy(losses, 4) == [2, 0, 3]
    assert greedy(losses, 1) == [2]


def test_picks_come_first_and_serve_every_source():
    algorithm = Portfolio(Random(), (source("s", 0.2), source("t", 0.8, 1)), size=4)
    state = algorithm.init(Problem(SPACE))
    picks = [SPACE.decode(r) for r in algorithm.picks(state)]
    assert 2 <= len(picks) <= 4
    assert min(abs(p["x"] - 0.2) for p in picks) < 0.1
    assert min(abs(p["x"] - 0.8) for p in picks) < 0.1
    starts = algorithm.ask(state, 6, generator(0, 0))
    assert [s.config for s in starts[: len(picks)]] == picks
    assert len(starts) == 6


def test_what_was_tried_already_is_left_out():
    algorithm = Portfolio(Random(), (source("s", 0.2), source("t", 0.8, 1)), size=4)
    state = algorithm.init(Problem(SPACE))
    picks = [SPACE.decode(r) for r in algorithm.picks(state)]
    state = algorithm.tell(state, [Started(0, picks[1]), Ended(0, 0, "failed", error="x")])
    assert algorithm.ask(state, 1, generator(0, 1))[0].config == picks[0]
    state = algorithm.tell(state, [Started(1, picks[0])])
    follows = picks[2:3] or [None]
    if follows[0] is not None:
        assert algorithm.ask(state, 1, generator(0, 2))[0].config == follows[0]


def test_a_new_space_has_its_own_picks():
    algorithm = Portfolio(Random(), (source("s", 0.2),), size=3)
    state = algorithm.init(Problem(SPACE))
    narrow = Space(x=Float(0.5, 1))
    state = algorithm.tell(state, [Edited(narrow.to_dict())])
    (start,) = algorithm.ask(state, 1, generator(0, 0))
    assert narrow.check(start.config) == start.config
    assert start.config["x"] == pytest.approx(0.5, abs=0.1)


def test_without_sources_the_sampler_is_alone():
    algorithm, problem = Portfolio(Random()), Problem(SPACE)
    ours = algorithm.ask(algorithm.init(problem), 2, generator(0, 0))
    assert ours == Random().ask(Random().init(problem), 2, generator(0, 0))


def test_settings_out_of_range_are_refused():
    with pytest.raises(ConfigError, match="Portfolio needs size"):
        Portfolio(Random(), size=0)
