"""Factors in the forward pass, hung on modules by name, so that any model can have them without being rewritten.

A module with a factor becomes an instance of a subclass of its class, as PyTorch's own parametrizations and FSDP do it. Hooks
would not do: ``torch.compile`` does not look at them when it takes a compiled graph again, so of two models of one class the
second would get the factors of the first. Factors are copied and pickled with the model, and are no part of ``state_dict``; a
model that is built anew gets them from its plan.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from tunewright.errors import ConfigError
from tunewright.scaling.tensors import modules_of

Where = Literal["input", "output", "logits", "first third"]
_FACTORS = "_tunewright_factors"
_PLACES: dict[Where, int] = {"input": 0, "logits": 0, "output": 1, "first third": 2}
_KINDS: dict[Any, Any] = {}


@dataclass(frozen=True, slots=True)
class Multiplier:
    """A factor.

    Attributes:
        module: Name of the module that it is hung on.
        where: On the module's first input, on its output, on the logits of PyTorch's own attention module, or on the first third
            of the output, where a layer makes queries, keys and values at once.
        factor: Its value.
    """

    module: str
    where: Where
    factor: float


class _Scaled:
    """What a module with factors has before its own class."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        before, after, third = getattr(self, _FACTORS)
        if before != 1.0:
            place, name = 0, "input"
            if isinstance(self, nn.MultiheadAttention):
                # A factor on the keys is one on the logits: the keys' bias adds the same to all of a query's, and drops out of the
                # softmax. Only where keys are added that come from no input is it the queries that get it.
                added = self.bias_k is not None or self.add_zero_attn
                place, name = (0, "query") if added else (1, "key")
            if len(args) > place:
                args = (*args[:place], args[place] * before, *args[place + 1 :])
            else:
                name = name if name in kwargs else next(iter(kwargs))
                kwargs = {**kwargs, name: kwargs[name] * before}
        output = super().forward(*args, **kwargs)  # type: ignore[misc]
        if third != 1.0:
            cut = output.shape[-1] // 3
            output = torch.cat([output[..., :cut] * third, output[..., cut:]], dim=-1)
        if after == 1.0:
            return output
        if isinstance(output, tuple):
            return (output[0] * after, *output[1:])
        return output * after

    def __reduce_ex__(self, protocol: Any) -> Any:
        return _restored, (type(self).__mro__[2],), vars(self)


def _scaled(kind: Any) -> Any:
    """The subclass for modules of a kind; it keeps the name, by which some models are known."""
    if kind not in _KINDS:
        _KINDS[kind] = type(kind.__name__, (_Scaled, kind), {"__module__": kind.__module__})
    return _KINDS[kind]


def _restored(kind: type[nn.Module]) -> Any:
    found = _scaled(kind)
    return found.__new__(found)


class _Slow:
    """Does nothing. A hook in a transformer layer keeps PyTorch from its fused inference, which knows of no factors."""

    def __call__(self, module: nn.Module, args: Any) -> None:
        return None


def attach_(model: nn.Module, multipliers: Iterable[Multiplier]) -> None:
    """Hangs factors on a model, instead of those that it has.

    Args:
        model: Also a compiled or wrapped one.
        multipliers: At most one per module and place.

    Raises:
        ConfigError: If the model has no module of that name.
    """
    detach_(model)
    modules = modules_of(model)
    wanted: dict[str, list[float]] = {}
    for m in multipliers:
        if m.module not in modules:
            raise ConfigError(
                f"The plan multiplies at the module {m.module!r}; this model has none of that name. Use the plan of this model."
            )
        wanted.setdefault(m.module, [1.0, 1.0, 1.0])[_PLACES[m.where]] *= m.factor
    for name, factors in wanted.items():
        module = modules[name]
        if _has(module):  # used in two places, and so under two names
            continue
        setattr(module, _FACTORS, tuple(factors))
        module.__class__ = _scaled(type(module))
    for module in model.modules():
        if isinstance(module, nn.TransformerEncoderLayer) and any(_has(m) for m in module.modules()):
            module.register_forward_pre_hook(_Slow())


def detach_(model: nn.Module) -> None:
    """Takes all factors off a model."""
    for module in model.modules():
        if _has(module):
            module.__class__ = type(module).__mro__[2]
            delattr(module, _FACTORS)
        hooks = vars(module)["_forward_pre_hooks"]
        for key in [k for k, hook in hooks.items() if isinstance(hook, _Slow)]:
            del hooks[key]


def attached(model: nn.Module) -> tuple[Multiplier, ...]:
    """The factors that hang on a model, sorted by module."""
    found: list[Multiplier] = []
    for name, module in modules_of(model).items():
        if _has(module):
            first: Where = "logits" if isinstance(module, nn.MultiheadAttention) else "input"
            places: tuple[Where, ...] = (first, "output", "first third")
            factors = zip(places, getattr(module, _FACTORS), strict=True)
            found += [Multiplier(name, where, factor) for where, factor in factors if factor != 1]
    return tuple(sorted(found, key=lambda m: (m.module, m.where)))


def unreached(model: nn.Module, *inputs: Any) -> tuple[str, ...]:
    """Modules with factors that a forward pass never calls: their weights are used by other means, and the factors are lost.

    Args:
        model: With its factors on.
        *inputs: What it is called with.
    """
    called: set[int] = set()
    held = [
        module.register_forward_hook(lambda m, _args, _out: called.add(id(m)))
        for module in model.modules()
        if _has(module)
    ]
    try:
        with torch.no_grad():
            model(*inputs)
    finally:
        for handle in held:
            handle.remove()
    return tuple(n for n, m in modules_of(model).items() if _has(m) and id(m) not in called)


def _has(module: nn.Module) -> bool:
    return isinstance(module, _Scaled)
