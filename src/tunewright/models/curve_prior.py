"""A prior over learning curves of many configurations: what the learning-curve network is trained on.

A task is drawn as a whole. A random network maps a configuration to the parameters of its curve, so similar
configurations learn alike; a curve is a weighted sum of four saturating basis curves between the performance before
training and the one at the end, may turn around after it has saturated (overfitting, divergence), and is observed with
noise. Performance p lies in [0, 1]; what is returned is a *loss to minimise*, ``(1 - p) ** gamma``.

*Paper*: Rakotoarison, Adriaensen, Mallik, Garibov, Bergman and Hutter 2024 (ICML, arXiv:2404.16795), Section 4.1 and
Appendix A; the laws of the curve parameters are those of its published prior.

*Differs*: the parameters are normal scores of the network's outputs mixed with an offset of the task, in place of a table
of quantiles; a performance driven below its start decays exponentially at a fixed rate; noise may be correlated between
steps and its level spreads more; inputs differ in importance, may be discrete, ordered or not; losses are bent by a
random power. Configurations, numbers of steps and lengths of histories come from ``draw_histories``.

*Cost*: O(b n t) for b tasks of n curves of t steps.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Ints = NDArray[np.int64]

DIMENSIONS = 16
_SCORES = 26
_LARGE = 600.0


def bent(x: Array, turn: Array, rate: Array) -> Array:
    """Progress that goes on at another rate beyond a turning point; a negative rate goes back. Broadcasts.

    Source: Rakotoarison et al. 2024, Appendix A, the breaking point at saturation.
    """
    out: Array = np.where(x < turn, x, turn + rate * (x - turn))
    return out


def power(x: Array, reach: Array, precision: Array, shape: Array) -> Array:
    """Share of the way that is left after progress x: a power law that is down to 1/precision at ``reach``."""
    out: Array = ((precision ** (1.0 / shape) - 1.0) * x / reach + 1.0) ** -shape
    return out


def exponential(x: Array, reach: Array, precision: Array, shape: Array) -> Array:
    """Share of the way that is left after progress x: a stretched exponential, 1/precision at ``reach``."""
    out: Array = precision ** -((x / reach) ** shape)
    return out


def logarithmic(x: Array, reach: Array, precision: Array, shape: Array) -> Array:
    """Share of the way that is left after progress x: an inverse logarithm, 1/precision at ``reach``; shape > 1."""
    top = np.exp(np.minimum(precision * np.log(shape), _LARGE))
    out: Array = np.log(shape) / np.log((top - shape) * x / reach + shape)
    return out


def hill(x: Array, reach: Array, precision: Array, shape: Array) -> Array:
    """Share of the way that is left after progress x: Hill's sigmoid, 1/precision at ``reach``."""
    out: Array = 1.0 / ((x / reach) ** shape * (precision - 1.0) + 1.0)
    return out


BASES = (power, exponential, logarithmic, hill)


@dataclass(frozen=True, slots=True)
class HiddenMap:
    """Random networks from configurations to normal scores, one per task.

    Attributes:
        layers: Weights ``(b, in, out)`` and offsets ``(b, 1, out)`` of each layer.
        bend: The activation.
        mean: Mean raw score under uniform configurations, shape ``(b, 1, s)``.
        spread: Its standard deviation, shape ``(b, 1, s)``.
        share: How much of each score depends on the configuration, shape ``(b, 1, s)``.
        offset: The rest: what the task decides, shape ``(b, 1, s)``.
    """

    layers: tuple[tuple[Array, Array], ...]
    bend: Callable[[Array], Array]
    mean: Array
    spread: Array
    share: Array
    offset: Array

    def __call__(self, x: Array) -> Array:
        """Scores, marginally about N(0, 1); shape ``(b, n, d)`` to ``(b, n, s)``."""
        h = _raw(self.layers, self.bend, x)
        out: Array = self.share * (h - self.mean) / self.spread + np.sqrt(1.0 - self.share**2) * self.offset
        return out


def _raw(layers: tuple[tuple[Array, Array], ...], bend: Callable[[Array], Array], x: Array) -> Array:
    h = (x - 0.5) * np.sqrt(12.0)
    for weight, offset in layers[:-1]:
        h = bend(h @ weight + offset)
    out: Array = h @ layers[-1][0] + layers[-1][1]
    return out


