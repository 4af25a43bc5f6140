"""Factors in the forward pass, hung on modules by name, so that any model can have them without being rewritten.

A factor is a hook whose class is known here: it is copied with the model, traced by ``torch.compile`` and found again by name.
It is no part of ``state_dict``; a model that is built anew gets it from its plan.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from torch import nn

from tunewright.errors import ConfigError
from tunewright.scaling.tensors import plain

Where = Literal["input", "output", "query"]


@dataclass(frozen=True, slots=True)
class Multiplier:
    """A factor.

    Attributes:
        module: Name of the module that it is hung on.
        where: On the module's first input, on its output, or on the argument ``query`` of an attention module.
        factor: Its value.
    """

    module: str
    where: Where
    factor: float


class _Before:
    """Multiplies the first input, or the query."""

    def __init__(self, factor: float, *, query: bool) -> None:
        self.factor, self.query = factor, query

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if args:
            return (args[0] * self.factor, *args[1:]), kwargs
        name = "query" if self.query else next(iter(kwargs))
        return args, {**kwargs, name: kwargs[name] * self.factor}


class _After:
    """Multiplies the output; of several outputs the first."""

    def __init__(self, factor: float) -> None:
        self.factor = factor

    def __call__(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        if isinstance(output, tuple):
            return (output[0] * self.factor, *output[1:])
        return output * self.factor


def attach_(model: nn.Module, multipliers: Iterable[Multiplier]) -> None:
    """Hangs factors on a model, instead of those that it has.

    Args:
        model: Also a compiled or wrapped one.
        multipliers: At most one per module and place.

    Raises:
        ConfigError: If the model has no module of that name.
    """
    detach_(model)
    modules = {plain(name): module for name, module in model.named_modules()}
    for m in multipliers:
        if m.module not in modules:
            raise ConfigError(
                f"The plan multiplies at the module {m.module!r}; this model has none of that name. Use the plan of this model."
            )
        if m.where == "output":
            modules[m.module].register_forward_hook(_After(m.factor))
        else:
            modules[m.module].register_forward_pre_hook(
                _Before(m.factor, query=m.where == "query"), with_kwargs=True
            )


def detach_(model: nn.Module) -> None:
    """Takes all factors off a model."""
    for module in model.modules():
        for kind in ("forward_pre_hooks", "forward_hooks"):
            hooks, extra = _hooks(module, kind), _hooks(module, f"{kind}_with_kwargs")
            for key in [k for k, hook in hooks.items() if isinstance(hook, _Before | _After)]:
                del hooks[key]
                extra.pop(key, None)


def attached(model: nn.Module) -> tuple[Multiplier, ...]:
    """The factors that hang on a model, sorted by module."""
    found: list[Multiplier] = []
    for name, module in model.named_modules():
        for hook in (
            *_hooks(module, "forward_pre_hooks").values(),
            *_hooks(module, "forward_hooks").values(),
        ):
            if isinstance(hook, _Before):
                found.append(Multiplier(plain(name), "query" if hook.query else "input", hook.factor))
            elif isinstance(hook, _After):
                found.append(Multiplier(plain(name), "output", hook.factor))
    return tuple(sorted(found, key=lambda m: (m.module, m.where)))


def _hooks(module: nn.Module, kind: str) -> dict[int, Any]:
    """PyTorch gives no public way to its hooks, and handles do not outlive a copy of the model."""
    found: dict[int, Any] = vars(module)[f"_{kind}"]
    return found
