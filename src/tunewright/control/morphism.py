"""Perceptrons that grow without changing what they compute. Needs PyTorch.

*Use when* a network that has learnt something is to get more units or layers. *Do not use when* it is trained from scratch
anyway.

*Paper*: Wei, Wang, Rui and Chen 2016, "Network Morphism", ICML, sections 3 and 4: units are added with outgoing weights of
zero; a layer is added as the identity, with an activation that begins as the identity and learns how much of itself to be.

*Differs*: the mixture of identity and activation is one number per layer, clipped to [0, 1].

*Cost*: that of copying the network.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

from tunewright.errors import ConfigError, missing_extra

try:
    import torch
    from torch import Tensor, nn
except ImportError as error:
    raise missing_extra("torch", "rl") from error

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu,
    "tanh": torch.tanh,
    "elu": nn.functional.elu,
}


class Layer(nn.Module):
    """A linear map and an activation that may be mixed with the identity.

    Args:
        inputs: Length of the input.
        outputs: Number of units.
        mixed: Whether the activation begins as the identity, and how much of it there is, is learnt.
    """

    def __init__(self, inputs: int, outputs: int, mixed: bool = False) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, outputs)
        self.mix = nn.Parameter(torch.zeros(())) if mixed else None

    def forward(self, x: Tensor, activation: Callable[[Tensor], Tensor]) -> Tensor:
        """Units ``(n, outputs)`` of inputs ``(n, inputs)``."""
        z: Tensor = self.linear(x)
        if self.mix is None:
            return activation(z)
        return torch.lerp(z, activation(z), self.mix.clamp(0.0, 1.0))


class Perceptron(nn.Module):
    """A multi-layer perceptron.

    Args:
        inputs: Length of the input.
        hidden: Units of each hidden layer.
        outputs: Length of the output.
        activation: A name in ``ACTIVATIONS``.
        squash: Size of the output, which goes through a tanh; 0 leaves it as it is.

    Raises:
        ConfigError: If there is no hidden layer, or no such activation.
    """

    def __init__(
        self, inputs: int, hidden: Sequence[int], outputs: int, activation: str = "relu", squash: float = 0.0
    ) -> None:
        super().__init__()
        if not hidden or activation not in ACTIVATIONS:
            raise ConfigError(
                f"A perceptron needs a hidden layer and an activation among {', '.join(ACTIVATIONS)}; got "
                f"{list(hidden)} and {activation!r}. Correct them."
            )
        sizes = [inputs, *hidden]
        self.hidden = nn.ModuleList(Layer(a, b) for a, b in pairwise(sizes))
        self.last = nn.Linear(sizes[-1], outputs)
        self.activation = activation
        self.squash = squash

    @property
    def sizes(self) -> tuple[int, ...]:
        """Units of each hidden layer."""
        return tuple(_layer(self, i).linear.out_features for i in range(len(self.hidden)))

    def forward(self, x: Tensor) -> Tensor:
        """Outputs ``(n, outputs)`` of inputs ``(n, inputs)``."""
        phi = ACTIVATIONS[self.activation]
        for layer in self.hidden:
            x = layer(x, phi)
        y: Tensor = self.last(x)
        return self.squash * torch.tanh(y) if self.squash else y


def _layer(network: Perceptron, index: int) -> Layer:
    layer = network.hidden[index]
    assert isinstance(layer, Layer)
    return layer


def widen(network: Perceptron, index: int, more: int) -> None:
    """Adds units to a hidden layer, in place; the output stays the same.

    Args:
        network: What grows.
        index: Number of the hidden layer.
        more: Units to add; their incoming weights are drawn as usual, their outgoing ones are zero.

    Raises:
        ConfigError: If there is no such layer, or nothing to add.
    """
    if not 0 <= index < len(network.hidden) or more < 1:
        raise ConfigError(
            f"widen needs a hidden layer below {len(network.hidden)} and more >= 1; got {index} and {more}. Correct them."
        )
    old = _layer(network, index)
    width = old.linear.out_features
    new = Layer(old.linear.in_features, width + more, mixed=old.mix is not None)
    after = network.last if index + 1 == len(network.hidden) else _layer(network, index + 1).linear
    wider = nn.Linear(width + more, after.out_features)
    with torch.no_grad():
        new.linear.weight[:width] = old.linear.weight
        new.linear.bias[:width] = old.linear.bias
        if new.mix is not None and old.mix is not None:
            new.mix.copy_(old.mix)
        wider.weight.zero_()
        wider.weight[:, :width] = after.weight
        wider.bias.copy_(after.bias)
    network.hidden[index] = new
    if index + 1 == len(network.hidden):
        network.last = wider
    else:
        _layer(network, index + 1).linear = wider


def deepen(network: Perceptron, index: int) -> None:
    """Adds a layer behind a hidden one, as wide as that, in place; the output stays the same.

    Args:
        network: What grows.
        index: Number of the hidden layer.

    Raises:
        ConfigError: If there is no such layer.
    """
    if not 0 <= index < len(network.hidden):
        raise ConfigError(
            f"deepen needs a hidden layer below {len(network.hidden)}; got {index}. Correct it."
        )
    width = _layer(network, index).linear.out_features
    new = Layer(width, width, mixed=True)
    with torch.no_grad():
        nn.init.eye_(new.linear.weight)
        new.linear.bias.zero_()
    network.hidden.insert(index + 1, new)
