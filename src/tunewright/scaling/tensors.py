"""Reads a model: every weight with its shape, the kind of module that owns it, its first values, and what it is tied to."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import msgspec
import torch
from torch import nn

from tunewright.errors import ConfigError
from tunewright.scaling.graph import Graph, trace

_WRAPPERS = frozenset({"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"})
_QUERIES = ("query", "q_proj", "query_proj", "to_q", "q_lin", "wq", "Wq", "w_q", "W_q")
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
PACKED = ("c_attn", "qkv", "qkv_proj", "to_qkv", "Wqkv")
"""Names of layers that make queries, keys and values at once, in this order and of one size."""
_ATTENTION = re.compile(r"atte?n", re.IGNORECASE)
_REPARAMETRIZED = re.compile(r"(?:^|\.)(?:parametrizations\.\w+\.original\d*|\w+_(?:g|v|orig))$")
_SAMPLE, _FEW = 4096, 25
_HEADS = ("num_heads", "heads", "n_heads", "n_head", "num_attention_heads")
_GATED = ("self_attn.o_proj", "mlp.down_proj")
_ENCODER = ("attention.output.dropout", "output.dropout")
_BRANCH_ENDS: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "TransformerEncoderLayer": (("dropout1", "dropout2"),),
    "TransformerDecoderLayer": (("dropout1", "dropout2", "dropout3"),),
    "GPT2Block": (("attn.resid_dropout", "mlp.dropout"),),
    "GPTNeoXLayer": (("post_attention_dropout", "post_mlp_dropout"),),
    "OPTDecoderLayer": (("self_attn.out_proj", "fc2"),),
    "LlamaDecoderLayer": (_GATED,),
    "MistralDecoderLayer": (_GATED,),
    "MixtralDecoderLayer": (("self_attn.o_proj", "mlp"),),
    "Qwen2DecoderLayer": (_GATED,),
    "Qwen3DecoderLayer": (_GATED,),
    "GemmaDecoderLayer": (_GATED,),
    "Phi3DecoderLayer": (("resid_attn_dropout", "resid_mlp_dropout"),),
    "BertLayer": (_ENCODER,),
    "RobertaLayer": (_ENCODER,),
    "ViTLayer": (_ENCODER, ("attention.o_proj", "mlp.fc2")),
    "T5LayerSelfAttention": (("dropout",),),
    "T5LayerCrossAttention": (("dropout",),),
    "T5LayerFF": (("dropout",),),
    "BasicBlock": (("bn2",),),
    "Bottleneck": (("bn3",),),
}
"""By the name of a block's class: where its branches end, as versions of the class have it."""


