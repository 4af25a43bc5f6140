"""Numbers of few bits, emulated: every value is rounded to the nearest that the format has, on any machine.

*Use when*: it is to be known whether a model would train in eight bits before there is hardware for it, or how many of its values
fall out of a format's range.

*Do not use when*: speed is looked for; sums are still taken in the precision of the tensors, as accelerators do.

*Paper*: Micikevicius et al. 2022, arXiv:2209.05433, table 1 (the two formats of eight bits); Blake et al. 2024,
arXiv:2407.17465, section 4.2 (which matrices are rounded to which).

*Differs*: values beyond the largest are cut off to it instead of becoming infinite, as training software casts.

*Cost*: a few element-wise operations per rounded tensor.

Example:
    >>> import torch
    >>> from tunewright.scaling import rounding
    >>> rounding.nearest(torch.tensor([0.1, 300.0, 1e-4, 1000.0]), rounding.E4M3)
    tensor([  0.1016, 288.0000,   0.0000, 448.0000])
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from tunewright.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Format:
    """A format of floating-point numbers with a sign.

    Attributes:
        exponent: Bits of the exponent.
        mantissa: Bits after the leading one.
        largest: Largest number that is finite.

    Raises:
        ConfigError: If it has more bits than single precision.
    """

    exponent: int
    mantissa: int
    largest: float

    def __post_init__(self) -> None:
        if not 2 <= self.exponent <= 8 or not 0 <= self.mantissa <= 22 or not self.largest > 0:
            raise ConfigError(
                f"A format must have 2 to 8 bits of exponent, 0 to 22 of mantissa and a positive largest number; got {self.exponent}, "
                f"{self.mantissa} and {self.largest}."
            )

    @property
    def lowest(self) -> int:
        """Exponent of the smallest normal number."""
        return int(2 - 2 ** (self.exponent - 1))

    @property
    def smallest(self) -> float:
        """Smallest positive number, a subnormal one."""
        return float(2.0 ** (self.lowest - self.mantissa))


E4M3 = Format(4, 3, 448.0)
"""Eight bits for values of weights and activations; it has no infinity, so its largest number is 448."""
E5M2 = Format(5, 2, 57344.0)
"""Eight bits for gradients."""
FP16 = Format(5, 10, 65504.0)
"""Half precision."""


def nearest(x: Tensor, to: Format) -> Tensor:
    """The nearest numbers of a format, ties to the one that ends in zero; larger ones are cut off.

    Args:
        x: Any shape, single or double precision.
        to: The format.
    """
    _, exponent = torch.frexp(x.detach())
    # frexp has mantissas in [1/2, 1), formats in [1, 2)
    step = torch.ldexp(torch.ones_like(x), (exponent - 1).clamp(min=to.lowest) - to.mantissa)
    return (torch.round(x / step) * step).clamp(-to.largest, to.largest)


class _Rounded(torch.autograd.Function):
    """Rounds values forward and gradients backward, each to its format; None leaves them."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, values: Format | None, gradients: Format | None) -> Tensor:
        return x.clone() if values is None else nearest(x, values)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Format | None, Format | None], output: Tensor) -> None:
        ctx.gradients = inputs[2]

    @staticmethod
    def backward(ctx: Any, *pulled: Tensor) -> tuple[Tensor, None, None]:
        return (pulled[0] if ctx.gradients is None else nearest(pulled[0], ctx.gradients)), None, None


def rounded(x: Tensor, values: Format | None = E4M3, gradients: Format | None = None) -> Tensor:
    """Rounds values, and gradients on their way back; rounding itself has slope one.

    Args:
        x: Any shape.
        values: Format of the values; None leaves them.
        gradients: Format of the gradients; None leaves them.
    """
    out: Tensor = _Rounded.apply(x, values, gradients)  # type: ignore[no-untyped-call]
    return out


class LowPrecision(TorchFunctionMode):
    """While it is entered, linear maps see rounded inputs and weights, and rounded gradients of what they put out.

    Sums and everything between linear maps stay as they are. Models need no change; it works under ``scaling.sweep`` too.

    Example:
        >>> with rounding.LowPrecision():
        ...     loss = criterion(model(x), y)
        >>> loss.backward()

    Args:
        values: Format of inputs and weights; None leaves them.
        gradients: Format of gradients; None leaves them.
        which: Says of a weight whether its map is rounded; by default all are.
    """

    def __init__(
        self,
        values: Format | None = E4M3,
        gradients: Format | None = E5M2,
        which: Callable[[Tensor], bool] | None = None,
    ) -> None:
        super().__init__()
        self.values, self.gradients, self.which = values, gradients, which

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Rounds what goes in and out of linear maps."""
        named = dict(kwargs or {})
        if func is not torch.nn.functional.linear:
            return func(*args, **named)
        x, weight, *rest = (*args, *(named[k] for k in ("input", "weight", "bias") if k in named))
        if self.which is not None and not self.which(weight):
            return func(x, weight, *rest)
        out = func(rounded(x, self.values), rounded(weight, self.values), *rest)
        return rounded(out, None, self.gradients)


@dataclass(frozen=True, slots=True)
class Lost:
    """What a format does to values.

    Attributes:
        flushed: Share of the values other than zero that become zero.
        cut: Share of the values that are beyond the largest.
        error: Root mean square error over the root mean square of the values; 0 for zeros.
    """

    flushed: float
    cut: float
    error: float


def lost(x: Tensor, to: Format) -> Lost:
    """What is lost where values are rounded to a format.

    Args:
        x: Any shape.
        to: The format.
    """
    x = x.detach()
    near = nearest(x, to)
    there = int((x != 0).sum())
    size = float(x.double().square().mean().sqrt())
    error = float((near.double() - x.double()).square().mean().sqrt())
    return Lost(
        float(((near == 0) & (x != 0)).sum()) / there if there else 0.0,
        float((x.abs() > to.largest).double().mean()),
        error / size if size else 0.0,
    )
