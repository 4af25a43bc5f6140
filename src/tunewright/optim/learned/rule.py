"""The update rule of the learned optimizer: a recurrent network per tensor that mixes a tiny network per weight.

*Use when*: training or inspecting the rule itself; users want ``tunewright.optim.learned.LearnedOptimizer``.

*Do not use when*: an optimizer is wanted.

*Paper*: Metz et al. 2022, arXiv:2211.09760, section 2.2 and appendix B (features, hypernetwork, bank of networks).

*Differs*: a gated recurrent unit of 12 in place of an LSTM of 512, a bank of 4 networks with 4 hidden units, 10 features per
weight and 15 per tensor, about 2,000 numbers in all. The rule is a correction of Adam with linear decay: with all learned
outputs at zero it is that. Features are dimensionless, so the loss's scale and offset do not matter.

A rule may also be kept from knowing widths (Thérien et al. 2024, arXiv:2406.00153): then moves go with a constant and a factor per
tensor in place of a root of its fan-in, and the features that tell of sizes are gone. With factors from the maximal update
parametrization what the rule does to a network is the same at any width.

*Cost*: about 50 passes over the weights, most of them in pieces that fit the cache, and 60 multiplications per weight and
step; four numbers of state per weight.

Every function takes a leading dimension ``p`` of independent particles, so that one call advances many trainings with many
rules; an optimizer in use has ``p = 1``. Tensors are seen as matrices ``(p, r, c)``; a vector has one row.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

HIDDEN, POOL, BANK, UNITS = 12, 6, 4, 4
FEATURES, OWN = 10, 15
_INPUTS = OWN + POOL
_OUTPUTS = 1 + FEATURES + BANK
SHAPES: dict[str, tuple[int, ...]] = {
    "cell_x": (_INPUTS, 3 * HIDDEN),
    "cell_h": (HIDDEN, 3 * HIDDEN),
    "cell_b": (1, 3 * HIDDEN),
    "pool": (HIDDEN, POOL),
    "out_h": (HIDDEN, _OUTPUTS),
    "out_x": (_INPUTS, _OUTPUTS),
    "out_b": (1, _OUTPUTS),
    "first": (BANK, UNITS * (FEATURES + 1)),
    "second": (BANK, 2 * (UNITS + 1)),
}
SIZE = sum(math.prod(s) for s in SHAPES.values())
MOMENTA = (0.5, 0.9, 0.99)
_SECOND = 0.99
_TINY = 1e-24
_LIMIT = 5.0
_ADAM = 2  # the feature that Adam follows: the second momentum over the root of the second moment
_BASE, _VECTOR, _FLOOR = 0.06, 0.1, 0.02
_MATRIX = 0.125  # in place of the root of the fan-in where widths are not to be known
_STILL = 0.1  # of a unit: the size that weights which start at zero are compared with
_CHUNK = 16_384  # weights whose features fit a core's cache
State = dict[str, Any]


def unpacked(flat: Tensor) -> dict[str, Tensor]:
    """Named views of rules.

    Args:
        flat: All numbers of each rule, shape ``(p, SIZE)``.
    """
    out, at = {}, 0
    for name, shape in SHAPES.items():
        size = math.prod(shape)
        out[name] = flat[:, at : at + size].view(-1, *shape)
        at += size
    return out


def untrained(generator: torch.Generator) -> Tensor:
    """A rule before training, shape ``(SIZE,)``: random inner weights, and outputs that leave Adam with decay as it is."""
    parts = []
    for name, shape in SHAPES.items():
        spread = {"cell_x": 0.3, "cell_h": 0.2, "pool": 0.3, "first": 0.3, "second": 0.01}.get(name, 0.0)
        parts.append(spread * torch.randn(math.prod(shape), generator=generator))
    return torch.cat(parts)


def fresh(weight: Tensor) -> State:
    """State of a tensor before its first step: averages of its gradients, memory, and how many gradients it had.

    Args:
        weight: Shape ``(p, r, c)``.
    """
    p, r, c = weight.shape
    state: State = {f"momentum{i}": torch.zeros_like(weight) for i in range(len(MOMENTA))}
    state["second"] = torch.zeros_like(weight)
    state["rows"], state["columns"] = weight.new_zeros(p, r, 1), weight.new_zeros(p, 1, c)
    state["hidden"] = torch.zeros(p, HIDDEN, device=weight.device)
    state["count"] = 0
    return state


def followed(trend: Tensor, loss: Tensor) -> Tensor:
    """What is remembered of the loss after one more value.

    Args:
        trend: The first loss, its fast and its slow average, and its noise, shape ``(p, 4)``; the first is NaN before any.
        loss: Shape ``(p,)``; values that are not finite leave the trend as it is.
    """
    first, fast, slow, noise = trend.unbind(1)
    new = torch.stack((loss, loss, loss, torch.zeros_like(loss)), dim=1)
    noise = torch.lerp(noise, (loss - fast).abs(), 0.1)
    next_ = torch.stack((first, torch.lerp(fast, loss, 0.1), torch.lerp(slow, loss, 0.02), noise), dim=1)
    next_ = torch.where(first[:, None].isnan(), new, next_)
    return torch.where(loss.isfinite()[:, None], next_, trend)


@dataclass(frozen=True, slots=True)
class Moment:
    """Where a training is.

    Attributes:
        step: Steps taken before this one.
        total: Steps planned.
        trend: See ``followed``, shape ``(p, 4)``.
    """

    step: int
    total: int
    trend: Tensor

    def features(self) -> Tensor:
        """Seven numbers that all tensors share, shape ``(p, 7)``."""
        part = min(1.0, self.step / self.total)
        clock = (
            2.0 * part - 1.0,
            math.exp(-20.0 * part),
            math.exp(-self.step / 10.0),
            math.log(self.total / 100.0) / 3.0,
        )
        first, fast, slow, noise = self.trend.unbind(1)
        known = first.isfinite()
        noise = noise + 1e-12 + 1e-6 * fast.abs()
        falling = torch.tanh((slow - fast) / noise)
        fallen = torch.log1p(((first - fast) / noise).clamp(0.0, 1e6)) / 3.0
        shared = torch.tensor(clock, device=first.device).expand(len(first), -1)
        losses = torch.stack((falling, fallen, torch.ones_like(first)), dim=1)
        return torch.cat((shared, torch.where(known[:, None], losses, 0.0).float()), dim=1)


def advanced(
    rule: dict[str, Tensor],
    states: Sequence[State],
    weights: Sequence[Tensor],
    gradients: Sequence[Tensor],
    moment: Moment,
    scales: Sequence[float] | None = None,
) -> list[Tensor]:
    """The changes that the rules make to the weights, after advancing the states in place.

    Args:
        rule: From ``unpacked``; leading dimension ``p``.
        states: One per tensor; see ``fresh``.
        weights: Each of shape ``(p, r, c)``.
        gradients: Same shapes.
        moment: Where the trainings are.
        scales: Factors on the moves of each tensor, for rules that know no widths; without them a rule knows the shapes.
    """
    shared = moment.features()
    blind = scales is not None
    factors = [1.0] * len(weights) if scales is None else scales
    units = [_unit(w, blind) * f for w, f in zip(weights, factors, strict=True)]
    levels = [
        _absorbed(s, w, g, u, blind) for s, w, g, u in zip(states, weights, gradients, units, strict=True)
    ]
    own = torch.stack([torch.cat((level.features(), shared), dim=1) for level in levels], dim=1)
    outputs, hidden = _told(rule, own, torch.stack([s["hidden"] for s in states], dim=1))
    part = min(1.0, moment.step / moment.total)
    rate = math.log(_BASE * (1.0 - part + _FLOOR))
    changes = []
    for i, (state, weight, gradient) in enumerate(zip(states, weights, gradients, strict=True)):
        state["hidden"] = hidden[:, i].contiguous()
        told = outputs[:, i]
        state["rate"] = torch.exp((told[:, 0] + rate + math.log(units[i])).clamp(max=0.0))
        mixer = _Mixer.of(rule, told, state["rate"], weight)
        change = torch.empty_like(weight)
        rows = max(1, _CHUNK // (len(weight) * weight.shape[2]))
        for at in range(0, weight.shape[1], rows):
            part_of = slice(at, at + rows)
            fine = _features(state, weight, gradient, levels[i], part_of)
            change[:, part_of] = mixer.applied(fine).view(len(weight), -1, weight.shape[2])
        changes.append(change)
    return changes


def _unit(weight: Tensor, blind: bool) -> float:
    """How large a tensor's weights are thought to be, by its shape, or without looking at widths."""
    if weight.shape[1] == 1:
        return _VECTOR
    return _MATRIX if blind else 1.0 / math.sqrt(weight.shape[2])


