"""Small networks of any width and depth, to see on two cores what a change of size does.

They are ordinary modules with PyTorch's own initialisation and know nothing of parametrizations.

Example:
    >>> from tunewright.bench.micro import CharTransformer
    >>> model = CharTransformer(vocabulary=27, width=32, depth=2)
    >>> sum(p.numel() for p in model.parameters())
    28251
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from tunewright.errors import ConfigError


class Mlp(nn.Module):
    """Linear layers with ReLU between them.

    Args:
        inputs: Features of an example.
        outputs: Classes.
        width: Units of every hidden layer.
        depth: Hidden layers, at least 1; all weights between two of them are square.
        activation: Between the layers.
        bias: Whether the layers have one.
    """

    def __init__(
        self,
        inputs: int = 64,
        outputs: int = 10,
        width: int = 64,
        depth: int = 2,
        *,
        activation: type[nn.Module] = nn.ReLU,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.inlet = nn.Linear(inputs, width, bias=bias)
        self.hidden = nn.ModuleList(nn.Linear(width, width, bias=bias) for _ in range(depth - 1))
        self.outlet = nn.Linear(width, outputs, bias=bias)
        self.activation = activation()

    def forward(self, x: Tensor) -> Tensor:
        """Scores of shape ``(n, outputs)`` for features of shape ``(n, inputs)``."""
        h = self.activation(self.inlet(x))
        for layer in self.hidden:
            h = self.activation(layer(h))
        out: Tensor = self.outlet(h)
        return out


class Residual(nn.Module):
    """Adds what its branch computes to what it gets.

    Args:
        branch: From and to the same shape.
    """

    residual_branches = ("branch",)

    def __init__(self, branch: nn.Module) -> None:
        super().__init__()
        self.branch = branch

    def forward(self, x: Tensor) -> Tensor:
        """Same shape as ``x``."""
        out: Tensor = x + self.branch(x)
        return out


class ResidualMlp(nn.Module):
    """A linear layer, residual blocks, a linear layer.

    Args:
        inputs: Features of an example.
        outputs: Classes.
        width: Units of the residual stream.
        depth: Blocks.
        layers: Linear layers of a block, each before its activation; 1 is the case that depth-muP's theory is about.
        activation: After every linear layer of a block but, where there are two or more, the last.
        norm: Whether a block begins with layer normalization.
    """

    def __init__(
        self,
        inputs: int = 64,
        outputs: int = 10,
        width: int = 64,
        depth: int = 4,
        *,
        layers: int = 1,
        activation: type[nn.Module] = nn.ReLU,
        norm: bool = False,
    ) -> None:
        super().__init__()
        self.inlet = nn.Linear(inputs, width)
        self.blocks = nn.ModuleList(
            Residual(self._branch(width, layers, activation, norm)) for _ in range(depth)
        )
        self.outlet = nn.Linear(width, outputs)

    @staticmethod
    def _branch(width: int, layers: int, activation: type[nn.Module], norm: bool) -> nn.Sequential:
        parts: list[nn.Module] = [nn.LayerNorm(width)] if norm else []
        for i in range(layers):
            parts.append(nn.Linear(width, width))
            if i + 1 < layers or layers == 1:
                parts.append(activation())
        return nn.Sequential(*parts)

    def forward(self, x: Tensor) -> Tensor:
        """Scores of shape ``(n, outputs)`` for features of shape ``(n, inputs)``."""
        h = self.inlet(x)
        for block in self.blocks:
            h = block(h)
        out: Tensor = self.outlet(h)
        return out


class ConvNet(nn.Module):
    """Convolutions with ReLU, a pool after the first, the mean over places, a linear layer.

    Args:
        channels_in: Channels of an image.
        outputs: Classes.
        width: Channels of every convolution.
        depth: Convolutions.
        kernel: Side of their kernels, odd.
        groups: Groups of all convolutions but the first; divides the width.
    """

    def __init__(
        self,
        channels_in: int = 1,
        outputs: int = 10,
        width: int = 16,
        depth: int = 3,
        *,
        kernel: int = 3,
        groups: int = 1,
    ) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels_in, width, kernel, padding=kernel // 2)
        self.pool = nn.MaxPool2d(2)
        self.convolutions = nn.ModuleList(
            nn.Conv2d(width, width, kernel, padding=kernel // 2, groups=groups) for _ in range(depth - 1)
        )
        self.outlet = nn.Linear(width, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Scores of shape ``(n, outputs)`` for images of shape ``(n, channels_in, height, width)``."""
        h = self.pool(self.first(x).relu())
        for convolution in self.convolutions:
            h = convolution(h).relu()
        out: Tensor = self.outlet(h.mean(dim=(2, 3)))
        return out


