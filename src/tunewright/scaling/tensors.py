"""Reads a model: every weight with its shape, the kind of module that owns it, its first values, and what it is tied to."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import msgspec
import torch
from torch import nn

from tunewright.errors import ConfigError
from tunewright.scaling.graph import Graph, trace

_WRAPPERS = re.compile(r"(^|\.)(_orig_mod|module|_fsdp_wrapped_module|_checkpoint_wrapped_module)(?=\.|$)")
_QUERIES = ("query", "q_proj", "to_q", "q_lin", "wq")
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
PACKED = ("c_attn", "qkv")
"""Names of layers that make queries, keys and values at once, in this order."""
_HEADS = ("num_heads", "heads", "n_heads", "n_head", "num_attention_heads")
_BRANCH_ENDS: Mapping[str, tuple[str, ...]] = {
    "TransformerEncoderLayer": ("dropout1", "dropout2"),
    "TransformerDecoderLayer": ("dropout1", "dropout2", "dropout3"),
    "GPT2Block": ("attn.resid_dropout", "mlp.dropout"),
    "LlamaDecoderLayer": ("self_attn.o_proj", "mlp.down_proj"),
    "MistralDecoderLayer": ("self_attn.o_proj", "mlp.down_proj"),
    "Qwen2DecoderLayer": ("self_attn.o_proj", "mlp.down_proj"),
    "BertLayer": ("attention.output.dropout", "output.dropout"),
    "RobertaLayer": ("attention.output.dropout", "output.dropout"),
    "ViTLayer": ("attention.output.dropout", "output.dropout"),
    "BasicBlock": ("bn2",),
    "Bottleneck": ("bn3",),
}


@dataclass(frozen=True, slots=True)
class Weight:
    """One parameter of a model.

    Attributes:
        shape: As the module has it.
        owner: Kind of the module: linear, projection (the output of an attention module), conv, transposed (matrices stored inputs
            first, transposed convolutions), embedding, norm, attention, recurrent, other.
        module: Name of the module that owns it.
        groups: Groups of a convolution.
        owner_fan_in: Fan-in of the matrix beside a bias, 0 where there is none.
        frozen: Whether it is not trained.
        tied: Other names of the same tensor.
        tied_owners: Kinds of the modules that those belong to.
        std: Standard deviation of its values; None where the model has no values (meta device).
        constant: Its value if all are the same.
    """

    shape: tuple[int, ...]
    owner: str
    module: str
    groups: int = 1
    owner_fan_in: int = 0
    frozen: bool = False
    tied: tuple[str, ...] = ()
    tied_owners: tuple[str, ...] = ()
    std: float | None = None
    constant: float | None = None


@dataclass(frozen=True, slots=True)
class Shapes:
    """A model as a plan needs it.

    Attributes:
        weights: By name of the parameter, sorted.
        branches: Names of modules whose output is added to a residual stream, each with that of the block that it is a branch of.
        heads: For modules of attention: name of what makes the queries, and the size of a head (0 if unknown).
        graph: How layers are connected, where that was asked for.
    """

    weights: dict[str, Weight]
    branches: dict[str, str] = field(default_factory=dict)
    heads: dict[str, int] = field(default_factory=dict)
    graph: Graph | None = None

    def to_dict(self) -> dict[str, Any]:
        """As plain data, for a file."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Shapes:
        """Reads what ``to_dict`` gave.

        Raises:
            ConfigError: If it is something else.
        """
        try:
            found: Shapes = msgspec.convert(dict(data), cls)
        except msgspec.ValidationError as error:
            raise ConfigError(
                f"Saved shapes must be what scaling.shapes(model).to_dict() gave; got something else ({error})."
            ) from None
        return cls(dict(sorted(found.weights.items())), found.branches, found.heads, found.graph)


def plain(name: str) -> str:
    """A parameter's name without what ``torch.compile`` and wrappers for parallel training put into it."""
    return _WRAPPERS.sub("", name).lstrip(".")


def shapes(model: nn.Module, *, graph: bool = False) -> Shapes:
    """Reads a model.

    Args:
        model: Any module, also on the meta device.
        graph: Whether to follow its forward as well; the rule ``architecture-aware`` needs that.

    Raises:
        ConfigError: If it is no module, or has no parameters or some whose shape is not known yet; or its graph cannot be found.
    """
    if not isinstance(model, nn.Module):
        raise ConfigError(
            f"A model must be a torch.nn.Module (or its saved shapes); got {type(model).__name__}. Call the function that builds it."
        )
    modules = {plain(name): module for name, module in model.named_modules()}
    nominal = _nominal(model)
    names: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(plain(name))
    weights: dict[str, Weight] = {}
    for name, parameter in model.named_parameters():
        if isinstance(parameter, nn.parameter.UninitializedParameter):
            raise ConfigError(
                f"Every shape must be known; that of {plain(name)} is not yet. Run one batch through the model first."
            )
        own = plain(name)
        others = tuple(sorted(set(names[id(parameter)]) - {own}))
        owners = tuple(_owner(modules[other.rpartition(".")[0]]) for other in others)
        weights[own] = _weight(own, parameter, modules[own.rpartition(".")[0]], others, owners, nominal)
    if not weights:
        raise ConfigError("A model must have parameters; this one has none.")
    found = trace(model) if graph else None
    return Shapes(dict(sorted(weights.items())), dict(_branches(modules)), dict(_heads(modules)), found)


def _owner(module: nn.Module) -> str:
    return "transposed" if isinstance(module, _TRANSPOSED) else kind(module)


