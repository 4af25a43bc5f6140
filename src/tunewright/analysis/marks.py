"""What figures are made of: axes, and marks in the units of the data.

Nothing here knows how large a figure is or what draws it; ``drawing`` makes SVG of it, ``wired`` plain data,
``matplotlib_`` and ``plotly_`` figures of those libraries.

Styles are words: a colour (``s0`` to ``s7`` for groups, ``ink``, ``muted``, ``best``, ``pruned``, ``failed``, ``running``,
``band``), then any of ``hollow``, ``faint`` and ``dashed``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tunewright.core.domains import Float, Int, Scalar

Floats = NDArray[np.float64]
GROUPS = 8
# After Okabe and Ito 2008, each dark (or, on dark paper, light) enough for thin lines.
LIGHT = {
    "s0": "#0b66b0", "s1": "#b85c00", "s2": "#00795a", "s3": "#a3457f", "s4": "#5b5bd6", "s5": "#7a6a00",
    "s6": "#0f7c94", "s7": "#7c5a45", "best": "#0b66b0", "failed": "#b3261e", "pruned": "#8a5a00",
    "running": "#00795a", "muted": "#8b95a5", "ink": "#1c2430", "band": "#1c2430",
}  # fmt: skip
DARK = {
    "s0": "#63b3f4", "s1": "#f2a65a", "s2": "#4cc9a0", "s3": "#e393c4", "s4": "#a3a3ff", "s5": "#d8c64c",
    "s6": "#5fcbe0", "s7": "#d2ab92", "best": "#63b3f4", "failed": "#ff8a80", "pruned": "#e0b060",
    "running": "#4cc9a0", "muted": "#7d8899", "ink": "#e7ebf2", "band": "#e7ebf2",
}  # fmt: skip
_TINY = 1e-300


def colour(style: str) -> str:
    """The colour that a style has on white paper."""
    return LIGHT.get(style.split(" ", 1)[0], LIGHT["ink"])


def number(value: float) -> str:
    """A number to three digits."""
    if value != value:
        return "-"
    if value == 0 or 1e-3 <= abs(value) < 1e5:
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
    mantissa, _, exponent = f"{value:.2e}".partition("e")
    return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"


def cell(value: Any) -> str:
    """A value as table text."""
    if isinstance(value, list):
        return ", ".join(map(cell, value)) or "none"
    return number(value) if isinstance(value, float) else str(value)


# ---------------------------------------------------------------------- axes


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis.

    Attributes:
        label: Its name.
        low: Value at its beginning.
        high: Value at its end; larger than ``low``.
        kind: Even in values, even in logarithm (then ``low > 0``), or names: name ``i`` stands at ``i``, and the axis
            reaches half a place beyond the first and the last.
        names: The names, for an axis of names.
        clipped: Number of values outside, which are drawn at its ends.
        whole: Whether ticks are whole numbers.
    """

    label: str
    low: float
    high: float
    kind: Literal["linear", "log", "names"] = "linear"
    names: tuple[str, ...] = ()
    clipped: int = 0
    whole: bool = False

    def at(self, values: ArrayLike) -> Floats:
        """Positions of values, within [0, 1]."""
        found = np.asarray(values, dtype=np.float64)
        if self.kind == "log":
            a, b = math.log10(self.low), math.log10(self.high)
            place = (np.log10(np.maximum(found, _TINY)) - a) / (b - a)
        else:
            place = (found - self.low) / (self.high - self.low)
        out: Floats = np.clip(place, 0.0, 1.0)
        return out

    def values(self, positions: ArrayLike) -> Floats:
        """Values at positions; on the axis of a parameter positions are its codes."""
        place = np.asarray(positions, dtype=np.float64)
        if self.kind == "log":
            a, b = math.log(self.low), math.log(self.high)
            out: Floats = np.exp(a + place * (b - a))
            return out
        return self.low + place * (self.high - self.low)

    @property
    def ticks(self) -> tuple[tuple[float, str], ...]:
        """``(position, text)`` of every tick."""
        if self.kind == "names":
            k = max(1, len(self.names))
            return tuple(((i + 0.5) / k, n) for i, n in enumerate(self.names))
        far = self.kind == "log" and self.high / self.low > 3
        places = _log_values(self.low, self.high) if far else _round_values(self.low, self.high, 5)
        if self.whole:
            places = sorted({float(round(v)) for v in places})
            places = [v for v in places if self.low <= v <= self.high]
        return tuple((float(p), number(v)) for p, v in zip(self.at(places), places, strict=True))


