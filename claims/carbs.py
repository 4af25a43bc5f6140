"""Search around the front of loss and cost recovers scaling laws, and dominates more volume with equal compute.

Fetterman et al. (2023) reproduce Chinchilla's scaling of parameters and tokens by tuning, and find laws for other
hyperparameters, while spending most trials at small scale.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from claims.record import Claim, Result, Verdict
from claims.study import corrected, prefixed, seeds_for
from tunewright.bench.multiobjective import run_trials
from tunewright.core.domains import Float
from tunewright.core.problem import Problem
from tunewright.core.space import Space
from tunewright.numerics.pareto import hypervolume, nondominated
from tunewright.numerics.statistics import bootstrap_interval, wilcoxon
from tunewright.samplers.bayes import Bayes
from tunewright.samplers.carbs import Carbs
from tunewright.samplers.random import Random

Floats = NDArray[np.float64]

CLAIM = Claim(
    title="Search around the front of loss and cost recovers scaling exponents and dominates more with equal compute.",
    paper="Fetterman et al. 2023, arXiv:2306.08055, sections 4.2 and 4.3",
    check=(
        "A loss in closed form: Chinchilla's law (Hoffmann et al. 2022, arXiv:2203.15556, approach 3) in parameters and tokens, "
        "plus a quadratic in the log of the learning rate whose optimum falls with the 0.3rd power of the parameters; the "
        "start is three powers of ten below the dearest trial. Every method may spend 2e19 operations, and at most a "
        "twentieth of that on one trial."
    ),
    rule=(
        "Holds at reduced scale if the exponents of parameters and of the learning rate by compute, fitted to the front, "
        "are within 0.05 of the true ones on average over seeds, and the volume dominated in loss and log compute is larger "
        "than that of random search and of expected improvement, both with p < 0.01 after Holm; not reproduced otherwise."
    ),
)
_BUDGET = 2e4
_DEAREST = 1e3
_TRIALS = 250
_ALPHA, _BETA, _DRIFT = 0.34, 0.28, 0.3
_SIZE = _BETA / (_ALPHA + _BETA)
_CORNER = np.array([6.0, math.log10(_DEAREST)])


def _problem() -> Problem:
    return Problem(
        Space(
            parameters=Float(1e6, 1e10, log=True, guess=3e6, confidence=0.0),
            tokens=Float(1e7, 1e11, log=True, guess=6e7, confidence=0.0),
            rate=Float(1e-6, 1e-1, log=True, guess=1e-3, confidence=0.0),
            constraints=[lambda c: _compute(c) <= _DEAREST],
        )
    )


def _compute(config: Mapping[str, Any]) -> float:
    """Operations of a training, in units of 1e15."""
    return 6.0 * float(config["parameters"]) * float(config["tokens"]) / 1e15


def _measure(config: Mapping[str, Any]) -> tuple[dict[str, float], float]:
    """Loss, and compute in units of 1e15 operations."""
    n, d = config["parameters"], config["tokens"]
    away = math.log(config["rate"] / (1e-3 * (n / 1e7) ** -_DRIFT))
    loss = 1.69 + 406.4 * n**-_ALPHA + 410.7 * d**-_BETA + 0.05 * away**2
    return {"loss": loss}, _compute(config)


def _exponents(configs: list[dict[str, Any]], points: Floats) -> tuple[float, float]:
    """Exponents of parameters and learning rate by compute along the front, its cheapest tenth left out."""
    front = np.flatnonzero(nondominated(points))
    front = front[points[front, 1] > np.quantile(points[front, 1], 0.1)]
    compute = points[front, 1] * math.log(10.0)
    both = [np.log([configs[i][k] for i in front]) for k in ("parameters", "rate")]
    size, rate = (float(np.polyfit(compute, y, 1)[0]) for y in both)
    return size, rate


def _study(algorithm: Any, seed: int) -> tuple[list[dict[str, Any]], Floats]:
    """The trials that were paid for: configurations, and loss and log10 cost."""
    configs, losses, costs = run_trials(
        algorithm, _problem(), _measure, seed=seed, trials=_TRIALS, budget=_BUDGET
    )
    paid = int((np.cumsum(costs) <= _BUDGET).sum())
    return configs[:paid], np.column_stack([losses[:paid, 0], np.log10(costs[:paid])])


def run(quick: bool) -> Result:
    """Checks the claim."""
    seeds = tuple(range(3)) if quick else seeds_for(quick, 12)
    volumes: dict[str, list[float]] = {"carbs": [], "random": [], "gp": []}
    exponents = []
    for seed in seeds:
        for name, build in (("carbs", Carbs), ("random", Random), ("gp", Bayes)):
            configs, points = _study(build(), seed)
            volumes[name].append(hypervolume(points, _CORNER))
            if name == "carbs":
                exponents.append(_exponents(configs, points))
    found = np.array(exponents)
    (size, rate), rng = found.mean(axis=0), np.random.default_rng(0)
    size_at, rate_at = (bootstrap_interval(column, rng) for column in found.T)
    against = {
        name: {
            "volume": float(np.mean(volumes[name])),
            "p": wilcoxon(volumes["carbs"], volumes[name], "greater"),
        }
        for name in ("random", "gp")
    }
    corrected(*against.values())
    ours = float(np.mean(volumes["carbs"]))
    close = abs(size - _SIZE) < 0.05 and abs(rate + _DRIFT * _SIZE) < 0.05
    more = all(ours > c["volume"] and c["p"] < 0.01 for c in against.values())
    verdict: Verdict = "holds at reduced scale" if close and more else "not reproduced"
    return Result(
        verdict,
        f"The exponent of parameters by compute is found as {size:.3f} [{size_at[0]:.3f}, {size_at[1]:.3f}] (true "
        f"{_SIZE:.3f}), that of the learning rate as {rate:.3f} [{rate_at[0]:.3f}, {rate_at[1]:.3f}] (true "
        f"{-_DRIFT * _SIZE:.3f}); the volume dominated is {ours:.2f}, random search's "
        f"{against['random']['volume']:.2f} (p = {against['random']['p']:.2g}), expected improvement's "
        f"{against['gp']['volume']:.2f} (p = {against['gp']['p']:.2g}).",
        "random search and expected improvement with equal compute",
        "Wilcoxon signed-rank on hypervolume, one-sided, pairs by seed, Holm over both; bootstrap intervals of exponents",
        seeds,
        {
            "volume": ours,
            "size_exponent": float(size),
            "size_low": size_at[0],
            "size_high": size_at[1],
            "rate_exponent": float(rate),
            "rate_low": rate_at[0],
            "rate_high": rate_at[1],
            **prefixed("over_random", against["random"]),
            **prefixed("over_gp", against["gp"]),
        },
    )
