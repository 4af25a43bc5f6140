"""Twin delayed deep deterministic policy gradient: an off-policy learner of real actions. Needs PyTorch.

*Use when* actions are real numbers and steps of the environment are dear. *Do not use when* actions are discrete
(``control.dqn``).

*Paper*: Fujimoto, van Hoof and Meger 2018, "Addressing Function Approximation Error in Actor-Critic Methods", ICML,
arXiv:1802.09477, Algorithm 1.

*Cost*: an update is one step of both critics, and every second time one of the actor.
"""

from __future__ import annotations

import copy

import numpy as np
from numpy.typing import NDArray

from tunewright.control.genes import Genes
from tunewright.control.morphism import Perceptron
from tunewright.control.worlds import Transitions, World
from tunewright.errors import UnsupportedError, missing_extra

try:
    import torch
    from torch import Tensor, nn
except ImportError as error:
    raise missing_extra("torch", "rl") from error

_GAMMA, _DELAY = 0.99, 2
_NOISE, _CLIP, _EXPLORE = 0.2, 0.5, 0.1


def targets(rewards: Tensor, over: Tensor, first: Tensor, second: Tensor, discount: float = _GAMMA) -> Tensor:
    """What the critics learn: reward and the discounted lower of two values of the next step, none after an end.

    Args:
        rewards: Shape ``(n,)``.
        over: 1 where the episode ended by itself, shape ``(n,)``.
        first: One critic's value of the next step, shape ``(n,)``.
        second: The other's.
        discount: Worth of a reward one step later.
    """
    return rewards + discount * (1.0 - over) * torch.minimum(first, second)


def follow(target: nn.Module, source: nn.Module, share: float) -> None:
    """Moves the weights of a target network towards those of another of the same shape, in place."""
    with torch.no_grad():
        torch._foreach_lerp_(list(target.parameters()), list(source.parameters()), share)


class Td3:
    """An agent.

    Args:
        world: What it acts in.
        genes: Its architecture and learning rates.
        scale: Rewards are multiplied by it; values of about 1 to 10 are learnt fastest.
        tau: Share of the way that targets follow per update; a short training needs a larger one.

    Raises:
        UnsupportedError: If actions are discrete.
    """

    def __init__(self, world: World, genes: Genes, scale: float = 1.0, tau: float = 0.005) -> None:
        if not world.bound:
            raise UnsupportedError("Td3 needs real actions; got discrete ones. Use Dqn.")
        o, a = world.observations, world.actions
        self.bound = world.bound
        self.actor = Perceptron(o, genes.hidden, a, genes.activation, squash=world.bound)
        self.critics = nn.ModuleList(Perceptron(o + a, genes.hidden, 1, "relu") for _ in range(2))
        self.genes = genes
        self.scale, self.tau = scale, tau
        self.updates = 0
        self._actor_target = copy.deepcopy(self.actor)
        self._critics_target = copy.deepcopy(self.critics)
        self.begin_optimizers()

    @property
    def networks(self) -> list[Perceptron]:
        """All networks that learn; the policy comes first."""
        return [self.actor, *(c for c in self.critics if isinstance(c, Perceptron))]

    @property
    def followers(self) -> list[Perceptron]:
        """The target of each of them."""
        return [self._actor_target, *(c for c in self._critics_target if isinstance(c, Perceptron))]

    def begin_optimizers(self) -> None:
        """Forgets what the optimizers know, after networks got other parameters."""
        self._actor_optimizer = torch.optim.Adam(
            self.actor.parameters(), lr=self.genes.actor_rate, fused=True
        )
        self._critic_optimizer = torch.optim.Adam(self.critics.parameters(), lr=self.genes.rate, fused=True)

    def take_rates(self) -> None:
        """Goes on with the learning rates of the genes."""
        self._actor_optimizer.param_groups[0]["lr"] = self.genes.actor_rate
        self._critic_optimizer.param_groups[0]["lr"] = self.genes.rate

    def act(self, seen: NDArray[np.float64], rng: np.random.Generator | None = None) -> NDArray[np.float64]:
        """Actions ``(n, a)`` for observations ``(n, o)``; with a generator, Gaussian noise is added."""
        with torch.no_grad():
            actions: NDArray[np.float64] = (
                self.actor(torch.as_tensor(seen, dtype=torch.float32)).numpy().astype(np.float64)
            )
        if rng is not None:
            actions = actions + rng.normal(0.0, _EXPLORE * self.bound, actions.shape)
        return np.clip(actions, -self.bound, self.bound)

    def learn(self, batch: Transitions, rng: np.random.Generator) -> None:
        """One update from a batch."""
        before, actions, rewards, after, over = (torch.as_tensor(column) for column in batch)
        noise = rng.normal(0.0, _NOISE, actions.shape).clip(-_CLIP, _CLIP).astype(np.float32)
        with torch.no_grad():
            then = self._actor_target(after) + self.bound * torch.as_tensor(noise)
            ahead = torch.cat([after, then.clamp(-self.bound, self.bound)], dim=1)
            values = [critic(ahead)[:, 0] for critic in self._critics_target]
            goal = targets(self.scale * rewards, over, values[0], values[1])
        here = torch.cat([before, actions], dim=1)
        loss = torch.stack([(critic(here)[:, 0] - goal).square().mean() for critic in self.critics]).sum()
        self._critic_optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self._critic_optimizer.step()
        self.updates += 1
        if self.updates % _DELAY == 0:
            self._improve(before)

    def _improve(self, before: Tensor) -> None:
        """One step of the actor, and the targets follow."""
        value = self.critics[0](torch.cat([before, self.actor(before)], dim=1))
        self._actor_optimizer.zero_grad()
        (-value.mean()).backward()
        self._actor_optimizer.step()
        follow(self._actor_target, self.actor, self.tau)
        follow(self._critics_target, self.critics, self.tau)

    def copy(self) -> Td3:
        """An agent of its own with the same weights, targets and optimizers."""
        return copy.deepcopy(self)