class Attention(nn.Module):
    """Causal self-attention.

    Args:
        width: Of the residual stream.
        heads: Divides the width.
        bias: Whether the projections have one.
    """

    def __init__(self, width: int, heads: int, *, bias: bool = True) -> None:
        super().__init__()
        if width % heads:
            raise ConfigError(f"The width must be a multiple of the heads; got {width} and {heads} heads.")
        self.heads = heads
        self.query = nn.Linear(width, width, bias=bias)
        self.key = nn.Linear(width, width, bias=bias)
        self.value = nn.Linear(width, width, bias=bias)
        self.out = nn.Linear(width, width, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """Shape ``(n, t, width)``, as ``x``."""
        n, t, d = x.shape
        q, k, v = (
            project(x).view(n, t, self.heads, d // self.heads).transpose(1, 2)
            for project in (self.query, self.key, self.value)
        )
        mixed = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        out: Tensor = self.out(mixed.transpose(1, 2).reshape(n, t, d))
        return out


class CharTransformer(nn.Module):
    """A decoder with normalization before every branch, learned places, and a readout of its own.

    Args:
        vocabulary: Letters.
        width: Of the residual stream.
        depth: Blocks of an attention and a feed-forward branch.
        heads: Attention heads; by default one for every 16 units, so that heads keep their size as the width grows.
        context: Most letters at once.
        factor: Width of the feed-forward branch over that of the stream.
        bias: Whether linear layers have one.
        affine: Whether normalizations have trained gains.
        dropout: Share of a branch's outputs that training leaves out.
    """

    def __init__(
        self,
        vocabulary: int = 27,
        width: int = 32,
        depth: int = 2,
        *,
        heads: int | None = None,
        context: int = 32,
        factor: int = 4,
        bias: bool = True,
        affine: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        heads = heads or max(1, width // 16)
        self.letters = nn.Embedding(vocabulary, width)
        self.places = nn.Embedding(context, width)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                Residual(
                    nn.Sequential(
                        nn.LayerNorm(width, elementwise_affine=affine),
                        Attention(width, heads, bias=bias),
                        nn.Dropout(dropout),
                    )
                ),
                Residual(
                    nn.Sequential(
                        nn.LayerNorm(width, elementwise_affine=affine),
                        nn.Linear(width, factor * width, bias=bias),
                        nn.GELU(),
                        nn.Linear(factor * width, width, bias=bias),
                        nn.Dropout(dropout),
                    )
                ),
            )
            for _ in range(depth)
        )
        self.norm = nn.LayerNorm(width, elementwise_affine=affine)
        self.outlet = nn.Linear(width, vocabulary, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """Scores of shape ``(n, t, vocabulary)`` for letters of shape ``(n, t)``."""
        h = self.letters(x) + self.places(torch.arange(x.shape[-1], device=x.device))
        for block in self.blocks:
            h = block(h)
        out: Tensor = self.outlet(self.norm(h))
        return out


def next_letter_loss(scores: Tensor, target: Any) -> Tensor:
    """Mean cross-entropy in nats of scores ``(..., classes)`` and targets ``(...)``."""
    return nn.functional.cross_entropy(scores.reshape(-1, scores.shape[-1]), target.reshape(-1))