@dataclass(frozen=True, slots=True)
class _Levels:
    """What is typical of a tensor at one step; tensors of shape ``(p, 1, 1)``.

    Attributes:
        root: Root of the mean second moment.
        sizes: Root mean squares of the gradient and of the second and third momentum.
        bulk: That of the weights.
        agreement: Cosine between the gradient and the second momentum before it.
        shape: Of the tensor.
        unit: See ``_unit``; times the tensor's factor.
        usual: What the weights' size is compared with: the unit, or what it was at first where widths are not to be known.
        blind: Whether widths are not to be known.
    """

    root: Tensor
    sizes: tuple[Tensor, Tensor, Tensor]
    bulk: Tensor
    agreement: Tensor
    shape: tuple[int, int]
    unit: float
    usual: Tensor | float
    blind: bool

    def features(self) -> Tensor:
        """Eight numbers, shape ``(p, 8)``."""
        r, c = self.shape
        ratios = [torch.log(s / self.root + 1e-3) for s in self.sizes]
        size = torch.log(self.bulk / self.usual + 1e-3) / 2.0
        measured = torch.cat([x.view(-1, 1).float() for x in (*ratios, size, self.agreement)], dim=1)
        sizes = (0.0, 0.0) if self.blind else (math.log(c) / 5.0 - 0.8, math.log(r * c) / 10.0 - 0.7)
        fixed = torch.tensor((float(r > 1), *sizes), device=measured.device).expand(len(measured), -1)
        return torch.cat((measured.clamp(-_LIMIT, _LIMIT), fixed), dim=1)


