"""Success-history adaptation improves differential evolution.

Tanabe and Fukunaga (2013) find SHADE better than earlier adaptive and classic variants on the CEC 2013 functions.
"""

from __future__ import annotations

from claims.record import Claim, Result, Verdict
from claims.study import lower, prefixed, regrets, seeds_for, traces
from tunewright.bench.functions import function_task
from tunewright.samplers.de import De

CLAIM = Claim(
    title="SHADE finds lower losses than classic differential evolution.",
    paper="Tanabe and Fukunaga 2013, CEC, section V",
    check=(
        "Six analytic functions of 10 parameters with moved optima, 300 trials (10,000 per dimension in the paper), 16 "
        "members; DE/rand/1/bin with F = 0.5 and CR = 0.9."
    ),
    rule=(
        "Holds at reduced scale if mean regret after 300 trials is lower with p < 0.01 and on at least four of the six "
        "functions; not reproduced otherwise."
    ),
)
_NAMES = ("sphere", "ellipsoid", "rosenbrock", "rastrigin", "ackley", "griewank")
_TRIALS = 300


def run(quick: bool) -> Result:
    """Checks the claim."""
    seeds = seeds_for(quick, 20)
    tasks = [function_task(n, 10, moved=i) for i, n in enumerate(_NAMES)]
    runs = traces({"shade": De, "classic": lambda: De(adaptive=False)}, tasks, seeds, trials=_TRIALS)
    ours, theirs = (regrets(runs[m], tasks, _TRIALS) for m in ("shade", "classic"))
    figures = lower(ours, theirs)
    good = figures["p"] < 0.01 and figures["tasks_won"] >= 4 / 6 - 1e-9
    verdict: Verdict = "holds at reduced scale" if good else "not reproduced"
    return Result(
        verdict,
        f"After {_TRIALS} trials SHADE has a mean regret of {figures['regret']:.3f}, DE/rand/1/bin "
        f"{figures['baseline_regret']:.3f} (p = {figures['p']:.2g}); SHADE is ahead on "
        f"{figures['tasks_won'] * len(tasks):.0f} of {len(tasks)} functions.",
        "DE/rand/1/bin with F = 0.5 and CR = 0.9",
        "Wilcoxon signed-rank on regret, one-sided, pairs by function and seed",
        seeds,
        {
            "trials": _TRIALS,
            **prefixed("shade", figures),
            **{f"regret_{t.name}": float(o.mean()) for t, o in zip(tasks, ours, strict=True)},
            **{f"classic_regret_{t.name}": float(o.mean()) for t, o in zip(tasks, theirs, strict=True)},
        },
    )
