"""Small trainings with generated data, many at once, on which the learned optimizer is trained.

Every array has a leading dimension of ``2 * q`` trainings: ``q`` different ones, and the same again, so that a rule and its
mirror image meet the same data, batches and first weights.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

Loss = Callable[[list[Tensor], Tensor], Tensor]
EVALUATED = 256
BASE, WIDTHS = 64, (16, 32, 64)  # of `widened`


@dataclass(frozen=True, slots=True)
class Trainings:
    """Trainings that advance together.

    Attributes:
        weights: First weights, each ``(2q, r, c)``.
        loss: Losses ``(2q,)`` of weights on the examples with indices ``(2q, b)``.
        pool: How many examples there are to train on; those after them are for the evaluation.
        batch: Examples per step.
        total: Steps.
    """

    weights: list[Tensor]
    loss: Loss
    pool: int
    batch: int
    total: int = 100

    def batches(self, generator: torch.Generator) -> Tensor:
        """Indices of examples for each step, shape ``(total, 2q, b)``."""
        half = len(self.weights[0]) // 2
        drawn = torch.randint(0, self.pool, (self.total, half, self.batch), generator=generator)
        return drawn.repeat(1, 2, 1)

    def evaluated(self, weights: list[Tensor]) -> Tensor:
        """Losses on examples not trained on, shape ``(2q,)``."""
        rows = torch.arange(self.pool, self.pool + EVALUATED).expand(len(weights[0]), -1)
        with torch.no_grad():
            return self.loss(weights, rows)


def drawn(generator: torch.Generator, q: int, longest: int = 700) -> Trainings:
    """A family by chance, with sizes that all its trainings share and data that each has to itself.

    Args:
        generator: Source of everything.
        q: Trainings.
        longest: Most steps.
    """
    families = (_perceptrons, _perceptrons, _perceptrons, _linear, _convolutions, _transformers, _quadratics)
    made = families[_whole(generator, 0, len(families) - 1)](generator, q)
    return replace(made, total=int(_log(generator, 30.0, float(longest))))


def widened(
    g: torch.Generator, q: int, longest: int, mup: bool, width: int | None = None, depth: int | None = None
) -> tuple[Trainings, list[float]]:
    """Networks of one to three hidden layers with generated data: classification, or regression every fourth time.

    Weights of the hidden layers start at the root of their fan-in in both parametrizations. Under the maximal update
    parametrization the last layer's start as those of a network of the base width, what it says is multiplied by base over width,
    and so are moves of the hidden layers' matrices.

    Args:
        g: Source of everything.
        q: Trainings.
        longest: Most steps.
        mup: Whether the networks are parametrized so.
        width: Of the hidden layers; by chance unless told.
        depth: Hidden layers; likewise.

    Returns:
        The trainings, and the factor of each tensor.
    """
    d, layers, k = int(_log(g, 8.0, 64.0)), _whole(g, 1, 3), _whole(g, 2, 10)
    size = WIDTHS[_whole(g, 0, len(WIDTHS) - 1)]
    size, layers = width or size, depth or layers
    pool, batch = int(_log(g, 128.0, 1024.0)), int(_log(g, 8.0, 40.0))
    bend, gain = _BENDS[_whole(g, 0, 4)], _log(g, 0.5, 1.6)
    x = _inputs(g, q, pool + EVALUATED, d)
    squares = _whole(g, 0, 3) == 0
    goal = _classes(g, x, k)
    aim = torch.tanh(x @ _normal(g, q, d, k)) @ _normal(g, q, k, k)
    aim = aim * _spread(g, q, 0.3, 1.0) + _spread(g, q, 0.01, 0.3) * _normal(g, *aim.shape)
    total = int(_log(g, 30.0, float(longest)))
    sizes = [d, *[size] * layers, k]
    weights: list[Tensor] = []
    for into, out in itertools.pairwise(sizes):
        weights += _dense(g, q, into, out, gain)
    growth = size / BASE if mup else 1.0
    weights[-2] = weights[-2] * math.sqrt(growth)
    inner = [1.0 / growth, 1.0]
    scales = [1.0, 1.0, *inner * (layers - 1), 1.0, 1.0]

    def loss(weights: list[Tensor], rows: Tensor) -> Tensor:
        h = _picked(x, rows)
        for at in range(0, len(weights) - 2, 2):
            h = bend(_applied(h, weights[at], weights[at + 1]))
        h = h @ weights[-2].transpose(1, 2) / growth + weights[-1]
        if squares:
            return (h - _picked(aim, rows)).square().mean((1, 2))
        return _crossed(h, _picked(goal, rows))

    return Trainings(_twice(weights), loss, pool, batch, total), scales


def _whole(g: torch.Generator, low: int, high: int) -> int:
    return int(torch.randint(low, high + 1, (1,), generator=g))


def _log(g: torch.Generator, low: float, high: float) -> float:
    return float(low * (high / low) ** float(torch.rand(1, generator=g)))


def _normal(g: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(shape, generator=g)


def _spread(g: torch.Generator, q: int, low: float, high: float, *rest: int) -> Tensor:
    """Log-uniform numbers, one per training, shape ``(q, 1, 1)`` unless told."""
    shape = (q, *(rest or (1, 1)))
    return low * (high / low) ** torch.rand(shape, generator=g)


def _picked(data: Tensor, rows: Tensor) -> Tensor:
    """Examples of each training, shape ``(2q, b, ...)``, from ``(q, n, ...)``."""
    q = len(data)
    who = torch.arange(q).repeat(len(rows) // q)[:, None]
    return data[who, rows]


def _twice(weights: list[Tensor]) -> list[Tensor]:
    return [w.repeat(2, 1, 1) for w in weights]


def _dense(g: torch.Generator, q: int, into: int, out: int, gain: float = 1.0) -> list[Tensor]:
    """A layer's weights, as most start them, and its offsets, in half of the trainings at zero."""
    bound = gain / math.sqrt(into)
    offset = (2.0 * torch.rand(q, 1, out, generator=g) - 1.0) * (torch.rand(q, 1, 1, generator=g) < 0.5)
    return [bound * _normal(g, q, out, into), bound * offset]