def _weight(
    name: str,
    parameter: nn.Parameter,
    module: nn.Module,
    tied: tuple[str, ...],
    owners: tuple[str, ...],
    nominal: tuple[float, ...],
) -> Weight:
    std = constant = None
    if parameter.device.type != "meta":
        values = parameter.detach().double()
        first = float(values.reshape(-1)[0]) if values.numel() else 0.0
        constant = (
            first if bool((values == first).all()) and (values.numel() > 1 or first in (0, 1)) else None
        )
        std = (
            0.0
            if constant is not None
            else _snapped(float(values.square().mean().sqrt()), values.numel(), nominal)
        )
    matrix = getattr(module, "weight", None)
    fan_in = 0
    if isinstance(matrix, torch.Tensor) and matrix.dim() >= 2 and parameter.dim() == 1:
        fan_in = math.prod(matrix.shape[1:])
    owner = _owner(module)
    return Weight(
        tuple(parameter.shape),
        owner,
        name.rpartition(".")[0],
        int(getattr(module, "groups", 1) or 1) if owner in ("conv", "transposed") else 1,
        fan_in,
        not parameter.requires_grad,
        tied,
        owners,
        std,
        constant,
    )


def slack(elements: int) -> float:
    """How far a measured deviation may be from the true one, as a share of it: five standard errors."""
    return float(5 / (2 * elements) ** 0.5)


def _snapped(measured: float, elements: int, nominal: tuple[float, ...]) -> float:
    return next((n for n in nominal if abs(measured / n - 1) <= slack(elements)), measured)


def _nominal(model: nn.Module) -> tuple[float, ...]:
    """Deviations that the configuration of a transformers model names: its own, and GPT-2's of what ends a branch."""
    config = getattr(model, "config", None)
    found = getattr(config, "initializer_range", None)
    if not isinstance(found, float) or found <= 0:
        return ()
    layers = getattr(config, "num_hidden_layers", None)
    return (found, found / (2 * layers) ** 0.5) if isinstance(layers, int) and layers else (found,)


def kind(module: nn.Module) -> str:
    """What sort of module it is, for the meaning of its weights' dimensions."""
    if (
        type(module).__name__ == "NonDynamicallyQuantizableLinear"
    ):  # of MultiheadAttention, which reads its weight and never calls it
        return "projection"
    if isinstance(module, nn.Linear):
        return "linear"
    if isinstance(module, (*_CONVOLUTIONS, *_TRANSPOSED)):
        return "conv"
    if isinstance(module, nn.Embedding | nn.EmbeddingBag):
        return "embedding"
    if isinstance(module, nn.MultiheadAttention):
        return "attention"
    if isinstance(module, nn.RNNBase | nn.RNNCellBase):
        return "recurrent"
    name = type(module).__name__
    if "Norm" in name:
        return "norm"
    if name == "Conv1D":  # a linear layer of GPT-2 in transformers, inputs first
        return "transposed"
    return "other"


def default_std(weight: Weight, name: str) -> float | None:
    """Standard deviation of PyTorch's own first values of such a weight; None for modules that are not PyTorch's.

    Args:
        weight: Its shape and owner.
        name: Of the parameter.
    """
    last = name.rpartition(".")[2]
    shape = weight.shape
    if weight.owner == "embedding":
        return 1.0
    if weight.owner == "norm":
        return 0.0
    if weight.owner == "recurrent":
        return _recurrent_std(weight, last)
    if weight.owner == "attention":
        if len(shape) == 2:  # Xavier
            return math.sqrt(2.0 / sum(shape))
        return 0.0 if last == "in_proj_bias" else None
    if weight.owner in ("linear", "conv", "projection") and len(shape) >= 2:
        return float((3 * math.prod(shape[1:])) ** -0.5)
    if weight.owner in ("linear", "conv", "projection") and weight.owner_fan_in:
        return float((3 * weight.owner_fan_in) ** -0.5)
    return None


def _recurrent_std(weight: Weight, last: str) -> float | None:
    gates = weight.shape[0]
    hidden = weight.shape[1] if "hh" in last and len(weight.shape) == 2 else 0
    for per in (1, 3, 4):
        if hidden and gates == per * hidden:
            return float((3 * hidden) ** -0.5)
    return None


def _branches(modules: Mapping[str, nn.Module]) -> Iterator[tuple[str, str]]:
    for name, module in modules.items():
        ends = getattr(type(module), "residual_branches", None) or _BRANCH_ENDS.get(type(module).__name__, ())
        for end in ends:
            where = f"{name}.{end}" if name else end
            if where in modules:
                yield where, name


def _heads(modules: Mapping[str, nn.Module]) -> Iterator[tuple[str, int]]:
    for name, module in modules.items():
        if isinstance(module, nn.MultiheadAttention):
            yield name, int(module.head_dim)
            continue
        for query in (*_QUERIES, *PACKED):
            child = getattr(module, query, None)
            if isinstance(child, nn.Module) and kind(child) in ("linear", "transposed"):
                holders = (module, getattr(module, "config", None))
                counts = [
                    int(n) for h in holders for a in _HEADS if isinstance(n := getattr(h, a, None), int) and n
                ]
                weight = dict(child.named_parameters())["weight"]
                outputs = int(weight.shape[1 if kind(child) == "transposed" else 0])
                size = outputs // counts[0] // (3 if query in PACKED else 1) if counts else 0
                yield f"{name}.{query}" if name else query, size
                break
