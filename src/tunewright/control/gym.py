"""An environment of Gymnasium as a world, one episode at a time. Needs Gymnasium."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tunewright.control.worlds import Floats
from tunewright.errors import ConfigError, UnsupportedError, missing_extra

try:
    import gymnasium
except ImportError as error:
    raise missing_extra("gymnasium", "rl") from error


class Gym:
    """An environment with flat observations, and discrete actions or real ones between ``-bound`` and ``bound``.

    Args:
        name: Its identifier, such as ``"Acrobot-v1"``.
        settings: Passed on to ``gymnasium.make``.

    Raises:
        UnsupportedError: If its observations or actions are of another kind, or it has no limit of steps.
    """

    def __init__(self, name: str, **settings: Any) -> None:
        made: Any = gymnasium.make(name, **settings)
        limit = made.spec.max_episode_steps if made.spec is not None else None
        seen, done = made.observation_space, made.action_space
        if not isinstance(seen, gymnasium.spaces.Box) or len(seen.shape) != 1 or not limit:
            raise UnsupportedError(
                f"Gym needs observations of one dimension and a limit of steps; got {seen} and {limit}. Wrap '{name}'."
            )
        # The limit is counted by whoever plays: here, an episode that is cut off is not over.
        self._env = made.unwrapped
        self.observations = int(seen.shape[0])
        self.limit = int(limit)
        if isinstance(done, gymnasium.spaces.Discrete):
            self.actions, self.bound = int(done.n), 0.0
        elif isinstance(done, gymnasium.spaces.Box) and np.array_equal(done.low, -done.high):
            self.actions, self.bound = int(np.prod(done.shape)), float(done.high.reshape(-1)[0])
        else:
            raise UnsupportedError(
                f"Gym needs discrete actions, or real ones between -b and b; got {done}. Wrap '{name}'."
            )

    def reset(self, rng: np.random.Generator, n: int) -> Floats:
        """The first observation of an episode, shape ``(1, o)``.

        Raises:
            ConfigError: If more than one episode is wanted.
        """
        if n != 1:
            raise ConfigError(f"Gym plays one episode at a time; got {n}. Play them in turn.")
        seen, _ = self._env.reset(seed=int(rng.integers(2**31)))
        return np.asarray(seen, dtype=np.float64)[None]

    def observe(self, states: Floats) -> Floats:
        """The state is what was seen last."""
        return states

    def step(
        self, states: Floats, actions: NDArray[np.float64] | NDArray[np.int64]
    ) -> tuple[Floats, Floats, NDArray[np.bool_]]:
        """Goes on from wherever the environment is; ``states`` must be the newest."""
        action: Any = actions[0] if self.bound else int(actions[0])
        seen, reward, over, _, _ = self._env.step(action)
        moved = np.asarray(seen, dtype=np.float64)[None]
        return moved, np.array([float(reward)]), np.array([bool(over)])
