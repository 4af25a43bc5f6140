"""Trust regions need fewer trials than one process over the whole space, and than random search, in many dimensions.

Eriksson, Pearce, Gardner, Turner and Poloczek (2019) find that local processes in trust regions outperform global
Bayesian optimisation on problems of 10 to 200 dimensions.
"""

from __future__ import annotations

from typing import Any

from claims.record import Claim, Result, Verdict
from claims.study import corrected, lower, prefixed, regrets, seeds_for, traces
from tunewright.bench.functions import function_task
from tunewright.samplers.bayes import Bayes
from tunewright.samplers.random import Random
from tunewright.samplers.turbo import Turbo

CLAIM = Claim(
    title="Trust regions find lower losses than a global Gaussian process and random search in 40 dimensions.",
    paper="Eriksson et al. 2019, arXiv:1910.01739, section 4",
    check="Four analytic functions of 40 parameters with moved optima, 120 trials one after another.",
    rule=(
        "Holds at reduced scale if mean regret after 120 trials is lower than that of the global process and than that "
        "of random search, both with p < 0.01 after Holm; not reproduced otherwise."
    ),
)
_NAMES = ("ackley", "levy", "rastrigin", "rosenbrock")
_TRIALS = 120


def run(quick: bool) -> Result:
    """Checks the claim."""
    seeds = seeds_for(quick, 10)
    tasks = [function_task(n, 40, moved=i) for i, n in enumerate(_NAMES[:1] if quick else _NAMES)]
    trials = 60 if quick else _TRIALS
    methods: dict[str, Any] = {"random": Random, "gp": Bayes, "turbo": Turbo}
    runs = traces(methods, tasks, seeds, trials=trials)
    after = {name: regrets(rows, tasks, trials) for name, rows in runs.items()}
    gp, random = lower(after["turbo"], after["gp"]), lower(after["turbo"], after["random"])
    corrected(gp, random)
    good = all(c["regret"] < c["baseline_regret"] and c["p"] < 0.01 for c in (gp, random))
    verdict: Verdict = "holds at reduced scale" if good else "not reproduced"
    return Result(
        verdict,
        f"After {trials} trials in 40 dimensions trust regions have a mean regret of {gp['regret']:.3f}, the global "
        f"process {gp['baseline_regret']:.3f} (p = {gp['p']:.2g}), random search {random['baseline_regret']:.3f} "
        f"(p = {random['p']:.2g}).",
        "a Gaussian process over the whole space; random search",
        "Wilcoxon signed-rank on regret, one-sided, pairs by task and seed, Holm over the two comparisons",
        seeds,
        {
            "tasks": len(tasks),
            "trials": trials,
            **prefixed("over_gp", gp),
            **prefixed("over_random", random),
            **{
                f"{m}_{t.name}": float(o.mean())
                for m in methods
                for t, o in zip(tasks, after[m], strict=True)
            },
        },
    )
