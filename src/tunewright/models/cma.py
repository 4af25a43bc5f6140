"""The search distribution of CMA-ES with margin: a normal for numbers, a margin for ordered levels, weights for options.

*Use when* a population is to be drawn from a distribution that adapts to the best of what was drawn before. *Do not use
when* trials are few; a Gaussian process learns more from each.

*Paper*: Hansen 2016 (arXiv:1604.00772), figure 6 and table 1; Hamano, Saito, Nomura and Shirakawa 2022 (arXiv:2205.13482),
section 4, for the margin; Hamano et al. 2024 (arXiv:2405.09962), section 3, for options.

*Differs*: no negative weights; above 100 columns only variances are adapted (Ros and Hansen 2008); steps are cut to a
length, as for injected solutions (Hansen 2011, arXiv:1110.4181, eq. 3), since trials may come from an older distribution.

*Cost*: a draw O(d^2), an update O(d^3); both O(d) above 100 columns.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log, sqrt

import numpy as np
from numpy.typing import NDArray

from tunewright.numerics.distributions import normal_log_cdf, normal_quantile

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

_FULL = 100
_WIDEST = 2.0
_ALPHA = 1.5
_SHARE = 0.73


@dataclass(frozen=True, slots=True)
class Rates:
    """Learning rates and weights, in the letters of Hansen 2016, table 1.

    Attributes:
        weights: Weights of the best, shape ``(mu,)``, sum 1, falling.
        mu_eff: Variance-effective number of them.
        c_sigma: Rate of the path of the step size.
        d_sigma: Damping of the step size.
        c_c: Rate of the path of the covariance.
        c_1: Rate of the rank-one update.
        c_mu: Rate of the rank-mu update.
        chi: Expected length of a standard normal vector.
    """

    weights: FloatArray
    mu_eff: float
    c_sigma: float
    d_sigma: float
    c_c: float
    c_1: float
    c_mu: float
    chi: float


def rates(d: int, size: int) -> Rates:
    """Defaults for ``d`` columns and generations of ``size`` trials.

    Source: Hansen 2016, eq. 49 to 58, positive weights only.
    """
    mu = max(1, size // 2)
    raw = log((size + 1) / 2) - np.log(np.arange(1, mu + 1))
    weights = raw / raw.sum() if mu > 1 else np.ones(1)
    mu_eff = float(1.0 / (weights**2).sum())
    c_sigma = (mu_eff + 2) / (d + mu_eff + 5)
    d_sigma = 1 + 2 * max(0.0, sqrt(max(mu_eff - 1, 0.0) / (d + 1)) - 1) + c_sigma
    c_c = (4 + mu_eff / d) / (d + 4 + 2 * mu_eff / d)
    c_1 = 2 / ((d + 1.3) ** 2 + mu_eff)
    c_mu = min(1 - c_1, 2 * (0.25 + mu_eff + 1 / mu_eff - 2) / ((d + 2) ** 2 + mu_eff))
    if d > _FULL:
        faster = (d + 2) / 3
        c_1 = min(0.5, c_1 * faster)
        c_mu = min(1 - c_1, c_mu * faster)
    chi = sqrt(d) * (1 - 1 / (4 * d) + 1 / (21 * d * d))
    return Rates(weights, mu_eff, c_sigma, d_sigma, c_c, c_1, c_mu, chi)


@dataclass(slots=True)
class Normal:
    """The part for numbers and ordered levels.

    Attributes:
        mean: Centre in codes, shape ``(d,)``.
        sigma: Step size, in codes.
        cov: Covariance, shape ``(d, d)``; above 100 columns its diagonal ``(d,)``.
        scale: The diagonal matrix A of the margin, shape ``(d,)``, 1 in continuous columns.
        path_sigma: Evolution path of the step size, shape ``(d,)``.
        path_c: Evolution path of the covariance, shape ``(d,)``.
        root: Square root of ``cov``, same shape.
        inverse: Its inverse, same shape.
        updates: Number of updates so far.
    """

    mean: FloatArray
    sigma: float
    cov: FloatArray
    scale: FloatArray
    path_sigma: FloatArray
    path_c: FloatArray
    root: FloatArray
    inverse: FloatArray
    updates: int = 0

    def draw(self, z: FloatArray) -> FloatArray:
        """The point of a standard normal draw, shape ``(d,)``, before rounding.

        Source: Hamano et al. 2022, eq. 9: ``v = m + sigma A C^(1/2) z``.
        """
        y = self.root * z if self.root.ndim == 1 else self.root @ z
        out: FloatArray = self.mean + self.sigma * self.scale * y
        return out

    @property
    def spread(self) -> FloatArray:
        """Standard deviation of each column without the margin's factor, shape ``(d,)``, in codes."""
        variance = self.cov if self.cov.ndim == 1 else np.diagonal(self.cov)
        out: FloatArray = self.sigma * np.sqrt(variance)
        return out

    @property
    def condition(self) -> float:
        """Condition number of the covariance."""
        values = self.cov if self.cov.ndim == 1 else np.linalg.eigvalsh(self.cov)
        return float(values.max() / max(float(values.min()), 1e-300))


