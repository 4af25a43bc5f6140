"""Deep Q-learning: an off-policy learner of discrete actions. Needs PyTorch.

*Use when* actions are few and discrete. *Do not use when* they are real numbers (``control.td3``).

*Paper*: Mnih et al. 2015, "Human-level control through deep reinforcement learning", Nature 518, Algorithm 1; actions are
chosen by one network and valued by the other as in van Hasselt, Guez and Silver 2016 (AAAI, arXiv:1509.06461), eq. 4.

*Differs*: the target network follows slowly, as in Lillicrap et al. 2016 (ICLR, arXiv:1509.02971), instead of being copied
now and then; the Huber loss.

*Cost*: an update is one step of one network.
"""

from __future__ import annotations

import copy

import numpy as np
from numpy.typing import NDArray

from tunewright.control.genes import Genes
from tunewright.control.morphism import Perceptron
from tunewright.control.td3 import follow
from tunewright.control.worlds import Transitions, World
from tunewright.errors import UnsupportedError, missing_extra

try:
    import torch
    from torch import Tensor, nn
except ImportError as error:
    raise missing_extra("torch", "rl") from error

_GAMMA, _EXPLORE = 0.99, 0.1


def targets(
    rewards: Tensor, over: Tensor, chosen_by: Tensor, valued_by: Tensor, discount: float = _GAMMA
) -> Tensor:
    """Reward and the discounted value of the next step's best action, none after an end.

    Args:
        rewards: Shape ``(n,)``.
        over: 1 where the episode ended by itself, shape ``(n,)``.
        chosen_by: Values of the next step's actions by which one is chosen, shape ``(n, a)``.
        valued_by: Values of which that action's counts, shape ``(n, a)``.
        discount: Worth of a reward one step later.
    """
    best = chosen_by.argmax(dim=1, keepdim=True)
    return rewards + discount * (1.0 - over) * valued_by.gather(1, best)[:, 0]


class Dqn:
    """An agent.

    Args:
        world: What it acts in.
        genes: Its architecture and learning rate.
        scale: Rewards are multiplied by it; values of about 1 to 10 are learnt fastest.
        tau: Share of the way that targets follow per update; a short training needs a larger one.

    Raises:
        UnsupportedError: If actions are real numbers.
    """

    def __init__(self, world: World, genes: Genes, scale: float = 1.0, tau: float = 0.01) -> None:
        if world.bound:
            raise UnsupportedError("Dqn needs discrete actions; got real ones. Use Td3.")
        self.actions = world.actions
        self.values = Perceptron(world.observations, genes.hidden, world.actions, genes.activation)
        self.genes = genes
        self.scale, self.tau = scale, tau
        self.updates = 0
        self._target = copy.deepcopy(self.values)
        self.begin_optimizers()

    @property
    def networks(self) -> list[Perceptron]:
        """The network that learns."""
        return [self.values]

    @property
    def followers(self) -> list[Perceptron]:
        """Its target."""
        return [self._target]

    def begin_optimizers(self) -> None:
        """Forgets what the optimizer knows, after the network got other parameters."""
        self._optimizer = torch.optim.Adam(self.values.parameters(), lr=self.genes.rate, fused=True)

    def take_rates(self) -> None:
        """Goes on with the learning rate of the genes."""
        self._optimizer.param_groups[0]["lr"] = self.genes.rate

    def act(self, seen: NDArray[np.float64], rng: np.random.Generator | None = None) -> NDArray[np.int64]:
        """Actions ``(n,)`` for observations ``(n, o)``; with a generator, every tenth is drawn at random."""
        with torch.no_grad():
            values = self.values(torch.as_tensor(seen, dtype=torch.float32))
        best: NDArray[np.int64] = values.argmax(dim=1).numpy()
        if rng is None:
            return best
        return np.where(rng.random(len(best)) < _EXPLORE, rng.integers(self.actions, size=len(best)), best)

    def learn(self, batch: Transitions, rng: np.random.Generator) -> None:
        """One update from a batch."""
        before, actions, rewards, after, over = (torch.as_tensor(column) for column in batch)
        with torch.no_grad():
            goal = targets(self.scale * rewards, over, self.values(after), self._target(after))
        value = self.values(before).gather(1, actions[:, None])[:, 0]
        loss = nn.functional.smooth_l1_loss(value, goal)
        self._optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimizer.step()
        follow(self._target, self.values, self.tau)
        self.updates += 1

    def copy(self) -> Dqn:
        """An agent of its own with the same weights, target and optimizer."""
        return copy.deepcopy(self)