def _applied(x: Tensor, weight: Tensor, offset: Tensor) -> Tensor:
    return x @ weight.transpose(1, 2) + offset


_BENDS: tuple[Callable[[Tensor], Tensor], ...] = (
    torch.relu,
    torch.relu,
    torch.tanh,
    torch.nn.functional.gelu,
    torch.nn.functional.silu,
)


def _inputs(g: torch.Generator, q: int, n: int, d: int) -> Tensor:
    """Correlated inputs of uneven scale, every other time cut at zero as the brightness of pixels, shape ``(q, n, d)``."""
    rank = _whole(g, 2, d)
    common = _normal(g, q, n, rank) @ _normal(g, q, rank, d) / math.sqrt(rank)
    x = common + _spread(g, q, 0.03, 1.0) * _normal(g, q, n, d)
    scale = torch.exp(_spread(g, q, 0.05, 1.0) * _normal(g, q, 1, d))
    x = x * scale + 0.5 * _spread(g, q, 0.1, 1.0) * _normal(g, q, 1, d)
    return x.clamp(0.0, 2.0) if _whole(g, 0, 1) else x


def _classes(g: torch.Generator, x: Tensor, k: int) -> Tensor:
    """Labels from a random network with some noise, or from nearness to random points, shape ``(q, n)``."""
    q, _, d = x.shape
    if _whole(g, 0, 1):
        width = _whole(g, 4, 24)
        inner = torch.tanh(x @ _normal(g, q, d, width) * _spread(g, q, 0.5, 2.0) / math.sqrt(d))
        score = inner @ _normal(g, q, width, k)
    else:
        points = x[:, : 3 * k]
        near = torch.cdist(x, points)
        score = -near.view(q, -1, 3, k).amin(2) * 3.0
    noise = -torch.log(-torch.log(torch.rand(score.shape, generator=g).clamp(1e-6, 1.0 - 1e-6)))
    score = score - score.mean(1, keepdim=True)
    return (score / score.std(2, keepdim=True) + _spread(g, q, 0.02, 0.6) * noise).argmax(2)


def _crossed(score: Tensor, label: Tensor) -> Tensor:
    """Mean cross-entropy of each training; the last dimension of ``score`` are the classes."""
    loss = torch.logsumexp(score, -1) - score.gather(-1, label[..., None])[..., 0]
    return loss.flatten(1).mean(1)


