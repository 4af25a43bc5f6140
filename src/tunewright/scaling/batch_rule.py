"""Square-root batch rule: the settings of Adam at another batch size, so that training takes nearly the same path.

*Use when*: settings of Adam or AdamW are good at one batch size, another one is wanted, and the gradients of single examples have
little in common: what an example says about most weights is noise, or nothing at all, as in fitting Gaussians to views.
*Do not use when*: gradients of single examples agree (``noise_share`` well below 1: the start of a training, batches that are
already large): the path then asks for a factor nearer to the batch size, which Adam seldom survives. Beyond the critical batch
size no factor gives the small batch's path.
*Paper*: Zhao et al. 2024 (Grendel), arXiv:2406.18533, section 4 on batched training: rate times the root of the batch size,
averages to the power of it. That eps is divided by the root is in the authors' program and not in their text.
*Differs*: between any two batch sizes, up or down. The rate for a measured share of noise is an addition; at a share of 1 it is
the paper's. So is carrying over Adam's state in the middle of a run. AdamW's decay grows with the root, so that an example decays
as much as before; the paper decays nothing.
*Cost*: nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tunewright.errors import ConfigError

if TYPE_CHECKING:
    from torch.optim import Adam

Floats = NDArray[np.float64]
BatchRule = Literal["sqrt", "linear", "constant"]
_RULES = ("sqrt", "linear", "constant")


@dataclass(frozen=True, slots=True)
class AdamSetting:
    """Settings of Adam at one batch size.

    Attributes:
        lr: Step size per step.
        betas: Weights of the averages of gradients and squared gradients.
        eps: Added to the root of the averaged squares.
    """

    lr: float
    betas: tuple[float, float]
    eps: float


@dataclass(frozen=True, slots=True)
class Similarity:
    """How alike two trainings' paths are, at each point in time; arrays of shape ``(k - 1,)``.

    Attributes:
        cosine: Of the angle between what both moved by since the start; NaN where one has not moved.
        length: How far the second moved, over how far the first did.
    """

    cosine: Floats
    length: Floats


def rate_factor(ratio: float, *, rule: BatchRule = "sqrt", noise: float = 1.0) -> float:
    """What the learning rate is multiplied by when the batch grows by a ratio.

    Adam divides by the root of the second moment ``v``, in which the noise of a batch of ``B`` is a ``B``-th of an example's. For the
    move of one batch to equal the sum of its examples' moves the rate has to grow by ``B sqrt(v_B / v_1)``, which is
    ``B sqrt(1 - noise + noise / B)``: the root of ``B`` if gradients are all noise, ``B`` itself if they agree.

    Args:
        ratio: New batch size over the old one, above 0.
        rule: ``"sqrt"`` is the paper's; ``"linear"`` and ``"constant"`` are there to compare with.
        noise: Share of noise in the second moment of gradients at the old batch size, from 0 to 1; see ``noise_share``. Only for ``"sqrt"``.

    Raises:
        ConfigError: If a number is out of range, the rule is unknown, or a share of noise comes with another rule.
    """
    _require(
        math.isfinite(ratio) and ratio > 0,
        f"The ratio of batch sizes must be above 0; got {ratio}. Pass new size over old size.",
    )
    _require(rule in _RULES, f"rule must be one of {', '.join(_RULES)}; got {rule!r}. Pass one of them.")
    _require(
        0.0 <= noise <= 1.0, f"noise must be a share from 0 to 1; got {noise}. Measure it by noise_share."
    )
    _require(
        rule == "sqrt" or noise == 1.0,
        f"A share of noise goes with rule='sqrt' only; got rule={rule!r}. Leave one of both out.",
    )
    if rule == "linear":
        return ratio
    return ratio * math.sqrt(1.0 - noise + noise / ratio) if rule == "sqrt" else 1.0


def scaled(
    batch_from: int,
    batch_to: int,
    lr: float,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    *,
    rule: BatchRule = "sqrt",
    momentum: bool = True,
    noise: float = 1.0,
) -> AdamSetting:
    """The settings of Adam at another batch size.

    Example:
        >>> scaled(1, 4, lr=0.01, betas=(0.9, 0.999), eps=1e-8).lr
        0.02

    Args:
        batch_from: Examples per step that the settings are for, over all devices; the loss is their mean.
        batch_to: Examples per step wanted.
        lr: Learning rate at the former.
        betas: Of Adam, at the former; each is taken to the power of the ratio, so that an example is remembered as long as before.
        eps: Of Adam, at the former; under ``"sqrt"`` it shrinks as the root of the squares of gradients does, by the root of the
            ratio where gradients are all noise.
        rule: How the rate goes with the batch size; see ``rate_factor``.
        momentum: Whether the averages change too.
        noise: See ``rate_factor``.

    Raises:
        ConfigError: If a number is out of range or the rule is unknown.
    """
    ratio = _ratio(batch_from, batch_to)
    _require(math.isfinite(lr) and lr >= 0, f"lr must be at least 0; got {lr}. Pass the rate that was tuned.")
    _require(
        [0.0 <= b < 1.0 for b in betas] == [True, True],
        f"betas must be two numbers in [0, 1); got {betas}. Pass Adam's.",
    )
    _require(eps >= 0, f"eps must be at least 0; got {eps}. Pass Adam's.")
    power = ratio if momentum else 1.0
    return AdamSetting(
        lr * rate_factor(ratio, rule=rule, noise=noise),
        (betas[0] ** power, betas[1] ** power),
        eps * math.sqrt(1.0 - noise + noise / ratio) if rule == "sqrt" else eps,
    )


def rescale_(
    optimizer: Adam,
    batch_from: int,
    batch_to: int,
    *,
    rule: BatchRule = "sqrt",
    momentum: bool = True,
    noise: float = 1.0,
) -> None:
    """Moves an optimizer to another batch size, in place; at the start of a run or in the middle.

    Rates, averages, eps and, with AdamW, decay of every group change. Under ``"sqrt"`` so does what Adam remembers: squares of
    gradients shrink by the ratio (by what the share of noise makes of it), and steps are counted in examples, so that nothing
    jumps. A schedule keeps rates of its own: build it after this call.

    Args:
        optimizer: ``torch.optim.Adam`` or ``AdamW``.
        batch_from: Examples per step so far.
        batch_to: Examples per step from now on.
        rule: See ``rate_factor``.
        momentum: Whether the averages change too.
        noise: See ``rate_factor``.

    Raises:
        ConfigError: If the optimizer is another one, or a number is out of range; then nothing has changed.
    """
    import torch

    _require(
        isinstance(optimizer, torch.optim.Adam | torch.optim.AdamW),
        f"The rule is for torch.optim.Adam and AdamW; got {type(optimizer).__name__}. Change its settings by hand.",
    )
    ratio = _ratio(batch_from, batch_to)
    found = [
        scaled(
            batch_from,
            batch_to,
            float(g["lr"]),
            tuple(float(b) for b in g["betas"]),  # type: ignore[arg-type]
            g["eps"],
            rule=rule,
            momentum=momentum,
            noise=noise,
        )
        for g in optimizer.param_groups
    ]
    factor = rate_factor(ratio, rule=rule, noise=noise)
    for group, setting in zip(optimizer.param_groups, found, strict=True):
        if isinstance(group["lr"], torch.Tensor):
            group["lr"].fill_(setting.lr)
        else:
            group["lr"] = setting.lr
        if "initial_lr" in group:
            group["initial_lr"] = group["initial_lr"] * factor
        group["betas"], group["eps"] = setting.betas, setting.eps
        if group.get("decoupled_weight_decay", isinstance(optimizer, torch.optim.AdamW)):
            group["weight_decay"] *= ratio / factor
    if rule == "sqrt":
        _carry(optimizer, 1.0 - noise + noise / ratio, ratio if momentum else 1.0)


def _carry(optimizer: Adam, squares: float, ratio: float) -> None:
    """Brings Adam's memory to the new batch size: what its squares are multiplied by, and examples per new step over old."""
    for state in optimizer.state.values():
        for name in ("exp_avg_sq", "max_exp_avg_sq"):
            if name in state:
                state[name].mul_(squares)
        if "step" in state:
            state["step"] = state["step"] / ratio