def _round_values(low: float, high: float, count: int) -> list[float]:
    """About ``count`` round numbers in a range."""
    raw = (high - low) / max(1, count)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= raw * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [i * step for i in range(first, last + 1)]


def _log_values(low: float, high: float) -> list[float]:
    """Up to eight numbers such as 1, 2 and 5 times powers of ten in a positive range."""
    a, b = math.log10(low), math.log10(high)
    wanted = (1,) if b - a > 4 else (1, 3) if b - a > 2 else (1, 2, 5)
    places = [m * 10.0**k for k in range(math.floor(a), math.ceil(b) + 1) for m in wanted]
    inside = [v for v in places if a - 1e-9 <= math.log10(v) <= b + 1e-9]
    return inside[:: max(1, math.ceil(len(inside) / 8))]


def linear(label: str, low: float, high: float, *, clipped: int = 0) -> Axis:
    """An axis from ``low`` to ``high`` with round ticks."""
    if not high > low:
        pad = abs(low) * 0.05 or 0.5
        low, high = low - pad, high + pad
    return Axis(label, float(low), float(high), clipped=clipped)


def logarithmic(label: str, low: float, high: float, *, clipped: int = 0) -> Axis:
    """An axis that is even in logarithm, for ``0 < low < high``."""
    return Axis(label, float(low), float(high), "log", clipped=clipped)


def values_axis(label: str, values: ArrayLike) -> Axis:
    """An axis for measured values: logarithmic over orders of magnitude, else without room for far outliers."""
    found = np.asarray(values, dtype=np.float64)
    found = found[np.isfinite(found)]
    if not len(found):
        return linear(label, 0.0, 1.0)
    low, high = float(found.min()), float(found.max())
    if low > 0 and high / low > 8:
        return logarithmic(label, low / 1.08, high * 1.08)
    quarter, upper = np.quantile(found, [0.25, 0.75])
    fence_high = float(upper + 4 * (upper - quarter)) if upper > quarter else high
    fence_low = float(quarter - 4 * (upper - quarter)) if upper > quarter else low
    low, high = max(low, fence_low), min(high, fence_high)
    pad = 0.04 * (high - low)
    low, high = low - pad, high + pad
    return linear(label, low, high, clipped=int(np.sum((found < low) | (found > high))))


def names_axis(label: str, names: Sequence[str]) -> Axis:
    """An axis of names, of which the first stands at 0; a vertical one begins at the bottom."""
    return Axis(label, -0.5, max(1, len(names)) - 0.5, "names", tuple(names))


def domain_axis(label: str, domain: Scalar) -> Axis:
    """The axis of a parameter in its own values; codes from 0 to 1 go from one end to the other."""
    if not isinstance(domain, Float | Int):
        return names_axis(label, [str(o) for o in domain.options])
    low, high = float(domain.low), float(domain.high)
    if isinstance(domain, Int):
        half = 0.5 if domain.log else 0.5 * domain.step
        top = high if domain.log else low + (domain.count - 1) * domain.step
        return Axis(label, low - half, top + half, "log" if domain.log else "linear", whole=True)
    if domain.step is not None:
        return Axis(label, low - 0.5 * domain.step, low + (domain.count - 0.5) * domain.step)
    return Axis(label, low, high, "log" if domain.log else "linear")


