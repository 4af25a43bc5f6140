"""Hyperband finds what random search finds in a fraction of the time.

Li, Jamieson, DeSalvo, Rostamizadeh and Talwalkar (2018) report speed-ups of an order of magnitude and more over random
search and Bayesian optimisation when training convolutional networks and kernel methods with partial budgets, without
being told how early to stop. The brackets of Algorithm 1 are part of the claim: with a budget of R they hedge over
s_max + 1 rates of early stopping, each at about the same total cost.
"""

from __future__ import annotations

from claims.record import Claim, Result, Verdict
from claims.study import curve_tasks, missing, prefixed, seeds_for, speedup, targets, times_to, traces
from tunewright.core.brackets import brackets
from tunewright.errors import ConfigError
from tunewright.samplers.random import Random
from tunewright.schedulers.hyperband import Hyperband

CLAIM = Claim(
    title="Hyperband reaches the final loss of random search several times sooner.",
    paper="Li et al. 2018, JMLR 18(185), Algorithm 1 and section 4",
    check=(
        "Five trainings of 81 epochs (perceptrons and boosted trees, forests fitted to 1,200 to 3,000 real runs each), "
        "one worker, 50 full trainings' worth of epochs. Goal: the median over seeds of what random search with "
        "full trainings ends with. Counted: epochs until some validation loss is as low; never counts as the "
        "whole budget."
    ),
    rule=(
        "Holds at reduced scale if the brackets for R = 81, eta = 3 are 81, 34, 15, 8, 5 and the geometric mean "
        "speed-up is at least 2 with p < 0.01; not reproduced otherwise."
    ),
)
_BUDGET = 50 * 81


def run(quick: bool) -> Result:
    """Checks the claim."""
    baseline = "random search, every configuration trained for all 81 epochs"
    seeds = seeds_for(quick, 30)
    try:
        tasks = curve_tasks(quick)
    except ConfigError as error:
        return missing(error, baseline)
    methods = {"random": Random, "hyperband": lambda: Hyperband(Random())}
    runs = traces(methods, tasks, seeds, steps=_BUDGET)
    goals = targets(runs["random"])
    random = times_to(runs["random"], goals, "steps", _BUDGET)
    ours = times_to(runs["hyperband"], goals, "steps", _BUDGET)
    gain = speedup(ours, random)
    sizes = tuple(p.sizes[0] for p in brackets(1, 81, 3))
    good = sizes == (81, 34, 15, 8, 5) and gain["speedup"] >= 2.0 and gain["p"] < 0.01
    verdict: Verdict = "holds at reduced scale" if good else "not reproduced"
    return Result(
        verdict,
        f"Hyperband needs {gain['speedup']:.1f} times fewer epochs (95 % interval {gain['speedup_low']:.1f} to "
        f"{gain['speedup_high']:.1f}) to reach what random search ends with; the order of magnitude of the paper "
        f"{'is' if gain['speedup'] >= 10 else 'is not'} reached on these small trainings.",
        baseline,
        "Wilcoxon signed-rank on log epochs, one-sided, pairs by task and seed; bootstrap interval of the mean log ratio",
        seeds,
        {
            "brackets": ", ".join(map(str, sizes)),
            "tasks": len(tasks),
            **prefixed("hyperband", gain),
            "hyperband_reached": float((ours < _BUDGET).mean()),
            "random_reached": float((random < _BUDGET).mean()),
            **{
                f"speedup_{t.name}": speedup(o[None], r[None])["speedup"]
                for t, o, r in zip(tasks, ours, random, strict=True)
            },
        },
    )