@dataclass(frozen=True, slots=True)
class Weight:
    """One parameter of a model.

    Attributes:
        shape: As the module has it.
        owner: Kind of the module: linear, projection (the output of an attention module), conv, transposed (matrices stored inputs
            first, transposed convolutions), bilinear, embedding, norm, attention, recurrent, other.
        module: Name of the module that owns it.
        groups: Groups of a convolution.
        owner_fan_in: Fan-in of the matrix beside a bias, 0 where there is none.
        frozen: Whether it is not trained.
        tied: Other names of the same tensor.
        tied_owners: Kinds of the modules that those belong to.
        std: Standard deviation of its values; None where the model has no values (meta device).
        constant: Its value if all are the same.
        patterned: Whether its values are other than noise around zero: a scale, a gate's bias, a table of waves.
        reparametrized: Whether the weight that a layer uses is made of it, as by weight or spectral normalization.
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
    patterned: bool = False
    reparametrized: bool = False


@dataclass(frozen=True, slots=True)
class Shapes:
    """A model as a plan needs it.

    Attributes:
        weights: By name of the parameter, sorted.
        branches: Names of modules whose output is added to a residual stream, each with that of the block that it is a branch of.
        heads: For modules of attention: name of what makes the queries, and the size of a head (0 if unknown).
        graph: How layers are connected, where that was asked for.
        unread: Modules of attention, by the names of their classes, in which nothing was found that makes the queries.
    """

    weights: dict[str, Weight]
    branches: dict[str, str] = field(default_factory=dict)
    heads: dict[str, int] = field(default_factory=dict)
    graph: Graph | None = None
    unread: tuple[str, ...] = ()

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
        return replace(found, weights=dict(sorted(found.weights.items())))


def modules_of(model: nn.Module) -> dict[str, nn.Module]:
    """All modules by name, without what ``torch.compile`` and wrappers for parallel training put into it.

    A wrapper, which has a single child called ``module`` and no parameters of its own, is left out for what it wraps. A module
    that is used in two places has both names.
    """
    return dict(_walked(model, ""))


def _walked(module: nn.Module, name: str) -> Iterator[tuple[str, nn.Module]]:
    yield name, module
    children = dict(module.named_children())
    wrapper = list(children) == ["module"] and not dict(module.named_parameters(recurse=False))
    for last, child in children.items():
        yield from _walked(child, name if wrapper or last in _WRAPPERS else f"{name}.{last}".lstrip("."))


def parameters_of(model: nn.Module) -> dict[str, nn.Parameter]:
    """All parameters by name, as ``modules_of`` names modules; tied ones under each of their names, in the model's order."""
    return {
        f"{name}.{last}".lstrip("."): parameter
        for name, module in modules_of(model).items()
        for last, parameter in module.named_parameters(recurse=False, remove_duplicate=False)
    }


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
    modules = modules_of(model)
    nominal = _nominal(model)
    names: dict[int, list[str]] = {}
    named = parameters_of(model)
    for name, parameter in named.items():
        if isinstance(parameter, nn.parameter.UninitializedParameter):
            raise ConfigError(
                f"Every shape must be known; that of {name} is not yet. Run one batch through the model first."
            )
        names.setdefault(id(parameter), []).append(name)
    weights: dict[str, Weight] = {}
    for own, *others in names.values():
        holder = _holder(own, modules)
        tied = sorted(o for o in others if _holder(o, modules) is not holder)
        owners = tuple(_owner(_holder(o, modules)) for o in tied)
        weights[own] = _weight(own, named[own], holder, tuple(tied), owners, nominal)
    if not weights:
        raise ConfigError(
            f"A model must have parameters; this {type(model).__name__} has none. Pass the model that is trained."
        )
    heads = dict(_heads(modules))
    found = trace(model) if graph else None
    unread = tuple(dict.fromkeys(_unread(modules, heads)))
    return Shapes(dict(sorted(weights.items())), dict(_branches(modules)), heads, found, unread)


def _holder(name: str, modules: Mapping[str, nn.Module]) -> nn.Module:
    """The module whose weight it is, which for a reparametrized one is not where it is kept."""
    return modules[_module_of(name)]


def _module_of(name: str) -> str:
    owner = name.rpartition(".")[0]
    head, found, _ = f".{owner}".rpartition(".parametrizations.")
    return head.lstrip(".") if found else owner


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
    patterned = False
    owner = _owner(module)
    made_of = bool(_REPARAMETRIZED.search(name)) and _normalised(name, module)
    if parameter.device.type != "meta":
        values = parameter.detach().double().reshape(-1)
        first = float(values[0]) if values.numel() else 0.0
        same = bool((values == first).all())
        constant = first if same and (values.numel() > 1 or first in (0, 1)) else None
        measured = float(values.square().mean().sqrt()) if values.numel() else 0.0
        if constant is not None:
            std = 0.0
        else:
            std = _snapped(measured, values.numel(), nominal)
            patterned = math.isfinite(measured) and _patterned(
                values, measured, known=owner != "other" and not made_of
            )
    matrix = getattr(module, "weight", None)
    fan_in = 0
    if isinstance(matrix, torch.Tensor) and matrix.dim() >= 2 and parameter.dim() == 1:
        fan_in = matrix.shape[1] if owner == "bilinear" else math.prod(matrix.shape[1:])
    return Weight(
        tuple(parameter.shape),
        owner,
        _module_of(name),
        int(getattr(module, "groups", 1) or 1) if owner in ("conv", "transposed") else 1,
        fan_in,
        not parameter.requires_grad,
        tied,
        owners,
        std,
        constant,
        patterned,
        made_of,
    )


