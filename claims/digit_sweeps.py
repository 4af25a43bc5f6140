"""Residual networks on the digits, trained at many rates at once; shared by claims about depth."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@cache
def digits() -> tuple[Any, Any]:
    """All 1,797 images, standardized as a whole, of shape ``(n, 64)``, and their classes."""
    import torch
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    return torch.from_numpy((x - x.mean()) / x.std()).float(), torch.from_numpy(y)


def batches(rows: int) -> Callable[[int], Iterator[tuple[Any, Any]]]:
    """Random digits, by seed, without end."""
    import torch

    def stream(seed: int) -> Iterator[tuple[Any, Any]]:
        x, y = digits()
        generator = torch.Generator().manual_seed(seed)
        while True:
            chosen = torch.randint(len(x), (rows,), generator=generator)
            yield x[chosen], y[chosen]

    return stream


@cache
def _parts() -> tuple[Any, Any]:
    from torch import Tensor, nn

    class Absolute(nn.Module):
        """The absolute value."""

        def forward(self, x: Tensor) -> Tensor:
            return x.abs()

    class Centred(nn.Module):
        """Takes the mean over units off, as the paper on depth-muP does at the end of a block."""

        def forward(self, x: Tensor) -> Tensor:
            return x - x.mean(dim=-1, keepdim=True)

    return Absolute, Centred


def residual(width: int = 64, depth: int = 4, *, block: str = "relu") -> Any:
    """A linear layer, residual blocks, a linear layer.

    Args:
        width: Of the stream.
        depth: Blocks.
        block: ``relu`` or ``abs``: a layer, that activation, the mean off; ``relu-relu``: two layers; ``pre``: ReLU, then a layer.
    """
    from torch import nn

    from tunewright.bench.micro import Residual

    absolute, centred = _parts()

    def branch() -> Any:
        if block == "pre":
            return nn.Sequential(nn.ReLU(), nn.Linear(width, width))
        kinds = [absolute if kind == "abs" else nn.ReLU for kind in block.split("-")]
        return nn.Sequential(
            *(part for kind in kinds for part in (nn.Linear(width, width), kind())), centred()
        )

    blocks = nn.Sequential(*(Residual(branch()) for _ in range(depth)))
    return nn.Sequential(nn.Linear(64, width), blocks, nn.Linear(width, 10))


def losses(
    rule: str,
    sizes: Mapping[str, int],
    rates: Sequence[float],
    seeds: Sequence[int],
    *,
    base: Mapping[str, int],
    optimizer: str,
    steps: int,
    block: str,
) -> Floats:
    """Mean training loss of the last tenth of the steps, batches of 64, shape ``(rates, seeds)``; infinite where it broke down.

    Args:
        rule: The parametrization.
        sizes: Width and depth.
        rates: Constant base rates.
        seeds: Of first values and batches.
        base: Width and depth at which the parametrization changes nothing.
        optimizer: ``adam`` or ``sgd`` (momentum of .9 both).
        steps: Steps of every training.
        block: See ``residual``.
    """
    import torch

    from tunewright import scaling

    family = scaling.Family(residual, base=base, fixed={"block": block})
    plan = family.plan(rule, optimizer=optimizer, **sizes)  # type: ignore[arg-type]

    def build(seed: int) -> Any:
        return plan.apply_(family.model(**sizes), seed)

    how = scaling.How(optimizer=optimizer)  # type: ignore[arg-type]
    cross_entropy = torch.nn.functional.cross_entropy
    found = scaling.sweep(build, rates, seeds, batches(64), cross_entropy, steps=steps, how=how, plan=plan)
    return np.asarray(np.where(np.isfinite(found.final), found.final, np.inf))
