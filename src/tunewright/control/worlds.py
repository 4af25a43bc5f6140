"""Small control problems as functions on arrays: any number of episodes side by side, no state of their own.

The equations of motion, bounds and rewards are those of Gymnasium's ``Pendulum-v1`` and ``CartPole-v1`` (Towers et al. 2024,
arXiv:2407.17032; Barto, Sutton and Anderson 1983, IEEE Trans. SMC 13, for the cart and pole).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Policy = Callable[[Floats], NDArray[np.float64] | NDArray[np.int64]]
"""From observations ``(n, o)`` to actions: ``(n, a)`` real ones, or ``(n,)`` numbers of discrete ones."""


class World(Protocol):
    """A control problem."""

    @property
    def observations(self) -> int:
        """Length of an observation."""
        ...

    @property
    def actions(self) -> int:
        """Length of an action, or number of discrete ones."""
        ...

    @property
    def bound(self) -> float:
        """Largest size of a real action; 0 where they are discrete."""
        ...

    @property
    def limit(self) -> int:
        """Steps after which an episode is cut off."""
        ...

    def reset(self, rng: np.random.Generator, n: int) -> Floats:
        """States at the beginning of ``n`` episodes, shape ``(n, s)``."""
        ...

    def observe(self, states: Floats) -> Floats:
        """What an agent sees of states ``(n, s)``, shape ``(n, o)``."""
        ...

    def step(
        self, states: Floats, actions: NDArray[np.float64] | NDArray[np.int64]
    ) -> tuple[Floats, Floats, NDArray[np.bool_]]:
        """Next states ``(n, s)``, rewards ``(n,)``, and whether each episode is over, cut-offs aside."""
        ...


@dataclass(frozen=True, slots=True)
class Pendulum:
    """A pendulum to be swung up with too weak a motor; the state is its angle and angular speed."""

    observations: int = 3
    actions: int = 1
    bound: float = 2.0
    limit: int = 200

    def reset(self, rng: np.random.Generator, n: int) -> Floats:
        """Any angle, slow."""
        return rng.uniform([-np.pi, -1.0], [np.pi, 1.0], (n, 2))

    def observe(self, states: Floats) -> Floats:
        """Cosine and sine of the angle, and the speed in rad/s."""
        return np.stack([np.cos(states[:, 0]), np.sin(states[:, 0]), states[:, 1]], axis=1)

    def step(
        self, states: Floats, actions: NDArray[np.float64] | NDArray[np.int64]
    ) -> tuple[Floats, Floats, NDArray[np.bool_]]:
        """One twentieth of a second under a torque in N m."""
        angle, speed = states[:, 0], states[:, 1]
        torque = np.clip(np.asarray(actions, dtype=np.float64).reshape(len(states), -1)[:, 0], -2.0, 2.0)
        upright = (angle + np.pi) % (2 * np.pi) - np.pi
        reward = -(upright**2 + 0.1 * speed**2 + 0.001 * torque**2)
        faster = np.clip(speed + (15.0 * np.sin(angle) + 3.0 * torque) * 0.05, -8.0, 8.0)
        moved = np.stack([angle + 0.05 * faster, faster], axis=1)
        return moved, reward, np.zeros(len(states), dtype=np.bool_)


@dataclass(frozen=True, slots=True)
class CartPole:
    """A pole to be balanced on a cart that is pushed left (0) or right (1); one point per step."""

    observations: int = 4
    actions: int = 2
    bound: float = 0.0
    limit: int = 500

    def reset(self, rng: np.random.Generator, n: int) -> Floats:
        """Nearly at rest in the middle."""
        return rng.uniform(-0.05, 0.05, (n, 4))

    def observe(self, states: Floats) -> Floats:
        """Place, speed, angle and angular speed."""
        return states

    def step(
        self, states: Floats, actions: NDArray[np.float64] | NDArray[np.int64]
    ) -> tuple[Floats, Floats, NDArray[np.bool_]]:
        """One fiftieth of a second under a push of 10 N."""
        place, speed, angle, turn = states.T
        force = np.where(np.asarray(actions).reshape(len(states)) == 1, 10.0, -10.0)
        sine, cosine = np.sin(angle), np.cos(angle)
        push = (force + 0.05 * turn**2 * sine) / 1.1
        twist = (9.8 * sine - cosine * push) / (0.5 * (4.0 / 3.0 - 0.1 * cosine**2 / 1.1))
        pull = push - 0.05 * twist * cosine / 1.1
        moved = np.stack(
            [place + 0.02 * speed, speed + 0.02 * pull, angle + 0.02 * turn, turn + 0.02 * twist], axis=1
        )
        over = (np.abs(moved[:, 0]) > 2.4) | (np.abs(moved[:, 2]) > 12 * 2 * np.pi / 360)
        return moved, np.ones(len(states)), over


class Transitions(NamedTuple):
    """What happened, one row per step of an episode.

    Attributes:
        before: Observations, shape ``(n, o)``.
        actions: Actions, shape ``(n, a)`` or ``(n,)``.
        rewards: Rewards, shape ``(n,)``.
        after: The next observations, shape ``(n, o)``.
        over: Whether the episode ended there by itself, 1 or 0, shape ``(n,)``.
    """

    before: NDArray[Any]
    actions: NDArray[Any]
    rewards: NDArray[Any]
    after: NDArray[Any]
    over: NDArray[Any]


def play(world: World, policy: Policy, n: int, rng: np.random.Generator) -> tuple[Transitions, Floats]:
    """Runs ``n`` episodes side by side.

    Returns:
        Everything that happened, and the sum of rewards of each episode, shape ``(n,)``.
    """
    states = world.reset(rng, n)
    returns = np.zeros(n)
    alive = np.arange(n)
    rows: list[Transitions] = []
    for _ in range(world.limit):
        before = world.observe(states)
        actions = policy(before)
        states, rewards, over = world.step(states, actions)
        rows.append(Transitions(before, actions, rewards, world.observe(states), over.astype(np.float64)))
        returns[alive] += rewards
        states, alive = states[~over], alive[~over]
        if not len(alive):
            break
    return Transitions(*(np.concatenate(column) for column in zip(*rows, strict=True))), returns