def _normalised(name: str, module: nn.Module) -> bool:
    """Whether PyTorch makes a layer's weight of this tensor anew for every pass."""
    if ".parametrizations." in f".{name}":
        return True
    last = name.rpartition(".")[2].rpartition("_")[0]
    made = getattr(module, last, None)
    return isinstance(made, torch.Tensor) and not isinstance(made, nn.Parameter)


def _patterned(values: torch.Tensor, size: float, *, known: bool) -> bool:
    """Whether values that are not all the same are other than noise around zero.

    Their mean is beyond five standard errors, or there are only a few different ones. Of few values nothing can be told: those of
    PyTorch's own layers are taken for noise, others not.
    """
    count = values.numel()
    if count <= _FEW:
        return not known
    if abs(float(values.mean())) > 5 * size / count**0.5:
        return True
    sample = values[:: max(1, count // _SAMPLE)]
    return len(torch.unique(sample)) <= max(2, len(sample) // 16)


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
    if isinstance(module, nn.Bilinear):
        return "bilinear"
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
    if weight.reparametrized:
        return None
    if weight.owner == "embedding":
        return 1.0
    if weight.owner == "bilinear" and len(shape) == 3:
        return float((3 * shape[1]) ** -0.5)
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
    if weight.owner in ("linear", "conv", "projection", "bilinear") and weight.owner_fan_in:
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
        own = getattr(type(module), "residual_branches", None)
        for ends in (own,) if own else _BRANCH_ENDS.get(type(module).__name__, ()):
            found = [f"{name}.{end}".lstrip(".") for end in ends]
            if all(where in modules for where in found):
                yield from ((where, name) for where in found)
                break


def _heads(modules: Mapping[str, nn.Module]) -> Iterator[tuple[str, int]]:
    for name, module in modules.items():
        if isinstance(module, nn.MultiheadAttention):
            yield name, int(module.head_dim)
            continue
        for query in (*_QUERIES, *PACKED):
            child = getattr(module, query, None)
            if isinstance(child, nn.Module) and kind(child) in ("linear", "transposed"):
                sides = dict(child.named_parameters())["weight"].shape[:2]
                inputs, outputs = sides if kind(child) == "transposed" else reversed(sides)
                if query in PACKED and outputs != 3 * inputs:
                    continue
                holders = (module, getattr(module, "config", None))
                counts = [
                    int(n) for h in holders for a in _HEADS if isinstance(n := getattr(h, a, None), int) and n
                ]
                size = outputs // counts[0] // (3 if query in PACKED else 1) if counts else 0
                yield f"{name}.{query}".lstrip("."), size
                break


def _unread(modules: Mapping[str, nn.Module], heads: Mapping[str, int]) -> Iterator[str]:
    """Innermost classes that are called attention and have matrices, but neither hold nor are part of what makes queries."""
    read = [h if isinstance(modules[h], nn.MultiheadAttention) else h.rpartition(".")[0] for h in heads]
    named = [
        name
        for name, module in modules.items()
        if _ATTENTION.search(type(module).__name__) and any(p.dim() > 1 for p in module.parameters())
    ]
    for name in named:
        inner = any(other != name and _within(other, name) for other in named)
        if not inner and not any(_within(r, name) or _within(name, r) for r in read):
            yield type(modules[name]).__name__


def _within(name: str, outer: str) -> bool:
    """Whether a module is part of another, or it."""
    return not outer or f"{name}.".startswith(f"{outer}.")
