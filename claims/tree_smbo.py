"""Search with a linear model of n-grams finds better architectures than random search.

Negrinho and Gordon (2017) compare four searchers on networks for CIFAR-10 with 64 evaluations each: sequential model-based search
with ridge regression on n-grams of modules outperforms random search.
"""

from __future__ import annotations

from claims.architectures import task
from claims.record import Claim, Result, Verdict
from claims.study import corrected, lower, prefixed, regrets, seeds_for, traces
from tunewright.samplers.mcts import Mcts
from tunewright.samplers.random import Random
from tunewright.samplers.tree_smbo import TreeSmbo

CLAIM = Claim(
    title="Sequential search with ridge regression on n-grams finds better architectures than random search.",
    paper="Negrinho and Gordon 2017, arXiv:1704.08792, experiments on model search algorithms",
    check=(
        "3,888 networks for 8 by 8 digits, every one trained: an optional convolution, one to three dense layers, activation, "
        "dropout, optimizer and learning rate, the latter two decided first; 64 evaluations one after another as in the paper, 60 seeds; tree search with "
        "bisection for comparison."
    ),
    rule=(
        "Holds at reduced scale if mean regret after 64 trials is lower than random search's with p < 0.01 after Holm; not "
        "reproduced otherwise. Tree search does not enter."
    ),
)
_TRIALS = 64


def run(quick: bool) -> Result:
    """Checks the claim."""
    seeds = seeds_for(quick, 60)
    tasks = [task()]
    runs = traces({"random": Random, "mcts": Mcts, "smbo": TreeSmbo}, tasks, seeds, trials=_TRIALS)
    after = {name: regrets(rows, tasks, _TRIALS) for name, rows in runs.items()}
    figures, tree = lower(after["smbo"], after["random"]), lower(after["smbo"], after["mcts"])
    corrected(figures, tree)
    good = figures["regret"] < figures["baseline_regret"] and figures["p"] < 0.01
    verdict: Verdict = "holds at reduced scale" if good else "not reproduced"
    return Result(
        verdict,
        f"After {_TRIALS} trials search with a linear model has a mean regret of {figures['regret']:.4f}, random search "
        f"{figures['baseline_regret']:.4f} (p = {figures['p']:.2g}), tree search with bisection {tree['baseline_regret']:.4f} "
        f"(p = {tree['p']:.2g}).",
        "random search with as many trials",
        "Wilcoxon signed-rank on regret, one-sided, pairs by seed, Holm over the two comparisons",
        seeds,
        {"trials": _TRIALS, **prefixed("over_random", figures), **prefixed("over_tree", tree)},
    )
