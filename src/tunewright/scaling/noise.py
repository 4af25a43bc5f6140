"""The gradient noise scale: how large a batch may be before its gradient is good enough, measured from gradients alone.

``B_simple = tr(Sigma) / |G|^2`` with ``Sigma`` the covariance of one example's gradient and ``G`` the mean gradient. At a batch
of that size noise and signal are equal; below it, twice the batch almost halves the steps, beyond it hardly saves any.

*Use when*: a batch size is to be chosen and a model in the middle of its training is at hand; a measurement costs a few
gradients, where the critical batch size by its definition (``critical``) costs a sweep of trainings.
*Do not use when*: curvatures differ much between directions or the optimizer preconditions strongly, since the statistic weighs
all directions alike: take it as an order of magnitude; nor at the first steps only, as it grows while the loss falls.
*Paper*: McCandlish, Kaplan, Amodei et al. 2018, arXiv:1812.06162, equation 2.9 and appendix A.1
*Differs*: noise and signal are averaged over batches before their ratio is taken, as there; the interval (a bootstrap over
batches) is added, and a signal below its own noise is refused.
*Cost*: one gradient per part of a batch; one per example with ``parts="examples"``, in memory too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from tunewright.errors import ConfigError

Tensor = torch.Tensor
_RESAMPLES = 2000


@dataclass(frozen=True, slots=True)
class NoiseScale:
    """Noise and signal of gradients, and their ratio.

    Attributes:
        trace: Trace of the covariance of one example's gradient, tr(Sigma).
        squared: Squared norm of the mean gradient, without the part that noise adds.
        size: The noise scale in examples, ``trace / squared``.
        low: Lower end of its interval.
        high: Upper end; infinite where some resamples hold no signal.
        batches: How many measurements went in.
    """

    trace: float
    squared: float
    size: float
    low: float
    high: float
    batches: int

    def speed(self, batch: float) -> float:
        """Progress of one step at a batch size over that of a step without noise, ``1 / (1 + size / batch)``, in [0, 1].

        Args:
            batch: Examples in a batch.

        Raises:
            ConfigError: If the batch is not above 0.
        """
        _above_zero(batch)
        return 1.0 / (1.0 + self.size / batch)

    def overhead(self, batch: float) -> float:
        """Examples spent at a batch size beyond the fewest possible, as a share: ``batch / size``.

        Args:
            batch: Examples in a batch.

        Raises:
            ConfigError: If the batch is not above 0.
        """
        _above_zero(batch)
        return batch / self.size


def _above_zero(batch: float) -> None:
    if not batch > 0:
        raise ConfigError(f"A batch size must be above 0; got {batch}. Give the number of examples.")


def two_batch_estimate(
    small_squared: float, small: float, big_squared: float, big: float
) -> tuple[float, float]:
    """Unbiased estimates of ``tr(Sigma)`` and ``|G|^2`` from squared gradient norms at two batch sizes.

    ``E |G_B|^2 = |G|^2 + tr(Sigma) / B`` at both sizes, solved for its two unknowns (appendix A.1). A single estimate of
    ``|G|^2`` may be negative; averages are what to divide.

    Args:
        small_squared: Squared norm at the small batch, or its mean over several.
        small: Examples in the small batch.
        big_squared: Squared norm at the big batch.
        big: Examples in the big batch.

    Returns:
        Trace and squared signal.

    Raises:
        ConfigError: If the sizes are not ordered.
    """
    if not 0 < small < big:
        raise ConfigError(
            f"Two batch sizes must be above 0 and the second the larger; got {small} and {big}. Swap them or split the batch."
        )
    trace = (small_squared - big_squared) / (1.0 / small - 1.0 / big)
    squared = (big * big_squared - small * small_squared) / (big - small)
    return trace, squared


def noise_scale(
    small_squared: Any, small: float, big_squared: Any, big: float, *, level: float = 0.95, seed: int = 0
) -> NoiseScale:
    """The noise scale from squared gradient norms that a training has logged.

    Args:
        small_squared: Squared norms at the small batch (their mean where a measurement has several, such as one per worker),
            shape ``(n,)``.
        small: Examples in the small batch.
        big_squared: Squared norms at the big batch, shape ``(n,)``.
        big: Examples in the big batch.
        level: Of the interval.
        seed: Of the bootstrap.

    Raises:
        ConfigError: If sizes are not ordered, numbers are missing or not finite, or no signal is left.
    """
    ours, theirs = (
        np.atleast_1d(np.asarray(small_squared, float)),
        np.atleast_1d(np.asarray(big_squared, float)),
    )
    if ours.shape != theirs.shape or ours.ndim != 1:
        raise ConfigError(
            f"There must be one squared norm for each batch size and measurement; got shapes {ours.shape} and {theirs.shape}. "
            "Log both at the same steps."
        )
    if not (np.isfinite(ours).all() and np.isfinite(theirs).all()):
        raise ConfigError(
            "Squared gradient norms must be finite; got NaN or infinity among them. Measure before training diverges."
        )
    pairs = [two_batch_estimate(a, small, b, big) for a, b in zip(ours, theirs, strict=True)]
    return _ratio(np.array(pairs), level, seed)


def gradient_noise_scale(
    model: torch.nn.Module,
    loss: Callable[[Any, Tensor], Tensor],
    batches: Iterable[tuple[Tensor, Tensor]],
    *,
    parts: int | Literal["examples"] = "examples",
    level: float = 0.95,
    seed: int = 0,
) -> NoiseScale:
    """Measures the noise scale of a model at its present weights.

    Gradients of parts of a batch and of the whole batch are compared. The model's weights and gradients are left alone; it
    runs in evaluation mode, where dropout adds no noise of its own and no statistic is taken over a batch.

    Args:
        model: The network; it must not mix examples.
        loss: Mean loss of outputs and targets, both with one row per example.
        batches: Pairs of inputs and targets, shape ``(b, ...)`` each; 8 or more for a useful interval.
        parts: Into how many equal parts a batch is split, or ``"examples"`` for one gradient per example (least noisy, most
            memory).
        level: Of the interval.
        seed: Of the bootstrap.

    Raises:
        ConfigError: If there is no batch, a batch cannot be split so, a gradient is not finite, or no signal is left.
    """
    weights = {n: p.detach() for n, p in model.named_parameters() if p.requires_grad}
    if not weights:
        raise ConfigError(
            "A model must have trained weights; got none. Set requires_grad on those to measure."
        )
    fixed = {n: p.detach() for n, p in model.named_parameters() if not p.requires_grad}
    fixed |= {n: b.detach() for n, b in model.named_buffers()}

    def one(values: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        return loss(torch.func.functional_call(model, (values, fixed), (x,)), y)

    training = [m for m in model.modules() if m.training]
    model.eval()
    try:
        found = [_measure(one, weights, x, y, len(x) if parts == "examples" else parts) for x, y in batches]
    finally:
        for module in training:
            module.training = True
    return _ratio(np.array(found, dtype=float).reshape(-1, 2), level, seed)


def _measure(
    one: Callable[..., Tensor], weights: dict[str, Tensor], x: Tensor, y: Tensor, parts: int
) -> tuple[float, float]:
    """Trace and squared signal from the parts of one batch."""
    if parts < 2 or len(x) % parts:
        raise ConfigError(
            f"A batch must split into two or more equal parts; got {len(x)} examples and {parts} parts. Choose a divisor."
        )
    size = len(x) // parts
    pieces = torch.func.vmap(torch.func.grad(one), in_dims=(None, 0, 0))(
        weights, x.reshape(parts, size, *x.shape[1:]), y.reshape(parts, size, *y.shape[1:])
    )
    rows = torch.cat([g.detach().reshape(parts, -1) for g in pieces.values()], dim=1).double()
    ours, theirs = float(rows.square().sum(dim=1).mean()), float(rows.mean(dim=0).square().sum())
    if not (math.isfinite(ours) and math.isfinite(theirs)):
        raise ConfigError("Gradients must be finite; got NaN or infinity. Measure before training diverges.")
    return two_batch_estimate(ours, size, theirs, len(x))


def _ratio(pairs: NDArray[np.float64], level: float, seed: int) -> NoiseScale:
    """Ratio of the mean trace and the mean squared signal of measurements, shape ``(n, 2)``, with its interval."""
    if not len(pairs):
        raise ConfigError(
            "The noise scale needs at least one batch; got none. Pass an iterable of (inputs, targets)."
        )
    if not 0.0 < level < 1.0:
        raise ConfigError(f"`level` must lie in (0, 1); got {level}. Give 0.95 for a 95 % interval.")
    trace, squared = (float(v) for v in pairs.mean(axis=0))
    if squared <= 0 or trace < 0:
        raise ConfigError(
            "The mean gradient must stand out from its noise; its squared norm was estimated as "
            f"{squared:.3g} and the noise as {trace:.3g}. Use more or larger batches."
        )
    rng = np.random.default_rng(seed)
    drawn = pairs[rng.integers(0, len(pairs), size=(_RESAMPLES, len(pairs)))].mean(axis=1)
    with np.errstate(divide="ignore"):
        ratios = np.where(
            drawn[:, 1] > 0, np.maximum(drawn[:, 0], 0.0) / np.maximum(drawn[:, 1], 0.0), np.inf
        )
    ratios.sort()
    tail = (1.0 - level) / 2.0
    # Order statistics, as interpolation between infinities is not defined
    low, high = ratios[math.floor(tail * _RESAMPLES)], ratios[math.ceil((1.0 - tail) * _RESAMPLES) - 1]
    return NoiseScale(trace, squared, trace / squared, float(low), float(high), len(pairs))
