"""A replay buffer: the newest transitions, drawn from at random.

Source: Lin 1992, Machine Learning 8, for experience replay; Mnih et al. 2015, Nature 518, for uniform draws from the newest.
"""

from __future__ import annotations

import numpy as np

from tunewright.control.worlds import Transitions, World
from tunewright.errors import ConfigError


class Replay:
    """A ring of transitions.

    Args:
        world: Says how long observations and actions are.
        capacity: Most transitions kept; the oldest go first.

    Raises:
        ConfigError: If it can hold nothing.
    """

    def __init__(self, world: World, capacity: int) -> None:
        if capacity < 1:
            raise ConfigError(f"A replay buffer needs capacity >= 1; got {capacity}. Use 100000.")
        o = world.observations
        real = world.bound > 0.0
        self.capacity = capacity
        self.n = 0
        self._next = 0
        self._rows = Transitions(
            np.zeros((capacity, o), np.float32),
            np.zeros((capacity, world.actions), np.float32) if real else np.zeros(capacity, np.int64),
            np.zeros(capacity, np.float32),
            np.zeros((capacity, o), np.float32),
            np.zeros(capacity, np.float32),
        )

    def add(self, transitions: Transitions) -> None:
        """Takes in transitions, O(k) for k of them; of more than the capacity only the last."""
        k = min(len(transitions.rewards), self.capacity)
        where = (self._next + np.arange(k)) % self.capacity
        for column, new in zip(self._rows, transitions, strict=True):
            column[where] = new[-k:] if k else new[:0]
        self._next = (self._next + k) % self.capacity
        self.n = min(self.n + k, self.capacity)

    def draw(self, rng: np.random.Generator, batch: int) -> Transitions:
        """Transitions drawn with replacement.

        Raises:
            ConfigError: If there are none yet.
        """
        if not self.n:
            raise ConfigError("A batch needs transitions to draw from; got an empty buffer. Add some first.")
        rows = rng.integers(self.n, size=batch)
        return Transitions(*(column[rows] for column in self._rows))

    def copy(self) -> Replay:
        """A buffer of its own with the same transitions."""
        out = object.__new__(Replay)
        out.capacity, out.n, out._next = self.capacity, self.n, self._next
        out._rows = Transitions(*(column.copy() for column in self._rows))
        return out
