"""Where the best learning rate lies at each size, where it will lie at the target, and how sure that is.

*Use when* losses at several rates are known for two or more sizes: from a study with a scale, or from any table.

*Do not use when* the optimum may have several valleys, or a size has fewer than five rates that did not diverge.

*Paper*: the transfer of the best rate is what Yang et al. 2022 (arXiv:2203.03466) claim for muP; a power law in the width is
what standard parametrization shows (their figure 1; Everett et al. 2024, arXiv:2407.05872). Between-size spread is that of
DerSimonian, Laird 1986, Controlled Clinical Trials 7(3), and the interval for one more size that of Higgins et al. 2009.

*Differs*: the optimum at a size is the lowest point of a parabola through the better half of the losses over the log of the
rate, with percentile intervals over resampled trainings; a resample whose parabola has no lowest point gives its best rate.
The interval for one more size has the normal's quantile; Higgins et al. take that of Student's t with two degrees of freedom
fewer than sizes, which two sizes do not have. With two or three proxies it is therefore too narrow where their rates differ by chance.

*Cost*: about 10 milliseconds per size.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tunewright.errors import ConfigError

Floats = NDArray[np.float64]
LEVEL = 0.9
LEAST = 5
EDGE = 0.05
_HAIR = 1e-6
_STEP = 2.0**0.25
_DRAWS = 400
_TINY = 1e-13
_ROOM = 1_000_000  # numbers in hand at a time
Z = 1.6449


@dataclass(frozen=True, slots=True)
class Optimum:
    """Where the loss of one size is lowest over the rate.

    Attributes:
        growth: Doublings of the size from the base's.
        rate: The best rate.
        low: Lower end of its interval of 90 percent.
        high: Upper end.
        loss: Loss there.
        curvature: Loss added by one squared doubling of the rate; 0 where no parabola fits.
        count: Trainings with a finite loss.
        diverged: Trainings without one.
        edge: ``low`` or ``high`` if the optimum lies at that end of the searched range, or of the rates that were tried at this
            size, else empty.
        draws: Log2 of the best rate in resampled trainings, shape ``(b,)``.
        length: Log2 of the steps of a training.
        shared: Optima that were read off the same trainings, each of which then counts for that much less.
        noise: Standard deviation of the loss over resampled trainings.
    """

    growth: float
    rate: float
    low: float
    high: float
    loss: float
    curvature: float
    count: int
    diverged: int
    edge: str
    draws: Floats = field(repr=False, compare=False)
    length: float = 0.0
    shared: int = 1
    noise: float = 0.0

    @property
    def variance(self) -> float:
        """Of the log2 of the rate, at least that of a tenth of a doubling, below which nothing is known of a parabola's form."""
        return max(float(self.draws.var()), 0.01) * self.shared


class Prediction(NamedTuple):
    """The best rate at another size.

    Attributes:
        rate: Its estimate.
        low: Lower end of its interval of 90 percent.
        high: Upper end.
        spread: Standard deviation of its log2.
    """

    rate: float
    low: float
    high: float
    spread: float


class Regression(NamedTuple):
    """A linear law of the log2 of the best rate.

    Attributes:
        predicted: The best rate where it was asked.
        coefficients: Shape ``(p,)``.
        spreads: Their standard deviations, shape ``(p,)``.
    """

    predicted: Prediction
    coefficients: Floats
    spreads: Floats


class _Parabolas(NamedTuple):
    """Lowest points, losses there, and losses added by one squared doubling, each of shape ``(b,)``."""

    at: Floats
    loss: Floats
    curvature: Floats


