from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np
import pytest

from tunewright.control.worlds import CartPole, Pendulum, World, play

needs_gymnasium = pytest.mark.skipif(
    importlib.util.find_spec("gymnasium") is None, reason="gymnasium is not installed"
)


def still(seen: np.ndarray) -> np.ndarray:
    return np.zeros((len(seen), 1))


def test_a_pendulum_that_stands_upright_and_still_stays_there_for_free() -> None:
    states, rewards, over = Pendulum().step(np.zeros((3, 2)), np.zeros((3, 1)))
    assert not states.any()
    assert not rewards.any()
    assert not over.any()


def test_a_pendulum_falls_faster_and_faster_and_torque_has_a_bound() -> None:
    world = Pendulum()
    states, rewards, _ = world.step(np.array([[0.5, 0.0], [0.5, 0.0]]), np.array([[0.0], [99.0]]))
    # 15 sin(0.5) 0.05, and with the largest torque of 2 another 3 * 2 * 0.05.
    assert states[:, 1] == pytest.approx([0.35957, 0.65957], abs=1e-5)
    assert rewards == pytest.approx([-0.25, -0.254])
    assert world.observe(states).shape == (2, 3)


def test_a_pole_falls_over_and_episodes_end_on_their_own() -> None:
    world = CartPole()
    happened, returns = play(world, lambda seen: np.ones(len(seen), np.int64), 5, np.random.default_rng(0))
    assert ((returns >= 7) & (returns <= 12)).all()
    assert happened.over.sum() == 5
    assert len(happened.rewards) == returns.sum()


def test_episodes_are_cut_off_without_being_over() -> None:
    happened, returns = play(Pendulum(), still, 4, np.random.default_rng(0))
    assert (len(happened.rewards), len(returns), happened.over.sum()) == (800, 4, 0)
    assert happened.rewards.sum() == pytest.approx(returns.sum())
    # Rows of one episode follow on each other, four side by side.
    assert happened.after[0] == pytest.approx(happened.before[4])


def follow(name: str, world: World, actions: list[Any], states: np.ndarray) -> None:
    """The same actions from the same state give the same observations and rewards in both."""
    import gymnasium

    theirs: Any = gymnasium.make(name).unwrapped
    theirs.reset(seed=0)
    theirs.state = states[0].copy()
    for action in actions:
        seen, reward, over, _, _ = theirs.step(action)
        states, rewards, ends = world.step(states, np.asarray(action)[None])
        assert world.observe(states)[0] == pytest.approx(seen, abs=1e-5)
        assert rewards[0] == pytest.approx(float(np.asarray(reward)), abs=1e-9)
        assert bool(ends[0]) == over
        if over:
            break


@needs_gymnasium
def test_the_pendulum_moves_as_gymnasiums() -> None:
    rng = np.random.default_rng(1)
    follow("Pendulum-v1", Pendulum(), [rng.uniform(-3, 3, 1) for _ in range(100)], np.array([[2.0, -0.5]]))


@needs_gymnasium
def test_the_cart_and_pole_move_as_gymnasiums() -> None:
    rng = np.random.default_rng(2)
    follow(
        "CartPole-v1",
        CartPole(),
        [int(rng.integers(2)) for _ in range(100)],
        np.array([[0.01, 0.0, -0.02, 0.03]]),
    )