def noise_share(gradients: ArrayLike) -> float:
    """Share of noise in the second moment of gradients: 1 if they have nothing in common, 0 if they are all the same.

    The independence that the rule rests on, measured: take it at the batch size that the settings are for.

    Args:
        gradients: One per batch, at the same weights, shape ``(n, d)``, n >= 2.

    Returns:
        Unbiased variance over mean square, each summed over the weights; at most 1.

    Raises:
        ConfigError: If there are fewer than two, one is not finite, or all are zero.
    """
    g = np.asarray(gradients, dtype=np.float64)
    _require(
        g.ndim == 2 and len(g) >= 2,
        f"gradients must have the shape (n, d) with n >= 2; got {g.shape}. Flatten one gradient per row.",
    )
    _require(
        bool(np.isfinite(g).all()),
        "gradients must be finite; got NaN or inf. Measure where training is sane.",
    )
    square = float(np.square(g).mean(axis=0).sum())
    _require(square > 0, "gradients must not all be zero; got only zeros. Measure where training moves.")
    return min(1.0, float(g.var(axis=0, ddof=1).sum()) / square)


def similarity(reference: ArrayLike, other: ArrayLike) -> Similarity:
    """How alike two paths are that started at the same weights and saw as many examples at each point.

    Args:
        reference: Weights of the first training, shape ``(k, d)``, k >= 2; row 0 is the start.
        other: Weights of the second at the same numbers of examples, same shape.

    Raises:
        ConfigError: If shapes differ or the paths do not start together.
    """
    a, b = (np.asarray(x, dtype=np.float64) for x in (reference, other))
    _require(
        a.ndim == 2 and a.shape == b.shape and len(a) >= 2,
        f"Paths must have one shape (k, d) with k >= 2; got {a.shape} and {b.shape}. Take weights after equally many examples.",
    )
    _require(
        bool(np.array_equal(a[0], b[0])),
        "Paths must start at the same weights; got different first rows. Start both trainings from one checkpoint.",
    )
    da, db = a[1:] - a[0], b[1:] - b[0]
    la, lb = np.linalg.norm(da, axis=1), np.linalg.norm(db, axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return Similarity((da * db).sum(axis=1) / (la * lb), lb / la)


def _ratio(batch_from: int, batch_to: int) -> float:
    """The ratio of two batch sizes."""
    for size in (batch_from, batch_to):
        whole = not isinstance(size, bool) and isinstance(size, int | np.integer)
        _require(
            bool(whole and size >= 1),
            f"A batch size must be a whole number of examples >= 1; got {size!r}. Count the examples of all devices.",
        )
    return batch_to / batch_from


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ConfigError(message)