def optimum(
    rates: Sequence[float] | Floats,
    losses: Sequence[float] | Floats,
    searched: tuple[float, float],
    rng: np.random.Generator,
    *,
    growth: float = 0.0,
    length: float = 0.0,
    shared: int = 1,
    others: Floats | None = None,
) -> Optimum:
    """The best rate at one size.

    Args:
        rates: Shape ``(n,)``, positive.
        losses: Lower is better, not finite where the training diverged, shape ``(n,)``.
        searched: Ends of the range that rates were drawn from.
        rng: For resampling.
        growth: Doublings of the size from the base's.
        length: Log2 of the steps of a training.
        shared: Optima that are read off the same trainings.
        others: What else was varied, each column within [0, 1], shape ``(n, p)``; its linear effect is taken out where there
            are enough trainings.

    Raises:
        ConfigError: If fewer than five trainings, or trainings at fewer than four rates, have a finite loss.
    """
    z, loss = np.log2(np.asarray(rates, dtype=np.float64)), np.asarray(losses, dtype=np.float64)
    good = np.isfinite(loss)
    if good.sum() < LEAST or len(np.unique(z[good])) < LEAST - 1:
        raise ConfigError(
            f"A best rate needs {LEAST} trainings that did not diverge, at {LEAST - 1} rates or more; got {int(good.sum())} "
            f"of {len(z)} at {len(np.unique(z[good]))}. Run more trials."
        )
    more = np.zeros((len(z), 0)) if others is None else np.asarray(others, dtype=np.float64)
    low, high = math.log2(searched[0]), math.log2(searched[1])
    # Where a scheduler let few rates through, the best of them may be far from the best; one that diverged was tried, too.
    margin = EDGE * (high - low)
    least, most = max(low + margin, float(z.min()) + _HAIR), min(high - margin, float(z.max()) - _HAIR)
    z, loss, more, n = z[good], loss[good], more[good], int(good.sum())
    found = _resampled(z, loss, more, rng)
    at, draws = float(found.at[0]), found.at[1:]
    ends = np.quantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Optimum(
        growth,
        2.0**at,
        2.0 ** min(float(ends[0]), at),
        2.0 ** max(float(ends[1]), at),
        float(found.loss[0]),
        float(found.curvature[0]),
        n,
        int((~good).sum()),
        "low" if at < least else "high" if at > most else "",
        draws,
        length,
        shared,
        float(found.loss[1:].std()),
    )


