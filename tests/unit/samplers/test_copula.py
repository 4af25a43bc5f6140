"""Normal scores by hand; a prior that helps whatever the scale, and no prior at all."""

from __future__ import annotations

import numpy as np
import pytest

from tunewright.core.algorithm import generator
from tunewright.core.domains import Choice, Float
from tunewright.core.events import Ended, Started
from tunewright.core.problem import Problem
from tunewright.core.space import Space
from tunewright.errors import ConfigError
from tunewright.models.sources import Source
from tunewright.samplers.copula import Copula, normal_scores, winsor

SPACE = Space(x=Float(0, 1), y=Float(1e-3, 1, log=True), m=Choice({"a": {"z": Float(0, 1)}, "b": None}))


def loss(c):
    return (
        (c["x"] - 0.3) ** 2
        + (np.log10(c["y"]) + 2) ** 2 / 4
        + (0.5 if c["m"] == "b" else (c["z"] - 0.6) ** 2)
    )


def source(name, scale, seed, n=60):
    rng = np.random.default_rng(seed)
    configs = tuple(SPACE.draw(rng) for _ in range(n))
    return Source(name, configs, tuple(scale(loss(c)) for c in configs))


SOURCES = (source("s", lambda v: v, 0), source("t", lambda v: 1e6 * np.exp(5 * v), 1), source("u", np.log, 2))


def play(algorithm, trials, seed=0):
    problem = Problem(SPACE, seed=seed)
    state, losses = algorithm.init(problem), []
    for i in range(trials):
        (start,) = algorithm.ask(state, 1, generator(seed, i))
        assert SPACE.check(start.config) == start.config
        losses.append(loss(start.config))
        state = algorithm.tell(
            state, [Started(i, start.config), Ended(i, 0, "completed", {"loss": 1000 * losses[-1]})]
        )
    return losses


def test_scores_are_quantiles_of_ranks():
    scores = normal_scores(np.array([30.0, 10.0, 20.0]))
    assert scores[2] == pytest.approx(0.0)
    assert scores[1] == pytest.approx(-scores[0])
    assert normal_scores(np.array([1.0, 1.0, 1.0])).tolist() == pytest.approx([0.0, 0.0, 0.0])


def test_scores_do_not_depend_on_the_scale_and_keep_their_distance_from_infinity():
    values = np.random.default_rng(0).normal(size=200)
    assert np.allclose(normal_scores(values), normal_scores(np.exp(3 * values)))
    assert np.abs(normal_scores(values)).max() < 3


def test_the_cut_shrinks_with_more_losses():
    assert winsor(1) == winsor(2) == 0.25 or winsor(1) >= winsor(2)
    assert winsor(1000) < winsor(100) < winsor(10)


@pytest.mark.parametrize("mode", ["gp", "thompson"])
def test_sources_help_whatever_their_scale(mode):
    helped = np.mean([min(play(Copula(SOURCES, mode=mode), 6, seed)) for seed in range(4)])
    alone = np.mean([min(play(Copula(), 6, seed)) for seed in range(4)])
    assert helped < 0.6 * alone


def test_it_learns_from_the_new_trials_too():
    assert min(play(Copula(SOURCES), 25)) < 0.02
    assert min(play(Copula(), 30)) < 0.15


@pytest.mark.parametrize("settings", [{"mode": "best"}, {"initial": 0}, {"candidates": 0}])
def test_settings_out_of_range_are_refused(settings):
    with pytest.raises(ConfigError, match="Copula needs mode"):
        Copula(**settings)
