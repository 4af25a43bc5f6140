"""Weighing training time selects recommenders that train far faster and predict nearly as well.

Wang, Dernoncourt and Bui (2020) optimise effectiveness and training efficiency together, and select recommenders that train
much faster than those of plain Bayesian optimisation while their quality stays competitive.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from claims.record import Claim, Result, Verdict
from claims.study import seeds_for
from tunewright.bench.multiobjective import run_trials
from tunewright.core.domains import Float, Int
from tunewright.core.problem import Problem
from tunewright.core.space import Space
from tunewright.numerics.statistics import bootstrap_interval, wilcoxon
from tunewright.samplers.bayes import Bayes
from tunewright.samplers.efficient import Efficient

CLAIM = Claim(
    title="Weighing training time selects recommenders that train at least twice as fast and lose little accuracy.",
    paper="Wang, Dernoncourt and Bui 2020, arXiv:2008.00386, section 4",
    check=(
        "Matrix factorisation by gradient descent on synthetic ratings of 120 users and 90 items, one data set per seed; rank, "
        "steps, learning rate and penalty are tuned in 30 trials. Time is counted in operations, so that it does not depend on "
        "the machine. Each method's selection is what it looks for: least loss, or least utility at weight 0.3."
    ),
    rule=(
        "Holds at reduced scale if the selected model trains at least twice as fast in the geometric mean, p < 0.01, and its "
        "test error is at most 5 % higher in the geometric mean; not reproduced otherwise. Weights of 0.1 and 0.6 are "
        "measured, but do not decide."
    ),
)
_TRIALS = 30
_USERS, _ITEMS, _RANK = 120, 90, 6
_MOMENTUM = 0.9
_LARGEST = 10.0


def _problem() -> Problem:
    return Problem(
        Space(
            rank=Int(1, 48, log=True),
            steps=Int(3, 200, log=True),
            rate=Float(1e-3, 0.1, log=True),
            penalty=Float(1e-3, 10.0, log=True),
        )
    )


def _recommender(seed: int) -> Callable[[Mapping[str, Any]], tuple[dict[str, float], float]]:
    """Validation and test error of a factorisation of one data set, and its training time in millions of operations."""
    rng = np.random.default_rng(1000 + seed)
    truth = rng.standard_normal((_USERS, _RANK)) @ rng.standard_normal((_RANK, _ITEMS)) / _RANK**0.5
    ratings = truth + 0.4 * rng.standard_normal(truth.shape)
    part = rng.random(truth.shape)
    train = (part < 0.3).astype(np.float64)
    held, test = (part >= 0.3) & (part < 0.4), part >= 0.4

    def measure(config: Mapping[str, Any]) -> tuple[dict[str, float], float]:
        rank, steps = config["rank"], config["steps"]
        start = np.random.default_rng(seed)
        u, v = (0.3 * start.standard_normal((k, rank)) for k in (_USERS, _ITEMS))
        du, dv = np.zeros_like(u), np.zeros_like(v)
        for _ in range(steps):
            error = train * (u @ v.T - ratings)
            du = _MOMENTUM * du - config["rate"] * (error @ v + config["penalty"] * u)
            dv = _MOMENTUM * dv - config["rate"] * (error.T @ u + config["penalty"] * v)
            # Divergence ends at the bound, which is worse than predicting nothing.
            u, v = np.clip(u + du, -_LARGEST, _LARGEST), np.clip(v + dv, -_LARGEST, _LARGEST)
        gap = (u @ v.T - ratings) ** 2
        metrics = {"loss": float(gap[held].mean() ** 0.5), "test": float(gap[test].mean() ** 0.5)}
        return metrics, 6.0 * rank * float(train.sum()) * steps / 1e6

    return measure


def _selected(algorithm: Any, weight: float, seed: int) -> tuple[float, float]:
    """Log test error and log time of the model that a study selects."""
    measure = _recommender(seed)
    configs, losses, costs = run_trials(algorithm, _problem(), measure, seed=seed, trials=_TRIALS)
    capped = np.minimum(losses[:, 0], 3.0 * np.median(losses[:, 0]))
    times = np.log(costs)
    parts = [(y - y.mean()) / y.std() for y in (capped, times)]
    best = int(np.argmin((1.0 - weight) * parts[0] + weight * parts[1]))
    return math.log(measure(configs[best])[0]["test"]), float(times[best])


def run(quick: bool) -> Result:
    """Checks the claim."""
    seeds = tuple(range(3)) if quick else seeds_for(quick, 15)
    plain = np.array([_selected(Bayes(), 0.0, s) for s in seeds])
    weights = (0.3,) if quick else (0.1, 0.3, 0.6)
    ours = {w: np.array([_selected(Efficient(weight=w), w, s) for s in seeds]) for w in weights}
    gain = plain[:, 1] - ours[0.3][:, 1]
    low, high = bootstrap_interval(gain, np.random.default_rng(0))
    faster = math.exp(float(gain.mean()))
    p = wilcoxon(ours[0.3][:, 1], plain[:, 1], "less")
    ratio = {w: math.exp(float((o[:, 0] - plain[:, 0]).mean())) for w, o in ours.items()}
    speed = {w: math.exp(float((plain[:, 1] - o[:, 1]).mean())) for w, o in ours.items()}
    good = faster >= 2.0 and p < 0.01 and ratio[0.3] <= 1.05
    verdict: Verdict = "holds at reduced scale" if good else "not reproduced"
    return Result(
        verdict,
        f"At weight 0.3 the selected model trains {faster:.1f} times [{math.exp(low):.1f}, {math.exp(high):.1f}] as fast "
        f"(p = {p:.2g}) and its test error is {ratio[0.3]:.3f} times that of plain expected improvement. "
        + "; ".join(
            f"weight {w}: {speed[w]:.1f} times as fast, {ratio[w]:.3f} times the error" for w in weights
        )
        + ".",
        "a Gaussian process with expected improvement of the loss alone",
        "Wilcoxon signed-rank on log time, one-sided, pairs by data set; bootstrap interval of the speed-up",
        seeds,
        {
            "speedup": faster,
            "speedup_low": math.exp(low),
            "speedup_high": math.exp(high),
            "p": p,
            "plain_error": math.exp(float(plain[:, 0].mean())),
            **{f"speedup_{w}": s for w, s in speed.items()},
            **{f"error_ratio_{w}": r for w, r in ratio.items()},
        },
    )
