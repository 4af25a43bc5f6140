"""From runs to a downstream error: loss by parameters and tokens, error by loss, and which of several candidates will be better.

Gadre et al. 2024 (arXiv:2403.08540, equations 4 and 5) predict the error averaged over many tasks by ``eps - k exp(-gamma L)`` of the
validation loss L. Ivgi et al. 2022 (arXiv:2202.06387) ask whether such laws, fitted to small models only, choose among models: here a
choice comes with its probability, from the clouds of all candidates.

*Use when*: families of models are to be compared at a size that none of them has been trained at yet.

*Do not use when*: the task is at chance for all small models; there is nothing to fit then.

*Paper*: Gadre et al. 2024, arXiv:2403.08540 (loss, then error from loss); Ivgi et al. 2022, arXiv:2202.06387 (choosing models by it).

*Differs*: the constants are fitted to what is given; those of the papers are not shipped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tunewright.errors import ConfigError
from tunewright.scaling.laws.fit import (
    Array,
    Fit,
    checked,
    cloud_size,
    gate,
    named,
    outlying,
    share,
    widening,
)
from tunewright.scaling.laws.law import LOSS, Box, Prediction

_RATES = np.geomspace(0.05, 8.0, 160)
ERROR = "downstream error"


def _error(c: Mapping[str, Any], inputs: Mapping[str, Any]) -> Any:
    return c["eps"] - c["k"] * np.exp(-c["gamma"] * inputs["loss"])


def fit_error(
    loss: Sequence[float] | Array,
    error: Sequence[float] | Array,
    *,
    name: str = "my-error",
    bootstrap: int = 400,
    seed: int = 0,
    drop_diverged: bool = False,
    least_explained: float = 0.5,
) -> Fit:
    """``error = eps - k exp(-gamma loss)``.

    Args:
        loss: Validation loss per model, shape (n,).
        error: Error per model, one minus the mean accuracy, in (0, 1), shape (n,).
        name: Name of the law.
        bootstrap: Members of the cloud.
        seed: Seed of the cloud.
        drop_diverged: Leave out models without a finite error and models far off instead of refusing.
        least_explained: Refuse the fit if it explains less of the variance.

    Raises:
        ConfigError: If models are too few, hardly differ in loss, diverged, errors are no errors, or the law does not describe them.
    """
    cloud_size(bootstrap)
    data, kept = checked(
        {"error": error, "exp(loss)": np.exp(np.asarray(loss, float))},
        "error",
        coefficients=3,
        drop_diverged=drop_diverged,
    )
    x, y = np.log(data["exp(loss)"]), data["error"]
    if y.max() >= 1:
        raise ConfigError(
            f"Errors must lie between 0 and 1; got {y.max():g}. Pass one minus the accuracy, not per cent."
        )
    far = outlying(_off(x, y, _profile(x, y, np.ones((1, len(x))))[0]), 8.0, 0.1)
    if far.size:
        if not drop_diverged:
            raise ConfigError(
                f"Models must lie within 10 % of one law; off the fit of the others: {named(kept[far])}. "
                f"Pass drop_diverged=True to leave them out."
            )
        x, y, kept = np.delete(x, far), np.delete(y, far), np.delete(kept, far)
    dropped = tuple(int(i) for i in np.setdiff1d(np.arange(np.size(error)), kept))
    fit = _error_fit(x, y, dropped, bootstrap, seed, name)
    gate(fit.explained, least_explained)
    return fit


def _off(x: Array, y: Array, theta: Array) -> Array:
    """Logarithms of measured over fitted errors."""
    r: Array = np.log(y / (theta[0] - theta[1] * np.exp(-theta[2] * x)))
    return r


def _error_fit(x: Array, y: Array, dropped: tuple[int, ...], bootstrap: int, seed: int, name: str) -> Fit:
    theta = _profile(x, y, np.ones((1, len(x))))[0]
    cloud = _profile(x, y, np.random.default_rng(seed).exponential(size=(bootstrap, len(y))))
    cloud = theta + (cloud - theta) * widening(len(y), 3)
    cloud[:, 2] = np.maximum(cloud[:, 2], _RATES[0])
    r = _off(x, y, theta)
    return Fit(
        name=name,
        output=ERROR,
        unit="share of tasks answered wrongly",
        formula="eps - k exp(-gamma L)",
        inputs=(LOSS,),
        names=("eps", "k", "gamma"),
        values=theta,
        cloud=cloud,
        residuals=r,
        explained=share(np.log(y), r),
        box=Box({"loss": (float(x.min()), float(x.max()))}),
        dropped=dropped,
        warnings=(),
        function=_error,
        seed=seed,
        margin=1.5,
    )


def _profile(x: Array, y: Array, weights: Array) -> Array:
    """eps, k, gamma of least weighted squares per row of weights, shape (r, 3); for a given gamma the others are a line."""
    total = weights.sum(axis=1)
    best = np.full(len(weights), np.inf)
    found = np.zeros((len(weights), 3))
    my = weights @ y / total
    for gamma in _RATES:
        # Relative to the middle of the losses, lest the exponential leave the range of numbers.
        h = np.exp(-gamma * (x - x.mean()))
        mh = weights @ h / total
        shh = weights @ h**2 / total - mh**2
        shy = weights @ (h * y) / total - mh * my
        slope = np.minimum(shy / np.maximum(shh, 1e-300), 0.0)
        cost = weights @ y**2 / total - my**2 - 2 * slope * shy + slope**2 * shh
        better = cost < best
        best[better] = cost[better]
        eps = my - slope * mh
        values = np.stack([eps, -slope * np.exp(gamma * x.mean()), np.full(len(weights), gamma)], axis=1)
        found[better] = values[better]
    return found


@dataclass(frozen=True, slots=True)
class Downstream:
    """Two fits in a row: parameters and tokens to a loss, the loss to an error.

    Args:
        loss: A fit with output loss.
        error: A fit of the error by that loss.
    """

    loss: Fit
    error: Fit

    def __post_init__(self) -> None:
        if [i.name for i in self.error.inputs] != ["loss"]:
            raise ConfigError(
                f"The second fit must go by loss; got {[i.name for i in self.error.inputs]}. Use fit_error."
            )

    def predict(self, *, extrapolate: bool = False, level: float = 0.95, **inputs: Any) -> Prediction:
        """The error of a new model with the interval that both fits and their scatter leave.

        Raises:
            ConfigError: As ``Law.predict`` of either.
        """
        said = self.loss.predict(extrapolate=extrapolate, **inputs)
        then = self.error.predict(extrapolate=extrapolate, loss=said.value)
        low, high = np.quantile(self.draws(said.inputs), [(1 - level) / 2, (1 + level) / 2])
        return Prediction(
            value=then.value,
            low=min(float(low), then.value),
            high=max(float(high), then.value),
            unit=then.unit,
            inside=said.inside and then.inside,
            warnings=said.warnings + then.warnings,
            law=f"{self.loss.name}, {self.error.name}",
            inputs=said.inputs,
        )

    def draws(self, inputs: Mapping[str, float], size: int = 2000) -> Array:
        """Errors that new models might have, shape (size,)."""
        rng = np.random.default_rng((self.loss.seed, 2))
        losses = _drawn(self.loss, inputs, rng, size)
        return _drawn(self.error, {"loss": losses}, rng, size)


def _drawn(fit: Fit, inputs: Mapping[str, Any], rng: np.random.Generator, size: int) -> Array:
    members = fit.cloud[rng.integers(len(fit.cloud), size=size)]
    named_members = dict(zip(fit.names, members.T, strict=True))
    values: Array = np.asarray(fit.function(named_members, inputs), float) * np.exp(
        rng.choice(fit.residuals, size)
    )
    return values


def choose(candidates: Mapping[str, Downstream | Fit], **inputs: float) -> dict[str, float]:
    """Probability that each candidate is the best at the given size, by their clouds; they sum to one.

    Args:
        candidates: Laws of the candidates by name; smaller is better.
        inputs: The size, such as ``params`` and ``tokens``.

    Raises:
        ConfigError: If there are fewer than two candidates.
    """
    if len(candidates) < 2:
        raise ConfigError(f"A choice needs two candidates or more; got {len(candidates)}. Fit a law to each.")
    drawn = []
    for i, law in enumerate(candidates.values()):
        rng = np.random.default_rng((i, 3))
        if isinstance(law, Downstream):
            losses = _drawn(law.loss, inputs, rng, 2000)
            drawn.append(_drawn(law.error, {"loss": losses}, rng, 2000))
        else:
            drawn.append(_drawn(law, inputs, rng, 2000))
    winners = np.argmin(np.stack(drawn), axis=0)
    return {name: float(np.mean(winners == i)) for i, name in enumerate(candidates)}
