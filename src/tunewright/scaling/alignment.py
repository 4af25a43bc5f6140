"""How well what comes into a layer is aligned with its weights and with what training changed in them.

A sum of ``n`` terms has the size of one term times the root of ``n`` if the terms are as good as random, and times ``n`` if they
all add up. The exponent between, measured, says which rule for rates is right: rules that assume alignment let rates of wide
layers fall as one over the width, rules that assume none as one over its root.

*Use when*: rates that a rule gives to wide layers seem too small, or a choice among rules is to rest on a measurement.

*Do not use when*: layers are narrow: below some hundred inputs the exponents of random and aligned sums can hardly be told apart.

*Paper*: Everett et al. 2024, arXiv:2407.05872, section 3.2 (the three contributions) and section 4.1 (the log alignment ratio).

*Differs*: sizes are root mean squares over all entries and examples; layers are the linear ones of a module.

*Cost*: two forward passes and two products for each linear layer.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tunewright.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Alignment:
    """Exponents of the fan-in by which a layer's sums exceed their terms; one half is random and one is full alignment.

    Attributes:
        fan_in: Terms of the sums.
        total: Of the weights with what comes in, after the change.
        change: Of the change of the weights with what came in before (the paper's alpha).
        start: Of the first weights with the change of what comes in (the paper's omega).
        both: Of the two changes (the paper's u).
    """

    fan_in: int
    total: float
    change: float
    start: float
    both: float


def exponent(weight: Tensor, x: Tensor) -> float:
    """The log alignment ratio: logarithm to the base of the fan-in of ``rms(x W^T) / (rms(x) rms(W))``.

    Args:
        weight: Shape ``(fan_out, fan_in)``.
        x: Shape ``(..., fan_in)``.

    Returns:
        Between minus infinity (what comes in is cancelled) and one; not a number where one of the two is zero.

    Raises:
        ConfigError: If the shapes do not fit or there is only one term.
    """
    if weight.dim() != 2 or x.shape[-1] != weight.shape[1] or weight.shape[1] < 2:
        raise ConfigError(
            "Alignment is that of a matrix (fan_out, fan_in) of at least 2 inputs with vectors (..., fan_in); got "
            f"{list(weight.shape)} and {list(x.shape)}."
        )
    w, v = weight.detach().double(), x.detach().double()
    size = float(w.square().mean().sqrt() * v.square().mean().sqrt())
    out = float((v @ w.T).square().mean().sqrt())
    if size == 0:
        return math.nan
    return math.log(out / size) / math.log(weight.shape[1]) if out > 0 else -math.inf


def measure(before: nn.Module, after: nn.Module, batch: Any) -> dict[str, Alignment]:
    """Alignment of every linear layer of a model that was trained from ``before`` to ``after``.

    Args:
        before: The model with its first values.
        after: The same with later ones.
        batch: What both are called with; best one that training has not used.

    Returns:
        By name of the layer.

    Raises:
        ConfigError: If the models have different layers.
    """
    first, then = _inputs(before, batch), _inputs(after, batch)
    if first.keys() != then.keys():
        odd = sorted(first.keys() ^ then.keys())
        raise ConfigError(
            f"Both models must have the same linear layers; {odd[0]} is in one only. Pass a copy made before training."
        )
    out: dict[str, Alignment] = {}
    for name, (w0, x0) in first.items():
        w1, x1 = then[name]
        if w0.shape != w1.shape or w0.shape[1] < 2:
            continue
        out[name] = Alignment(
            w0.shape[1],
            exponent(w1, x1),
            exponent(w1 - w0, x0),
            exponent(w0, x1 - x0),
            exponent(w1 - w0, x1 - x0),
        )
    return out


def _inputs(model: nn.Module, batch: Any) -> Mapping[str, tuple[Tensor, Tensor]]:
    """Weights and inputs of linear layers, by name."""
    found: dict[str, tuple[Tensor, Tensor]] = {}

    def keep(name: str, module: nn.Linear) -> Any:
        def hook(_module: nn.Module, args: tuple[Any, ...], _out: Any) -> None:
            found[name] = (module.weight.detach(), args[0].detach())

        return hook

    handles = [
        module.register_forward_hook(keep(name, module))
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear)
    ]
    try:
        with torch.no_grad():
            model(batch)
    finally:
        for handle in handles:
            handle.remove()
    return found
