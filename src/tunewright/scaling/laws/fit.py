"""A fitted law: coefficients, a bootstrap cloud of them, and predictions with intervals.

Coefficients of scaling laws are hardly identifiable one by one: a larger factor with a larger exponent fits as well. ``Fit``
therefore keeps the whole cloud, predicts with every member of it, and says which coefficients move together.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from tunewright.errors import ConfigError
from tunewright.scaling.laws.law import Box, Input, Law, Prediction

Array = npt.NDArray[np.float64]
Positions = npt.NDArray[np.intp]
_TOGETHER = 0.95


@dataclass(frozen=True, slots=True)
class Fit:
    """A law fitted to runs.

    Attributes:
        name: Its name.
        output: What it predicts.
        unit: Unit of that.
        formula: The law in a line.
        inputs: What it is asked with.
        names: Names of the coefficients, in the order of the cloud's columns.
        values: Coefficients of the best fit, shape (k,).
        cloud: Coefficients of the bootstrap fits, shape (r, k).
        residuals: Logarithms of measured over fitted, shape (n,).
        explained: Share of the variance of the logarithm that the law explains.
        box: Range of the runs.
        dropped: Positions of runs that were left out as diverged.
        warnings: Sentences that belong to every prediction.
        function: ``function(coefficients, inputs)``.
        seed: Seed of the cloud.
    """

    name: str
    output: str
    unit: str
    formula: str
    inputs: tuple[Input, ...]
    names: tuple[str, ...]
    values: Array
    cloud: Array
    residuals: Array
    explained: float
    box: Box
    dropped: tuple[int, ...]
    warnings: tuple[str, ...]
    function: Callable[[Mapping[str, Any], Mapping[str, Any]], Any]
    seed: int = 0
    margin: float = 10.0

    @property
    def coefficients(self) -> dict[str, float]:
        """The best fit by name."""
        return dict(zip(self.names, map(float, self.values), strict=True))

    def interval(self, coefficient: str, level: float = 0.95) -> tuple[float, float]:
        """Percentile interval of a coefficient.

        Raises:
            ConfigError: If there is none of that name.
        """
        if coefficient not in self.names:
            raise ConfigError(
                f"A coefficient must be one of {self.names}; got {coefficient!r}. Correct the name."
            )
        return self.interval_of(lambda c: c[coefficient], level)

    def interval_of(
        self, quantity: Callable[[Mapping[str, Any]], Any], level: float = 0.95
    ) -> tuple[float, float]:
        """Percentile interval of anything computed from the coefficients, such as ``beta / (alpha + beta)``."""
        values = np.asarray(quantity(self._members()), float)
        _level(level)
        low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
        return float(low), float(high)

    def together(self) -> list[tuple[str, str, float]]:
        """Pairs of coefficients that the runs cannot tell apart, with their correlation in the cloud (above 0.95)."""
        columns = np.stack([np.log(c) if np.all(c > 0) else c for c in self.cloud.T])
        moving = columns.std(axis=1) > 1e-12
        if moving.sum() < 2:
            return []
        r = np.corrcoef(columns[moving])
        names = [n for n, m in zip(self.names, moving, strict=True) if m]
        return [
            (names[i], names[j], float(r[i, j]))
            for i in range(len(names))
            for j in range(i)
            if abs(r[i, j]) > _TOGETHER
        ]

    def predict(self, *, extrapolate: bool = False, level: float = 0.95, **inputs: Any) -> Prediction:
        """What a new run at these inputs would give, with the interval of the run, not only of its mean.

        Raises:
            ConfigError: As ``Law.predict``.
        """
        _level(level)
        said = self.as_law().predict(extrapolate=extrapolate, **inputs)
        clouds = np.asarray(self.function(self._members(), said.inputs), float)
        rng = np.random.default_rng((self.seed, 1))
        noise = self.residuals * widening(len(self.residuals), len(self.names))
        runs = clouds * np.exp(rng.choice(noise, clouds.size))
        low, high = np.quantile(runs, [(1 - level) / 2, (1 + level) / 2])
        value = float(self.function(self.coefficients, said.inputs))
        return replace(said, low=min(float(low), value), high=max(float(high), value))

    def as_law(self) -> Law:
        """The same as a ``Law``, to stand beside the published ones in ``recommend(extra=[...])``."""
        return Law(
            name=self.name,
            paper="a fit to runs of your own",
            output=self.output,
            unit=self.unit,
            formula=self.formula,
            inputs=self.inputs,
            constants=self.coefficients,
            function=self.function,
            box=self.box,
            confidence="fitted here",
            spread={n: float(s) for n, s in zip(self.names, self.cloud.std(axis=0), strict=True)},
            log_sd=self._log_sd,
            margin=self.margin,
            conditions=("set up as the runs that were fitted",),
            note=" ".join(self.warnings),
        )

    def _members(self) -> dict[str, Array]:
        return dict(zip(self.names, self.cloud.T, strict=True))

    def _log_sd(self, inputs: Mapping[str, float]) -> float:
        """Deviation of the logarithm of a new run's result: cloud and scatter."""
        logs = np.log(np.asarray(self.function(self._members(), inputs), float))
        degrees = max(1, len(self.residuals) - len(self.names))
        scatter = float(np.sum(self.residuals**2)) / degrees
        return math.sqrt(float(np.var(logs)) + scatter)


