"""Optimism over the weights of a network beats a Gaussian process in many dimensions, even when misspecified.

Liu and Wang (2023) find GO-UCB ahead of Gaussian-process optimisation on functions of 20 dimensions, with a cumulative
regret that grows like the square root of the number of trials.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from claims.record import Claim, Result, Verdict
from claims.study import corrected, lower, prefixed, regrets, seeds_for, traces
from tunewright.bench.functions import function_task
from tunewright.samplers.bayes import Bayes
from tunewright.samplers.goucb import GoUcb
from tunewright.samplers.random import Random

CLAIM = Claim(
    title="GO-UCB beats a Gaussian process and random search in 20 dimensions, with sublinear cumulative regret.",
    paper="Liu and Wang 2023, arXiv:2211.09100, section 5 and Theorem 5.1",
    check="Rastrigin and Styblinski-Tang functions of 20 parameters, moved, 100 trials one after another.",
    rule=(
        "Holds at reduced scale if mean simple regret after 100 trials is lower than that of the Gaussian process and "
        "than that of random search, both with p < 0.01 after Holm, and the log-log slope of mean cumulative "
        "regret from trial 20 on is below 0.95; not reproduced otherwise."
    ),
)


def run(quick: bool) -> Result:
    """Checks the claim."""
    seeds = seeds_for(quick, 10)
    names = ("styblinski_tang",) if quick else ("rastrigin", "styblinski_tang")
    tasks = [function_task(n, 20, moved=i) for i, n in enumerate(names)]
    trials = 40 if quick else 100
    methods: dict[str, Any] = {"random": Random, "gp": Bayes, "goucb": GoUcb}
    runs = traces(methods, tasks, seeds, trials=trials)
    after = {name: regrets(rows, tasks, trials) for name, rows in runs.items()}
    gp, random = lower(after["goucb"], after["gp"]), lower(after["goucb"], after["random"])
    corrected(gp, random)
    total = np.mean(
        [np.cumsum(r.losses - t.best) for t, rs in zip(tasks, runs["goucb"], strict=True) for r in rs], axis=0
    )
    n = np.arange(20, trials + 1)
    slope = float(np.polyfit(np.log(n), np.log(total[19:]), 1)[0])
    ahead = all(c["regret"] < c["baseline_regret"] and c["p"] < 0.01 for c in (gp, random))
    verdict: Verdict = "holds at reduced scale" if ahead and slope < 0.95 else "not reproduced"
    return Result(
        verdict,
        f"After {trials} trials GO-UCB has a mean regret of {gp['regret']:.3f}, the Gaussian process "
        f"{gp['baseline_regret']:.3f} (p = {gp['p']:.2g}), random search {random['baseline_regret']:.3f} "
        f"(p = {random['p']:.2g}); cumulative regret grows with exponent {slope:.2f}.",
        "a Gaussian process with expected improvement; random search",
        "Wilcoxon signed-rank on regret, one-sided, pairs by task and seed, Holm over the two comparisons",
        seeds,
        {
            "tasks": len(tasks),
            "trials": trials,
            "slope": slope,
            **prefixed("over_gp", gp),
            **prefixed("over_random", random),
        },
    )
