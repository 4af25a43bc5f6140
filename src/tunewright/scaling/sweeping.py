"""Trains one model at many rates and seeds at once: the trainings are stacked and every operation works on all of them.

Small models are bound by the number of operations, not by their size; ten trainings side by side take little longer than one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from tunewright.errors import ConfigError
from tunewright.scaling.checking import Batches, Loss, loss_of, stream
from tunewright.scaling.plans import Entry, Plan
from tunewright.scaling.tensors import parameters_of

Step = Literal["sgd", "adam", "adamw", "adam-atan2", "lion"]
_ATAN2 = 1.27  # as optim.AdamAtan2: nearly 4 / pi, with which a first step is as long as Adam's
_ELEMENTS = 40_000_000
"""Weights that are trained at once at most; five times as many floats are held."""


class NotStacked(ConfigError):
    """Trainings of a model cannot be stacked: what it computes depends on values, or has no stacked form in PyTorch."""


@dataclass(frozen=True, slots=True)
class Sweep:
    """Trainings at several rates and seeds.

    Attributes:
        rates: Shape ``(r,)``.
        seeds: Shape ``(s,)``.
        losses: Training loss of every step, shape ``(r, s, steps)``; infinite from where a training broke down.
        final: Loss on the data held out, or else the mean of the last tenth of ``losses``, shape ``(r, s)``.
    """

    rates: NDArray[np.float64]
    seeds: NDArray[np.int64]
    losses: NDArray[np.float64]
    final: NDArray[np.float64]

    @property
    def mean(self) -> NDArray[np.float64]:
        """Mean final loss by rate, shape ``(r,)``; infinite where a seed broke down."""
        return np.asarray(self.final.mean(axis=1))

    @property
    def best(self) -> float:
        """The rate with the lowest mean final loss."""
        return float(self.rates[int(np.argmin(self.mean))])

    def best_by_seed(self) -> NDArray[np.float64]:
        """The rate with the lowest final loss of each seed, shape ``(s,)``."""
        return np.asarray(self.rates[np.argmin(self.final, axis=0)])


@dataclass(frozen=True, slots=True)
class How:
    """How trainings of a sweep step.

    Attributes:
        optimizer: The rule.
        betas: Averages of Adam and Lion; for SGD the first is the momentum.
        eps: Adam's.
        weight_decay: Decoupled for adamw, adam-atan2 and lion, added to the gradient for sgd and adam.
        schedule: Factor on the rates from the share of training that is over.
    """

    optimizer: Step = "adam"
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0
    schedule: Callable[[float], float] | None = None


def sweep(
    build: Callable[[int], nn.Module],
    rates: Sequence[float],
    seeds: Sequence[int],
    batches: Batches,
    loss: Loss,
    *,
    steps: int,
    how: How | None = None,
    plan: Plan | None = None,
    held_out: tuple[Tensor, Tensor] | None = None,
) -> Sweep:
    """Trains at every rate with every seed.

    Args:
        build: The model with its first values, from a seed.
        rates: Base learning rates.
        seeds: Each is a first model and an order of batches, the same for all rates.
        batches: From a seed, at least ``steps`` pairs of inputs and targets.
        loss: Of the model's output and the targets, a scalar.
        steps: Steps of every training.
        how: The optimizer; Adam without decay by default.
        plan: Factors on rates, decay and eps by tensor; ``build`` has applied it.
        held_out: Inputs and targets for ``Sweep.final``.

    Raises:
        ConfigError: If there are no rates, seeds or steps, or a rate is not positive.
    """
    how = how or How()
    _check(rates, seeds, steps, how)
    members = [(float(r), int(s)) for s in seeds for r in rates]
    size = sum(p.numel() for p in build(int(seeds[0])).parameters())
    at_once = max(1, min(len(members), _ELEMENTS // max(1, 5 * size)))
    found, final = [], []
    for i in range(0, len(members), at_once):
        chunk = members[i : i + at_once]
        trained, last = _train(build, chunk, batches, loss, steps, how, plan, held_out)
        found.append(trained)
        final.append(last)
    shape = (len(seeds), len(rates))
    losses = np.concatenate(found).reshape(*shape, steps).swapaxes(0, 1)
    ends = np.concatenate(final).reshape(shape).T
    return Sweep(np.asarray(rates, dtype=np.float64), np.asarray(seeds, dtype=np.int64), losses, ends)


def _check(rates: Sequence[float], seeds: Sequence[int], steps: int, how: How) -> None:
    if not len(rates) or not len(seeds) or steps < 1:
        raise ConfigError(
            f"A sweep needs rates, seeds and steps; got {len(rates)} rates, {len(seeds)} seeds and {steps} steps."
        )
    if not all(math.isfinite(r) and r > 0 for r in rates):
        raise ConfigError(f"Rates of a sweep must be positive; got {list(rates)}.")
    if how.optimizer not in get_args(Step):
        raise ConfigError(f"A sweep steps by {', '.join(get_args(Step))}; got {how.optimizer!r}.")


def _train(
    build: Callable[[int], nn.Module],
    members: Sequence[tuple[float, int]],
    batches: Batches,
    loss: Loss,
    steps: int,
    how: How,
    plan: Plan | None,
    held_out: tuple[Tensor, Tensor] | None,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    seeds = list(dict.fromkeys(s for _, s in members))
    models = {s: build(s) for s in seeds}
    shell = models[seeds[0]]
    which = torch.tensor([seeds.index(s) for _, s in members])
    trained = [n for n, p in shell.named_parameters() if p.requires_grad]
    values = {n: torch.stack([_named(models[s], n) for _, s in members]) for n in trained}
    rest = {n: torch.stack([_named(models[s], n) for _, s in members]) for n in _others(shell, trained)}

    def one(weights: dict[str, Tensor], kept: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        return loss(functional_call(shell, (weights, kept), (x,)), y)

    pulled = vmap(grad_and_value(one), randomness="different")
    stepper = _Stepper(how, values, [r for r, _ in members], _entries(shell, trained, plan), steps)
    streams = [stream(batches, s) for s in seeds]
    out = np.empty((len(members), steps))
    for t in range(steps):
        x, y = _next(streams, which)
        try:
            with sdpa_kernel(SDPBackend.MATH):  # the fused kernel cannot be stacked
                gradients, losses = pulled(values, rest, x, y)
        except ConfigError:
            raise
        except Exception as error:
            loss_of(shell, loss, x[0], y[0])  # says what is wrong, if it is so for one training, too
            said = " ".join(f"{type(error).__name__}: {error}".split())
            raise NotStacked(
                f"Trainings must be such that many run stacked; {type(shell).__name__} is not ({said}). Pass make=, with which "
                "rate_check trains them one by one."
            ) from error
        out[:, t] = losses.detach().double().numpy()
        stepper.step(gradients, t)
    out[np.isnan(out)] = np.inf
    out = np.maximum.accumulate(np.where(np.isinf(out), np.inf, 0.0), axis=1) + np.where(
        np.isinf(out), 0, out
    )
    if held_out is None:
        return out, out[:, -max(1, steps // 10) :].mean(axis=1)
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        kept = vmap(one, in_dims=(0, 0, None, None), randomness="different")(values, rest, *held_out)
    ends = kept.double().numpy()
    ends[~np.isfinite(ends) | ~np.isfinite(out[:, -1])] = np.inf
    return out, ends


def _named(model: nn.Module, name: str) -> Tensor:
    owner, _, last = name.rpartition(".")
    found: Tensor = getattr(model.get_submodule(owner), last)
    return found.detach()


def _others(model: nn.Module, trained: Sequence[str]) -> Iterator[str]:
    """Frozen parameters and buffers."""
    known = set(trained)
    for name, _ in (*model.named_parameters(), *model.named_buffers()):
        if name not in known:
            yield name


def _entries(model: nn.Module, trained: Sequence[str], plan: Plan | None) -> dict[str, Entry]:
    """What the plan says of every trained weight, by the name that the model has for it, wrapped as it may be."""
    if plan is None:
        return {}
    known = {id(p): plan.entries[n] for n, p in parameters_of(model).items() if n in plan.entries}
    named = dict(model.named_parameters())
    missing = [n for n in trained if id(named[n]) not in known]
    if missing:
        raise ConfigError(
            f"The plan of a sweep must be that of its model; it has no entry for {missing[0]}. Make the plan of what build returns."
        )
    return {n: known[id(named[n])] for n in trained}


def _next(streams: Sequence[Iterator[tuple[Tensor, Tensor]]], which: Tensor) -> tuple[Tensor, Tensor]:
    pairs = [next(s) for s in streams]
    x = torch.stack([p[0] for p in pairs])
    y = torch.stack([p[1] for p in pairs])
    return x[which], y[which]


class _Stepper:
    """An optimizer over stacked weights, in place, with a rate per training and tensor."""

    def __init__(
        self,
        how: How,
        values: dict[str, Tensor],
        rates: Sequence[float],
        entries: Mapping[str, Entry],
        steps: int,
    ) -> None:
        self.how, self.values, self.steps = how, values, steps
        base = torch.tensor(rates, dtype=torch.float32)
        self.lr, self.wd, self.eps = {}, {}, {}
        for name, value in values.items():
            e = entries.get(name)
            self.lr[name] = (base * (e.lr if e else 1.0)).reshape(-1, *[1] * (value.dim() - 1))
            self.wd[name] = how.weight_decay * (e.wd if e else 1.0)
            self.eps[name] = how.eps * (e.eps if e else 1.0)
        self.m = {n: torch.zeros_like(v) for n, v in values.items()}
        self.v = {n: torch.zeros_like(v) for n, v in values.items()} if "adam" in how.optimizer else {}

    def step(self, gradients: Mapping[str, Tensor], t: int) -> None:
        factor = self.how.schedule(t / self.steps) if self.how.schedule else 1.0
        for name, w in self.values.items():
            g, lr, decay = gradients[name], self.lr[name] * factor, self.wd[name]
            if decay and self.how.optimizer in ("sgd", "adam"):
                g = g + decay * w
            elif decay:
                w.sub_(lr * decay * w)
            w.addcmul_(self._direction(name, g, t), lr, value=-1.0)

    def _direction(self, name: str, g: Tensor, t: int) -> Tensor:
        b1, b2 = self.how.betas
        m = self.m[name]
        if self.how.optimizer == "sgd":
            return m.mul_(b1).add_(g)
        if self.how.optimizer == "lion":
            sign = (b1 * m + (1 - b1) * g).sign_()
            m.mul_(b2).add_(g, alpha=1 - b2)
            return sign
        v = self.v[name]
        m.lerp_(g, 1 - b1)
        v.mul_(b2).addcmul_(g, g, value=1 - b2)
        top, root = m / (1 - b1 ** (t + 1)), (v / (1 - b2 ** (t + 1))).sqrt_()
        if self.how.optimizer == "adam-atan2":
            return _ATAN2 * torch.atan2(top, root)
        return top.div_(root.add_(self.eps[name]))
