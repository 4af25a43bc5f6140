"""Optimism under limits: sublinear regret and violation, and infeasible problems are recognised.

Xu, Jiang, Svetozarevic and Jones (2023) bound the cumulative regret and violation of CONFIG like the unconstrained regret,
and declare infeasibility with high probability where no point meets the limits.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from claims.record import Claim, Result, Verdict
from claims.study import seeds_for
from tunewright.core.algorithm import generator
from tunewright.core.domains import Float
from tunewright.core.events import Ended, Started
from tunewright.core.problem import Limit, Problem
from tunewright.core.space import Space
from tunewright.numerics.statistics import wilcoxon
from tunewright.samplers.bayes import Bayes
from tunewright.samplers.config import Config

CLAIM = Claim(
    title="CONFIG has sublinear regret and violation under limits, and recognises limits that cannot be met.",
    paper="Xu et al. 2023, arXiv:2211.00162, Theorems 1 to 3 and section 5.1",
    check=(
        "Objectives and constraints drawn from Gaussian processes in two dimensions, 50 trials, limits at the lowest "
        "fifth of the constraint and, for infeasible problems, half a standard deviation below its minimum."
    ),
    rule=(
        "Holds at reduced scale if the log-log slopes of mean cumulative positive regret and of mean cumulative violation "
        "from trial 10 on are below 0.8, at least 80 % of infeasible and at most 10 % of feasible problems are declared "
        "infeasible, and the best allowed loss is not worse than that of constrained expected improvement with "
        "p < 0.05 (Wilcoxon, one-sided); not reproduced otherwise."
    ),
)
_TRIALS = 50
_GRID = 41
_SPACE = Space(x=Float(0, 1), y=Float(0, 1))


def _drawn(seed: int) -> tuple[Any, Any]:
    """An objective and a constraint as smooth functions of a row, by 200 random features each."""
    rng = np.random.default_rng(seed)
    out = []
    for _ in range(2):
        w, b = rng.standard_normal((200, 2)) / 0.25, rng.uniform(0, 2 * np.pi, 200)
        a = rng.standard_normal(200) * (2 / 200) ** 0.5
        out.append(lambda z, w=w, b=b, a=a: np.cos(z @ w.T + b) @ a)
    return out[0], out[1]


def _study(algorithm: Any, problem: Problem, f: Any, g: Any) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Loss and constraint of each trial, shape (trials, 2)."""
    state = algorithm.init(problem)
    rows: list[list[float]] = []
    for i in range(_TRIALS):
        actions = algorithm.ask(state, 1, generator(problem.seed, i))
        if not actions:
            break
        z = np.array([[actions[0].config["x"], actions[0].config["y"]]])
        values = [float(f(z)[0]), float(g(z)[0])]
        rows.append(values)
        end = Ended(i, 0, "completed", {"loss": values[0], "use": values[1]})
        state = algorithm.tell(state, [Started(i, actions[0].config), end])
    return np.array(rows)


def _slope(total: np.ndarray[Any, np.dtype[np.float64]]) -> float:
    n = np.arange(10, len(total) + 1)
    return float(np.polyfit(np.log(n), np.log(np.maximum(total[9:], 1e-9)), 1)[0])


def run(quick: bool) -> Result:
    """Checks the claim."""
    seeds = seeds_for(quick, 20)
    axis = np.linspace(0.0, 1.0, _GRID)
    grid = np.array([[a, b] for a in axis for b in axis])
    regret, violation = [], []
    ours: list[float] = []
    theirs: list[float] = []
    declared = {"feasible": 0, "infeasible": 0}
    for seed in seeds:
        f, g = _drawn(seed)
        level = float(np.quantile(g(grid), 0.2))
        problem = Problem(_SPACE, limits=(Limit("use", level),), seed=seed)
        rows = _study(Config(), problem, f, g)
        best = float(f(grid)[g(grid) <= level].min())
        worst = float(f(grid).max())
        declared["feasible"] += len(rows) < _TRIALS
        padded = np.vstack([rows, np.tile([worst, level], (_TRIALS - len(rows), 1))])
        regret.append(np.maximum(padded[:, 0] - best, 0.0))
        violation.append(np.maximum(padded[:, 1] - level, 0.0))
        for found, out in ((rows, ours), (_study(Bayes(), problem, f, g), theirs)):
            met = found[found[:, 1] <= level, 0]
            out.append((float(met.min()) if len(met) else worst) - best)
        low = float(g(grid).min()) - 0.5 * float(g(grid).std())
        hard = Problem(_SPACE, limits=(Limit("use", low),), seed=seed)
        declared["infeasible"] += len(_study(Config(), hard, f, g)) < _TRIALS
    slopes = _slope(np.mean(regret, axis=0).cumsum()), _slope(np.mean(violation, axis=0).cumsum())
    hits, false = declared["infeasible"] / len(seeds), declared["feasible"] / len(seeds)
    p = wilcoxon(ours, theirs, "greater")
    good = max(slopes) < 0.8 and hits >= 0.8 and false <= 0.1 and p >= 0.05
    verdict: Verdict = "holds at reduced scale" if good else "not reproduced"
    return Result(
        verdict,
        f"Cumulative regret grows with exponent {slopes[0]:.2f} and violation with {slopes[1]:.2f}; {hits:.0%} of "
        f"infeasible and {false:.0%} of feasible problems are declared infeasible; mean regret of the best allowed trial "
        f"is {np.mean(ours):.3f}, with expected improvement under limits {np.mean(theirs):.3f} (p = {p:.2g}).",
        "a Gaussian process with expected improvement that ranks trials beyond a limit last",
        "Wilcoxon signed-rank on the regret of the best allowed trial, one-sided (worse), pairs by problem",
        seeds,
        {
            "trials": _TRIALS,
            "regret_slope": slopes[0],
            "violation_slope": slopes[1],
            "infeasible_declared": hits,
            "feasible_declared": false,
            "regret": float(np.mean(ours)),
            "baseline_regret": float(np.mean(theirs)),
            "p": p,
        },
    )
