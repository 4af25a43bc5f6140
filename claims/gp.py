"""Gaussian process Bayesian optimisation needs fewer trials than random search and TPE.

Snoek, Larochelle and Adams (2012) optimise expected improvement under a Gaussian process and find better
hyperparameters of several learners than random and tree-structured search with as many evaluations.
"""

from __future__ import annotations

from typing import Any

from claims.record import Claim, Result, Verdict
from claims.study import corrected, lower, missing, point_tasks, prefixed, regrets, seeds_for, traces
from tunewright.errors import ConfigError
from tunewright.samplers.bayes import Bayes
from tunewright.samplers.random import Random
from tunewright.samplers.tpe import Tpe

CLAIM = Claim(
    title="A Gaussian process finds better configurations than random search and TPE within 50 trials.",
    paper="Snoek, Larochelle and Adams 2012, NeurIPS, section 4",
    check=(
        "Eight trainings (support vector machines, forests, boosted trees, perceptrons; 8 to 10 partly conditional "
        "parameters; forests fitted to 3,000 real runs each), 50 trials one after another."
    ),
    rule=(
        "Holds at reduced scale if mean regret after 50 trials is lower than that of random search and than that of "
        "TPE, both with p < 0.01 after Holm; not reproduced otherwise."
    ),
)
_TRIALS = 50


def run(quick: bool) -> Result:
    """Checks the claim."""
    baseline = "random search and TPE with as many trials"
    seeds = seeds_for(quick, 20)
    try:
        tasks = point_tasks(quick)
    except ConfigError as error:
        return missing(error, baseline)
    methods: dict[str, Any] = {"random": Random, "tpe": Tpe, "gp": Bayes}
    runs = traces(methods, tasks, seeds, trials=_TRIALS)
    after = {name: regrets(rows, tasks, _TRIALS) for name, rows in runs.items()}
    random, tpe = lower(after["gp"], after["random"]), lower(after["gp"], after["tpe"])
    corrected(random, tpe)
    ahead = random["regret"] < random["baseline_regret"] and tpe["regret"] < tpe["baseline_regret"]
    good = ahead and max(random["p"], tpe["p"]) < 0.01
    verdict: Verdict = "holds at reduced scale" if good else "not reproduced"
    return Result(
        verdict,
        f"After {_TRIALS} trials the Gaussian process has a mean regret of {random['regret']:.3f}, random search "
        f"{random['baseline_regret']:.3f} (p = {random['p']:.2g}) and TPE {tpe['baseline_regret']:.3f} "
        f"(p = {tpe['p']:.2g}).",
        baseline,
        "Wilcoxon signed-rank on regret, one-sided, pairs by task and seed, Holm over the two comparisons",
        seeds,
        {
            "tasks": len(tasks),
            "trials": _TRIALS,
            **prefixed("over_random", random),
            **prefixed("over_tpe", tpe),
            **{f"regret_{t.name}": float(o.mean()) for t, o in zip(tasks, after["gp"], strict=True)},
        },
    )