def checked(
    columns: Mapping[str, Sequence[float] | Array], target: str, *, coefficients: int, drop_diverged: bool
) -> tuple[dict[str, Array], Positions]:
    """Columns as arrays without runs that diverged, and the positions that are kept.

    Raises:
        ConfigError: If columns differ in length, values are not positive, runs diverged and ``drop_diverged`` is off, the runs
            are too few, or an input hardly varies.
    """
    arrays: dict[str, Array] = {k: np.asarray(v, float).ravel() for k, v in columns.items()}
    sizes = {k: v.size for k, v in arrays.items()}
    if len(set(sizes.values())) != 1:
        raise ConfigError(f"Columns must be of one length; got {sizes}. Give one value per run.")
    n = next(iter(sizes.values()))
    finite = np.isfinite(arrays[target])
    for name, values in arrays.items():
        bad = np.flatnonzero(finite & ~(np.isfinite(values) & (values > 0)))
        if bad.size:
            raise ConfigError(
                f"{name} must be positive and finite; got {values[bad[0]]:g} in run {bad[0]}. Correct or remove it."
            )
    if not finite.all() and not drop_diverged:
        raise ConfigError(
            f"Runs must have a finite {target}; got {named(np.flatnonzero(~finite))}. Pass drop_diverged=True to leave them out."
        )
    kept: Positions = np.flatnonzero(finite)
    arrays = {k: v[kept] for k, v in arrays.items()}
    inputs = [k for k in arrays if k != target]
    settings = len({tuple(row) for row in np.stack([arrays[k] for k in inputs], axis=1)}) if n else 0
    if settings < coefficients + 1:
        raise ConfigError(
            f"A fit of {coefficients} coefficients needs runs at {coefficients + 1} or more different settings; got {settings}. "
            f"Add runs or fit a simpler law."
        )
    for name in inputs:
        span = float(arrays[name].max() / arrays[name].min())
        if span < 2:
            raise ConfigError(
                f"{name} must vary by a factor of two or more to have an exponent; got a factor of {span:.3g}. Add runs or fix it."
            )
    return arrays, kept


def _level(level: float) -> None:
    if not 0 < level < 1:
        raise ConfigError(f"A level must lie between 0 and 1; got {level:g}. Write 0.95 for 95 per cent.")


def named(positions: Positions) -> str:
    """``run 3 (counted from 0)`` or ``runs 3, 8, 9 and 4 more (counted from 0)``."""
    listed = [str(int(p)) for p in positions[:8]]
    more = f" and {positions.size - 8} more" if positions.size > 8 else ""
    return f"run{'s' if positions.size > 1 else ''} {', '.join(listed)}{more} (counted from 0)"


def outlying(residuals: Array, factor: float, least: float) -> Positions:
    """Positions of logarithmic residuals beyond ``factor`` robust deviations and beyond ``least``."""
    scale = 1.4826 * float(np.median(np.abs(residuals - np.median(residuals))))
    return np.flatnonzero(np.abs(residuals) > max(factor * scale, least))


def cloud_size(bootstrap: int) -> None:
    """Refuses a cloud too small for an interval.

    Raises:
        ConfigError: If there are fewer than two members.
    """
    if bootstrap < 2:
        raise ConfigError(
            f"A cloud needs bootstrap of 2 or more, and 200 for a good interval; got {bootstrap}. Raise it."
        )


def gate(explained: float, least: float) -> None:
    """Refuses a law that does not describe its own runs.

    Raises:
        ConfigError: If less than ``least`` of the variance is explained.
    """
    if not explained >= least:
        raise ConfigError(
            f"A law must explain at least {least:.0%} of the variance of its own runs; got {explained:.0%}. "
            f"Look for badly tuned runs or another form, or lower least_explained."
        )


def widening(n: int, k: int) -> float:
    """By what a bootstrap cloud of few runs has to be stretched: Student's quantile, and the lost degrees of freedom."""
    from scipy.special import stdtrit

    degrees = max(1, n - k)
    return float(stdtrit(degrees, 0.975)) / 1.959963984540054 * math.sqrt(n / degrees)


def share(log_values: Array, residuals: Array) -> float:
    """Explained share of variance, with medians in place of means so that single runs do not decide."""
    total = float(np.median(np.abs(log_values - np.median(log_values))))
    left = float(np.median(np.abs(residuals)))
    return max(0.0, 1.0 - (left / total) ** 2) if total > 0 else 0.0
