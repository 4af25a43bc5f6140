"""Sharpness: the largest eigenvalue of the loss's Hessian, over a training and over sizes, which says why rates transfer.

*Use when*: the best rate moves although coordinates are in order, or it is to be understood: steps along the sharpest direction
are stable while rate times sharpness is below 2, and training pushes sharpness up to that edge. Where sharpness does not depend on
the size, nor does the largest stable rate.

*Do not use when*: the loss is far from its sharpness-limited regime (small rates, short trainings), or only the outcome counts:
then compare rates themselves (``rates``).

*Paper*: Noci et al. 2024, arXiv:2402.17457 (sharpness over width and depth); Cohen et al. 2021, arXiv:2103.00065 (edge of
stability); Cohen et al. 2022, arXiv:2207.14484 (the preconditioned Hessian of Adam, and its edge at 38 over the rate).

*Differs*: the Hessian is that of the step, ``D^1/2 H D^1/2``: D has the plan's factors on the rates and, for Adam, one over the
root of its second moments. So rate times sharpness means the same under every parametrization. Lanczos' method with full
reorthogonalisation instead of power iteration, which needs many times the products where eigenvalues lie close.

*Cost*: a product with the Hessian, about two gradients, for each of 10 to 40 iterations.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from tunewright.errors import ConfigError
from tunewright.scaling.checking import (
    Batches,
    Builder,
    Floats,
    Loss,
    Make,
    Pair,
    ladder,
    loss_of,
    optimizer_of,
    slope,
    stream,
    text_table,
    usual_loss,
    without_chance,
)
from tunewright.scaling.plans import Plan
from tunewright.scaling.rules.base import ADAM_LIKE, Optimizer
from tunewright.scaling.tensors import parameters_of

BOUND = 0.25
Product = Callable[[Tensor], Tensor]
_LEAST = 1e-7


@dataclass(frozen=True, slots=True, eq=False)
class Spectrum:
    """Largest eigenvalues of a symmetric operator.

    Attributes:
        values: Descending, shape ``(k,)``.
        residuals: Norm of ``A v - value v`` for each unit vector, shape ``(k,)``.
        vectors: Unit vectors, shape ``(k, n)``.
        iterations: Products that were needed.
    """

    values: Floats
    residuals: Floats
    vectors: Tensor
    iterations: int


def lanczos(
    product: Product,
    size: int,
    *,
    count: int = 1,
    most: int = 60,
    tolerance: float = 1e-3,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
) -> Spectrum:
    """The largest (not the largest in size) eigenvalues of a symmetric operator by Lanczos' method, fully reorthogonalised.

    Args:
        product: The operator, from and to shape ``(n,)``.
        size: n.
        count: Eigenvalues that are wanted.
        most: Products at most; ``count`` times that many floats of n are held.
        tolerance: Residual, over the largest eigenvalue in size, at which it stops.
        seed: Of the first vector.
        dtype: Of the vectors.

    Raises:
        ConfigError: If a number is out of range, or the operator gives values that are not finite.
    """
    if not 1 <= count <= size or most < 1:
        raise ConfigError(
            f"Eigenvalues must be from 1 to {size}, products 1 or more; got {count} and {most}."
        )
    generator = torch.Generator().manual_seed(seed)
    vector = torch.randn(size, generator=generator).to(dtype)
    basis = [vector / vector.norm()]
    diagonal: list[float] = []
    beside: list[float] = []
    while True:
        image = product(basis[-1])
        diagonal.append(float(image @ basis[-1]))
        if not math.isfinite(diagonal[-1]):
            raise ConfigError(
                "Products with the Hessian must be finite; got nan or inf. The loss has broken down here."
            )
        known = torch.stack(basis)
        for _ in range(2):  # once is not enough in floating point
            image = image - known.T @ (known @ image)
        norm = float(image.norm())
        values, within = np.linalg.eigh(np.diag(diagonal) + np.diag(beside, 1) + np.diag(beside, -1))
        values, within = values[::-1][:count], within[:, ::-1][:, :count]
        residuals = np.abs(norm * within[-1])
        scale = max(abs(diagonal[0]), float(np.abs(values).max()), 1e-300)
        done = len(values) == count and bool((residuals <= tolerance * scale).all())
        if done or len(basis) >= min(most, size) or norm <= _LEAST * scale:
            vectors = torch.as_tensor(within.T.copy(), dtype=dtype) @ known
            return Spectrum(np.asarray(values.copy()), np.asarray(residuals), vectors, len(basis))
        beside.append(norm)
        basis.append(image / norm)


def hessian(
    model: nn.Module, loss: Loss, batch: Pair, scale: Mapping[str, float | Tensor] | None = None
) -> tuple[Product, int, torch.dtype]:
    """Products with the Hessian of the loss in the trained weights.

    Args:
        model: Its weights stay as they are.
        loss: Of the model's output and the targets, a mean.
        batch: Inputs and targets.
        scale: Factors D by name of the weight; the operator is then ``D^1/2 H D^1/2``.

    Returns:
        The operator, its size and the type of its vectors.

    Raises:
        ConfigError: If no weight is trained.
    """
    named = [(n, p) for n, p in _once(model).items() if p.requires_grad]
    if not named:
        raise ConfigError("Sharpness needs weights that are trained; this model has none.")
    weights = [p for _, p in named]
    sizes = [p.numel() for p in weights]
    dtype = weights[0].dtype
    root = torch.ones(sum(sizes), dtype=dtype)
    if scale is not None:
        parts = [torch.as_tensor(scale[n], dtype=dtype).expand(p.shape).reshape(-1) for n, p in named]
        root = torch.cat(parts).sqrt()
    with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):  # fused attention has no second derivative
        value = loss(model(batch[0]), batch[1])
        found = torch.autograd.grad(value, weights, create_graph=True, materialize_grads=True)
    slopes = torch.cat([g.reshape(-1) for g in found])

    def product(vector: Tensor) -> Tensor:
        moved = root * vector
        if not slopes.requires_grad:  # linear in every weight
            return torch.zeros_like(vector)
        with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
            twice = torch.autograd.grad(slopes @ moved, weights, retain_graph=True, materialize_grads=True)
        return root * torch.cat([h.reshape(-1) for h in twice]).detach()

    return product, len(slopes), dtype


def _once(model: nn.Module) -> dict[str, nn.Parameter]:
    """Parameters by the first of their names."""
    found: dict[int, tuple[str, nn.Parameter]] = {}
    for name, parameter in parameters_of(model).items():
        found.setdefault(id(parameter), (name, parameter))
    return dict(found.values())


def sharpness(
    model: nn.Module,
    batch: Pair,
    loss: Loss | None = None,
    *,
    scale: Mapping[str, float | Tensor] | None = None,
    count: int = 1,
    most: int = 60,
    tolerance: float = 1e-2,
    seed: int = 0,
) -> Spectrum:
    """The largest eigenvalues of a loss's Hessian at a model's weights.

    Args:
        model: Any module.
        batch: Inputs and targets.
        loss: Of the model's output and the targets; see ``checking.usual_loss``.
        scale: See ``hessian``.
        count: Eigenvalues.
        most: See ``lanczos``.
        tolerance: See ``lanczos``.
        seed: See ``lanczos``.

    Raises:
        ConfigError: See ``hessian`` and ``lanczos``.
    """
    product, size, dtype = hessian(model, loss or usual_loss, batch, scale)
    return lanczos(product, size, count=count, most=most, tolerance=tolerance, seed=seed, dtype=dtype)


def step_scale(
    plan: Plan, model: nn.Module, stepper: torch.optim.Optimizer | None = None
) -> dict[str, float | Tensor]:
    """By what a step multiplies each weight's gradient, over the base rate: the plan's factor, and Adam's root of second moments.

    Args:
        plan: Its factors.
        model: Whose weights.
        stepper: Adam or AdamW of PyTorch after at least one step; gradients are taken as they are otherwise.
    """
    out: dict[str, float | Tensor] = {}
    named = parameters_of(model)
    for name, entry in plan.entries.items():
        factor = 0.0 if entry.frozen else entry.lr
        state = {} if stepper is None else stepper.state.get(named[name], {})
        if "exp_avg_sq" not in state:
            out[name] = factor
            continue
        group = next(g for g in stepper.param_groups if any(p is named[name] for p in g["params"]))  # type: ignore[union-attr]
        second = state["exp_avg_sq"] / (1 - group["betas"][1] ** float(state["step"]))
        out[name] = factor / (second.sqrt() + group["eps"])
    return out


@dataclass(frozen=True, slots=True, eq=False)
class Sharpnesses:
    """What a sharpness check saw, for ``s`` sizes, ``r`` seeds and ``t`` moments.

    Attributes:
        rule: The parametrization.
        optimizer: What stepped.
        lr: Base rate.
        along: The dimension that grew.
        sizes: Its sizes, shape ``(s,)``.
        steps: When sharpness was measured, in steps, shape ``(t,)``.
        values: Largest eigenvalue of the step's Hessian, shape ``(s, r, t)``.
        losses: Loss on the batch that it was measured on, same shape.
        bound: Largest slope that passes.
    """

    rule: str
    optimizer: str
    lr: float
    along: str
    sizes: tuple[int, ...]
    steps: tuple[int, ...]
    values: Floats
    losses: Floats
    bound: float = BOUND

    @property
    def edge(self) -> float:
        """Sharpness beyond which steps of the base rate along its direction grow."""
        return (38.0 if self.optimizer in ADAM_LIKE else 2.0) / self.lr

    @property
    def late(self) -> Floats:
        """Geometric mean of each training's second half, shape ``(s, r)``; NaN where it is not positive."""
        half = self.values[:, :, len(self.steps) // 2 :]
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(np.exp(np.log(half).mean(axis=2)))

    @property
    def slope(self) -> tuple[float, float]:
        """Mean slope of late sharpness against size in log-log, and its standard error over seeds; NaN if one is not finite."""
        found = slope(self.sizes, self.late)
        if not np.isfinite(found).all():
            return math.nan, math.nan
        error = float(found.std(ddof=1) / len(found) ** 0.5) if len(found) > 1 else 0.0
        return float(found.mean()), error

    @property
    def passed(self) -> bool:
        """Whether the slope is not beyond the bound by more than its standard error, and that error is not beyond it."""
        value, error = self.slope
        return abs(value) - error <= self.bound and error <= self.bound

    @property
    def why(self) -> str:
        """The verdict in a sentence."""
        value, error = self.slope
        if not math.isfinite(value):
            return "Sharpness is not positive and finite somewhere: a training broke down or has converged; try another rate."
        at = float(np.median(self.late[-1])) / self.edge
        said = f"slope {value:+.2f} +- {error:.2f}, at the largest {self.along} {at:.2f} of the edge of stability"
        if abs(value) - error <= self.bound < error:
            return f"Seeds differ too much to tell whether sharpness follows the {self.along}: {said}; take more seeds or steps."
        if self.passed:
            return f"Sharpness late in training does not follow the {self.along}: {said}."
        return (
            f"Sharpness late in training {'grows' if value > 0 else 'falls'} with the {self.along}: {said}."
        )

    def table(self) -> str:
        """A line per size: sharpness over the training."""
        with np.errstate(divide="ignore", invalid="ignore"):
            middle = np.exp(np.log(self.values).mean(axis=1))
        shown = (
            range(len(self.steps))
            if len(self.steps) <= 6
            else np.linspace(0, len(self.steps) - 1, 6).astype(int)
        )
        head = (self.along, *(f"step {self.steps[j]}" for j in shown), "over the edge")
        rows = [
            (str(size), *(f"{middle[i, j]:.4g}" for j in shown), f"{np.median(self.late[i]) / self.edge:.3g}")
            for i, size in enumerate(self.sizes)
        ]
        return text_table(head, rows)

    def to_dict(self) -> dict[str, Any]:
        """As plain data."""
        value, error = self.slope
        return {
            "kind": "sharpness",
            "rule": self.rule,
            "optimizer": self.optimizer,
            "lr": self.lr,
            "along": self.along,
            "sizes": list(self.sizes),
            "passed": self.passed,
            "why": self.why,
            "bound": self.bound,
            "slope": value,
            "error": error,
            "edge": self.edge,
            "steps": list(self.steps),
            "values": self.values.tolist(),
            "losses": self.losses.tolist(),
        }


def sharpness_check(
    family: Builder,
    rule: str,
    batches: Batches,
    *,
    along: str = "width",
    sizes: Sequence[int] = (32, 64, 128),
    steps: int = 60,
    moments: int = 7,
    lr: float = 2**-7,
    optimizer: Optimizer = "adam",
    seeds: Sequence[int] = (0, 1, 2),
    loss: Loss | None = None,
    make: Make | None = None,
    bound: float = BOUND,
) -> Sharpnesses:
    """Trains at every size and measures the sharpness of the first batch as it goes.

    Args:
        family: Builds the model at any size.
        rule: The parametrization.
        batches: From a seed, inputs and targets.
        along: The dimension that grows, others stay at the base.
        sizes: Two or more.
        steps: Of every training.
        moments: How often it is measured, evenly; after the first step at the earliest, as Adam has no second moments before.
        lr: Base rate, about the best at the base size.
        optimizer: Which rates the plan gives, and what steps.
        seeds: Each is a first model and a stream of batches.
        loss: Of the model's output and the targets; see ``checking.usual_loss``.
        make: Builds the optimizer from plan, model and rate, for those that PyTorch has not.
        bound: Largest slope that passes.

    Raises:
        ConfigError: If there are too few sizes, moments or seeds, or a training breaks down.
    """
    found = ladder(family, along, sizes)
    if not 1 <= moments <= steps or not len(seeds) or not 0 < lr < math.inf:
        raise ConfigError(
            f"A sharpness check needs a seed, a positive rate and moments within its steps; got {len(seeds)} seeds, lr={lr:g}, "
            f"{moments} moments, {steps} steps."
        )
    marks = tuple(sorted({round(float(v)) for v in np.linspace(1, steps, moments)}))
    seen: list[list[tuple[float, float]]] = []
    for size in found:
        for seed in seeds:
            model, plan = family.build(rule, seed, optimizer=optimizer, **{along: size})
            stepper = optimizer_of(plan, model, lr, make)
            seen.append(
                list(
                    _followed(
                        without_chance(model), plan, stepper, stream(batches, seed), loss or usual_loss, marks
                    )
                )
            )
    shape = (len(found), len(seeds), len(marks), 2)
    measured = np.array(seen).reshape(shape)
    return Sharpnesses(rule, optimizer, lr, along, found, marks, measured[..., 0], measured[..., 1], bound)


def _followed(
    model: nn.Module,
    plan: Plan,
    stepper: torch.optim.Optimizer,
    pairs: Iterator[Pair],
    loss: Loss,
    marks: Sequence[int],
) -> Iterator[tuple[float, float]]:
    """Sharpness and loss on the first batch after each marked step."""
    first = next(pairs)
    x, y = first
    for step in range(1, max(marks) + 1):
        stepper.zero_grad()
        torch.autograd.backward(loss_of(model, loss, x, y))
        stepper.step()
        if step in marks:
            value = sharpness(model, first, loss, scale=step_scale(plan, model, stepper)).values[0]
            with torch.no_grad():
                yield float(value), float(loss(model(first[0]), first[1]))
        x, y = next(pairs)
