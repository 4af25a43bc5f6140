"""A constricted particle swarm converges, and finds lower losses than random search.

Clerc and Kennedy (2002) derive coefficients with which a swarm converges without a limit on its velocity, and report that it
then meets the criteria of standard test functions.
"""

from __future__ import annotations

from claims.record import Claim, Result, Verdict
from claims.study import lower, prefixed, regrets, seeds_for, traces
from tunewright.bench.functions import function_task
from tunewright.samplers.pso import Pso
from tunewright.samplers.random import Random

CLAIM = Claim(
    title="A constricted particle swarm finds lower losses than random search with as many trials.",
    paper="Clerc and Kennedy 2002, IEEE Trans. Evol. Comput. 6(1), section VI",
    check="Five analytic functions of 10 parameters with moved optima, 300 trials, ten particles.",
    rule=(
        "Holds at reduced scale if mean regret after 300 trials is lower with p < 0.01 and on at least four of the five "
        "functions; not reproduced otherwise."
    ),
)
_NAMES = ("sphere", "rosenbrock", "rastrigin", "griewank", "ackley")
_TRIALS = 300


def run(quick: bool) -> Result:
    """Checks the claim."""
    seeds = seeds_for(quick, 20)
    tasks = [function_task(n, 10, moved=i) for i, n in enumerate(_NAMES)]
    runs = traces({"pso": Pso, "random": Random}, tasks, seeds, trials=_TRIALS)
    ours, theirs = (regrets(runs[m], tasks, _TRIALS) for m in ("pso", "random"))
    figures = lower(ours, theirs)
    good = figures["p"] < 0.01 and figures["tasks_won"] >= 0.8 - 1e-9
    verdict: Verdict = "holds at reduced scale" if good else "not reproduced"
    return Result(
        verdict,
        f"After {_TRIALS} trials the swarm has a mean regret of {figures['regret']:.3f}, random search "
        f"{figures['baseline_regret']:.3f} (p = {figures['p']:.2g}); the swarm is ahead on "
        f"{figures['tasks_won'] * len(tasks):.0f} of {len(tasks)} functions.",
        "random search with as many trials",
        "Wilcoxon signed-rank on regret, one-sided, pairs by function and seed",
        seeds,
        {
            "trials": _TRIALS,
            **prefixed("pso", figures),
            **{f"regret_{t.name}": float(o.mean()) for t, o in zip(tasks, ours, strict=True)},
            **{f"random_regret_{t.name}": float(o.mean()) for t, o in zip(tasks, theirs, strict=True)},
        },
    )
