"""Learning-rate transfer check: whether the best rate of a narrow or shallow model is that of a wide or deep one.

*Use when*: a rate is to be taken from a proxy to a target, and a few sizes in between can be trained, at a fraction of the target's
cost. The coordinate check is a necessary condition; this is the thing itself.

*Do not use when*: losses at neighbouring rates differ less than seeds do: train longer or with more seeds first, else the best
rate is a matter of chance (its interval says so).

*Paper*: Yang et al. 2022, arXiv:2203.03466, section 6 and figures 1 and 3 (training loss against rate, a curve per width).

*Differs*: the papers look at plots. Here the best rate is that of the lowest mean loss over seeds, with an interval by resampling
seeds; the check passes if it moves from that of the base by one step of the grid at most and is never at the grid's end. What
taking the base's rate costs at every size is reported beside it.

*Cost*: a training for every size, rate and seed, side by side for small models.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
import torch
from torch import nn

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
    stream,
    text_table,
    usual_loss,
)
from tunewright.scaling.plans import Plan
from tunewright.scaling.rules.base import Optimizer
from tunewright.scaling.sweeping import How, NotStacked, Step, sweep

_DRAWS = 1000
POWERS = tuple(2.0**k for k in range(-11, -2))
"""Rates that are compared when none are given, for optimizers like Adam."""


@dataclass(frozen=True, slots=True, eq=False)
class Rates:
    """What a transfer check saw, for ``s`` sizes, ``r`` rates and ``k`` seeds.

    Attributes:
        rule: The parametrization.
        optimizer: What stepped.
        along: The dimension that grew.
        sizes: Its sizes, shape ``(s,)``.
        base: The size whose best rate is taken over.
        rates: Ascending base rates, shape ``(r,)``.
        losses: Final losses, infinite where a training broke down, shape ``(s, r, k)``.
        weights: Parameters of a model of each size, shape ``(s,)``.
        seconds: Time that all trainings of a size took, shape ``(s,)``.
        most: Steps of the grid by which the best rate may move.
    """

    rule: str
    optimizer: str
    along: str
    sizes: tuple[int, ...]
    base: int
    rates: Floats
    losses: Floats
    weights: tuple[int, ...]
    seconds: tuple[float, ...]
    most: float = 1.0

    @property
    def mean(self) -> Floats:
        """Mean losses over seeds, shape ``(s, r)``."""
        return np.asarray(self.losses.mean(axis=2))

    @property
    def best(self) -> Floats:
        """The best rate of each size, shape ``(s,)``."""
        return np.asarray(self.rates[np.argmin(self.mean, axis=1)])

    @property
    def shifts(self) -> Floats:
        """Steps of the grid from the best rate of the base to that of each size, shape ``(s,)``."""
        at = np.argmin(self.mean, axis=1).astype(np.float64)
        return np.asarray(at - at[self._base])

    @property
    def regret(self) -> Floats:
        """How much higher the loss is with the base's best rate than with a size's own, shape ``(s,)``."""
        at = int(np.argmin(self.mean[self._base]))
        with np.errstate(invalid="ignore"):  # NaN where every training broke down
            return np.asarray(self.mean[:, at] - self.mean.min(axis=1))

    @property
    def ends(self) -> tuple[int, ...]:
        """Sizes whose best rate is the lowest or the highest of the grid."""
        at = np.argmin(self.mean, axis=1)
        return tuple(s for s, i in zip(self.sizes, at, strict=True) if i in (0, len(self.rates) - 1))

    @property
    def passed(self) -> bool:
        """Whether no best rate moves by more than ``most`` steps, and each lies within the grid."""
        return not self.ends and float(np.abs(self.shifts).max()) <= self.most

    @property
    def why(self) -> str:
        """The verdict in a sentence."""
        if not np.isfinite(self.mean).any(axis=1).all():
            return "At a size every training broke down; give lower rates."
        if self.ends:
            return (
                f"At {self.along} {self.ends[0]} the best rate is at the end of those compared, so the best one is not known; give "
                "more rates on that side."
            )
        worst = int(np.argmax(np.abs(self.shifts)))
        moved = (
            f"the best rate moves by {self.shifts[worst]:+g} steps from {self.along} {self.base} to {self.sizes[worst]}"
            if self.shifts[worst]
            else f"the best rate of {self.along} {self.base} is that of every size"
        )
        said = f"{moved}; taking that of {self.base} over costs at most {float(self.regret.max()):.3g} in the loss."
        return ("In bounds: " if self.passed else "It does not transfer: ") + said

    def intervals(self, share: float = 0.9, seed: int = 0) -> Floats:
        """Intervals of the best rates over resampled seeds, shape ``(s, 2)``.

        Args:
            share: Of the resamples that lie within.
            seed: Of the resampling.
        """
        rng = np.random.default_rng(seed)
        count = self.losses.shape[2]
        drawn = rng.integers(0, count, size=(_DRAWS, count))
        at = np.argmin(self.losses[:, :, drawn].mean(axis=3), axis=1)
        low, high = np.quantile(at, [(1 - share) / 2, (1 + share) / 2], axis=1, method="nearest")
        return np.stack([self.rates[low.astype(int)], self.rates[high.astype(int)]], axis=1)

    def table(self) -> str:
        """A line per size."""
        found = np.log2(self.intervals())
        rows = [
            (
                str(size),
                f"{self.weights[i]:,}",
                f"2^{math.log2(self.best[i]):g}",
                f"2^{found[i, 0]:g} to 2^{found[i, 1]:g}",
                f"{self.shifts[i]:+g}",
                f"{self.mean[i].min():.4g}",
                f"{self.regret[i]:.3g}",
                f"{self.seconds[i]:.1f}",
            )
            for i, size in enumerate(self.sizes)
        ]
        head = (
            self.along,
            "weights",
            "best rate",
            "90 %",
            "steps",
            "loss",
            "cost of the base's rate",
            "seconds",
        )
        return text_table(head, rows)

    def to_dict(self) -> dict[str, Any]:
        """As plain data; infinite losses are None."""
        return {
            "kind": "rates",
            "rule": self.rule,
            "optimizer": self.optimizer,
            "along": self.along,
            "sizes": list(self.sizes),
            "base": self.base,
            "passed": self.passed,
            "why": self.why,
            "rates": self.rates.tolist(),
            "losses": [
                [[v if math.isfinite(v) else None for v in seeds] for seeds in rates]
                for rates in self.losses.tolist()
            ],
            "best": self.best.tolist(),
            "intervals": self.intervals().tolist(),
            "shifts": self.shifts.tolist(),
            "regret": [v if math.isfinite(v) else None for v in self.regret.tolist()],
            "weights": list(self.weights),
            "seconds": [round(s, 2) for s in self.seconds],
        }

    @property
    def _base(self) -> int:
        return self.sizes.index(self.base)


def rate_check(
    family: Builder,
    rule: str,
    batches: Batches,
    *,
    along: str = "width",
    sizes: Sequence[int] = (32, 64, 128),
    rates: Sequence[float] = POWERS,
    steps: int = 200,
    optimizer: Optimizer = "adam",
    seeds: Sequence[int] = (0, 1, 2),
    loss: Loss | None = None,
    how: How | None = None,
    make: Make | None = None,
    held_out: Pair | None = None,
    most: float = 1.0,
) -> Rates:
    """Trains at every rate at every size.

    Args:
        family: Builds the model at any size.
        rule: The parametrization.
        batches: From a seed, inputs and targets.
        along: The dimension that grows, others stay at the base.
        sizes: Two or more; the base's own is taken as that to transfer from if it is among them, else the smallest.
        rates: Base rates, three or more, evenly spaced in their logarithm.
        steps: Of every training.
        optimizer: Which rates the plan gives, and what steps.
        seeds: Each is a first model and a stream of batches.
        loss: Of the model's output and the targets; see ``usual_loss``.
        how: Averages, eps, decay and schedule; its optimizer is replaced.
        make: Builds the optimizer from plan, model and rate, for those that PyTorch has not; trainings then run one by one, as
            they do where they cannot be stacked.
        held_out: Inputs and targets for the final loss; the mean over the last tenth of training otherwise.
        most: Steps of the grid by which the best rate may move.

    Raises:
        ConfigError: If there are too few sizes or rates, rates are not evenly spaced, or a model cannot be trained.
    """
    found = ladder(family, along, sizes)
    grid = _grid(rates)
    if not len(seeds):
        raise ConfigError("A transfer check needs a seed; got none. Pass seeds=(0, 1, 2).")
    task = _Task(family, rule, optimizer, batches, loss or usual_loss, steps, held_out)
    side_by_side = make is None and optimizer in get_args(Step)
    losses, weights, seconds = [], [], []
    for size in found:
        began = time.perf_counter()
        at = {along: size}
        plan = task.build(int(seeds[0]), at)[1]
        done = task.together(plan, at, grid, seeds, how) if side_by_side else None
        if done is None:
            done = np.array([[task.alone(at, r, s, make) for s in seeds] for r in grid.tolist()])
        losses.append(done)
        weights.append(sum(math.prod(e.shape) for e in plan.entries.values()))
        seconds.append(time.perf_counter() - began)
    base = family.base[along] if family.base[along] in found else found[0]
    return Rates(
        rule, optimizer, along, found, base, grid, np.stack(losses), tuple(weights), tuple(seconds), most
    )


def _grid(rates: Sequence[float]) -> Floats:
    grid = np.sort(np.asarray(rates, dtype=np.float64))
    if len(grid) < 3 or not (np.isfinite(grid) & (grid > 0)).all():
        raise ConfigError(f"A transfer check compares three positive rates or more; got {list(rates)}.")
    steps = np.diff(np.log(grid))
    if steps.min() <= 0 or steps.max() > 1.01 * steps.min():
        raise ConfigError(
            f"Rates must be evenly spaced in their logarithm, so that steps between them mean something; got {list(rates)}. Take powers "
            "of 2."
        )
    return grid


def _as(how: How | None, optimizer: Any) -> How:
    given = how or (How(betas=(0.0, 0.0)) if optimizer == "sgd" else How())
    return How(optimizer, given.betas, given.eps, given.weight_decay, given.schedule)


@dataclass(frozen=True, slots=True)
class _Task:
    """What is trained, whatever its size, rate and seed."""

    family: Builder
    rule: str
    optimizer: Any
    batches: Batches
    loss: Loss
    steps: int
    held_out: Pair | None

    def build(self, seed: int, at: Mapping[str, int]) -> tuple[nn.Module, Plan]:
        """The model of a size and its plan."""
        return self.family.build(self.rule, seed, optimizer=self.optimizer, **at)

    def together(
        self, plan: Plan, at: Mapping[str, int], grid: Floats, seeds: Sequence[int], how: How | None
    ) -> Floats | None:
        """Final losses by rate and seed, all trained side by side; None if they cannot be, but can one by one."""
        try:
            done = sweep(
                lambda seed: self.build(seed, at)[0],
                grid.tolist(),
                seeds,
                self.batches,
                self.loss,
                steps=self.steps,
                how=_as(how, self.optimizer),
                plan=plan,
                held_out=self.held_out,
            )
        except NotStacked:
            if how is not None or self.optimizer not in ("sgd", "adam", "adamw"):
                raise
            return None
        return done.final

    def alone(self, at: Mapping[str, int], rate: float, seed: int, make: Make | None) -> float:
        """The final loss of one training, for optimizers that sweeps do not have."""
        model, plan = self.build(seed, at)
        stepper = optimizer_of(plan, model, rate, make)
        seen: list[float] = []
        for (x, y), _ in zip(stream(self.batches, seed), range(self.steps), strict=False):
            stepper.zero_grad()
            value = loss_of(model, self.loss, x, y)
            torch.autograd.backward(value)
            stepper.step()
            seen.append(float(value.detach()))
            if not math.isfinite(seen[-1]):
                return math.inf
        if self.held_out is None:
            return float(np.mean(seen[-max(1, self.steps // 10) :]))
        with torch.no_grad():
            end = float(self.loss(model(self.held_out[0]), self.held_out[1]))
        return end if math.isfinite(end) else math.inf
