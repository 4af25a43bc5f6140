"""The cross-entropy method tunes trainings better than random search, and its refits never make the elites less likely.

Li and Li (2024) propose the cross-entropy method for hyperparameters of stochastic gradient training, show that it is an
expectation-maximisation, and give no figures.
"""

from __future__ import annotations

from claims.record import Claim, Result, Verdict
from claims.study import corrected, lower, missing, point_tasks, prefixed, regrets, seeds_for, traces
from tunewright.errors import ConfigError
from tunewright.samplers.cem import Cem
from tunewright.samplers.cmaes import Cmaes
from tunewright.samplers.random import Random

CLAIM = Claim(
    title="The cross-entropy method finds better configurations of trainings than random search.",
    paper="Li and Li 2024, arXiv:2409.09240 (no figures there)",
    check=(
        "Eight trainings (support vector machines, forests, boosted trees, perceptrons; 8 to 10 partly conditional "
        "parameters; forests fitted to 3,000 real runs each), 100 trials one after another; CMA-ES for comparison."
    ),
    rule=(
        "Holds at reduced scale if mean regret after 100 trials is lower than random search's with p < 0.01 after Holm and "
        "on at least six of the eight trainings; not reproduced otherwise. CMA-ES does not enter."
    ),
)
_TRIALS = 100


def run(quick: bool) -> Result:
    """Checks the claim."""
    baseline = "random search with as many trials"
    seeds = seeds_for(quick, 12)
    try:
        tasks = point_tasks(quick)
    except ConfigError as error:
        return missing(error, baseline)
    runs = traces({"random": Random, "cmaes": Cmaes, "cem": Cem}, tasks, seeds, trials=_TRIALS)
    after = {name: regrets(rows, tasks, _TRIALS) for name, rows in runs.items()}
    figures, cma = lower(after["cem"], after["random"]), lower(after["cem"], after["cmaes"])
    corrected(figures, cma)
    good = figures["p"] < 0.01 and figures["tasks_won"] >= 0.75
    verdict: Verdict = "holds at reduced scale" if good else "not reproduced"
    return Result(
        verdict,
        f"After {_TRIALS} trials the cross-entropy method has a mean regret of {figures['regret']:.3f}, random search "
        f"{figures['baseline_regret']:.3f} (p = {figures['p']:.2g}), CMA-ES {cma['baseline_regret']:.3f}; it is ahead of "
        f"random search on {figures['tasks_won'] * len(tasks):.0f} of {len(tasks)} trainings.",
        baseline,
        "Wilcoxon signed-rank on regret, one-sided, pairs by training and seed, Holm over the two comparisons",
        seeds,
        {"trials": _TRIALS, **prefixed("over_random", figures), **prefixed("over_cmaes", cma)},
    )
