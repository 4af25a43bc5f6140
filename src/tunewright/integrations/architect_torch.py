"""Compiles specified architectures to PyTorch; raises MissingExtra on import where that is not installed.

Example:
    Declare, search, build::

        from tunewright.integrations.architect_torch import build

        net = tw.architect.Repeat([tw.architect.Module("dense", units=tw.Order([16, 64])), "relu"], [1, 2, 3])
        space = tw.architect.space([net, tw.architect.Module("dense", units=10)])
        model = build(tw.architect.graph(net, config), shape=(64,))
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod
from typing import Any

from tunewright.architect import Module, Parallel, Part, Residual, Search, Sequence, modules
from tunewright.architect.language import search_of
from tunewright.errors import ConfigError, missing_extra

try:
    import torch
    from torch import Tensor, nn
except ImportError as error:
    raise missing_extra("torch", "torch") from error

__all__ = ["Branches", "Layer", "Residue", "build", "layers"]

Shape = tuple[int, ...]
Layer = Callable[..., nn.Module]
"""From the shape of its input without the batch, and the settings of a module as keywords, to a ``torch.nn.Module``."""


class Residue(nn.Module):
    """A body whose input is added to its output.

    Args:
        body: What learns the difference.
        shortcut: What makes the input as large as the output.
    """

    def __init__(self, body: nn.Module, shortcut: nn.Module) -> None:
        super().__init__()
        self.body, self.shortcut = body, shortcut

    def forward(self, x: Tensor) -> Tensor:
        """The sum, for a batch."""
        out: Tensor = self.body(x) + self.shortcut(x)
        return out


class Branches(nn.Module):
    """Bodies side by side.

    Args:
        bodies: Each is fed with the input.
        merge: ``"concat"`` puts their outputs together along the first dimension after the batch, ``"add"`` adds them.
    """

    def __init__(self, bodies: list[nn.Module], merge: str) -> None:
        super().__init__()
        self.bodies = nn.ModuleList(bodies)
        self.merge = merge

    def forward(self, x: Tensor) -> Tensor:
        """The merged outputs, for a batch."""
        outputs = [body(x) for body in self.bodies]
        return torch.cat(outputs, dim=1) if self.merge == "concat" else sum(outputs[1:], outputs[0])


def layers() -> dict[str, Layer]:
    """What modules are built from, by kind: a start for a table of your own.

    ``dense`` (units, bias), ``conv`` (filters, size, stride; as many dimensions as its input has, padded by half
    its size),
    ``maxpool`` and ``avgpool`` (size, stride), ``globalpool``, ``batchnorm``, ``layernorm``, ``dropout`` (rate),
    ``flatten``, ``identity``, and the activations ``relu``, ``gelu``, ``silu``, ``tanh`` and ``sigmoid``.
    """

    def plain(kind: Any) -> Layer:
        return lambda shape: kind()

    return {
        "avgpool": lambda shape, size=2, stride=None: _spatial("avgpool", shape)(size, stride),
        "batchnorm": lambda shape: _spatial("batchnorm", shape)(shape[0]),
        "conv": lambda shape, filters, size=3, stride=1: _spatial("conv", shape)(
            shape[0], filters, size, stride, padding=size // 2
        ),
        "dense": _dense,
        "dropout": lambda shape, rate=0.5: nn.Dropout(rate),
        "flatten": plain(nn.Flatten),
        "gelu": plain(nn.GELU),
        "globalpool": lambda shape: nn.Sequential(_spatial("globalpool", shape)(1), nn.Flatten()),
        "identity": plain(nn.Identity),
        "layernorm": nn.LayerNorm,
        "maxpool": lambda shape, size=2, stride=None: _spatial("maxpool", shape)(size, stride),
        "relu": plain(nn.ReLU),
        "sigmoid": plain(nn.Sigmoid),
        "silu": plain(nn.SiLU),
        "tanh": plain(nn.Tanh),
    }


_SPATIAL = {
    "avgpool": "AvgPool{}d",
    "batchnorm": "BatchNorm{}d",
    "conv": "Conv{}d",
    "globalpool": "AdaptiveAvgPool{}d",
    "maxpool": "MaxPool{}d",
}


def _spatial(kind: str, shape: Shape) -> Any:
    """The layer for inputs with this many dimensions besides the channels."""
    dimensions = len(shape) - 1
    if kind == "batchnorm":
        dimensions = max(dimensions, 1)
    if not 1 <= dimensions <= 3:
        raise ConfigError(
            f"'{kind}' needs an input of channels and 1 to 3 further dimensions; got shape {shape}. Move it before 'dense'."
        )
    return getattr(nn, _SPATIAL[kind].format(dimensions))


def _dense(shape: Shape, units: int, bias: bool = True) -> nn.Module:
    linear = nn.Linear(prod(shape), units, bias)
    return linear if len(shape) == 1 else nn.Sequential(nn.Flatten(), linear)


def build(architecture: Part, shape: Shape, table: Mapping[str, Layer] | None = None) -> nn.Module:
    """Builds a network from a specified architecture.

    The shape of every layer's input is found by passing zeros through the layers before it. A residual connection
    between different shapes gets a linear map, a convolution of size 1 for images.

    Args:
        architecture: As ``architect.graph`` returns it.
        shape: Shape of an input without the batch, such as ``(64,)`` or ``(3, 32, 32)``.
        table: What modules are built from, by kind; ``layers()`` if None.

    Raises:
        ConfigError: If a kind is not in the table, its settings do not fit, or shapes do not fit each other.
        SpaceError: If the architecture has choices left.
    """
    modules(architecture)
    built, _ = _built(search_of(architecture), tuple(shape), layers() if table is None else table)
    return built


def _built(part: Search, shape: Shape, table: Mapping[str, Layer]) -> tuple[nn.Module, Shape]:
    """A part as a network, and the shape of its output."""
    if isinstance(part, Module):
        made = _layer(part, shape, table)
        return made, _output(made, shape, part.kind)
    if isinstance(part, Sequence):
        stages = []
        for inner in part.parts:
            made, shape = _built(inner, shape, table)
            stages.append(made)
        return nn.Sequential(*stages), shape
    if isinstance(part, Residual):
        body, there = _built(part.part, shape, table)
        made = Residue(body, _shortcut(shape, there))
        return made, _output(made, shape, "residual")
    assert isinstance(part, Parallel)
    branches = [_built(inner, shape, table)[0] for inner in part.parts]
    made = Branches(branches, part.merge)
    return made, _output(made, shape, "parallel")


def _layer(module: Module, shape: Shape, table: Mapping[str, Layer]) -> nn.Module:
    if module.kind not in table:
        raise ConfigError(
            f"Every module needs an entry in the table of layers; got '{module.kind}', not one of {', '.join(sorted(table))}. "
            f"Pass table={{**layers(), '{module.kind}': ...}}."
        )
    try:
        return table[module.kind](shape, **module.settings)
    except TypeError as error:
        raise ConfigError(
            f"The settings of a module must be those that its layer takes; '{module.kind}' got {module.settings}: {error}. "
            f"Rename them."
        ) from None


def _output(made: nn.Module, shape: Shape, kind: str) -> Shape:
    """Shape of the output for an input of this shape, without changing what is learned or drawn."""
    training = made.training
    made.eval()
    try:
        with torch.no_grad():
            out: Shape = tuple(made(torch.zeros(2, *shape)).shape[1:])
    except RuntimeError as error:
        raise ConfigError(
            f"Shapes must fit; '{kind}' does not take an input of shape {shape}: {error}. Change what comes before it."
        ) from None
    finally:
        made.train(training)
    return out


def _shortcut(shape: Shape, there: Shape) -> nn.Module:
    """What makes an input of one shape addable to an output of another."""
    if shape == there:
        return nn.Identity()
    if len(shape) == len(there) > 1 and shape[1:] == there[1:]:
        mapped: nn.Module = _spatial("conv", shape)(shape[0], there[0], 1)
        return mapped
    if len(there) == 1:
        return _dense(shape, there[0])
    raise ConfigError(
        f"A residual connection needs an output as large as its input, or flat; got {shape} and {there}. Take out what pools."
    )
