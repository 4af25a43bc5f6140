"""Robust fits of scaling laws with bootstrap clouds: losses in parameters and tokens, and power laws of anything.

Losses follow ``E + A N^-alpha + B D^-beta`` (Hoffmann et al. 2022, arXiv:2203.15556, section 3.3): Huber's loss of the difference
of logarithms, from many starts, finished by L-BFGS; the cloud refits runs with random weights (the Bayesian bootstrap of Rubin 1981, The
Annals of Statistics 9, which also works for few runs), all of them at once by Levenberg-Marquardt with Huber's weights.

*Use when*: a dozen runs or more exist, over a factor of two or more in every input.

*Do not use when*: the runs were not tuned at their own size, since a law then describes the mistuning; or a prediction is wanted
further out than the runs reach.

*Paper*: Hoffmann et al. 2022, arXiv:2203.15556, approach 3; Besiroglu et al. 2024, arXiv:2404.10102 (sum instead of mean, and many
starts).

*Differs*: all resampled fits of the bootstrap are kept as a cloud, of which predictions are made one by one.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tunewright.errors import ConfigError
from tunewright.scaling.laws.fit import (
    Array,
    Fit,
    Positions,
    checked,
    cloud_size,
    gate,
    named,
    outlying,
    share,
    widening,
)
from tunewright.scaling.laws.law import PARAMS, TOKENS, Box, Input
from tunewright.scaling.laws.published import LOSS_OUT, chinchilla

_DELTA = 1e-3
_STARTS = 12
_FINISHED = 3
_COLLINEAR = 0.999
_FORMULA = "E + A N^-alpha + B D^-beta"


def fit_loss(
    params: Sequence[float] | Array,
    tokens: Sequence[float] | Array,
    loss: Sequence[float] | Array,
    *,
    tied: bool = False,
    name: str = "my-loss",
    delta: float = _DELTA,
    bootstrap: int = 400,
    seed: int = 0,
    drop_diverged: bool = False,
    least_explained: float = 0.8,
) -> Fit:
    """``loss = E + A params^-alpha + B tokens^-beta`` by a robust fit.

    Args:
        params: Parameters per run, shape (n,).
        tokens: Training tokens per run, shape (n,).
        loss: Final loss per run, nats per token, shape (n,).
        tied: One exponent for both, the form of Gadre et al. 2024 (arXiv:2403.08540) for over-trained models: with
            ``C = 6 N D`` and ``M = D / N`` it is ``E + (a M^eta + b M^-eta) C^-eta`` with ``eta = alpha / 2``.
        name: Name of the law.
        delta: Where Huber's loss of logarithms turns linear.
        bootstrap: Members of the cloud.
        seed: Seed of the cloud.
        drop_diverged: Leave out runs without a finite loss and runs far off all others instead of refusing.
        least_explained: Refuse the fit if it explains less of the variance.

    Raises:
        ConfigError: If there are too few runs, inputs hardly vary, runs diverged, or the law does not describe the runs.
    """
    cloud_size(bootstrap)
    columns = {"params": params, "tokens": tokens, "loss": loss}
    k = 4 if tied else 5
    data, kept = checked(columns, "loss", coefficients=k, drop_diverged=drop_diverged)
    _counted(data, {"params": PARAMS, "tokens": TOKENS})
    problem = _Loss(data["params"], data["tokens"], data["loss"], tied, delta)
    theta = problem.best()
    far = outlying(problem.residuals(theta[None])[0], 8.0, 0.1)
    if far.size:
        if not drop_diverged:
            raise ConfigError(
                f"Runs must lie within 10 % of one law; off the fit of the others, as diverged runs are: {named(kept[far])}. "
                f"Pass drop_diverged=True to leave them out."
            )
        kept = np.delete(kept, far)
        data = {c: np.delete(v, far) for c, v in data.items()}
        checked(data, "loss", coefficients=k, drop_diverged=False)
        problem = _Loss(data["params"], data["tokens"], data["loss"], tied, delta)
        theta = problem.best()
    residuals = problem.residuals(theta[None])[0]
    gate(share(problem.y, residuals), least_explained)
    weights = np.random.default_rng(seed).exponential(size=(bootstrap, len(kept)))
    cloud = theta + (problem.refit(theta, weights) - theta) * widening(len(kept), k)
    return _loss_fit(problem, theta, cloud, data, _missing(kept, np.size(loss)), name, seed)


def _loss_fit(
    problem: _Loss,
    theta: Array,
    cloud: Array,
    data: Mapping[str, Array],
    dropped: tuple[int, ...],
    name: str,
    seed: int,
) -> Fit:
    residuals = problem.residuals(theta[None])[0]
    return Fit(
        name=name,
        output=LOSS_OUT,
        unit="nats per token",
        formula=_FORMULA + (" with alpha = beta" if problem.tied else ""),
        inputs=(PARAMS, TOKENS),
        names=("E", "A", "B", "alpha", "beta"),
        values=problem.plain(theta[None])[0],
        cloud=problem.plain(cloud),
        residuals=residuals,
        explained=share(problem.y, residuals),
        box=_box(data, ("params", "tokens")),
        dropped=dropped,
        warnings=_together(data, ("params", "tokens")),
        function=chinchilla,
        seed=seed,
    )


def fit_power(
    target: Sequence[float] | Array,
    inputs: Mapping[str, Sequence[float] | Array],
    *,
    name: str = "my-power-law",
    output: str = "target",
    unit: str = "",
    units: Mapping[str, Input] | None = None,
    weights: Sequence[float] | Array | None = None,
    bootstrap: int = 1000,
    seed: int = 0,
    drop_diverged: bool = False,
    least_explained: float = 0.5,
) -> Fit:
    """``target = coefficient * product of input ** exponent``, by a robust regression of logarithms.

    Args:
        target: What is predicted, per run, shape (n,).
        inputs: By name, each of shape (n,).
        name: Name of the law.
        output: Name of the target.
        unit: Unit of the target.
        units: ``Input`` by name, for checks of units; those of the published laws for params and tokens.
        weights: Of the runs, such as one over the squared error of each logarithm.
        bootstrap: Members of the cloud.
        seed: Seed of the cloud.
        drop_diverged: Leave out runs without a finite target and runs far off instead of refusing.
        least_explained: Refuse the fit if it explains less of the variance.

    Raises:
        ConfigError: If there are too few runs, inputs hardly vary or always grow together, runs diverged, or the law does not
            describe the runs.
    """
    cloud_size(bootstrap)
    keys = tuple(inputs)
    if not keys or output in keys:
        raise ConfigError(
            f"A power law needs inputs other than its target {output!r}; got {list(keys)}. Name them."
        )
    columns = {**inputs, output: target}
    data, kept = checked(columns, output, coefficients=len(keys) + 1, drop_diverged=drop_diverged)
    known = {"params": PARAMS, "tokens": TOKENS, **(units or {})}
    _counted(data, {k: v for k, v in known.items() if k in keys})
    _separable(data, keys)
    base = _weights(weights, np.size(target))[kept]
    far = _far_off(data, keys, output, base)
    if far.size:
        if not drop_diverged:
            raise ConfigError(
                f"Runs must lie within a factor of three of one law; off the fit of the others: {named(kept[far])}. "
                f"Pass drop_diverged=True to leave them out."
            )
        data = {c: np.delete(v, far) for c, v in data.items()}
        kept, base = np.delete(kept, far), np.delete(base, far)
    read = tuple(known.get(key, Input(key, key)) for key in keys)
    fit = _power_fit(data, keys, base, bootstrap, seed, _Named(name, output, unit, read))
    gate(fit.explained, least_explained)
    return replace(fit, dropped=_missing(kept, np.size(target)))


@dataclass(frozen=True, slots=True)
class _Named:
    """What a power law is called and asked with."""

    name: str
    output: str
    unit: str
    inputs: tuple[Input, ...]


def _power_fit(
    data: Mapping[str, Array], keys: tuple[str, ...], base: Array, bootstrap: int, seed: int, about: _Named
) -> Fit:
    centers = {key: float(np.mean(np.log(data[key]))) for key in keys}
    X, y = _design(data, keys, centers), np.log(data[about.output])
    theta = _regress(X, y, base[None])[0]
    draws = np.random.default_rng(seed).exponential(size=(bootstrap, len(y)))
    cloud = theta + (_regress(X, y, base * draws) - theta) * widening(len(y), len(theta))
    return Fit(
        name=about.name,
        output=about.output,
        unit=about.unit,
        formula="c " + " ".join(f"{key}^e_{key}" for key in keys),
        inputs=about.inputs,
        names=("coefficient", *(f"exponent_{key}" for key in keys)),
        values=_uncentered(theta[None], keys, centers)[0],
        cloud=_uncentered(cloud, keys, centers),
        residuals=y - X @ theta,
        explained=share(y, y - X @ theta),
        box=_box(data, keys),
        dropped=(),
        warnings=(),
        function=_power(keys),
        seed=seed,
    )


def _far_off(data: Mapping[str, Array], keys: tuple[str, ...], target: str, base: Array) -> Positions:
    """Runs a factor of three and ten robust deviations off, unless too few others would be left for a fit."""
    centers = {key: float(np.mean(np.log(data[key]))) for key in keys}
    X, y = _design(data, keys, centers), np.log(data[target])
    far = outlying(y - X @ _regress(X, y, base[None])[0], 10.0, math.log(3.0))
    return far if len(y) - far.size > len(keys) + 1 else far[:0]


def _missing(kept: Positions, n: int) -> tuple[int, ...]:
    """Positions that were left out."""
    return tuple(int(i) for i in np.setdiff1d(np.arange(n), kept))


class _Loss:
    """The fit of a loss in centered logarithms, where coefficients are far less entangled than in the formula."""

    def __init__(self, params: Array, tokens: Array, loss: Array, tied: bool, delta: float) -> None:
        self.n, self.d, self.y = np.log(params), np.log(tokens), np.log(loss)
        self.n0, self.d0 = float(self.n.mean()), float(self.d.mean())
        self.x = np.stack([self.n - self.n0, self.d - self.d0])
        self.tied, self.delta = tied, delta

    def terms(self, theta: Array) -> Array:
        """Logarithms of the three terms, shape (r, 3, n), for coefficients (r, 4 or 5)."""
        e, a, b, alpha = (theta[:, i, None] for i in range(4))
        beta = alpha if self.tied else theta[:, 4, None]
        n, d = self.x
        return np.stack([np.broadcast_to(e, (len(theta), n.size)), a - alpha * n, b - beta * d], axis=1)

    def residuals(self, theta: Array) -> Array:
        """Logarithms of measured over fitted, shape (r, n)."""
        left: Array = self.y - np.logaddexp.reduce(self.terms(theta), axis=1)
        return left

    def jacobian(self, theta: Array) -> Array:
        """Derivatives of the fitted logarithm, shape (r, n, k)."""
        terms = self.terms(theta)
        w = np.exp(terms - np.logaddexp.reduce(terms, axis=1)[:, None])
        by_n, by_d = -w[:, 1] * self.x[0], -w[:, 2] * self.x[1]
        last = [by_n + by_d] if self.tied else [by_n, by_d]
        return np.stack([w[:, 0], w[:, 1], w[:, 2], *last], axis=2)

    def huber(self, residuals: Array) -> Array:
        """Huber's loss of each residual."""
        size = np.abs(residuals)
        quadratic = np.minimum(size, self.delta)
        return 0.5 * quadratic**2 + self.delta * (size - quadratic)

    def value(self, theta: Array) -> tuple[float, Array]:
        """Objective and gradient for one vector of coefficients, scaled so that tolerances of L-BFGS mean something."""
        r = self.residuals(theta[None])[0]
        slope = np.clip(r, -self.delta, self.delta)
        scale = 1.0 / (self.delta * len(r))
        return scale * float(self.huber(r).sum()), -scale * (slope @ self.jacobian(theta[None])[0])

    def starts(self) -> Array:
        """The most promising of a grid of starts, spread over exponents and over the share of the irreducible loss."""
        low, middle = float(self.y.min()), float(np.median(np.exp(self.y)))
        exponents = (0.1, 0.2, 0.35, 0.5, 0.8, 1.2)
        found = []
        for floor, split, alpha, beta in itertools.product(
            (0.2, 0.5, 0.8, 0.95), (0.1, 0.5, 0.9), exponents, exponents
        ):
            if self.tied and alpha != beta:
                continue
            e = low + math.log(floor)
            rest = max(middle - math.exp(e), 1e-3)
            ends = [alpha] if self.tied else [alpha, beta]
            found.append([e, math.log(rest * split), math.log(rest * (1 - split)), *ends])
        grid = np.array(found)
        order = np.argsort(self.huber(self.residuals(grid)).sum(axis=1))
        return grid[order[:_STARTS]]

    def best(self) -> Array:
        """The best of all starts: all at once by damped Gauss-Newton, the better ones finished by L-BFGS."""
        from scipy.optimize import minimize

        starts = self.starts()
        near = self.refit(starts, np.ones((len(starts), len(self.y))), steps=60)
        order = np.argsort(self.huber(self.residuals(near)).sum(axis=1))[:_FINISHED]
        bounds = [(-20.0, 20.0)] * 3 + [(1e-3, 5.0)] * (near.shape[1] - 3)
        options = {"maxiter": 1500, "maxfun": 3000, "ftol": 1e-12, "gtol": 1e-8}
        found = [
            minimize(self.value, x, jac=True, method="L-BFGS-B", bounds=bounds, options=options)
            for x in near[order]
        ]
        best: Array = min(found, key=lambda f: float(f.fun)).x
        return best

    def refit(self, start: Array, weights: Array, steps: int = 150) -> Array:
        """Best coefficients for every row of weights, shape (r, k): damped Gauss-Newton on Huber's weights, all rows at once."""
        current = np.array(np.broadcast_to(start, (len(weights), start.shape[-1])))
        damping = np.full(len(weights), 1e-3)
        r = self.residuals(current)
        cost = (weights * self.huber(r)).sum(axis=1)
        eye = np.eye(current.shape[1])
        for _ in range(steps):
            w = weights * self.delta / np.maximum(np.abs(r), self.delta)
            jacobian = self.jacobian(current)
            weighted = jacobian * w[:, :, None]
            hessian = np.einsum("rnk,rnl->rkl", weighted, jacobian)
            scale = np.maximum(np.trace(hessian, axis1=1, axis2=2), 1e-12)[:, None, None] / current.shape[1]
            step = np.linalg.solve(
                hessian + damping[:, None, None] * scale * eye,
                np.einsum("rnk,rn->rk", weighted, r)[..., None],
            )[..., 0]
            trial = current + np.clip(step, -1.0, 1.0)
            trial[:, 3:] = np.clip(trial[:, 3:], 1e-3, 5.0)
            r_trial = self.residuals(trial)
            cost_trial = (weights * self.huber(r_trial)).sum(axis=1)
            better = cost_trial < cost
            gained = np.where(better, (cost - cost_trial) / np.maximum(cost, 1e-300), 0.0)
            current[better], r[better], cost[better] = trial[better], r_trial[better], cost_trial[better]
            damping = np.clip(np.where(better, damping / 5, damping * 5), 1e-9, 1e6)
            if np.all((gained < 1e-9) & ((damping >= 1e6) | better)):
                break
        return current

    def plain(self, theta: Array) -> Array:
        """E, A, B, alpha, beta of the formula."""
        alpha = theta[:, 3]
        beta = alpha if self.tied else theta[:, 4]
        a, b = theta[:, 1] + alpha * self.n0, theta[:, 2] + beta * self.d0
        return np.stack([np.exp(theta[:, 0]), np.exp(a), np.exp(b), alpha, beta], axis=1)