# ---------------------------------------------------------------------- marks


@dataclass(frozen=True, slots=True)
class Line:
    """A polyline through points, shape ``(n, 2)``; NaN interrupts it.

    Attributes:
        points: The points.
        style: Its style.
        name: What it shows, for a legend or tooltip.
        trial: Number of the trial that it belongs to.
    """

    points: Floats
    style: str
    name: str = ""
    trial: int | None = None


@dataclass(frozen=True, slots=True)
class Band:
    """An area between two curves over the same places, each of shape ``(n,)``."""

    x: Floats
    low: Floats
    high: Floats
    style: str


@dataclass(frozen=True, slots=True)
class Dots:
    """Points, shape ``(n, 2)``, with a style and a tooltip each.

    Attributes:
        points: The points.
        styles: A style each, or one for all.
        tips: A tooltip each.
        radius: In pixels.
        trials: Number of the trial of each, if they are trials.
    """

    points: Floats
    styles: Sequence[str] | str
    tips: Sequence[str]
    radius: float = 3.6
    trials: Sequence[int] | None = None

    @property
    def each(self) -> Sequence[str]:
        """The style of every point."""
        return [self.styles] * len(self.points) if isinstance(self.styles, str) else self.styles


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle from ``(x0, y0)`` to ``(x1, y1)``."""

    x0: float
    y0: float
    x1: float
    y1: float
    style: str
    tip: str = ""
    trial: int | None = None


@dataclass(frozen=True, slots=True)
class Bars:
    """Bars from the axis to values, each with an interval.

    Attributes:
        at: Where each bar stands, on the axis of names, shape ``(n,)``.
        value: How far it reaches, shape ``(n,)``.
        low: Lower end of its interval, NaN without one, shape ``(n,)``.
        high: Upper end.
        style: Of all bars.
        tips: A tooltip each.
        horizontal: Whether they stand on the vertical axis.
    """

    at: Floats
    value: Floats
    low: Floats
    high: Floats
    style: str
    tips: Sequence[str]
    horizontal: bool = True


@dataclass(frozen=True, slots=True)
class Heat:
    """Values as colours over a grid.

    Attributes:
        x: Middles of the columns of cells, ascending, shape ``(c,)``.
        y: Middles of the rows of cells, ascending, shape ``(r,)``.
        z: Values, NaN where there is none, shape ``(r, c)``.
        low: Value of the palest colour.
        high: Value of the strongest colour.
        label: What the values are.
    """

    x: Floats
    y: Floats
    z: Floats
    low: float
    high: float
    label: str = ""


@dataclass(frozen=True, slots=True)
class Contour:
    """Lines along which a value is the same.

    Attributes:
        level: The value.
        lines: Polylines, each of shape ``(n, 2)``.
        style: Their style.
    """

    level: float
    lines: Sequence[Floats]
    style: str = "ink"


Mark = Line | Band | Dots | Box | Bars | Heat | Contour


@dataclass(frozen=True, slots=True)
class Panel:
    """Axes with marks on them.

    Attributes:
        x: Horizontal axis.
        y: Vertical axis.
        marks: What is drawn, in order.
        title: Shown above it.
        height: Height of the plotting area in pixels.
    """

    x: Axis
    y: Axis
    marks: tuple[Mark, ...]
    title: str = ""
    height: int = 240


@dataclass(frozen=True, slots=True)
class Rows:
    """Parallel coordinates turned by a quarter: one horizontal axis below another, a line per trial.

    Attributes:
        axes: One per parameter, then the objective.
        lines: Values of each trial on every axis, NaN where it has none, shape ``(n, axes)``.
        styles: Style of each line.
        tips: Tooltip of each line.
        trials: Number of each line's trial.
    """

    axes: tuple[Axis, ...]
    lines: Floats
    styles: Sequence[str]
    tips: Sequence[str]
    trials: Sequence[int] = field(default=())