def normal(mean: FloatArray, sigma: float) -> Normal:
    """The first distribution around a mean, shape ``(d,)``, with equal variances."""
    d = len(mean)
    unit = np.ones(d) if d > _FULL else np.eye(d)
    return Normal(mean.copy(), sigma, unit.copy(), np.ones(d), np.zeros(d), np.zeros(d), unit, unit)


def update(old: Normal, points: FloatArray, rate: Rates) -> Normal:
    """The next distribution.

    Args:
        old: The present one.
        points: The best of a generation, best first, shape ``(k, d)`` with ``1 <= k <= mu``, before rounding.
        rate: Constants.

    Source: Hansen 2016, eq. 37 to 47.
    """
    d = len(old.mean)
    w = rate.weights[: len(points)] / rate.weights[: len(points)].sum()
    y = (points - old.mean) / (old.sigma * old.scale)
    flat = old.cov.ndim == 1
    length = np.linalg.norm(y * old.inverse if flat else y @ old.inverse, axis=1)
    longest = sqrt(d) + 2.0 * d / (d + 2.0)
    y *= np.minimum(1.0, longest / np.maximum(length, 1e-300))[:, None]
    step = w @ y
    white = old.inverse * step if flat else old.inverse @ step
    path_sigma = (1 - rate.c_sigma) * old.path_sigma + sqrt(
        rate.c_sigma * (2 - rate.c_sigma) * rate.mu_eff
    ) * white
    updates = old.updates + 1
    size = float(np.linalg.norm(path_sigma))
    usual = sqrt(1 - (1 - rate.c_sigma) ** (2 * updates)) * (1.4 + 2 / (d + 1)) * rate.chi
    calm = 1.0 if size < usual else 0.0
    path_c = (1 - rate.c_c) * old.path_c + calm * sqrt(rate.c_c * (2 - rate.c_c) * rate.mu_eff) * step
    keep = 1 - rate.c_1 - rate.c_mu + (1 - calm) * rate.c_1 * rate.c_c * (2 - rate.c_c)
    if flat:
        cov = keep * old.cov + rate.c_1 * path_c**2 + rate.c_mu * (w @ y**2)
        root = np.sqrt(np.maximum(cov, 1e-30))
        inverse = 1.0 / root
    else:
        cov = keep * old.cov + rate.c_1 * np.outer(path_c, path_c) + rate.c_mu * ((y.T * w) @ y)
        values, vectors = np.linalg.eigh(0.5 * (cov + cov.T))
        values = np.sqrt(np.maximum(values, 1e-15 * max(float(values[-1]), 1e-15)))
        root = (vectors * values) @ vectors.T
        inverse = (vectors / values) @ vectors.T
    sigma = old.sigma * float(np.exp(min(1.0, rate.c_sigma / rate.d_sigma * (size / rate.chi - 1))))
    mean = np.clip(old.mean + old.sigma * step, 0.0, 1.0)
    return Normal(mean, min(sigma, _WIDEST), cov, old.scale, path_sigma, path_c, root, inverse, updates)


def keep_margin(search: Normal, levels: IntArray, alpha: float) -> None:
    """Moves the mean, and widens A, of columns with levels so that neighbouring levels keep a chance; in place.

    Args:
        search: The distribution.
        levels: Number of levels of each column, 0 where continuous, shape ``(d,)``.
        alpha: Smallest chance to leave the mean's level; ``1 / (d size)`` in the paper.

    Source: Hamano et al. 2022, section 4.2 (binary and outermost levels) and 4.3 (inner levels).
    """
    spread = search.spread
    for j in np.flatnonzero(levels > 1).tolist():
        k = int(levels[j])
        here = min(int(search.mean[j] * k), k - 1)
        mean, std = float(search.mean[j]), float(max(spread[j], 1e-300))
        if here in (0, k - 1):
            edge = (1 if here == 0 else k - 1) / k
            reach = std * float(search.scale[j]) * float(normal_quantile(1.0 - alpha))
            search.mean[j] = edge + np.copysign(min(abs(mean - edge), reach), mean - edge)
            continue
        low, high = here / k, (here + 1) / k
        wide = std * float(search.scale[j])
        p_low, p_high = _chances((low - mean) / wide, (mean - high) / wide, alpha)
        a, b = float(normal_quantile(1.0 - p_low)), float(normal_quantile(1.0 - p_high))
        search.mean[j] = (low * b + high * a) / (a + b)
        search.scale[j] = (high - low) / (std * (a + b))