def _regress(X: Array, y: Array, weights: Array, steps: int = 50) -> Array:
    """Huber regressions for every row of weights, shape (r, k), by reweighting; the scale is that of the residuals."""
    robust = np.ones_like(weights)
    theta = np.zeros((len(weights), X.shape[1]))
    for _ in range(steps):
        w = weights * robust
        gram = np.einsum("rn,nk,nl->rkl", w, X, X)
        new = np.linalg.solve(gram, np.einsum("rn,nk,n->rk", w, X, y)[..., None])[..., 0]
        r = y - new @ X.T
        scale = np.maximum(1.4826 * np.median(np.abs(r), axis=1, keepdims=True), 1e-12)
        robust = np.minimum(1.0, 1.345 * scale / np.maximum(np.abs(r), 1e-300))
        moved = np.max(np.abs(new - theta))
        theta = new
        if moved < 1e-10:
            break
    return theta


def _weights(weights: Sequence[float] | Array | None, n: int) -> Array:
    if weights is None:
        return np.ones(n)
    given: Array = np.asarray(weights, float).ravel()
    if given.size != n or not (np.isfinite(given) & (given > 0)).all():
        raise ConfigError(
            f"Weights must be positive and one per run; got {given.size} for {n} runs. Leave bad runs out instead."
        )
    return given


