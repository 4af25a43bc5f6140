"""What evolution may change in an agent beside its weights."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Genes:
    """Architecture and learning rates.

    Attributes:
        hidden: Units of each hidden layer of every network.
        activation: Activation of the policy: ``relu``, ``tanh`` or ``elu``.
        rate: Learning rate of the values.
        actor_rate: Learning rate of the policy, where that is a network of its own.
    """

    hidden: tuple[int, ...] = (64,)
    activation: str = "relu"
    rate: float = 1e-3
    actor_rate: float = 1e-3
