"""Tests and intervals for comparing methods and configurations.

*Use when* a difference between two sets of losses needs a p-value, or a mean needs an interval.

*Do not use when* many methods are compared at once without correcting the p-values; `holm` does that.

*Paper*: Wilcoxon (1945); Mann, Whitney (1947); Welch (1947); Efron (1979) for the bootstrap; Clopper, Pearson (1934);
Holm (1979); exact null distributions by counting subsets, as in Streitberg, Roehmel (1986).

*Differs*: rank tests use the exact conditional distribution of the ranks at hand, ties included, while it is cheap,
and the normal approximation with tie correction beyond.

*Cost*: rank tests O(n log n), or O(n^3) integer additions for the exact law of small samples.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

import numpy as np

from tunewright.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]

Alternative = Literal["two-sided", "less", "greater"]

_EXACT_SIGNED = 50
_EXACT_TOTAL = 40


def _sample(values: ArrayLike, name: str, least: int) -> Floats:
    """A flat sample without NaN, or an error that names the argument."""
    out = np.asarray(values, dtype=np.float64).ravel()
    if len(out) < least or np.isnan(out).any():
        raise ConfigError(
            f"`{name}` needs at least {least} numbers and no NaN; got {len(out)} of which "
            f"{int(np.isnan(out).sum())} NaN. Drop failed runs first and say so."
        )
    return out


def ranks(values: ArrayLike) -> Floats:
    """Ranks from 1, tied values sharing the mean of their places.

    Args:
        values: Sample, shape (n,).

    Returns:
        Ranks, shape (n,).
    """
    sample = np.asarray(values, dtype=np.float64).ravel()
    _, inverse, counts = np.unique(sample, return_inverse=True, return_counts=True)
    last = np.cumsum(counts).astype(np.float64)
    out: Floats = (last - (counts - 1) / 2.0)[inverse]
    return out


def bootstrap_interval(
    values: ArrayLike,
    rng: np.random.Generator,
    *,
    statistic: Callable[..., Floats] = np.mean,
    level: float = 0.95,
    resamples: int = 2000,
) -> tuple[float, float]:
    """Percentile bootstrap interval of a statistic of one sample.

    Args:
        values: Sample, shape (n,), n >= 1.
        rng: Source of randomness.
        statistic: Function of an array of shape (resamples, n) and `axis=1`, such as `numpy.mean` or `numpy.median`.
        level: Coverage aimed at, in (0, 1).
        resamples: How many resamples.

    Returns:
        Lower and upper end.

    Raises:
        ConfigError: The sample is empty or holds NaN, or `level` is not in (0, 1).
    """
    sample = _sample(values, "values", 1)
    if not 0.0 < level < 1.0:
        raise ConfigError(f"`level` must lie in (0, 1); got {level}. Give 0.95 for a 95 % interval.")
    drawn = sample[rng.integers(0, len(sample), size=(resamples, len(sample)))]
    tail = (1.0 - level) / 2.0
    low, high = np.quantile(statistic(drawn, axis=1), [tail, 1.0 - tail])
    return float(low), float(high)


def binomial_test(successes: int, n: int, p: float = 0.5, alternative: Alternative = "two-sided") -> float:
    """Exact p-value of a number of successes.

    The two-sided value adds every outcome that is at most as likely as the one seen.

    Args:
        successes: Successes seen.
        n: Trials.
        p: Success probability under the null hypothesis.
        alternative: Direction: "less" means that the true probability is smaller than `p`.

    Raises:
        ConfigError: Counts or probability out of range.
    """
    if not (0 <= successes <= n and 0.0 <= p <= 1.0):
        raise ConfigError(
            f"A binomial test needs 0 <= successes <= n and p in [0, 1]; got successes={successes}, n={n}, p={p}. "
            "Check the order of the arguments."
        )
    if n == 0:
        return 1.0
    law = _binomial_law(n, p)
    if alternative == "less":
        return min(1.0, float(law[: successes + 1].sum()))
    if alternative == "greater":
        return min(1.0, float(law[successes:].sum()))
    # Relative slack as in R: outcomes of equal probability must not be lost to rounding.
    return min(1.0, float(law[law <= law[successes] * (1.0 + 1e-7)].sum()))


def _binomial_law(n: int, p: float) -> Floats:
    """Probabilities of 0..n successes."""
    if p in (0.0, 1.0):
        law = np.zeros(n + 1)
        law[n if p else 0] = 1.0
        return law
    total = math.lgamma(n + 1)
    logs = [
        total - math.lgamma(k + 1) - math.lgamma(n - k + 1) + k * math.log(p) + (n - k) * math.log1p(-p)
        for k in range(n + 1)
    ]
    out: Floats = np.exp(np.array(logs))
    return out


def binomial_interval(successes: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """Clopper-Pearson interval of a success probability.

    Args:
        successes: Successes seen.
        n: Trials, at least 1.
        level: Coverage guaranteed, in (0, 1).

    Raises:
        ConfigError: Counts out of range.
    """
    from scipy.special import betaincinv

    if not 0 <= successes <= n or n < 1:
        raise ConfigError(
            f"An interval needs 0 <= successes <= n and n >= 1; got successes={successes}, n={n}. "
            "Check the order of the arguments."
        )
    tail = (1.0 - level) / 2.0
    low = 0.0 if successes == 0 else float(betaincinv(successes, n - successes + 1, tail))
    high = 1.0 if successes == n else float(betaincinv(successes + 1, n - successes, 1.0 - tail))
    return low, high


def sign_test(x: ArrayLike, y: ArrayLike, alternative: Alternative = "two-sided") -> float:
    """Exact sign test of pairs; equal pairs are dropped.

    Args:
        x: First member of each pair, shape (n,).
        y: Second member, shape (n,).
        alternative: "less" means that `x` tends to be smaller than `y`.
    """
    difference = _pairs(x, y)
    return binomial_test(int((difference > 0).sum()), int((difference != 0).sum()), 0.5, alternative)


def wilcoxon(x: ArrayLike, y: ArrayLike, alternative: Alternative = "two-sided") -> float:
    """Wilcoxon signed rank test of pairs; equal pairs are dropped.

    Exact, ties included, up to 50 differing pairs; then the normal approximation without continuity correction.

    Args:
        x: First member of each pair, shape (n,).
        y: Second member, shape (n,).
        alternative: "less" means that `x` tends to be smaller than `y`.

    Returns:
        The p-value; 1 when every pair is equal.
    """
    difference = _pairs(x, y)
    difference = difference[difference != 0.0]
    n = len(difference)
    if n == 0:
        return 1.0
    place = ranks(np.abs(difference))
    positive = float(place[difference > 0.0].sum())
    if n <= _EXACT_SIGNED:
        # Doubled ranks are integers even with ties, so that sums of subsets can be counted.
        doubled = np.rint(2.0 * place).astype(np.int64)
        law = np.ones(1)
        for weight in doubled.tolist():
            law = 0.5 * (np.pad(law, (0, weight)) + np.pad(law, (weight, 0)))
        return _exact(law, round(2.0 * positive), alternative)
    sd = math.sqrt(float((place * place).sum()) / 4.0)
    return _normal((positive - n * (n + 1) / 4.0) / sd, alternative)


def mann_whitney(x: ArrayLike, y: ArrayLike, alternative: Alternative = "two-sided") -> float:
    """Mann-Whitney U test of two independent samples.

    Exact, ties included, up to 40 values in all; then the normal approximation with tie and continuity correction.

    Args:
        x: First sample, shape (n,).
        y: Second sample, shape (k,).
        alternative: "less" means that `x` tends to be smaller than `y`.

    Returns:
        The p-value; 1 when all values are equal.
    """
    first, second = _sample(x, "x", 1), _sample(y, "y", 1)
    n, k = len(first), len(second)
    place = ranks(np.concatenate((first, second)))
    total = float(place[:n].sum())
    if n + k <= _EXACT_TOTAL:
        doubled = np.rint(2.0 * place).astype(np.int64)
        return _exact(_subset_sums(doubled, n), round(2.0 * total), alternative)
    variance = n * k * float(((place - place.mean()) ** 2).sum()) / ((n + k) * (n + k - 1))
    if variance == 0.0:
        return 1.0
    gap = total - n * (n + k + 1) / 2.0
    if alternative == "two-sided":
        return min(1.0, 2.0 * _normal((abs(gap) - 0.5) / math.sqrt(variance), "greater"))
    shift = 0.5 if alternative == "less" else -0.5
    return _normal((gap + shift) / math.sqrt(variance), alternative)


def _subset_sums(weights: NDArray[np.int64], size: int) -> Floats:
    """Probability of every sum over subsets of one size, all subsets equally likely."""
    top = int(np.sort(weights)[-size:].sum())
    counts = np.zeros((size + 1, top + 1))
    counts[0, 0] = 1.0
    for weight in weights.tolist():
        if weight <= top:
            counts[1:, weight:] += counts[:-1, : top + 1 - weight].copy()
    law: Floats = counts[size] / counts[size].sum()
    return law


def welch(x: ArrayLike, y: ArrayLike, alternative: Alternative = "two-sided") -> float:
    """Welch's t test of two independent samples with unequal variances.

    Args:
        x: First sample, shape (n,), n >= 2.
        y: Second sample, shape (k,), k >= 2.
        alternative: "less" means that the mean of `x` is smaller.

    Returns:
        The p-value; 1 when both samples are the same constant.
    """
    from scipy.special import stdtr

    first, second = _sample(x, "x", 2), _sample(y, "y", 2)
    a, b = float(first.var(ddof=1)) / len(first), float(second.var(ddof=1)) / len(second)
    gap = float(first.mean() - second.mean())
    if a + b == 0.0:
        return 1.0 if gap == 0.0 else _one_sided(0.0 if gap < 0.0 else 1.0, alternative)
    t = gap / math.sqrt(a + b)
    freedom = (a + b) ** 2 / (a * a / (len(first) - 1) + b * b / (len(second) - 1))
    if alternative == "two-sided":
        return float(2.0 * stdtr(freedom, -abs(t)))
    return float(stdtr(freedom, t if alternative == "less" else -t))


def holm(p_values: ArrayLike) -> Floats:
    """Holm's step-down correction: adjusted p-values that keep the family-wise error.

    Args:
        p_values: One value per comparison, shape (n,).

    Returns:
        Adjusted values, shape (n,), in the given order.
    """
    p = np.asarray(p_values, dtype=np.float64).ravel()
    order = np.argsort(p, kind="stable")
    scaled = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    out = np.empty_like(p)
    out[order] = np.minimum(scaled, 1.0)
    return out


def _pairs(x: ArrayLike, y: ArrayLike) -> Floats:
    """Differences of pairs."""
    first, second = _sample(x, "x", 1), _sample(y, "y", 1)
    if len(first) != len(second):
        raise ConfigError(
            f"Paired samples need equal length; got {len(first)} and {len(second)}. Use mann_whitney for unpaired ones."
        )
    return first - second


def _exact(law: Floats, seen: int, alternative: Alternative) -> float:
    """p-value of an integer statistic with a known law."""
    below, above = float(law[: seen + 1].sum()), float(law[seen:].sum())
    if alternative == "less":
        return min(1.0, below)
    if alternative == "greater":
        return min(1.0, above)
    return min(1.0, 2.0 * min(below, above))


def _normal(z: float, alternative: Alternative) -> float:
    """p-value of a standard normal statistic."""
    if alternative == "two-sided":
        return math.erfc(abs(z) / math.sqrt(2.0))
    return 0.5 * math.erfc((z if alternative == "greater" else -z) / math.sqrt(2.0))


def _one_sided(below: float, alternative: Alternative) -> float:
    """Limit of a t test without spread: certain in one direction."""
    if alternative == "two-sided":
        return 0.0
    return below if alternative == "less" else 1.0 - below