def _relu(h: Array) -> Array:
    out: Array = np.maximum(h, 0.0) * np.sqrt(2.0)
    return out


def _bump(h: Array) -> Array:
    out: Array = np.exp(-0.5 * h * h) * 2.0
    return out


def draw_map(rng: np.random.Generator, tasks: int, d: int) -> HiddenMap:
    """Random networks of one to three hidden layers; all tasks of a call share the depth and the activation.

    Args:
        rng: Source of randomness.
        tasks: Networks to draw, b.
        d: Inputs of each.
    """
    bend = (np.tanh, np.tanh, np.sin, _relu, _bump)[rng.integers(5)]
    widths = (d, *(int(rng.integers(16, 65)) for _ in range(rng.integers(1, 4))), _SCORES)
    importance = rng.gamma(0.6, size=(tasks, d, 1)) + 1e-3
    importance /= np.sqrt((importance**2).sum(axis=1, keepdims=True))
    scale = np.exp(rng.normal(0.2, 0.5, size=(tasks, 1, 1)))
    layers = []
    for i, (a, b) in enumerate(pairwise(widths)):
        weight = rng.standard_normal((tasks, a, b))
        weight *= importance * scale if i == 0 else 1.3 / np.sqrt(a)
        layers.append((weight, rng.standard_normal((tasks, 1, b)) * (0.7 if i == 0 else 0.3)))
    probe = _raw(tuple(layers), bend, rng.random((tasks, 100, d)))
    share = rng.random((tasks, 1, _SCORES)) ** 0.7
    share[..., :2] = np.sqrt(rng.uniform(0.3, 1.0, size=(tasks, 1, 2)))
    return HiddenMap(
        tuple(layers),
        bend,
        probe.mean(axis=1, keepdims=True),
        probe.std(axis=1, keepdims=True) + 1e-9,
        share,
        rng.standard_normal((tasks, 1, _SCORES)),
    )


@dataclass(frozen=True, slots=True)
class CurveTasks:
    """Tasks drawn from the prior.

    Attributes:
        hidden: From configurations to scores.
        start: Performance before training, shape ``(b, 1)``.
        ceiling: Best performance there is, shape ``(b, 1)``.
        skew: Exponent of the landscape of final performances, shape ``(b, 1)``.
        gamma: Exponent that bends the loss, shape ``(b, 1, 1)``.
        noise: Mean and spread over configurations of the log of the noise, shapes ``(b, 1)``.
        memory: Correlation of the noise of neighbouring steps, shape ``(b, 1)``.
        turning: How much curves may turn around after saturation, shape ``(b, 1, 1)``; 1 is the paper's law.
    """

    hidden: HiddenMap
    start: Array
    ceiling: Array
    skew: Array
    gamma: Array
    noise: tuple[Array, Array]
    memory: Array
    turning: Array


def draw_tasks(rng: np.random.Generator, tasks: int, d: int, *, calm: bool = False) -> CurveTasks:
    """Tasks over ``d`` inputs.

    Args:
        rng: Source of randomness.
        tasks: How many, b.
        d: Inputs.
        calm: Draw tasks in most of which curves hardly turn around and most configurations end near the best, as
            recorded trainings do; without it the laws are those of the paper, by which nearly half of all curves end
            worse than they began.
    """
    centre, width = (-0.8, 1.0) if calm else (-0.2, 0.7)
    pair = np.sort(rng.random((tasks, 2)), axis=1)
    whole = rng.random((tasks, 1)) >= 0.25
    remembers = rng.random((tasks, 1)) < 0.5
    return CurveTasks(
        draw_map(rng, tasks, d),
        pair[:, :1],
        np.where(whole, 1.0, pair[:, 1:]),
        np.exp(rng.normal(centre, width, size=(tasks, 1))),
        np.exp(rng.normal(0.0, 0.4, size=(tasks, 1, 1))),
        (rng.normal(-5.5, 1.2, size=(tasks, 1)), rng.uniform(0.0, 1.0, size=(tasks, 1))),
        np.where(remembers, rng.uniform(0.3, 0.98, size=(tasks, 1)), 0.0),
        10.0 ** rng.uniform(-2.0, 0.0, size=(tasks, 1, 1)) if calm else np.ones((tasks, 1, 1)),
    )