def _absorbed(state: State, weight: Tensor, gradient: Tensor, unit: float, blind: bool) -> _Levels:
    """Takes a gradient into a tensor's averages."""
    state["count"] = count = state["count"] + 1
    before = state["momentum1"]
    size = _size(gradient)
    agreement = _mean(gradient * before) / (size * _size(before) + _TINY)
    square = gradient * gradient
    state["rows"].lerp_(square.mean(2, keepdim=True), count**-0.8)
    state["columns"].lerp_(square.mean(1, keepdim=True), count**-0.8)
    state["second"].lerp_(square, 1.0 - _SECOND)
    for i, beta in enumerate(MOMENTA):
        state[f"momentum{i}"].lerp_(gradient, 1.0 - beta)
    middle, slow = (_size(state[f"momentum{i}"]) / (1.0 - MOMENTA[i] ** count) for i in (1, 2))
    root = (_mean(state["second"]) / (1.0 - _SECOND**count) + _TINY).sqrt()
    shape, bulk = (weight.shape[1], weight.shape[2]), _size(weight)
    usual: Tensor | float = unit
    if blind:
        usual = state.setdefault("start", bulk) + _STILL * unit
    return _Levels(root, (size, middle, slow), bulk, agreement, shape, unit, usual, blind)


def _features(state: State, weight: Tensor, gradient: Tensor, level: _Levels, rows: slice) -> Tensor:
    """Features of each weight in some rows, shape ``(p, FEATURES, n)``."""
    weight, gradient = weight[:, rows], gradient[:, rows]
    count = state["count"]
    second = state["second"][:, rows] / (1.0 - _SECOND**count)
    inverse = second.add_(_TINY).rsqrt_()
    momenta = [state[f"momentum{i}"][:, rows] / (1.0 - b**count) for i, b in enumerate(MOMENTA)]
    across = state["rows"][:, rows] / (state["rows"].mean(1, keepdim=True) + _TINY)
    factored = (across * state["columns"]).add_(_TINY).rsqrt_()
    out = weight.new_empty(len(weight), FEATURES, *weight.shape[1:])
    for i, m in enumerate((gradient, *momenta)):
        torch.mul(m, inverse, out=out[:, i])
    torch.mul(gradient, factored, out=out[:, 4])
    torch.mul(momenta[1], factored, out=out[:, 5])
    torch.div(momenta[1], level.sizes[1] + _TINY, out=out[:, 6])
    torch.div(gradient, level.sizes[0] + _TINY, out=out[:, 7])
    torch.div(weight, level.bulk + 1e-3 * level.unit, out=out[:, 8])
    torch.log(inverse.mul_(level.root), out=out[:, 9])
    return out.flatten(2).clamp_(-_LIMIT, _LIMIT)


