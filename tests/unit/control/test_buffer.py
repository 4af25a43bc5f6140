from __future__ import annotations

import numpy as np
import pytest

from tunewright.control.buffer import Replay
from tunewright.control.worlds import CartPole, Pendulum, Transitions
from tunewright.errors import ConfigError


def some(first: int, n: int) -> Transitions:
    """Transitions whose reward is their number."""
    numbers = np.arange(first, first + n, dtype=np.float64)
    seen = np.repeat(numbers[:, None], 3, axis=1)
    return Transitions(seen, numbers[:, None], numbers, seen + 1, np.zeros(n))


def rewards_in(replay: Replay) -> set[int]:
    return {int(r) for r in replay.draw(np.random.default_rng(0), 500).rewards}


def test_the_oldest_go_when_it_is_full() -> None:
    replay = Replay(Pendulum(), 5)
    replay.add(some(0, 3))
    assert (replay.n, rewards_in(replay)) == (3, {0, 1, 2})
    replay.add(some(3, 4))
    assert (replay.n, rewards_in(replay)) == (5, {2, 3, 4, 5, 6})
    replay.add(some(7, 1))
    assert rewards_in(replay) == {3, 4, 5, 6, 7}
    replay.add(some(100, 12))
    assert rewards_in(replay) == {107, 108, 109, 110, 111}
    replay.add(some(0, 0))
    assert replay.n == 5


def test_the_columns_of_a_transition_stay_together() -> None:
    replay = Replay(Pendulum(), 7)
    for first in range(0, 40, 3):
        replay.add(some(first, 3))
    batch = replay.draw(np.random.default_rng(1), 100)
    assert batch.before.dtype == np.float32
    assert (batch.before[:, 0] == batch.rewards).all()
    assert (batch.actions[:, 0] == batch.rewards).all()
    assert (batch.after[:, 2] == batch.rewards + 1).all()


def test_a_copy_is_independent() -> None:
    replay = Replay(Pendulum(), 5)
    replay.add(some(0, 3))
    other = replay.copy()
    replay.add(some(10, 5))
    assert rewards_in(other) == {0, 1, 2}
    other.add(some(20, 1))
    assert rewards_in(other) == {0, 1, 2, 20}
    assert rewards_in(replay) == {10, 11, 12, 13, 14}


def test_discrete_actions_are_whole_numbers_and_an_empty_buffer_is_refused() -> None:
    replay = Replay(CartPole(), 4)
    with pytest.raises(ConfigError, match="empty buffer"):
        replay.draw(np.random.default_rng(0), 1)
    replay.add(Transitions(np.zeros((2, 4)), np.array([0, 1]), np.ones(2), np.zeros((2, 4)), np.zeros(2)))
    assert replay.draw(np.random.default_rng(0), 3).actions.dtype == np.int64
    with pytest.raises(ConfigError, match="capacity >= 1; got 0"):
        Replay(CartPole(), 0)