def _design(data: Mapping[str, Array], keys: Sequence[str], centers: Mapping[str, float]) -> Array:
    return np.stack([np.ones_like(data[keys[0]]), *(np.log(data[k]) - centers[k] for k in keys)], axis=1)


def _uncentered(theta: Array, keys: Sequence[str], centers: Mapping[str, float]) -> Array:
    shift = theta[:, 1:] @ np.array([centers[k] for k in keys])
    return np.concatenate([np.exp(theta[:, :1] - shift[:, None]), theta[:, 1:]], axis=1)


def _power(keys: tuple[str, ...]) -> Any:
    def function(c: Mapping[str, Any], inputs: Mapping[str, Any]) -> Any:
        out = c["coefficient"]
        for key in keys:
            out = out * inputs[key] ** c[f"exponent_{key}"]
        return out

    return function


def _box(data: Mapping[str, Array], keys: Sequence[str]) -> Box:
    return Box({k: (float(data[k].min()), float(data[k].max())) for k in keys})


def _counted(data: Mapping[str, Array], inputs: Mapping[str, Input]) -> None:
    """Refuses columns whose numbers are so small or large that their unit must be another."""
    for name, known in inputs.items():
        known.read(float(data[name].min()))
        known.read(float(data[name].max()))


def _separable(data: Mapping[str, Array], keys: Sequence[str]) -> None:
    """Refuses inputs that always grow together."""
    for a, b in itertools.combinations(keys, 2):
        if _correlation(data[a], data[b]) > _COLLINEAR:
            raise ConfigError(
                f"{a} and {b} must vary separately to have an exponent each; they always grow together here. "
                f"Leave one of them out, or add runs with another ratio."
            )


def _together(data: Mapping[str, Array], keys: tuple[str, str]) -> tuple[str, ...]:
    a, b = keys
    if _correlation(data[a], data[b]) > _COLLINEAR:
        return (
            f"{a} and {b} always grow together in these runs: predictions hold at that ratio only, and the split of a budget "
            f"cannot be read off this fit.",
        )
    return ()


def _correlation(a: Array, b: Array) -> float:
    return abs(float(np.corrcoef(np.log(a), np.log(b))[0, 1]))