def _resampled(z: Floats, loss: Floats, more: Floats, rng: np.random.Generator) -> _Parabolas:
    """The lowest point for the trainings as they are, then for each resample of them; many trainings bit by bit."""
    n = len(z)
    found = [_lowest(z[None], loss[None], more[None])]
    bit = max(1, _ROOM // n)
    for begin in range(0, _DRAWS, bit):
        rows = rng.integers(0, n, size=(min(bit, _DRAWS - begin), n))
        found.append(_lowest(z[rows], loss[rows], more[rows]))
    return _Parabolas(*(np.concatenate(parts) for parts in zip(*found, strict=True)))


def _lowest(z: Floats, loss: Floats, more: Floats) -> _Parabolas:
    """The lowest points of parabolas through the better half of the losses, where there are none the best of them.

    Args:
        z: Log2 of rates, shape ``(b, n)``.
        loss: Shape ``(b, n)``.
        more: What else was varied, shape ``(b, n, p)``.
    """
    n, p = z.shape[1], more.shape[2]
    keep = min(n, max(LEAST, math.ceil(n / 2)))
    order = np.argsort(loss, axis=1, kind="stable")[:, :keep]
    z, loss = np.take_along_axis(z, order, 1), np.take_along_axis(loss, order, 1)
    middle = z.mean(axis=1, keepdims=True)
    u = z - middle
    columns = np.stack([np.ones_like(u), u, u * u], axis=2)
    if p and keep >= 2 * (3 + p):
        more = np.take_along_axis(more, order[:, :, None], 1)
        columns = np.concatenate([columns, more - more[:, :1]], axis=2)
    # Normal equations: tens of times as fast as a decomposition of the columns, which are few and of like size.
    across = columns.transpose(0, 2, 1)
    inverse = np.linalg.pinv(across @ columns, rcond=_TINY, hermitian=True)
    fit = (inverse @ (across @ loss[:, :, None]))[:, :, 0]
    c, b, a = fit[:, 0], fit[:, 1], fit[:, 2]
    distinct = (np.diff(np.sort(z, axis=1), axis=1) > 0).sum(axis=1) + 1
    good = (distinct >= 3) & (a > 0.0)
    # Beyond what was tried, a parabola is a guess.
    at = np.clip(np.where(good, -b / np.where(good, 2 * a, 1.0), 0.0), u.min(axis=1), u.max(axis=1))
    return _Parabolas(
        np.where(good, at + middle[:, 0], z[:, 0]),
        np.where(good, c + b * at + a * at * at, loss[:, 0]),
        np.where(good, a, 0.0),
    )


def apart(optima: Sequence[Optimum]) -> tuple[Optimum, Optimum] | None:
    """Two sizes whose intervals have nothing in common, those furthest apart; None if there are none.

    However narrow intervals are, a move of less than half a doubling is none: it is finer than rates are tuned.
    """
    ends = [(min(o.low, o.rate / _STEP), max(o.high, o.rate * _STEP), o) for o in optima]
    gaps = [(a[0] / b[1], a[2], b[2]) for a in ends for b in ends if a[0] > b[1]]
    return None if not gaps else max(gaps, key=lambda g: g[0])[1:]


def pooled(optima: Sequence[Optimum]) -> Prediction:
    """The best rate at any size, for a rule under which it does not move.

    Args:
        optima: One per size.
    """
    return regressed(optima, np.ones((len(optima), 1)), np.ones(1)).predicted


def regressed(optima: Sequence[Optimum], columns: Floats, at: Floats) -> Regression:
    """A linear law of the log2 of the best rate, with what optima differ beyond their intervals in the error.

    Args:
        optima: Where the best rate is known.
        columns: What the law goes by, of full rank, shape ``(n, p)``.
        at: The same where the law is asked, shape ``(p,)``.
    """
    y, variances = np.array([math.log2(o.rate) for o in optima]), np.array([o.variance for o in optima])
    between, free = 0.0, len(y) - columns.shape[1]
    if free:
        w = 1.0 / variances
        covariance = np.linalg.inv((columns.T * w) @ columns)
        rest = y - columns @ (covariance @ (columns.T * w) @ y)
        size = float(w.sum() - np.trace(covariance @ (columns.T * w**2) @ columns))
        between = max(0.0, (float((w * rest**2).sum()) - free) / size)
    w = 1.0 / (variances + between)
    covariance = np.linalg.inv((columns.T * w) @ columns)
    found = covariance @ (columns.T * w) @ y
    centre, spread = float(at @ found), math.sqrt(float(at @ covariance @ at) + between)
    ends = (2.0**centre, 2.0 ** (centre - Z * spread), 2.0 ** (centre + Z * spread))
    return Regression(Prediction(*ends, spread), found, np.sqrt(np.diag(covariance)))


def slope(optima: Sequence[Optimum]) -> tuple[float, float, float]:
    """Doublings of the best rate per doubling of the size: estimate and interval of 90 percent.

    Args:
        optima: Of two sizes or more.
    """
    _, draws, found = _line(optima, 0.0)
    low, high = np.quantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return found, float(min(low, found)), float(max(high, found))


def extrapolated(optima: Sequence[Optimum], growth: float) -> Prediction:
    """The best rate at a size by the power law through the sizes that are known.

    Args:
        optima: Of two sizes or more.
        growth: Doublings of that size from the base's.
    """
    at, _, _ = _line(optima, growth)
    low, high = np.quantile(at[1:], [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    rate = float(at[0])
    return Prediction(
        2.0**rate, 2.0 ** min(float(low), rate), 2.0 ** max(float(high), rate), float(at[1:].std())
    )


def _line(optima: Sequence[Optimum], growth: float) -> tuple[Floats, Floats, float]:
    """Values of the line at a size, first of the estimates and then of each resample; slopes of resamples; the slope."""
    x = np.array([o.growth for o in optima])
    w = np.array([1.0 / o.variance for o in optima])
    y = np.column_stack([np.append(math.log2(o.rate), o.draws) for o in optima])
    mean_x, mean_y = float((w * x).sum() / w.sum()), (y * w).sum(axis=1) / w.sum()
    slopes = ((x - mean_x) * w * (y - mean_y[:, None])).sum(axis=1) / float((w * (x - mean_x) ** 2).sum())
    return mean_y + slopes * (growth - mean_x), slopes[1:], float(slopes[0])
