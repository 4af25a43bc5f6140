"""Compound scaling of convolutional networks: how many times deeper, wider and finer for so many times the FLOPs.

*Use when*: a small convolutional network is good and a larger one of its kind is wanted, for a number of FLOPs, weights,
activations or seconds.
*Do not use when*: the network is not convolutional, or has a few layers only, as a third more of one layer is one layer: on small
images a base of two layers lost 1.5 points against equal scaling, one of six with skips gained .8 (``python -m claims run
fast_scaling``), both in two thirds of its time per FLOP.
*Paper*: Dollar, Singh and Girshick 2021, "Fast and Accurate Model Scaling", arXiv:2103.06877, section 4 and table 4
*Differs*: depths and resolution are rounded first and widths then take up what that left over, so that FLOPs come out as asked.
*Cost*: arithmetic; a recommendation tries 24 sizes of every strategy.

With exponents ``e_d + 2 e_w + 2 e_r = 1`` a network ``s^e_d`` times as deep, ``s^e_w`` as wide and ``s^e_r`` as fine has ``s`` times
the FLOPs, ``s^(e_d + 2 e_w)`` the weights and ``s^(e_d + e_w + 2 e_r) = s^(1 - e_w)`` the activations. The fast rule has
``e_w = a / 2``, ``e_d = (1 - a) / 2`` and ``e_r = (1 - a) / 4``: ``a = 1`` is width alone, ``a = 1/3`` scales all three alike, and the
paper recommends .8, where activations grow as ``s^.6``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from tunewright.errors import ConfigError
from tunewright.scaling.counting import ConvShape, Counts, convnet


@dataclass(frozen=True, slots=True)
class Strategy:
    """How much of a growth in FLOPs goes to what.

    Args:
        name: What it is called.
        depth: Exponent of depth.
        width: Exponent of width.
        resolution: Exponent of resolution.

    Raises:
        ConfigError: If one is negative, or depth and twice the others do not add up to 1.
    """

    name: str
    depth: float
    width: float
    resolution: float

    def __post_init__(self) -> None:
        values = (self.depth, self.width, self.resolution)
        total = self.depth + 2 * self.width + 2 * self.resolution
        if not all(v >= 0 for v in values) or not math.isclose(total, 1.0, abs_tol=1e-9):
            raise ConfigError(
                "A strategy needs exponents of at least 0 whose sum, with those of width and resolution twice, is 1; got "
                f"{values} with the sum {total:g}."
            )

    @property
    def parameters(self) -> float:
        """Exponent with which weights grow in FLOPs."""
        return self.depth + 2 * self.width

    @property
    def activations(self) -> float:
        """Exponent with which activations grow in FLOPs."""
        return 1.0 - self.width


def fast(alpha: float = 0.8) -> Strategy:
    """The family of strategies of the paper (table 4).

    Args:
        alpha: Share of the growth that goes to width; 1 is width alone, 1/3 all three alike.

    Raises:
        ConfigError: If it is not in [0, 1].
    """
    if not 0.0 <= alpha <= 1.0:
        raise ConfigError(f"The share of width must be in [0, 1]; got {alpha}.")
    return Strategy(f"fast {alpha:.3g}", (1 - alpha) / 2, alpha / 2, (1 - alpha) / 4)


STRATEGIES: Mapping[str, Strategy] = MappingProxyType(
    {
        "d": Strategy("d", 1.0, 0.0, 0.0),
        "w": Strategy("w", 0.0, 0.5, 0.0),
        "r": Strategy("r", 0.0, 0.0, 0.5),
        "dw": Strategy("dw", 0.5, 0.25, 0.0),
        "dwr": replace(fast(1 / 3), name="dwr"),
        "dWr": replace(fast(0.8), name="dWr"),
    }
)


@dataclass(frozen=True, slots=True)
class Scaled:
    """A network made larger.

    Attributes:
        shape: The network.
        strategy: How it was made.
        wanted: Factor on FLOPs that was asked for.
        flops: Factor on FLOPs that it has.
        parameters: Factor on weights.
        activations: Factor on activations.
    """

    shape: ConvShape
    strategy: Strategy
    wanted: float
    flops: float
    parameters: float
    activations: float


def scale(
    base: ConvShape,
    s: float,
    strategy: Strategy | str = "dWr",
    *,
    multiple: int = 1,
    resolution_multiple: int = 1,
) -> Scaled:
    """A network with ``s`` times the FLOPs; the batch stays as it is.

    Args:
        base: The network to begin with. With groups, these grow as its widths do.
        s: Factor on FLOPs, at least 1.
        strategy: One of ``STRATEGIES`` or one of your own.
        multiple: Widths are multiples of it, or of the group where there are groups.
        resolution_multiple: The resolution is a multiple of it.

    Raises:
        ConfigError: If the factor is below 1 or the strategy unknown.
    """
    if not s >= 1.0 or not math.isfinite(s):
        raise ConfigError(
            f"A network is scaled by a factor of at least 1; got {s}. Begin with a smaller one to scale down."
        )
    rule = _strategy(strategy)
    depths = tuple(max(1, round(d * s**rule.depth)) for d in base.depths)
    side = resolution_multiple * max(1, round(base.resolution * s**rule.resolution / resolution_multiple))
    group = None if base.group is None else max(1, round(base.group * s**rule.width))
    start = replace(base, depths=depths, resolution=side)
    target = s * _flops(base)
    shape = _widen(start, base.widths, target, group, multiple) if rule.width else start
    return _compared(base, shape, rule, s)


def _strategy(strategy: Strategy | str) -> Strategy:
    """A strategy by its name."""
    if isinstance(strategy, Strategy):
        return strategy
    if strategy not in STRATEGIES:
        raise ConfigError(
            f"A strategy must be one of {', '.join(STRATEGIES)} or a Strategy; got {strategy!r}."
        )
    return STRATEGIES[strategy]


def _widen(
    start: ConvShape, widths: tuple[int, ...], target: float, group: int | None, multiple: int
) -> ConvShape:
    """Widths in the proportions given, by a common factor that brings FLOPs as near to a target as whole channels allow."""
    unit = multiple if group is None else group

    def made(factor: float) -> ConvShape:
        new = tuple(max(unit, unit * round(w * factor / unit)) for w in widths)
        return replace(start, widths=new, group=group)

    low, high = 0.25, 2.0
    while _flops(made(high)) < target:
        low, high = high, 2 * high
    for _ in range(30):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if _flops(made(middle)) < target else (low, middle)
    return min((made(low), made(high)), key=lambda shape: abs(math.log(_flops(shape) / target)))


def _flops(shape: ConvShape) -> int:
    """FLOPs of a training step, without counting anything else."""
    pairs = sum(
        (-(-side // stride)) ** 2 * inputs * outputs // groups
        for side, inputs, outputs, stride, groups in shape.layers()
    )
    return 6 * shape.batch * (shape.kernel**2 * pairs + shape.widths[-1] * shape.classes)


def _compared(base: ConvShape, shape: ConvShape, rule: Strategy, s: float) -> Scaled:
    a, b = convnet(base), convnet(shape)
    return Scaled(
        shape,
        rule,
        s,
        b.flops / a.flops,
        b.parameters / a.parameters,
        b.activations / a.activations,
    )


def growth(base: ConvShape, strategy: Strategy | str, factors: Sequence[float]) -> dict[str, float]:
    """Exponents of weights and activations in FLOPs, fitted to networks of several sizes as they are, with all rounding.

    Args:
        base: The network to begin with.
        strategy: One of ``STRATEGIES`` or one of your own.
        factors: On FLOPs, two or more different ones.

    Raises:
        ConfigError: If the factors are fewer.
    """
    if len(set(factors)) < 2:
        raise ConfigError(f"An exponent needs two different factors or more; got {list(factors)}.")
    made = [scale(base, s, strategy) for s in factors]
    x = [math.log(m.flops) for m in made]
    return {
        "parameters": _slope(x, [math.log(m.parameters) for m in made]),
        "activations": _slope(x, [math.log(m.activations) for m in made]),
    }


def _slope(x: Sequence[float], y: Sequence[float]) -> float:
    mx, my = sum(x) / len(x), sum(y) / len(y)
    return sum((a - mx) * (b - my) for a, b in zip(x, y, strict=True)) / sum((a - mx) ** 2 for a in x)


def recommend(
    base: ConvShape,
    *,
    flops: float | None = None,
    parameters: float | None = None,
    activations: float | None = None,
    seconds: float | None = None,
    time: Callable[[Counts], float] | None = None,
    strategies: Sequence[Strategy | str] = ("dWr", "dwr", "w", "dw"),
    largest: float = 4096.0,
) -> list[Scaled]:
    """The largest network within limits for every strategy, the one with most FLOPs first.

    Networks of equal FLOPs are about equally accurate, whichever compound strategy made them (section 5 of the paper), so the
    strategy that fits most FLOPs into the limits is the one to take.

    Args:
        base: The network to begin with.
        flops: Limit on FLOPs of a training step.
        parameters: Limit on weights.
        activations: Limit on activations of a batch.
        seconds: Limit on ``time``.
        time: Seconds of a step from counts, such as a fit to measured steps.
        strategies: To choose among.
        largest: Factor on FLOPs at which the search ends.

    Raises:
        ConfigError: If there is no limit, a limit of seconds has no ``time``, or the base itself is beyond a limit.
    """
    limits = {
        k: v
        for k, v in {"flops": flops, "parameters": parameters, "activations": activations}.items()
        if v is not None
    }
    if not limits and seconds is None:
        raise ConfigError(
            "A recommendation needs a limit on FLOPs, weights, activations or seconds; got none."
        )
    if seconds is not None and time is None:
        raise ConfigError(
            "A limit on seconds needs 'time', seconds of a step from counts; fit one to measured steps."
        )

    def fits(shape: ConvShape) -> bool:
        counts = convnet(shape)
        within = all(getattr(counts, k) <= v for k, v in limits.items())
        return within and (seconds is None or time is None or time(counts) <= seconds)

    if not fits(base):
        raise ConfigError(
            "The base network must be within the limits itself; it is not. Begin with a smaller one."
        )
    found = [_largest(base, _strategy(strategy), fits, largest) for strategy in strategies]
    return sorted(found, key=lambda m: -m.flops)


def _largest(base: ConvShape, rule: Strategy, fits: Callable[[ConvShape], bool], largest: float) -> Scaled:
    """The network with most FLOPs that fits, by bisection of the factor; the base if nothing larger does."""
    best = _compared(base, base, rule, 1.0)
    low, high = 1.0, largest
    for _ in range(24):
        middle = math.sqrt(low * high)
        made = scale(base, middle, rule)
        if fits(made.shape):
            low, best = middle, max(best, made, key=lambda m: m.flops)
        else:
            high = middle
    return best


def network(shape: ConvShape) -> Any:
    """The plain network that a shape is about, as a module from images ``(n, channels, r, r)`` to scores ``(n, classes)``.

    Convolutions without biases, each with batch normalization and ReLU; then the mean over places and a linear layer.
    """
    from torch import nn

    parts: list[nn.Module] = []
    for _, inputs, outputs, stride, groups in shape.layers():
        kernel = shape.kernel
        parts += [
            nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
        ]
    return nn.Sequential(
        *parts, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(shape.widths[-1], shape.classes)
    )
