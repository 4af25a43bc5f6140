from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("gymnasium")
pytest.importorskip("torch")

from tunewright.control.dqn import Dqn
from tunewright.control.genes import Genes
from tunewright.control.gym import Gym
from tunewright.control.searl import Searl, search
from tunewright.control.worlds import play
from tunewright.errors import ConfigError, UnsupportedError


def test_an_environment_is_played_like_any_world() -> None:
    world = Gym("CartPole-v1")
    assert (world.observations, world.actions, world.bound, world.limit) == (4, 2, 0.0, 500)
    happened, returns = play(world, lambda seen: np.zeros(1, np.int64), 1, np.random.default_rng(0))
    assert happened.before.shape == (int(returns[0]), 4)
    assert happened.over[-1] == 1
    again, _ = play(world, lambda seen: np.zeros(1, np.int64), 1, np.random.default_rng(0))
    assert (again.before == happened.before).all()


def test_real_actions_have_their_bound() -> None:
    world = Gym("Pendulum-v1")
    assert (world.actions, world.bound, world.limit) == (1, 2.0, 200)
    happened, _ = play(world, lambda seen: np.full((1, 1), 2.0), 1, np.random.default_rng(0))
    assert happened.over.sum() == 0


def test_a_population_learns_in_it() -> None:
    world = Gym("CartPole-v1")
    settings = Searl(size=2, least=20, ratio=0.1, batch=4)
    best = search(world, lambda rng: Dqn(world, Genes((8,))), settings, steps=100, seed=0)
    assert best.act(np.zeros((3, 4))).shape == (3,)


def test_other_kinds_of_environments_are_refused() -> None:
    with pytest.raises(UnsupportedError, match="observations of one dimension"):
        Gym("FrozenLake-v1")
    with pytest.raises(ConfigError, match="one episode at a time; got 2"):
        Gym("CartPole-v1").reset(np.random.default_rng(0), 2)
