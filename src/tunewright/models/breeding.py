"""Breeding of configurations: crossover and mutation of rows of mixed, partly inactive codes.

*Use when* a method breeds a new configuration from one or two others. *Do not use when* a model can tell good candidates
from bad ones; ``acquisition.mutations`` covers all scales for that.

*Paper*: Deb and Agrawal 1995 (Complex Systems 9), section 4, for simulated binary crossover; Deb and Goyal 1996 for polynomial
mutation; both in the bounded forms of Deb et al. 2002 (NSGA-II).

*Differs*: one child per crossover; an ordered column with levels moves by at least one when it is mutated; options without
order are exchanged or redrawn. A column inactive in one parent comes from the other, one inactive in both is drawn anew.

*Cost*: O(d) per child.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tunewright.core.columns import Layout

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

_SAME = 1e-14


def filled(row: FloatArray, rng: np.random.Generator, other: FloatArray | None = None) -> FloatArray:
    """The row with its inactive codes taken from another, else drawn uniformly; any shape."""
    out = row if other is None else np.where(np.isnan(row), other, row)
    return np.where(np.isnan(out), rng.random(out.shape), out)


def reflected(codes: FloatArray) -> FloatArray:
    """Codes folded back into [0, 1] at its ends."""
    folded = np.mod(codes, 2.0)
    out: FloatArray = np.where(folded > 1.0, 2.0 - folded, folded)
    return out


def sbx(a: FloatArray, b: FloatArray, eta: float, rng: np.random.Generator, share: float = 0.5) -> FloatArray:
    """One child of two rows of codes in [0, 1], shape ``(d,)``: near either parent, as far from it as they differ.

    Args:
        a: First parent, no NaN.
        b: Second parent, no NaN.
        eta: Distribution index, unitless; the larger the nearer.
        rng: Source of randomness.
        share: Chance of each column to be crossed; else it is that of the first parent.

    Source: Deb and Agrawal 1995, eq. 9 and 10, cut at the bounds.
    """
    low, high = np.minimum(a, b), np.maximum(a, b)
    gap = np.maximum(high - low, _SAME)
    u, upper = rng.random(len(a)), rng.random(len(a)) < 0.5
    room = np.where(upper, 1.0 - high, low)
    alpha = 2.0 - (1.0 + 2.0 * room / gap) ** -(eta + 1.0)
    within = u <= 1.0 / alpha
    with np.errstate(divide="ignore"):
        spread = np.where(within, u * alpha, 1.0 / np.maximum(2.0 - u * alpha, 1e-300)) ** (1.0 / (eta + 1.0))
    middle = 0.5 * (a + b)
    child = np.clip(middle + np.where(upper, 0.5, -0.5) * spread * gap, 0.0, 1.0)
    crossed = (rng.random(len(a)) < share) & (high - low > _SAME)
    out: FloatArray = np.where(crossed, child, a)
    return out


def polynomial_step(x: FloatArray, eta: float, u: FloatArray) -> FloatArray:
    """Steps of polynomial mutation from codes ``x`` in [0, 1], given uniform draws ``u``; any shape.

    Source: Deb et al. 2002, with both bounds taken into account.
    """
    power = 1.0 / (eta + 1.0)
    down = (2.0 * u + (1.0 - 2.0 * u) * (1.0 - x) ** (eta + 1.0)) ** power - 1.0
    up = 1.0 - np.maximum(2.0 * (1.0 - u) + (2.0 * u - 1.0) * x ** (eta + 1.0), 0.0) ** power
    with np.errstate(invalid="ignore"):
        out: FloatArray = np.where(u <= 0.5, down, up)
    return out


def other_options(row: FloatArray, layout: Layout, rng: np.random.Generator) -> FloatArray:
    """For every column another level than its own, each with equal chance, as codes ``(d,)``; useful where there are two."""
    k = np.maximum(layout.levels, 1)
    here = np.minimum((row * k).astype(np.int64), k - 1)
    away = (here + 1 + (rng.random(len(row)) * np.maximum(k - 1, 1)).astype(np.int64)) % k
    out: FloatArray = (away + 0.5) / k
    return out


def mutated(row: FloatArray, layout: Layout, eta: float, rate: float, rng: np.random.Generator) -> FloatArray:
    """Changes each column with some chance: polynomial mutation, at least a level, or another option.

    Args:
        row: Codes, shape ``(d,)``, no NaN.
        layout: The columns.
        eta: Distribution index of the mutation, unitless.
        rate: Chance of each column.
        rng: Source of randomness.
    """
    d = len(row)
    step = polynomial_step(row, eta, rng.random(d))
    ordered = (layout.levels > 0) & ~layout.categorical
    least = 1.0 / np.maximum(layout.levels, 1)
    moved = np.where(ordered, np.copysign(np.maximum(np.abs(step), least), step), step)
    changed = np.where(layout.categorical, other_options(row, layout, rng), np.clip(row + moved, 0.0, 1.0))
    out: FloatArray = np.where(rng.random(d) < rate, changed, row)
    return out


def offspring(
    a: FloatArray, b: FloatArray, layout: Layout, eta: float, rng: np.random.Generator, crossing: float = 0.9
) -> FloatArray:
    """A child of two parents: crossed with some chance, then each column mutated with chance ``1 / d``.

    Args:
        a: First parent, shape ``(d,)``; may hold NaN.
        b: Second parent, shape ``(d,)``; may hold NaN.
        layout: The columns.
        eta: Distribution index of crossover and mutation, unitless.
        rng: Source of randomness.
        crossing: Chance of a crossover at all.
    """
    first, second = filled(a, rng, b), filled(b, rng, a)
    d = len(first)
    if rng.random() < crossing:
        swap = layout.categorical & (rng.random(d) < 0.5)
        first = np.where(swap, second, np.where(layout.categorical, first, sbx(first, second, eta, rng)))
    return mutated(first, layout, eta, 1.0 / d, rng)
