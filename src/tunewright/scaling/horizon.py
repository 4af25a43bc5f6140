"""The best learning rate of a longer training, from sweeps over shorter ones at the same batch size.

*Use when*: a model is to be trained on several times the data that its rate was tuned for, with the batch size kept.
*Do not use when*: the batch grows with the data: the best rate then rises with the batch and may rise with the data on balance (the
step law in ``laws``); never combine that law with this one.
*Paper*: Bjorck, Benhaim, Chaudhary, Wei and Song 2024, arXiv:2409.19913: a parabola in the logarithm of the rate for every horizon,
bootstrapped; ``rate = c tokens^-e``; e about 0.32 as the rule for who has one horizon only.
*Differs*: repetitions are resampled where there are several seeds; an optimum at the edge of a sweep is refused. For studies with a
scale the law is fitted together with that of the size, to optima of any rates that were drawn.
*Cost*: NumPy on a handful of numbers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tunewright.errors import ConfigError
from tunewright.scaling.drift import Optimum, Prediction, Z, regressed

Floats = NDArray[np.float64]
EXPONENT = 0.32
SPREAD = 0.1
"""Standard deviation of the exponent: .32 at 760 million and 1.3 billion weights, .42 at 2.7 billion."""
REACH = 32.0
_RESAMPLES = 1000


@dataclass(frozen=True, slots=True)
class RateOptimum:
    """Where the loss over learning rates is lowest.

    Attributes:
        rate: The lowest point of the parabola.
        low: Lower end of its interval; NaN with one repetition.
        high: Upper end; NaN with one repetition.
        loss: Of the parabola there.
        curvature: Of the parabola, in loss per squared natural logarithm of the rate: how much a wrong rate costs.
        cloud: Resampled optima, shape ``(r,)``; the optimum alone with one repetition.
    """

    rate: float
    low: float
    high: float
    loss: float
    curvature: float
    cloud: Floats = field(repr=False, compare=False)


def optimal_rate(
    rates: Sequence[float] | Floats, losses: Any, *, points: int = 5, level: float = 0.95, seed: int = 0
) -> RateOptimum:
    """Lowest point of a parabola in the logarithm of the rate, through the best rate and its neighbours.

    Args:
        rates: Strictly increasing, shape ``(k,)``, at least 3 that did not diverge.
        losses: Final losses, shape ``(k,)`` or ``(n, k)`` for ``n`` repetitions; not finite where training diverged, which drops
            the rate.
        points: Rates that the parabola goes through at most: the best one and those next to it.
        level: Of the interval.
        seed: Of the bootstrap.

    Raises:
        ConfigError: If fewer than 3 rates are left, the best one is the smallest or largest of them, or numbers are out of range.
    """
    x = np.asarray(rates, dtype=float)
    y = np.atleast_2d(np.asarray(losses, dtype=float))
    if x.ndim != 1 or not (np.isfinite(x).all() and (x > 0).all() and (np.diff(x) > 0).all()):
        raise ConfigError(
            f"Rates must be above 0 and strictly increasing; got {x.tolist()}. Sort them and drop repetitions."
        )
    if y.ndim != 2 or y.shape[1] != len(x):
        raise ConfigError(
            f"There must be one loss for each of the {len(x)} rates; got shape {y.shape}. Repetitions are rows."
        )
    if points < 3 or not 0.0 < level < 1.0:
        raise ConfigError(
            f"A parabola needs 3 points and a level in (0, 1); got {points} and {level}. Leave both at their defaults."
        )
    kept = np.isfinite(y).all(axis=0)
    if kept.sum() < 3:
        raise ConfigError(
            f"A parabola needs 3 rates whose trainings all ended; got {int(kept.sum())} of {len(x)}. Add smaller rates."
        )
    x, y = np.log(x[kept]), y[:, kept]
    mean = y.mean(axis=0)
    best = int(np.argmin(mean))
    if best in (0, len(x) - 1):
        side = "smallest" if best == 0 else "largest"
        raise ConfigError(
            f"The best rate must have rates on both sides; got the {side} that did not diverge, {math.exp(x[best]):.3g}. "
            f"Extend the sweep towards {'smaller' if best == 0 else 'larger'} ones."
        )
    at, loss, curvature = _vertex(x, mean, points)
    if len(y) == 1:
        return RateOptimum(math.exp(at), math.nan, math.nan, loss, curvature, np.array([math.exp(at)]))
    rows = np.random.default_rng(seed).integers(0, len(y), size=(_RESAMPLES, *y.shape))
    drawn = y[rows, np.arange(len(x))].mean(axis=1)
    cloud = np.exp([_vertex(x, d, points)[0] for d in drawn])
    tail = (1.0 - level) / 2.0
    low, high = np.quantile(cloud, [tail, 1.0 - tail])
    return RateOptimum(math.exp(at), float(low), float(high), loss, curvature, cloud)


def _vertex(x: Floats, y: Floats, points: int) -> tuple[float, float, float]:
    """Place, value and curvature of the minimum of a parabola through the best point and its neighbours.

    On an even grid a parabola rises at its second neighbours by at most 4 times what it rises at the first; a window that rises
    by much more holds the cliff of diverging trainings and is narrowed.
    """
    best = int(np.argmin(y))
    if best in (0, len(x) - 1):
        return float(x[best]), float(y[best]), 0.0
    for reach in range((points - 1) // 2, 0, -1):
        window = slice(max(0, best - reach), best + reach + 1)
        if reach > 1 and y[window].max() - y[best] > 1.5 * reach**2 * (
            y[best - 1 : best + 2].max() - y[best]
        ):
            continue
        bend, slope, level = np.polyfit(x[window] - x[best], y[window], 2)
        move = -slope / (2 * bend) if bend > 0 else math.inf
        if x[best - 1] <= x[best] + move <= x[best + 1]:
            return float(x[best] + move), float(level - slope**2 / (4 * bend)), float(2 * bend)
    return float(x[best]), float(y[best]), 0.0


@dataclass(frozen=True, slots=True)
class HorizonLaw:
    """How the best rate falls with the length of training: ``scale * tokens^-exponent``.

    Attributes:
        scale: Constant.
        exponent: Positive where longer trainings want smaller rates.
        interval: Ends of the exponent's 95 % interval; NaN without repetitions and with two horizons only.
        optima: The optimum at each horizon.
        box: Shortest and longest horizon of the sweeps.
        cloud: Resampled ``(log scale, exponent)``, shape ``(r, 2)``.
    """

    scale: float
    exponent: float
    interval: tuple[float, float]
    optima: tuple[RateOptimum, ...]
    box: tuple[float, float]
    cloud: Floats = field(repr=False, compare=False)

    def rate(self, tokens: float, *, reach: float = REACH) -> tuple[float, float, float]:
        """Best rate of a training and the ends of its 95 % interval.

        Args:
            tokens: Of the training.
            reach: How many times beyond the sweeps the law is asked at most; the paper's horizons span a factor of 32.

        Raises:
            ConfigError: If the horizon is further away.
        """
        low, high = self.box
        if not low / reach <= tokens <= high * reach:
            raise ConfigError(
                f"The law was fitted from {low:.3g} to {high:.3g} tokens and is asked at most {reach:g} times beyond; got "
                f"{tokens:.3g}. Sweep a horizon nearer to it, or check the unit: it is one token, not a billion."
            )
        drawn = np.exp(self.cloud[:, 0] - self.cloud[:, 1] * math.log(tokens))
        ends = np.quantile(drawn, [0.025, 0.975])
        return self.scale * tokens**-self.exponent, float(ends[0]), float(ends[1])


def fit_horizon(
    tokens: Sequence[float], rates: Sequence[float] | Floats, losses: Any, *, points: int = 5, seed: int = 0
) -> HorizonLaw:
    """Fits the law to a sweep of the same rates at several horizons, all at one batch size.

    Args:
        tokens: Horizons, strictly increasing, shape ``(t,)``, at least 2.
        rates: Shape ``(k,)``.
        losses: Final losses, shape ``(t, k)``, or ``(t, n, k)`` for ``n`` repetitions.
        points: As in ``optimal_rate``.
        seed: Of the bootstrap.

    Raises:
        ConfigError: If there are too few horizons, shapes do not agree, or a sweep tells no optimum.
    """
    horizons = np.asarray(tokens, dtype=float)
    values = np.asarray(losses, dtype=float)
    values = values[:, None] if values.ndim == 2 else values
    if len(horizons) < 2 or not ((horizons > 0).all() and (np.diff(horizons) > 0).all()):
        raise ConfigError(
            f"A law over horizons needs 2 or more, above 0 and increasing; got {horizons.tolist()}. Sweep another one, 4 times as long."
        )
    if values.ndim != 3 or len(values) != len(horizons):
        raise ConfigError(
            f"There must be one sweep for each of the {len(horizons)} horizons; got shape {np.shape(losses)}. Stack them first."
        )
    optima = []
    for i, (horizon, sweep) in enumerate(zip(horizons, values, strict=True)):
        try:
            optima.append(optimal_rate(rates, sweep, points=points, seed=seed + i))
        except ConfigError as error:
            raise ConfigError(f"At {horizon:g} tokens: {error}") from None
    design = np.column_stack([np.ones(len(horizons)), -np.log(horizons)])
    solve = np.linalg.pinv(design)
    found = solve @ np.log([o.rate for o in optima])
    size = max(len(o.cloud) for o in optima)
    if size > 1:
        cloud = np.log(np.stack([o.cloud for o in optima], axis=1)) @ solve.T
    else:
        cloud = _scattered(design, np.log([o.rate for o in optima]), found, seed)
    ends = np.quantile(cloud[:, 1], [0.025, 0.975]) if len(cloud) > 1 else (math.nan, math.nan)
    return HorizonLaw(
        math.exp(found[0]),
        float(found[1]),
        (float(ends[0]), float(ends[1])),
        tuple(optima),
        (float(horizons[0]), float(horizons[-1])),
        cloud,
    )


def _scattered(design: Floats, y: Floats, found: Floats, seed: int) -> Floats:
    """Coefficients refitted to resampled residuals; the fit alone where two points leave none."""
    free = len(y) - 2
    if free < 1:
        return found[None]
    residuals = (y - design @ found) * math.sqrt(len(y) / free)
    rng = np.random.default_rng(seed)
    drawn = design @ found + rng.choice(residuals, size=(_RESAMPLES, len(y)))
    out: Floats = drawn @ np.linalg.pinv(design).T
    return out


def transfer_rate(
    rate: float, tokens: float, target: float, *, exponent: float = EXPONENT, reach: float = REACH
) -> float:
    """The rate for another horizon at the same batch size, ``rate * (tokens / target)^exponent``, without a sweep.

    Args:
        rate: Best rate of the horizon that was tuned.
        tokens: That horizon.
        target: The horizon to come.
        exponent: The paper's for models of about a billion weights; those of 50 million gave up to 0.7.
        reach: Most times that the horizon may change.

    Raises:
        ConfigError: If numbers are not above 0, or the horizon changes by more.
    """
    if not all(math.isfinite(v) and v > 0 for v in (rate, tokens, target)):
        raise ConfigError(
            f"Rate and horizons must be finite and above 0; got {rate}, {tokens} and {target}. Give tokens, not billions of them."
        )
    if not 1 / reach <= target / tokens <= reach:
        raise ConfigError(
            f"The rule holds for horizons that change {reach:g} times at most; got {target / tokens:.3g} times. Sweep a horizon nearer "
            "to the target."
        )
    return float(rate * (tokens / target) ** exponent)


class Length(NamedTuple):
    """How best rates were brought from the lengths of trainings to the target's: ``rate ~ steps^-exponent``.

    Attributes:
        exponent: Positive where longer trainings want smaller rates.
        low: Lower end of its interval of 90 percent.
        high: Upper end.
        source: ``fitted`` to the study's own trainings, ``published`` or ``given``.
        fitted: Number of optima that it was fitted to; 0 where it was not.
        factor: What it makes of the best rate of the longest training at hand.
    """

    exponent: float
    low: float
    high: float
    source: Literal["fitted", "published", "given"]
    fitted: int
    factor: float

    def __str__(self) -> str:
        from_where = {
            "fitted": f"fitted to {self.fitted} best rates of the study",
            "published": "published for about a billion weights, arXiv:2409.19913",
            "given": "given",
        }[self.source]
        ends = "" if self.source == "given" else f" [{self.low:+.2f}, {self.high:+.2f}]"
        return f"rate ~ steps^-e, e={self.exponent:+.2f}{ends}, {from_where}: {self.factor:.3g} times the rate of the longest"


def adjusted(optima: Sequence[Optimum], exponent: float, length: float) -> list[Optimum]:
    """The same optima as if all trainings were of one length.

    Args:
        optima: Of any lengths.
        exponent: Of the law.
        length: Log2 of the steps.
    """
    out = []
    for o in optima:
        moved = exponent * (o.length - length)
        f = 2.0**moved
        out.append(
            replace(o, rate=o.rate * f, low=o.low * f, high=o.high * f, draws=o.draws + moved, length=length)
        )
    return out


def law_at(optima: Sequence[Optimum], exponent: float | None, length: float) -> Length:
    """The published law, or one with an exponent of the user's own, for a target.

    Args:
        optima: Those to be brought to the target's length.
        exponent: None for the published one.
        length: Log2 of the target's steps.
    """
    e, spread = (EXPONENT, SPREAD) if exponent is None else (exponent, 0.0)
    factor = 2.0 ** (e * (max(o.length for o in optima) - length))
    return Length(e, e - Z * spread, e + Z * spread, "published" if exponent is None else "given", 0, factor)


def widened(found: Prediction, optima: Sequence[Optimum], law: Length, length: float) -> Prediction:
    """A prediction whose interval covers that of the law's exponent, too."""
    away = max(abs(o.length - length) for o in optima)
    extra = (law.high - law.low) / (2 * Z) * away
    ends = [math.hypot(math.log2(end / found.rate), Z * extra) for end in (found.low, found.high)]
    return Prediction(
        found.rate, found.rate * 2.0 ** -ends[0], found.rate * 2.0 ** ends[1], math.hypot(found.spread, extra)
    )


def fitted_length(
    optima: Sequence[Optimum], growth: float, length: float, *, moves: bool
) -> tuple[Length, Prediction] | None:
    """Law of the length of trainings from optima of several lengths, and the best rate of the target by it.

    Args:
        optima: Of several lengths and sizes.
        growth: Doublings of the target's size.
        length: Log2 of the target's steps.
        moves: Whether the best rate moves with the size, too, by a power law that is fitted together with it.

    Returns:
        None where the optima do not tell the law, with one more than it takes so that they can contradict it.
    """
    rows = [[1.0, -o.length, o.growth] for o in optima]
    used = [0, 1, 2] if moves else [0, 1]
    columns, at = np.array(rows)[:, used], np.array([1.0, -length, growth])[used]
    if len(optima) <= len(used) or np.linalg.matrix_rank(columns, tol=1e-6) < len(used):
        return None
    found = regressed(optima, columns, at)
    e, spread = float(found.coefficients[1]), float(found.spreads[1])
    factor = 2.0 ** (e * (max(o.length for o in optima) - length))
    return Length(e, e - Z * spread, e + Z * spread, "fitted", len(optima), factor), found.predicted
