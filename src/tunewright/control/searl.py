"""Sample-efficient automated reinforcement learning: a population that evolves while it learns from shared experience.

*Use when* an off-policy agent's architecture and learning rates are unknown and steps of the environment are dear. *Do not
use when* the agent can only learn from its own newest experience, or settings are known.

*Paper*: Franke, Köhler, Biedenkapp and Hutter 2021, "Sample-Efficient Automated Deep Reinforcement Learning", ICLR,
arXiv:2009.01555, Algorithm 1: evaluate, select by tournament with elitism, mutate, train; every step anybody takes goes to
one replay buffer. Kinds of mutation and the sizes of tournaments and steps are those of section 4 and its appendix.

*Differs*: the first steps may be played at random, as learners alone do. Networks grow by function-preserving morphisms (``control.morphism``), and their targets with them, where the
paper draws the new weights at random and begins with new targets; optimizers begin anew only where networks grow. Noise
is in proportion to each weight. The critics of an agent have the size of its actor.

*Cost*: in each generation, every member plays whole episodes and learns for ``ratio`` updates per step that all played.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from tunewright.control.buffer import Replay
from tunewright.control.genes import Genes
from tunewright.control.morphism import ACTIVATIONS, Perceptron, deepen, widen
from tunewright.control.worlds import Policy, Transitions, World, play
from tunewright.errors import ConfigError, missing_extra

try:
    import torch
except ImportError as error:
    raise missing_extra("torch", "rl") from error

Mutation = Literal["none", "weights", "activation", "size", "rate"]
MUTATIONS: tuple[Mutation, ...] = ("none", "weights", "activation", "size", "rate")

_TOURNAMENT = 3
_DEEPER, _UNITS, _WIDEST, _DEEPEST = 0.2, (16, 32), 256, 4
_TOUCHED, _STRENGTH = 0.1, 0.1
_FACTORS = (0.8, 1.2)
_RATES = (1e-5, 1e-2)


class Agent(Protocol):
    """What evolves: an off-policy learner.

    Attributes:
        genes: Its architecture and learning rates.
        updates: How often it learnt.
    """

    genes: Genes
    updates: int

    @property
    def networks(self) -> list[Perceptron]:
        """All networks that learn; the policy comes first."""
        ...

    @property
    def followers(self) -> list[Perceptron]:
        """The target of each of them."""
        ...

    def begin_optimizers(self) -> None:
        """Forgets what optimizers know, after networks got other parameters."""
        ...

    def take_rates(self) -> None:
        """Goes on with the learning rates of the genes."""
        ...

    def act(self, seen: NDArray[np.float64], rng: np.random.Generator | None = None) -> Any:
        """Actions for observations ``(n, o)``; with a generator, noise of exploration is added."""
        ...

    def learn(self, batch: Transitions, rng: np.random.Generator) -> None:
        """One update from a batch."""
        ...

    def copy(self) -> Self:
        """An agent of its own that is the same."""
        ...


@dataclass(frozen=True, slots=True)
class Searl:
    """Settings of the search.

    Args:
        size: Members.
        least: Steps that each member plays per generation, in whole episodes, at least one.
        ratio: Updates of each member per step that the population played in a generation.
        warm: Steps that the population plays at random first, together.
        batch: Transitions per update.
        capacity: Transitions that a buffer keeps.
        share: Whether members share one buffer; else each has its own, which its copies begin with.
        evolve: Whether there is selection and mutation; else every member keeps its settings, as in random search.

    Raises:
        ConfigError: If a setting is out of range.
    """

    size: int = 10
    least: int = 200
    ratio: float = 0.5
    warm: int = 0
    batch: int = 100
    capacity: int = 1_000_000
    share: bool = True
    evolve: bool = True

    def __post_init__(self) -> None:
        whole = {"size": self.size, "least": self.least, "batch": self.batch, "capacity": self.capacity}
        for name, value in whole.items():
            if value < 1:
                raise ConfigError(f"Searl needs {name} >= 1; got {value}. Use the default.")
        if not 0.0 < self.ratio < math.inf:
            raise ConfigError(f"Searl needs a finite ratio > 0; got {self.ratio}. Use the default.")


@dataclass(slots=True)
class Member:
    """One agent of the population.

    Attributes:
        agent: It learns.
        replay: Where its experience goes.
        fitness: Mean return of the episodes it played last.
        mutation: How it differs from its parent.
    """

    agent: Agent
    replay: Replay
    fitness: float = -math.inf
    mutation: Mutation = "none"


@dataclass(frozen=True, slots=True)
class Generation:
    """What is known after a generation was played.

    Attributes:
        number: Counted from 1.
        steps: Steps that all members played until then.
        updates: Updates of all members until then.
        fitness: Mean return of each member, noise of exploration included.
        genes: Settings of each member.
        best: The fittest agent, before selection.
    """

    number: int
    steps: int
    updates: int
    fitness: tuple[float, ...]
    genes: tuple[Genes, ...]
    best: Agent = field(compare=False, repr=False)


def search(
    world: World,
    newborn: Callable[[np.random.Generator], Agent],
    settings: Searl,
    *,
    steps: int,
    seed: int,
    watch: Callable[[Generation], None] | None = None,
) -> Agent:
    """Evolves and trains a population.

    Args:
        world: What agents act in.
        newborn: Makes an agent of the first generation.
        settings: Settings of the search.
        steps: Steps that all members may play together; a generation that has begun is finished.
        seed: Root of all randomness; PyTorch's generator is put back afterwards.
        watch: Called after each generation was played, for instance to report it to a trial.

    Returns:
        The fittest agent of the last generation that was played.
    """
    rng = np.random.default_rng(seed)
    with torch.random.fork_rng():
        torch.manual_seed(int(rng.integers(2**62)))
        common = Replay(world, min(settings.capacity, steps + settings.size * (settings.least + world.limit)))
        members = [
            Member(newborn(rng), common if settings.share else common.copy()) for _ in range(settings.size)
        ]
        played = updates = number = 0
        while True:
            before = played
            for member in members:
                played += _evaluate(member, world, settings, rng, played < settings.warm)
            number += 1
            best = max(members, key=lambda m: m.fitness)
            if watch is not None:
                fitness = tuple(m.fitness for m in members)
                genes = tuple(m.agent.genes for m in members)
                watch(Generation(number, played, updates, fitness, genes, best.agent))
            if played >= steps:
                return best.agent
            if settings.evolve:
                members = selected(members, settings, rng)
            count = max(1, round(settings.ratio * (played - before)))
            for member in members:
                for _ in range(count):
                    member.agent.learn(member.replay.draw(rng, settings.batch), rng)
            updates += count * len(members)


def _evaluate(
    member: Member, world: World, settings: Searl, rng: np.random.Generator, blind: bool = False
) -> int:
    """Plays episodes, remembers them, and returns how many steps they had."""
    policy: Policy = partial(_at_random, world, rng) if blind else partial(member.agent.act, rng=rng)
    steps, returns = 0, []
    while steps < settings.least:
        happened, sums = play(world, policy, 1, rng)
        member.replay.add(happened)
        steps += len(happened.rewards)
        returns.append(float(sums[0]))
    member.fitness = float(np.mean(returns))
    return steps


def _at_random(world: World, rng: np.random.Generator, seen: NDArray[np.float64]) -> NDArray[Any]:
    """Actions drawn evenly."""
    if world.bound:
        return rng.uniform(-world.bound, world.bound, (len(seen), world.actions))
    return rng.integers(world.actions, size=len(seen))


def selected(members: list[Member], settings: Searl, rng: np.random.Generator) -> list[Member]:
    """The next generation: the fittest as it is, then mutated winners of tournaments among three drawn at random."""
    out = [max(members, key=lambda m: m.fitness)]
    while len(out) < len(members):
        drawn = rng.integers(len(members), size=_TOURNAMENT)
        winner = max((members[i] for i in drawn), key=lambda m: m.fitness)
        child = Member(winner.agent.copy(), winner.replay if settings.share else winner.replay.copy())
        child.mutation = MUTATIONS[int(rng.integers(len(MUTATIONS)))]
        mutate(child.agent, child.mutation, rng)
        out.append(child)
    return out


def mutate(agent: Agent, mutation: Mutation, rng: np.random.Generator) -> None:
    """Changes an agent in place.

    Args:
        agent: What changes.
        mutation: ``weights`` adds noise to some weights of the policy; ``activation`` gives it another activation;
            ``size`` adds units or a layer to all networks; ``rate`` changes one learning rate by a fifth.
        rng: Source of randomness; new weights come from PyTorch's generator.
    """
    if mutation == "weights":
        _shake(agent.networks[0], rng)
    elif mutation == "activation":
        others = [a for a in ACTIVATIONS if a != agent.genes.activation]
        agent.genes = replace(agent.genes, activation=others[int(rng.integers(len(others)))])
        for network in (agent.networks[0], agent.followers[0]):
            network.activation = agent.genes.activation
    elif mutation == "size":
        _grow(agent, rng)
    elif mutation == "rate":
        factors = [1.0, _FACTORS[int(rng.integers(2))]]
        first, second = factors if rng.random() < 0.5 else factors[::-1]
        rate, actor_rate = agent.genes.rate * first, agent.genes.actor_rate * second
        agent.genes = replace(agent.genes, rate=_bounded(rate), actor_rate=_bounded(actor_rate))
        agent.take_rates()


def _bounded(rate: float) -> float:
    return min(max(rate, _RATES[0]), _RATES[1])


def _shake(network: Perceptron, rng: np.random.Generator) -> None:
    with torch.no_grad():
        for weights in network.parameters():
            touched = torch.as_tensor(rng.random(tuple(weights.shape)) < _TOUCHED)
            noise = torch.as_tensor(rng.normal(1.0, _STRENGTH, tuple(weights.shape)), dtype=weights.dtype)
            weights.copy_(torch.where(touched, weights * noise, weights))


def _grow(agent: Agent, rng: np.random.Generator) -> None:
    """A layer, or else units, as long as there is room."""
    sizes = agent.genes.hidden
    index = int(rng.integers(len(sizes)))
    more = int(_UNITS[int(rng.integers(len(_UNITS)))])
    deeper = rng.random() < _DEEPER and len(sizes) < _DEEPEST
    if not deeper and sizes[index] + more > _WIDEST:
        return
    for network in (*agent.networks, *agent.followers):
        if deeper:
            deepen(network, index)
        else:
            widen(network, index, more)
    agent.genes = replace(agent.genes, hidden=agent.networks[0].sizes)
    agent.begin_optimizers()