def _chances(z_low: float, z_high: float, alpha: float) -> tuple[float, float]:
    """Corrected chances to fall below and above an inner level. Source: Hamano et al. 2022, eq. 17 to 20."""
    below, above = np.exp(normal_log_cdf([z_low, z_high])).tolist()
    inside = 1.0 - below - above
    p_low, p_high = max(0.5 * alpha, below), max(0.5 * alpha, above)
    excess = (1.0 - p_low - p_high - inside) / max(p_low + p_high + inside - 1.5 * alpha, 1e-12)
    out = [p + excess * (p - 0.5 * alpha) for p in (p_low, p_high)]
    return float(np.clip(out[0], 1e-12, 0.49)), float(np.clip(out[1], 1e-12, 0.49))


@dataclass(slots=True)
class Options:
    """The part for parameters without order: one vector of chances per column.

    Attributes:
        chances: Each of shape ``(k,)``, sum 1.
        path: Running mean of the normalised steps, shape ``(sum of k - 1,)``.
        gamma: Length that ``path`` would have by chance.
        caution: Inverse of the length of a step, at least 1.
    """

    chances: list[FloatArray]
    path: FloatArray
    gamma: float = 0.0
    caution: float = 1.0

    def draw(self, u: FloatArray) -> IntArray:
        """Levels chosen by uniform draws, shape ``(number of columns,)``."""
        picks = [
            min(int(np.searchsorted(np.cumsum(q), x)), len(q) - 1)
            for q, x in zip(self.chances, u, strict=True)
        ]
        return np.array(picks, dtype=np.int64)


def options(chances: list[FloatArray]) -> Options:
    """The first distribution over options, kept off certainty."""
    few = [_floored(q.copy(), _least(len(chances), len(q))) for q in chances]
    return Options(few, np.zeros(sum(len(q) - 1 for q in chances)))


def _least(columns: int, k: int) -> float:
    """Smallest chance of an option. Source: Hamano et al. 2024, section 3.2."""
    return (1.0 - _SHARE ** (1.0 / columns)) / (k - 1) if k > 1 else 1.0


def _floored(q: FloatArray, least: float) -> FloatArray:
    """Chances not below ``least``, sum 1."""
    q = np.maximum(q, least)
    spare = q - least
    total = float(spare.sum())
    return least + spare * ((1.0 - least * len(q)) / total) if total > 0.0 else np.full(len(q), 1.0 / len(q))


def update_options(old: Options, picks: IntArray, weights: FloatArray) -> Options:
    """The next chances: a natural gradient step whose length adapts to how consistent the steps are.

    Args:
        old: The present ones.
        picks: Levels chosen by the best of a generation, best first, shape ``(k, number of columns)``.
        weights: Their weights, shape ``(k,)``, sum 1.

    Source: Hamano et al. 2024, eq. 8 to 14; Akimoto et al. 2019 (ASNG, arXiv:1905.08537), algorithm 1.
    """
    steps, parts = [], []
    for j, q in enumerate(old.chances):
        gradient = np.bincount(picks[:, j], weights, len(q)) - q
        steps.append(gradient)
        head, last = gradient[:-1], float(q[-1])
        root = np.sqrt(q[:-1])
        parts.append(head / root + root * (head.sum() / (last + sqrt(last))))
    scaled = np.concatenate(parts)
    length = float(np.linalg.norm(scaled))
    if length < 1e-12:
        return old
    pace = 1.0 / old.caution
    moved = [q + pace / length * g for q, g in zip(old.chances, steps, strict=True)]
    few = [_floored(np.clip(q, 0.0, 1.0), _least(len(moved), len(q))) for q in moved]
    beta = pace / sqrt(len(scaled))
    path = (1 - beta) * old.path + sqrt(beta * (2 - beta)) * scaled / length
    gamma = (1 - beta) ** 2 * old.gamma + beta * (2 - beta)
    caution = old.caution * float(np.exp(beta * (gamma - path @ path / _ALPHA)))
    return Options(few, path, gamma, max(1.0, caution))
