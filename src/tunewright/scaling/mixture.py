"""How much of a new language to mix in, and with what learning rate, when a trained model goes on training.

*Use when*: a language model shall learn a language or a domain without forgetting what it knows, and a smaller one of its kind can be
trained on a grid of mixture ratios and rates first.
*Do not use when*: there is no smaller model, or the two languages are one to the model (then only the rate matters).
*Paper*: Xi et al. 2024, "A Practice of Post-Training on Llama-3 70B with Optimal Selection of Additional Language Mixture Ratio",
arXiv:2409.06624, section 3
*Differs*: the paper reads the relation of ratio and rate off plots of the loss of an 8-billion model; here both losses are fitted as
quadratic surfaces over the logit of the ratio and the logarithm of the rate, with a bootstrap, and the law refuses to recommend where
these explain too little. The paper's figures for Llama-3 and Chinese are no constants of nature and are not in here.
*Cost*: a least-squares problem of six columns per bootstrap sample; a recommendation looks at 1,681 pairs for each.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tunewright.errors import ConfigError

Floats = NDArray[np.float64]
_SIDE = 41


@dataclass(frozen=True, slots=True)
class Point:
    """A mixture, a rate and what comes of them.

    Attributes:
        ratio: Share of the new language in the data.
        lr: Learning rate of the model the law was fitted to.
        new: Loss on the new language, in nats.
        old: Loss on what the model knew, in nats.
    """

    ratio: float
    lr: float
    new: float
    old: float


@dataclass(frozen=True, slots=True)
class Recommendation:
    """What to train the larger model with.

    Attributes:
        ratio: Share of the new language.
        lr: Learning rate, already multiplied by the factor for the larger model.
        ratio_range: Lower and upper end over the bootstrap.
        lr_range: Likewise.
        point: The recommendation as it is for the small model.
        at_edge: Whether it lies at the edge of the grid, so that the best may be outside.
    """

    ratio: float
    lr: float
    ratio_range: tuple[float, float]
    lr_range: tuple[float, float]
    point: Point
    at_edge: bool


@dataclass(frozen=True, slots=True)
class MixtureLaw:
    """Both losses as quadratic surfaces, as fitted by ``fit_mixture``.

    Attributes:
        new: Coefficients of the loss on the new language, of the bootstrap samples, shape (samples, 6), the fit to all in row 0.
        old: Coefficients of the loss on what was known before, same shape.
        ratios: Least and largest ratio of the grid.
        rates: Least and largest rate of the grid.
        explained: Share of the variance of the weaker of both losses that is explained for grid points left out.
    """

    new: Floats
    old: Floats
    ratios: tuple[float, float]
    rates: tuple[float, float]
    explained: float

    def predict(self, ratio: float, lr: float) -> Point:
        """Both losses of the small model.

        Args:
            ratio: Share of the new language.
            lr: Learning rate.

        Raises:
            ConfigError: If either lies outside the grid.
        """
        for name, value, (low, high) in (("ratio", ratio, self.ratios), ("rate", lr, self.rates)):
            if not low * (1 - 1e-9) <= value <= high * (1 + 1e-9):
                raise ConfigError(
                    f"The law holds for a {name} in [{low:g}, {high:g}]; got {value:g}. Train the small model there too."
                )
        row = _rows(np.array([ratio]), np.array([lr]))[0]
        return Point(ratio, lr, float(row @ self.new[0]), float(row @ self.old[0]))

    def frontier(self, sample: int = 0) -> list[Point]:
        """The effective frontier: mixtures and rates for which no other is better in one loss and as good in the other.

        Args:
            sample: Of the bootstrap; 0 is the fit to all runs.

        Returns:
            Points from the lowest loss on the old to the lowest loss on the new language.
        """
        ratio, lr = self._grid()
        rows = _rows(ratio, lr)
        new, old = rows @ self.new[sample], rows @ self.old[sample]
        order = np.lexsort((new, old))
        kept, lowest = [], math.inf
        for i in order:
            if new[i] < lowest:
                lowest = new[i]
                kept.append(Point(float(ratio[i]), float(lr[i]), float(new[i]), float(old[i])))
        return kept

    def best_rate(self, ratio: float, weight: float = 0.5) -> float:
        """The rate with the lowest weighted loss for a given ratio.

        Args:
            ratio: Share of the new language.
            weight: Of the loss on the new language; the old one's is the rest.

        Raises:
            ConfigError: If the ratio lies outside the grid or the weight outside [0, 1].
        """
        _share(weight, "weight of the new language")
        self.predict(ratio, self.rates[0])
        lr = np.geomspace(*self.rates, 4 * _SIDE)
        loss = _rows(np.full_like(lr, ratio), lr) @ self._weighted(weight, 0)
        return float(lr[int(loss.argmin())])

    def slope(self, weight: float = 0.5) -> float:
        """By how many powers of two the best rate changes when the odds of the mixture double.

        Args:
            weight: Of the loss on the new language.

        Raises:
            ConfigError: If it is not in [0, 1].
        """
        odds = np.linspace(_logit(self.ratios[0]), _logit(self.ratios[1]), _SIDE)
        best = [math.log2(self.best_rate(float(_ratio(v)), weight)) for v in odds]
        return float(np.polyfit(odds / math.log(2), best, 1)[0])

    def recommend(
        self,
        *,
        weight: float = 0.5,
        most_old: float | None = None,
        rate_factor: float = 1.0,
        least_explained: float = 0.5,
        level: float = 0.9,
    ) -> Recommendation:
        """Ratio and rate for a larger model: the small one's best ratio, and its rate times a factor.

        Args:
            weight: Of the loss on the new language; used where ``most_old`` is None.
            most_old: Instead, the loss on what was known that must not be exceeded in the small model.
            rate_factor: Rate of the larger model over that of the small one; 1 under a parametrization that keeps rates, such as muP.
            least_explained: Share of variance below which nothing is recommended.
            level: Of the ranges.

        Raises:
            ConfigError: If the law explains too little, or no pair keeps the limit.
        """
        _share(weight, "weight of the new language")
        if self.explained < least_explained:
            raise ConfigError(
                f"A recommendation needs a law that explains {least_explained:.0%} of the variance of both losses on runs left "
                f"out; this one explains {self.explained:.0%}. Train longer, with more seeds or over a smaller grid."
            )
        if not rate_factor > 0:
            raise ConfigError(f"The factor on the rate must be above 0; got {rate_factor}.")
        chosen = [self._best(weight, most_old, i) for i in range(len(self.new))]
        point = chosen[0]
        if point is None:
            raise ConfigError(
                f"No mixture of the grid keeps the old loss at {most_old:g}; allow more, or add smaller ratios and rates."
            )
        found = [p for p in chosen if p is not None]
        tail = (1 - level) / 2
        low, high = np.quantile([[p.ratio, rate_factor * p.lr] for p in found], [tail, 1 - tail], axis=0)
        edges = (*self.ratios, *self.rates)
        at_edge = any(math.isclose(v, e, rel_tol=1e-6) for v in (point.ratio, point.lr) for e in edges)
        return Recommendation(
            point.ratio,
            rate_factor * point.lr,
            (float(low[0]), float(high[0])),
            (float(low[1]), float(high[1])),
            point,
            at_edge,
        )

    def _best(self, weight: float, most_old: float | None, sample: int) -> Point | None:
        """The best pair by one sample of the bootstrap, or None if none keeps the limit."""
        ratio, lr = self._grid()
        rows = _rows(ratio, lr)
        new, old = rows @ self.new[sample], rows @ self.old[sample]
        score = (
            weight * new + (1 - weight) * old if most_old is None else np.where(old <= most_old, new, np.inf)
        )
        i = int(score.argmin())
        if not math.isfinite(score[i]):
            return None
        return Point(float(ratio[i]), float(lr[i]), float(new[i]), float(old[i]))

    def _grid(self) -> tuple[Floats, Floats]:
        odds = np.linspace(_logit(self.ratios[0]), _logit(self.ratios[1]), _SIDE)
        a, b = np.meshgrid(_ratio(odds), np.geomspace(*self.rates, _SIDE), indexing="ij")
        return a.ravel(), b.ravel()

    def _weighted(self, weight: float, sample: int) -> Floats:
        return np.asarray(weight * self.new[sample] + (1 - weight) * self.old[sample])


def fit_mixture(
    ratios: ArrayLike, rates: ArrayLike, new: ArrayLike, old: ArrayLike, *, samples: int = 200, seed: int = 0
) -> MixtureLaw:
    """Fits the law to trainings of a small model on a grid.

    Args:
        ratios: Share of the new language of every run, in (0, 1), shape ``(n,)``.
        rates: Learning rate of every run, shape ``(n,)``.
        new: Loss on the new language after it, in nats, shape ``(n,)``.
        old: Loss on what the model knew before, in nats, shape ``(n,)``.
        samples: Of the bootstrap.
        seed: Of the bootstrap.

    Raises:
        ConfigError: If shapes differ, a run diverged, a ratio is a percentage or at the end of its range, or there are too few
            runs, ratios or rates for six coefficients.
    """
    x, lr, a, b = (np.asarray(v, dtype=np.float64) for v in (ratios, rates, new, old))
    if x.ndim != 1 or not x.shape == lr.shape == a.shape == b.shape:
        raise ConfigError(
            f"Ratios, rates and both losses must be equally many; got {x.shape}, {lr.shape}, {a.shape}, {b.shape}."
        )
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise ConfigError("The law is fitted to finite losses; leave out runs that diverged.")
    if not ((x > 0) & (x < 1)).all() or not (lr > 0).all():
        raise ConfigError(
            f"Ratios must be shares in (0, 1), not per cent, and rates above 0; got ratios from {x.min():g} to {x.max():g} and "
            f"rates from {lr.min():g}."
        )
    if len(np.unique(x)) < 3 or len(np.unique(lr)) < 3 or len(x) < 9:
        raise ConfigError(
            "A quadratic surface needs 9 runs or more with 3 ratios and 3 rates at least; got "
            f"{len(x)} runs, {len(np.unique(x))} ratios and {len(np.unique(lr))} rates."
        )
    rows = _rows(x, lr)
    if np.linalg.matrix_rank(rows) < rows.shape[1]:
        raise ConfigError(
            "Ratios and rates must vary independently; they do not. Train every rate with every ratio."
        )
    rng = np.random.default_rng(seed)
    fits: list[list[Floats]] = [[], []]
    explained = 1.0
    for which, y in enumerate((a, b)):
        whole = _fit(rows, y)
        residual = y - rows @ whole
        leverage = np.einsum("ij,ji->i", rows, np.linalg.pinv(rows)).clip(max=1 - 1e-9)
        left_out = residual / (1 - leverage)
        explained = min(explained, 1 - float((left_out**2).sum() / max(((y - y.mean()) ** 2).sum(), 1e-300)))
        # Residuals are drawn again, those of well-fitted points enlarged to what they are when left out.
        scaled = residual / np.sqrt(1 - leverage)
        draws = [rows @ whole + rng.choice(scaled, len(y)) for _ in range(samples)]
        fits[which] = [whole, *(_fit(rows, d) for d in draws)]
    return MixtureLaw(
        np.array(fits[0]),
        np.array(fits[1]),
        (float(x.min()), float(x.max())),
        (float(lr.min()), float(lr.max())),
        explained,
    )


def _rows(ratio: Floats, lr: Floats) -> Floats:
    """Columns of the quadratic surface over odds and rates, both as logarithms to base 2."""
    u, v = _logit(ratio) / math.log(2), np.log2(lr)
    return np.stack([np.ones_like(u), u, v, u * u, u * v, v * v], axis=-1)


def _fit(rows: Floats, y: Floats) -> Floats:
    return np.asarray(np.linalg.lstsq(rows, y, rcond=None)[0], dtype=np.float64)


def _logit(share: float | Floats) -> Floats:
    s = np.asarray(share, dtype=np.float64)
    return np.asarray(np.log(s / (1 - s)))


def _ratio(odds: float | Floats) -> Floats:
    return np.asarray(1 / (1 + np.exp(-np.asarray(odds, dtype=np.float64))))


def _share(value: float, name: str) -> None:
    if not 0.0 <= value <= 1.0:
        raise ConfigError(f"The {name} must be in [0, 1]; got {value}.")
