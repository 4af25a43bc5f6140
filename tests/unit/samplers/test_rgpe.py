"""Ranking losses and weights by hand; sources that help, mislead, or are missing."""

from __future__ import annotations

import numpy as np
import pytest

from tunewright.core.algorithm import generator
from tunewright.core.domains import Choice, Float
from tunewright.core.events import Ended, Started
from tunewright.core.problem import Problem
from tunewright.core.space import Space
from tunewright.errors import ConfigError
from tunewright.models import gp
from tunewright.models.sources import Source
from tunewright.samplers.rgpe import Rgpe, ensemble_weights, leave_one_out, ranking_losses

SPACE = Space(x=Float(0, 1), y=Float(0, 1))


def bowl(a, b):
    return lambda c: (c["x"] - a) ** 2 + (c["y"] - b) ** 2


def source(name, loss, seed=0, n=40):
    rng = np.random.default_rng(seed)
    configs = tuple(SPACE.draw(rng) for _ in range(n))
    return Source(name, configs, tuple(map(loss, configs)))


def play(algorithm, loss, trials, seed=0, space=SPACE):
    problem = Problem(space, seed=seed)
    state, losses, whys = algorithm.init(problem), [], []
    for i in range(trials):
        (start,) = algorithm.ask(state, 1, generator(seed, i))
        assert space.check(start.config) == start.config
        losses.append(loss(start.config))
        whys.append(start.why)
        events = [Started(i, start.config), Ended(i, 0, "completed", {"loss": losses[-1]})]
        state = algorithm.tell(state, events)
    return losses, whys


def test_ranking_losses_count_discordant_pairs_twice():
    losses = np.array([1.0, 2.0, 3.0])
    draws = np.array([[1.0, 2.0, 3.0], [3.0, 2.0, 1.0], [2.0, 1.0, 3.0]])
    assert ranking_losses(draws, losses).tolist() == [0, 6, 2]


def test_weights_are_shares_of_wins_and_the_target_wins_ties():
    rng = np.random.default_rng(0)
    base = np.array([[0.0, 2.0, 4.0, 0.0], [2.0, 2.0, 4.0, 2.0]])
    target = np.array([4.0, 2.0, 1.0, 6.0])
    assert ensemble_weights(base, target, rng).tolist() == [0.5, 0.0, 0.5]


def test_a_source_worse_than_the_target_gets_no_weight():
    rng = np.random.default_rng(0)
    # Its median of 5 is above the 95th percentile of the target, though it wins the first draw.
    base = np.array([[0.0, 5.0, 5.0, 5.0]])
    assert ensemble_weights(base, np.full(4, 1.0), rng).tolist() == [0.0, 1.0]


def test_leave_one_out_is_that_of_fits_without_each_trial():
    rng = np.random.default_rng(1)
    x = rng.random((8, 2))
    y = x @ [1.0, 2.0]
    columns = gp.columns_of(SPACE.layout.levels, SPACE.layout.categorical)
    hyper = gp.tune(columns, *gp.for_tuning(x, y))
    full = gp.update(columns, hyper, x, y)
    mean, std = leave_one_out(full)
    assert mean.shape == std.shape == (8,)
    assert (std > 0).all()
    assert np.corrcoef(mean, full.y)[0, 1] > 0.8


def test_a_related_source_helps_from_the_first_trial():
    target = bowl(0.3, 0.7)
    helped, _ = play(Rgpe((source("s", lambda c: 50 * target(c) + 7),)), target, 6)
    assert min(helped[:2]) < 0.01


def test_an_unrelated_source_loses_its_weight():
    target = bowl(0.2, 0.8)
    against = source("s", lambda c: -target(c))
    losses, whys = play(Rgpe((against,)), target, 16)
    assert whys[-1]["own_weight"] > 0.9
    assert min(losses) < 0.02


def test_it_works_without_sources_and_with_strange_ones():
    target = bowl(0.5, 0.5)
    alien = Source("t", ({"q": 1}, {"q": 2}), (1.0, 2.0))
    assert min(play(Rgpe(), target, 14)[0]) < 0.02
    assert min(play(Rgpe((alien,)), target, 14)[0]) < 0.02
    constant = source("c", lambda c: 1.0)
    assert min(play(Rgpe((constant,)), target, 14)[0]) < 0.05


def test_conditional_spaces_and_partial_sources():
    space = Space(x=Float(0, 1), m=Choice({"a": {"z": Float(0, 1)}, "b": None}))
    rng = np.random.default_rng(0)
    full = tuple(space.draw(rng) for _ in range(20))
    partial = tuple({"x": c["x"]} for c in full)
    losses = tuple(c["x"] for c in full)
    found, _ = play(
        Rgpe((Source("f", full, losses), Source("p", partial, losses))), lambda c: c["x"], 8, space=space
    )
    assert min(found) < 0.05


@pytest.mark.parametrize("settings", [{"initial": 0}, {"candidates": 0}, {"draws": 0}])
def test_settings_out_of_range_are_refused(settings):
    with pytest.raises(ConfigError, match="Rgpe needs"):
        Rgpe(**settings)