def _perceptrons(g: torch.Generator, q: int) -> Trainings:
    """Networks of one to four hidden layers: classification, regression, or reconstruction."""
    d, depth, width = int(_log(g, 4.0, 64.0)), _whole(g, 1, 4), int(_log(g, 8.0, 40.0))
    pool, batch, kind = int(_log(g, 128.0, 1024.0)), int(_log(g, 8.0, 40.0)), _whole(g, 0, 3)
    k = _whole(g, 2, 10)
    bend, gain, normed = _BENDS[_whole(g, 0, 4)], _log(g, 0.4, 1.6), _whole(g, 0, 3) == 0
    x = _inputs(g, q, pool + EVALUATED, d)
    goal = _classes(g, x, k)
    if kind == 2:
        aim = torch.tanh(x @ _normal(g, q, d, k)) @ _normal(g, q, k, k) * _spread(g, q, 0.3, 3.0)
        aim = aim + _spread(g, q, 0.01, 0.3) * _normal(g, *aim.shape)
    else:
        aim = x
    inner = [width] * depth
    if kind == 3:
        inner[depth // 2] = max(2, width // 3)
    widths = [d, *inner, (k, k, k, d)[kind]]
    layers: list[Tensor] = []
    for into, out in itertools.pairwise(widths):
        layers += _dense(g, q, into, out, gain)
        if normed:
            layers += [torch.ones(q, 1, out)]
    stride = 3 if normed else 2

    def loss(weights: list[Tensor], rows: Tensor) -> Tensor:
        h = _picked(x, rows)
        for at in range(0, stride * (len(widths) - 2), stride):
            h = _applied(h, weights[at], weights[at + 1])
            if normed:
                h = torch.nn.functional.layer_norm(h, h.shape[-1:]) * weights[at + 2]
            h = bend(h)
        h = _applied(h, *weights[stride * (len(widths) - 2) :][:2])
        if kind < 2:
            return _crossed(h, _picked(goal, rows))
        return (h - _picked(aim, rows)).square().mean((1, 2))

    used = layers[: stride * (len(widths) - 2) + 2]
    return Trainings(_twice(used), loss, pool, batch)


def _linear(g: torch.Generator, q: int) -> Trainings:
    """Logistic and least-squares regression from zero, on inputs of uneven scale."""
    d, k = _whole(g, 6, 40), _whole(g, 2, 10)
    pool, batch, squares = int(_log(g, 128.0, 1024.0)), int(_log(g, 8.0, 64.0)), _whole(g, 0, 2) == 0
    x = _inputs(g, q, pool + EVALUATED, d)
    if _whole(g, 0, 1):
        x = (x - x.mean(1, keepdim=True)) / x.std(1, keepdim=True)
    goal = _classes(g, x, k)
    aim = x @ _normal(g, q, d, 1) / math.sqrt(d) + _spread(g, q, 0.01, 1.0) * _normal(
        g, q, pool + EVALUATED, 1
    )
    start = _whole(g, 0, 1)
    layer = _dense(g, q, d, 1 if squares else k, float(start))

    def loss(weights: list[Tensor], rows: Tensor) -> Tensor:
        h = _applied(_picked(x, rows), *weights)
        return (h - _picked(aim, rows)).square().mean((1, 2)) if squares else _crossed(h, _picked(goal, rows))

    return Trainings(_twice(layer), loss, pool, batch)


def _convolutions(g: torch.Generator, q: int) -> Trainings:
    """A convolution of width five over generated waves, the mean or the largest over time, and a linear layer."""
    length, channels, k, depth = 20, _whole(g, 6, 16), _whole(g, 2, 6), _whole(g, 0, 1)
    pool, batch, bend = int(_log(g, 128.0, 512.0)), int(_log(g, 8.0, 16.0)), _BENDS[_whole(g, 0, 4)]
    label = torch.randint(0, k, (q, pool + EVALUATED), generator=g)
    shapes = _normal(g, q, k, 7)
    place = torch.randint(0, length - 7, (q, pool + EVALUATED, 1), generator=g) + torch.arange(7)
    wave = _spread(g, q, 0.1, 0.7) * _normal(g, q, pool + EVALUATED, length)
    wave.scatter_add_(2, place, shapes[torch.arange(q)[:, None], label])
    windows = wave.unfold(2, 5, 1)
    layers = [*_dense(g, q, 5, channels), *_dense(g, q, channels, k)]
    if depth:
        layers = [*layers[:2], *_dense(g, q, 3 * channels, channels), *layers[2:]]
    highest = _whole(g, 0, 1)

    def loss(weights: list[Tensor], rows: Tensor) -> Tensor:
        h = _picked(windows, rows)
        p, b, t, _ = h.shape
        h = bend(_applied(h.reshape(p, b * t, -1), weights[0], weights[1])).view(p, b, t, -1)
        if depth:
            h = h[:, :, :15].reshape(p, b * 5, 3 * channels)
            h = bend(_applied(h, weights[2], weights[3])).view(p, b, 5, -1)
        h = h.amax(2) if highest else h.mean(2)
        return _crossed(_applied(h, *weights[-2:]), _picked(label, rows))

    return Trainings(_twice(layers), loss, pool, batch)


def _sentences(g: torch.Generator, q: int, n: int, length: int, signs: int) -> Tensor:
    """Sequences from a random chain, of which each second half partly repeats the first, shape ``(q, n, length)``."""
    odds = torch.softmax(_spread(g, q, 0.5, 3.0) * _normal(g, q, signs, signs), dim=2).cumsum(2)
    out = torch.randint(0, signs, (q, n, length), generator=g)
    who = torch.arange(q)[:, None]
    for t in range(1, length):
        u = torch.rand(q, n, 1, generator=g)
        out[:, :, t] = (odds[who, out[:, :, t - 1]] < u).sum(2).clamp(max=signs - 1)
    repeats = torch.rand(q, n, 1, generator=g) < _spread(g, q, 0.05, 0.8)
    half = length // 2
    out[:, :, half : 2 * half] = torch.where(repeats, out[:, :, :half], out[:, :, half : 2 * half])
    return out


def _transformers(g: torch.Generator, q: int) -> Trainings:
    """One block of attention with one head, and a network per place, that say the next sign."""
    length, signs, d = _whole(g, 6, 12), int(_log(g, 5.0, 24.0)), _whole(g, 8, 20)
    pool, batch = int(_log(g, 64.0, 512.0)), int(_log(g, 3.0, 8.0))
    text = _sentences(g, q, pool + EVALUATED, length + 1, signs)
    embed = _log(g, 0.1, 1.0)
    layers = [embed * _normal(g, q, signs, d), embed * _normal(g, q, length, d)]
    layers += [torch.ones(q, 1, d), torch.ones(q, 1, d)]
    for into, out in ((d, 3 * d), (d, d), (d, 2 * d), (2 * d, d), (d, signs)):
        layers += _dense(g, q, into, out)
    later = torch.triu(torch.full((length, length), -torch.inf), 1)

    def normed(h: Tensor, gain: Tensor) -> Tensor:
        return torch.nn.functional.layer_norm(h, (d,)) * gain

    def loss(weights: list[Tensor], rows: Tensor) -> Tensor:
        seen = _picked(text, rows)
        p, b = rows.shape
        who = torch.arange(p)[:, None, None]
        h = (weights[0][who, seen[..., :-1]] + weights[1][:, None]).view(p, b * length, d)
        parts = _applied(normed(h, weights[2]), *weights[4:6]).view(p * b, length, 3, d)
        query, key, value = parts.unbind(2)
        mixed = torch.softmax(query @ key.transpose(1, 2) / math.sqrt(d) + later, dim=2) @ value
        h = h + _applied(mixed.reshape(p, b * length, d), *weights[6:8])
        inner = torch.relu(_applied(normed(h, weights[3]), *weights[8:10]))
        h = h + _applied(inner, *weights[10:12])
        return _crossed(_applied(h, *weights[12:14]).view(p, b, length, signs), seen[..., 1:])

    return Trainings(_twice(layers), loss, pool, batch)


def _quadratics(g: torch.Generator, q: int) -> Trainings:
    """Noisy ill-conditioned quadratics in a matrix and a vector."""
    r, c = _whole(g, 2, 12), _whole(g, 2, 16)
    pool, batch = 512, int(_log(g, 2.0, 32.0))
    turn = torch.linalg.qr(_normal(g, q, c, c))[0]
    bent = turn * _spread(g, q, 1e-3, 1.0, 1, c).sqrt()
    goal = _normal(g, q, r, c) / math.sqrt(c)
    noise = _spread(g, q, 0.01, 1.0) * _normal(g, q, pool + EVALUATED, c)
    scale, floor = _spread(g, q, 0.1, 10.0), 0.01
    shift = 0.3 * _normal(g, q, 1, r)
    twice = [t.repeat(2, 1, 1) for t in (bent, goal, scale, shift)]

    def loss(weights: list[Tensor], rows: Tensor) -> Tensor:
        turned, aim, size, moved = twice
        away = (weights[0] - aim) @ turned
        push = _picked(noise, rows).mean(1, keepdim=True) if len(rows[0]) < EVALUATED else 0.0
        bowl = away.square().sum((1, 2)) + (away * push).sum((1, 2)) * 0.3
        return size[:, 0, 0] * (bowl + (weights[1] - moved).square().sum((1, 2)) + floor)

    layers = [_normal(g, q, r, c) / math.sqrt(c), torch.zeros(q, 1, r)]
    return Trainings(_twice(layers), loss, pool, batch)