def curve_parameters(tasks: CurveTasks, x: Array) -> tuple[Array, Array, Array, Array, Array, Array, Array]:
    """Parameters of the curves of configurations.

    Args:
        tasks: b tasks.
        x: Inputs in [0, 1], shape ``(b, n, d)``.

    Returns:
        Final performance and noise, shapes ``(b, n)``; weights, shapes, reaches, precisions and rates after saturation of
        the four bases, shapes ``(b, n, 4)``.
    """
    from scipy.special import ndtr

    z = tasks.hidden(x)
    u = np.clip(ndtr(z), 1e-6, 1.0 - 1e-6)
    final = tasks.start + (tasks.ceiling - tasks.start) * u[..., 0] ** tasks.skew
    weight = -np.log(u[..., 2:6])
    weight /= weight.sum(axis=-1, keepdims=True)
    shape = np.exp(z[..., 6:10] * (1.0, 1.0, 1.0, 0.5) + (1.0, 0.0, -4.0, 0.5))
    shape[..., 2] += 1.0
    relative = -np.log(u[..., 10:14])
    reach = 10.0 ** z[..., 1:2] * relative / relative.max(axis=-1, keepdims=True)
    precision = 10.0 ** (3.0 * u[..., 14:18])
    rate = 1.0 + tasks.turning * np.log(u[..., 18:22])
    mean, spread = tasks.noise
    noise = np.exp(mean + spread * z[..., 22])
    return final, noise, weight, shape, np.maximum(reach, 1e-4), precision, rate


def draw_losses(rng: np.random.Generator, tasks: CurveTasks, x: Array, steps: int) -> Array:
    """Losses in [0, 1] after each of ``steps`` equal parts of a full training.

    Args:
        rng: Source of the noise.
        tasks: b tasks.
        x: Inputs in [0, 1], shape ``(b, n, d)``.
        steps: Steps of a full training, t.

    Returns:
        Shape ``(b, n, t)``.
    """
    final, noise, weight, shape, reach, precision, rate = curve_parameters(tasks, x)
    progress = np.arange(1, steps + 1) / steps
    start = np.broadcast_to(tasks.start, final.shape)[..., None]
    performance = np.zeros((*final.shape, steps))
    for k, base in enumerate(BASES):
        at, how = reach[..., k, None], shape[..., k, None]
        moved = bent(progress, at, rate[..., k, None])
        left = base(np.maximum(moved, 0.0), at, precision[..., k, None], how)
        lost = np.exp(np.minimum(moved, 0.0))
        performance += weight[..., k, None] * (final[..., None] - (final[..., None] - start) * left) * lost
    performance += noise[..., None] * _wander(rng, performance.shape, tasks.memory)
    out: Array = np.clip(1.0 - performance, 0.0, 1.0) ** tasks.gamma
    return out


def _wander(rng: np.random.Generator, shape: tuple[int, ...], memory: Array) -> Array:
    """Unit normal noise along the last axis with the correlation ``memory`` between neighbours."""
    noise = rng.standard_normal(shape)
    fresh = np.sqrt(1.0 - memory**2)
    for t in range(1, shape[-1]):
        noise[..., t] = memory * noise[..., t - 1] + fresh * noise[..., t]
    return noise


@dataclass(frozen=True, slots=True)
class Histories:
    """What freeze-thaw optimisers have seen of some tasks, and what they ask.

    Attributes:
        codes: Configurations of the curves, shape ``(b, n + q, DIMENSIONS)``; unused dimensions are NaN.
        losses: Whole curves, shape ``(b, n + q, t)``.
        seen: Steps seen of each, at least 1 for the first n and 0 for the others, shape ``(b, n + q)``.
        n: Curves begun.
        rows: Curve that each query is about, shape ``(b, k)``.
        steps: Step at which its loss is asked, later than what was seen, shape ``(b, k)``.
    """

    codes: Array
    losses: Array
    seen: Ints
    n: int
    rows: Ints
    steps: Ints

    @property
    def targets(self) -> Array:
        """Losses asked, shape ``(b, k)``."""
        curves = np.take_along_axis(self.losses, self.rows[..., None], axis=1)
        out: Array = np.take_along_axis(curves, self.steps[..., None] - 1, axis=2)[..., 0]
        return out


