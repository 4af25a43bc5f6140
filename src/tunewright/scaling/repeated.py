"""Training for many epochs on few data: what another epoch is worth, and dropout tuned on a mixture of experts.

*Use when*: there is less text than the model could be trained on, so that data are repeated.
*Do not use when*: data are seen once; dropout then only costs. Strong decoupled weight decay did as much as dropout in our check on a
small transformer (``python -m claims run repeated_data``): try both.
*Paper*: Xue et al. 2023, "To Repeat or Not To Repeat", NeurIPS, arXiv:2305.13230, sections 3 to 5; worth of epochs: Muennighoff et al.
2023, NeurIPS, arXiv:2305.16264, equation 5; mixture of experts: Fedus et al. 2022, arXiv:2101.03961, equations 2 and 4
*Differs*: the proxy is a transformer whose feed-forward layers are split into experts, so that it has the weights of the dense model but
for the routers; the paper takes a published family of mixtures of about as many weights as its dense model.
*Cost*: a mixture of ``k`` experts does the feed-forward arithmetic of a dense model of the same weights ``k`` times cheaper.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from tunewright.errors import ConfigError

# Repetitions after which new ones are worth 1/e of fresh data: R_D* of arXiv:2305.16264, fitted to 182 models of up to 9 billion weights.
DECAY = 15.387756


def effective_tokens(unique: float, epochs: float, *, decay: float = DECAY) -> float:
    """Fresh tokens that are worth as much as repeated ones.

    Args:
        unique: Different tokens.
        epochs: Times each is seen; up to 1, all are fresh.
        decay: Repetitions after which a further one is worth 1/e.

    Raises:
        ConfigError: If a number is not positive.
    """
    for name, value in (("unique tokens", unique), ("epochs", epochs), ("decay", decay)):
        if not value > 0 or not math.isfinite(value):
            raise ConfigError(f"The {name} must be a number above 0; got {value}.")
    if epochs <= 1:
        return unique * epochs
    return unique + unique * decay * -math.expm1(-(epochs - 1) / decay)


def worthwhile_epochs(worth: float, *, decay: float = DECAY) -> float:
    """Epochs after which tokens are worth less than this share of fresh ones.

    Args:
        worth: Share in (0, 1].
        decay: As for ``effective_tokens``.

    Raises:
        ConfigError: If the share is not in (0, 1].
    """
    if not 0 < worth <= 1:
        raise ConfigError(f"The worth of a token is a share in (0, 1]; got {worth}.")
    return 1 - decay * math.log(worth)


class MoeFeedForward(nn.Module):
    """A feed-forward layer of which every token uses one of several experts, chosen by a router (Switch layer).

    With ``k`` experts of ``hidden`` units it has the weights of a dense layer of ``k`` times as many units, but for the router, and does
    ``k`` times less.

    Args:
        width: Of inputs and outputs.
        hidden: Units of each expert.
        experts: How many; at least 2.

    Raises:
        ConfigError: If there are fewer than 2 experts.
    """

    def __init__(self, width: int, hidden: int, experts: int) -> None:
        super().__init__()
        if experts < 2:
            raise ConfigError(f"A mixture needs 2 experts or more; got {experts}.")
        self.router = nn.Linear(width, experts, bias=False)
        self.experts = nn.ModuleList(
            nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))
            for _ in range(experts)
        )
        self.balance = torch.zeros(())

    def forward(self, x: Tensor) -> Tensor:
        """Same shape as ``x``, ``(..., width)``; leaves the load-balancing loss in ``balance``."""
        flat = x.reshape(-1, x.shape[-1])
        gates = self.router(flat).softmax(dim=-1)
        gate, chosen = gates.max(dim=-1)
        out = torch.zeros_like(flat)
        for i, expert in enumerate(self.experts):
            rows = (chosen == i).nonzero(as_tuple=True)[0]
            if len(rows):
                out = out.index_add(0, rows, expert(flat[rows]) * gate[rows, None])
        share = torch.bincount(chosen, minlength=len(self.experts)).to(gates) / len(flat)
        self.balance = len(self.experts) * (share * gates.mean(dim=0)).sum()
        return out.view_as(x)


def balance_loss(model: nn.Module) -> Tensor:
    """Mean load-balancing loss of the mixtures in a model after its last forward pass; 1 where all experts get equally much.

    Raises:
        ConfigError: If there is none.
    """
    found = [m.balance for m in model.modules() if isinstance(m, MoeFeedForward)]
    if not found:
        raise ConfigError("A balance needs a mixture of experts in the model; there is none.")
    return torch.stack(found).mean()


def set_dropout_(model: nn.Module, p: float) -> int:
    """Sets the share of every ``nn.Dropout`` in a model, and returns how many there are.

    Raises:
        ConfigError: If the share is not in [0, 1), or there is no dropout to set.
    """
    if not 0.0 <= p < 1.0:
        raise ConfigError(f"Dropout must be a share in [0, 1); got {p}.")
    found = [m for m in model.modules() if isinstance(m, nn.Dropout)]
    if not found:
        raise ConfigError("Dropout can only be set where the model has nn.Dropout modules; it has none.")
    for module in found:
        module.p = p
    return len(found)


def epochs_of(
    n: int, batch: int, epochs: int, rng: np.random.Generator
) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """Rows of every batch of a repeated data set, each epoch in an order of its own; the last few rows of an epoch that fill no batch wait.

    Args:
        n: Rows.
        batch: Rows of a batch.
        epochs: Times the data are seen.
        rng: Draws the orders.

    Returns:
        Pairs of the epoch, from 1, and rows of shape ``(batch,)``.

    Raises:
        ConfigError: If there are fewer rows than a batch has.
    """
    if not 1 <= batch <= n:
        raise ConfigError(f"A batch must have 1 to {n} rows, as the data have; got {batch}.")
    for epoch in range(1, epochs + 1):
        order = rng.permutation(n)
        for start in range(0, n - batch + 1, batch):
            yield epoch, order[start : start + batch]


@dataclass(frozen=True, slots=True)
class Repeated:
    """What a repeated training came to.

    Attributes:
        epochs: When it was tested, shape ``(k,)``.
        train: Mean training loss of the epochs since the last test, same shape.
        test: Test loss, same shape.
    """

    epochs: tuple[int, ...]
    train: tuple[float, ...]
    test: tuple[float, ...]

    @property
    def degradation(self) -> float:
        """How much the test loss rose from its lowest value to the end."""
        return self.test[-1] - min(self.test)


def _cross_entropy(scores: Tensor, targets: Tensor) -> Tensor:
    return nn.functional.cross_entropy(scores.reshape(-1, scores.shape[-1]), targets.reshape(-1))


def train_repeated(
    model: nn.Module,
    data: tuple[Tensor, Tensor],
    test: Callable[[nn.Module], float],
    optimizer: torch.optim.Optimizer,
    *,
    epochs: int,
    batch: int,
    dropout: float | None = None,
    dropout_from: int = 1,
    loss: Callable[[Tensor, Tensor], Tensor] = _cross_entropy,
    balance: float = 0.01,
    tests: Sequence[int] | None = None,
    seed: int = 0,
) -> Repeated:
    """Trains a model on the same data again and again.

    Args:
        model: From inputs to scores.
        data: Inputs and targets, equally many rows.
        test: Loss of a model on data it is not trained on; called in evaluation mode without gradients.
        optimizer: Of the model's weights.
        epochs: Times the data are seen.
        batch: Rows of a step.
        dropout: Set in all of the model's ``nn.Dropout`` modules; None leaves them as they are.
        dropout_from: First epoch with dropout; before it there is none (section 5 of the paper brings it in late, at no loss).
        loss: Of scores and targets; by default cross-entropy over the last dimension of the scores.
        balance: Weight of the load-balancing loss of mixtures of experts.
        tests: Epochs after which to test; by default powers of two and the last.
        seed: Of the order of rows, and of dropout.

    Raises:
        ConfigError: If a number is out of range, or the training breaks down.
    """
    if epochs < 1 or not 1 <= dropout_from <= epochs + 1:
        raise ConfigError(
            f"A training has 1 epoch or more, dropout from one of them or the next; got {epochs} and {dropout_from}."
        )
    moments = set(tests) if tests is not None else {2**i for i in range(epochs.bit_length())} | {epochs}
    mixtures = any(isinstance(m, MoeFeedForward) for m in model.modules())
    rows = epochs_of(len(data[0]), batch, epochs, np.random.default_rng(seed))
    when, trained, tested, since = [], [], [], []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for epoch, pairs in itertools.groupby(rows, key=lambda pair: pair[0]):
            model.train()
            if dropout is not None:
                set_dropout_(model, dropout if epoch >= dropout_from else 0.0)
            for _, part in pairs:
                pick = torch.from_numpy(part)
                value = loss(model(data[0][pick]), data[1][pick])
                _step(optimizer, value + balance * balance_loss(model) if mixtures else value)
                since.append(float(value.detach()))
            if epoch in moments:
                when.append(epoch)
                trained.append(float(np.mean(since)))
                tested.append(_tested(model, test, epoch, trained[-1]))
                since = []
    model.train()
    return Repeated(tuple(when), tuple(trained), tuple(tested))


def _step(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    """One step down a loss."""
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()


def _tested(model: nn.Module, test: Callable[[nn.Module], float], epoch: int, loss: float) -> float:
    """The test loss without dropout, unless the training has broken down."""
    if not math.isfinite(loss):
        raise ConfigError(
            f"A training must stay finite; its loss broke down by epoch {epoch}. Lower the learning rate."
        )
    model.eval()
    with torch.no_grad():
        return float(test(model))


def best_dropout(dropouts: ArrayLike, losses: ArrayLike) -> float:
    """The dropout with the lowest loss, between grid points by the parabola through the lowest and its neighbours.

    Args:
        dropouts: Grid, shape ``(n,)``.
        losses: Test loss of each, shape ``(n,)`` or ``(n, seeds)``; those that are not finite count as bad.

    Raises:
        ConfigError: If shapes differ, there are fewer than three, or no loss is finite.
    """
    p, y = np.asarray(dropouts, dtype=np.float64), np.asarray(losses, dtype=np.float64)
    y = y.mean(axis=1) if y.ndim == 2 else y
    if p.ndim != 1 or p.shape != y.shape or len(np.unique(p)) < 3:
        raise ConfigError(
            f"The best dropout needs three or more, each with its loss; got {p.shape} and {y.shape}."
        )
    if not np.isfinite(y).any():
        raise ConfigError("The best dropout needs a training that did not break down; there is none.")
    order = np.argsort(p)
    p, y = p[order], np.where(np.isfinite(y), y, np.inf)[order]
    i = int(y.argmin())
    if not 0 < i < len(p) - 1 or not np.isfinite(y[[i - 1, i + 1]]).all():
        return float(p[i])
    a, b, _ = np.polyfit(p[i - 1 : i + 2], y[i - 1 : i + 2], 2)
    return float(np.clip(-b / (2 * a), p[i - 1], p[i + 1])) if a > 0 else float(p[i])