def _mean(x: Tensor) -> Tensor:
    return x.mean((1, 2), keepdim=True)


def _size(x: Tensor) -> Tensor:
    """Root mean square of each matrix, shape ``(p, 1, 1)``."""
    norm: Tensor = torch.linalg.vector_norm(x, dim=(1, 2), keepdim=True)
    return norm / math.sqrt(x.shape[1] * x.shape[2])


def _told(rule: dict[str, Tensor], own: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
    """Outputs of the recurrent network for every tensor, shape ``(p, t, _OUTPUTS)``, and its new state ``(p, t, HIDDEN)``."""
    pooled = torch.tanh(hidden @ rule["pool"]).mean(1, keepdim=True).expand(-1, hidden.shape[1], -1)
    x = torch.cat((own, pooled), dim=2)
    from_x, from_h = x @ rule["cell_x"] + rule["cell_b"], hidden @ rule["cell_h"]
    reset, keep = torch.sigmoid(from_x[..., : 2 * HIDDEN] + from_h[..., : 2 * HIDDEN]).chunk(2, dim=2)
    new = torch.tanh(from_x[..., 2 * HIDDEN :] + reset * from_h[..., 2 * HIDDEN :])
    hidden = torch.lerp(new, hidden, keep)
    return hidden @ rule["out_h"] + x @ rule["out_x"] + rule["out_b"], hidden


@dataclass(frozen=True, slots=True)
class _Mixer:
    """The network per weight that a tensor was given.

    Attributes:
        both: Straight from the features to the move, and first layer, shape ``(p, 1 + UNITS, FEATURES)``.
        offset: Of the first layer, shape ``(p, UNITS, 1)``.
        outer: Second layer with its offsets, shape ``(p, 2, UNITS + 1)``.
        rate: Step size, shape ``(p, 1)``.
    """

    both: Tensor
    offset: Tensor
    outer: Tensor
    rate: Tensor

    @classmethod
    def of(cls, rule: dict[str, Tensor], told: Tensor, rate: Tensor, like: Tensor) -> _Mixer:
        """From the outputs for one tensor, shape ``(p, _OUTPUTS)``."""
        skip = told[:, 1 : 1 + FEATURES].clone()
        skip[:, _ADAM] += 1.0
        share = torch.softmax(told[:, 1 + FEATURES :], dim=1)[:, None, :]
        first = (share @ rule["first"]).view(len(told), UNITS, FEATURES + 1)
        outer = (share @ rule["second"]).view(len(told), 2, UNITS + 1)
        both = torch.cat((skip[:, None, :], first[..., :FEATURES]), dim=1)
        return cls(both.to(like), first[..., FEATURES:].to(like), outer.to(like), rate.to(like)[:, None])

    def applied(self, features: Tensor) -> Tensor:
        """What each weight moves by, shape ``(p, n)``."""
        mixed = self.both @ features
        inner = mixed[:, 1:].add_(self.offset).relu_()
        outer = (self.outer[..., :UNITS] @ inner).add_(self.outer[..., UNITS:])
        move: Tensor = mixed[:, 0] + outer[:, 0]
        return move.mul_(outer[:, 1].clamp_(-2.0, 2.0).exp_()).mul_(-self.rate)