def draw_histories(
    rng: np.random.Generator, tasks: int, n: int, queries: int, steps: int, d: int, *, calm: bool = False
) -> Histories:
    """Histories in which many curves are short and few are long, and queries beyond them.

    Half of the tasks try configurations near good ones; in half of them curves that look good are the longer ones.

    Args:
        rng: Source of randomness.
        tasks: Tasks, b.
        n: Curves begun, at least 1.
        queries: Questions per task, k, an even number: half about curves begun, half about new ones.
        steps: Steps of a full training, t, at least 2.
        d: Parameters, 1 to ``DIMENSIONS``.
        calm: See ``draw_tasks``.
    """
    new = queries // 2
    drawn = draw_tasks(rng, tasks, d, calm=calm)
    codes, inputs = _configurations(rng, drawn, n, new, d)
    losses = draw_losses(rng, drawn, inputs, steps)
    seen = np.zeros((tasks, n + new), dtype=np.int64)
    seen[:, :n] = _lengths(rng, losses[:, :n])
    going = rng.integers(0, n, size=(tasks, queries - new))
    rows = np.concatenate([going, np.tile(np.arange(n, n + new), (tasks, 1))], axis=1)
    before = np.take_along_axis(seen, rows, axis=1)
    ahead = rng.random(rows.shape) ** np.where(rng.random(rows.shape) < 0.5, 1.0, 3.0)
    at = before + np.ceil(ahead * (steps - before)).astype(np.int64)
    padded = np.full((tasks, n + new, DIMENSIONS), np.nan)
    padded[..., :d] = codes
    return Histories(padded, losses, seen, n, rows, np.clip(at, before + 1, steps))


def _configurations(
    rng: np.random.Generator, tasks: CurveTasks, n: int, new: int, d: int
) -> tuple[Array, Array]:
    """Codes of configurations and the inputs of the hidden maps, shapes ``(b, n + new, d)``."""
    b = tasks.start.shape[0]
    codes = rng.random((b, n + new, d))
    first = min(n, int(rng.integers(2, 17)))
    final = curve_parameters(tasks, codes[:, :first])[0]
    best = np.take_along_axis(codes, final.argmax(axis=1)[:, None, None], axis=1)
    near = best + rng.normal(0.0, 10.0 ** rng.uniform(-2.0, -0.5, size=(b, 1, 1)), size=codes.shape)
    moved = rng.random(codes.shape) < rng.uniform(0.2, 1.0, size=(b, n + new, 1))
    local = (rng.random((b, n + new, 1)) < rng.uniform(0.2, 0.9, size=(b, 1, 1))) & (
        rng.random((b, 1, 1)) < 0.5
    )
    local[:, :first] = False
    codes = np.where(local, np.clip(np.where(moved, near, best), 0.0, 1.0), codes)
    inputs = codes.copy()
    for j in np.flatnonzero(rng.random(d) < 0.25):
        k = int(rng.integers(2, 7))
        level = np.minimum((codes[..., j] * k).astype(np.int64), k - 1)
        codes[..., j] = (level + 0.5) / k
        table = rng.random((b, k)) if rng.random() < 0.5 else np.tile((np.arange(k) + 0.5) / k, (b, 1))
        inputs[..., j] = np.take_along_axis(table, level, axis=1)
    return codes, inputs


def _lengths(rng: np.random.Generator, losses: Array) -> Ints:
    """Steps seen of each curve, at least 1, shape ``(b, n)``."""
    b, n, t = losses.shape
    share = rng.random((b, n)) ** np.exp(rng.uniform(-1.0, 2.5, size=(b, 1)))
    rungs = 3.0 ** -np.floor(rng.exponential(rng.uniform(0.3, 3.0, size=(b, 1)), size=(b, n)))
    share = np.where(rng.random((b, 1)) < 0.25, rungs, share)
    glance = losses[:, :, min(t - 1, int(rng.integers(0, max(1, t // 3))))]
    order = np.argsort(glance + rng.normal(0.0, 0.1, size=(b, n)) * glance.std(axis=1, keepdims=True), axis=1)
    ranked = np.empty_like(share)
    np.put_along_axis(ranked, order, -np.sort(-share, axis=1), axis=1)
    share = np.where(rng.random((b, 1)) < 0.5, ranked, share)
    ceiling = np.where(rng.random((b, 1)) < 0.6, 1.0, rng.uniform(0.05, 1.0, size=(b, 1)))
    out: Ints = np.clip(np.ceil(share * ceiling * t), 1, t).astype(np.int64)
    return out
