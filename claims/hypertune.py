"""Hyper-Tune: learned first lengths of training and late promotions beat asynchronous halving and asynchronous Hyperband.

Li, Shen, Jiang, Zhang, Li, Liu, Zhang and Cui (2022) choose brackets by learned weights, promote later than ASHA and propose
by a model of several fidelities. They report speed-ups of up to 11.2 times over asynchronous Hyperband and of up to 5.1
times over asynchronous BOHB at reaching the same quality with 8 workers.
"""

from __future__ import annotations

from typing import Any

from claims.record import Claim, Result, Verdict
from claims.study import (
    corrected,
    curve_tasks,
    missing,
    prefixed,
    seeds_for,
    speedup,
    targets,
    times_to,
    traces,
)
from tunewright.errors import ConfigError
from tunewright.samplers.joint import Joint
from tunewright.samplers.random import Random
from tunewright.samplers.tpe import Tpe
from tunewright.schedulers.hyperband import Hyperband
from tunewright.schedulers.hypertune import Hypertune

CLAIM = Claim(
    title="Hyper-Tune is faster than asynchronous Hyperband and BOHB.",
    paper="Li et al. 2022, VLDB 15(6), arXiv:2201.06834, section 5",
    check=(
        "Five trainings of 81 epochs (perceptrons and boosted trees, forests fitted to 1,200 to 3,000 real runs each), "
        "eight workers on a virtual clock, 16 full trainings' worth of epochs, eta = 3. Goal: the median over seeds of "
        "what Hyperband ends with. Counted: virtual seconds until some validation loss is as low; never counts as the "
        "whole time. Brackets of Hyperband overlap, so that no worker waits; BOHB is Hyperband around TPE."
    ),
    rule=(
        "Holds at reduced scale if the geometric mean speed-up is at least 1.5 over both baselines with p < 0.05 after "
        "Holm; not reproduced otherwise."
    ),
)
_WORKERS, _BUDGET = 8, 16 * 81


def run(quick: bool) -> Result:
    """Checks the claim."""
    baseline = "asynchronous Hyperband; asynchronous Hyperband around TPE"
    seeds = seeds_for(quick, 10)[: 1 if quick else None]
    try:
        tasks = curve_tasks(quick)
    except ConfigError as error:
        return missing(error, baseline)
    methods: dict[str, Any] = {
        "hyperband": lambda: Hyperband(Random()),
        "bohb": lambda: Hyperband(Tpe()),
        "hypertune": lambda: Hypertune(Joint()),
    }
    runs = traces(methods, tasks, seeds, workers=_WORKERS, steps=_BUDGET)
    limit = _BUDGET / _WORKERS
    goals = targets(runs["hyperband"])
    spent = {name: times_to(found, goals, "seconds", limit) for name, found in runs.items()}
    over_hyperband, over_bohb = (speedup(spent["hypertune"], spent[name]) for name in ("hyperband", "bohb"))
    corrected(over_hyperband, over_bohb)
    good = min(over_hyperband["speedup"], over_bohb["speedup"]) >= 1.5
    sure = max(over_hyperband["p"], over_bohb["p"]) < 0.05
    verdict: Verdict = "holds at reduced scale" if good and sure else "not reproduced"
    return Result(
        verdict,
        f"With {_WORKERS} workers Hyper-Tune is {over_hyperband['speedup']:.2f} times faster than Hyperband and "
        f"{over_bohb['speedup']:.2f} times faster than BOHB at reaching what Hyperband ends with "
        f"(p = {over_hyperband['p']:.2g} and {over_bohb['p']:.2g}).",
        baseline,
        "Wilcoxon signed-rank on log seconds, one-sided, pairs by task and seed, Holm over the two comparisons",
        seeds,
        {
            "tasks": len(tasks),
            "workers": _WORKERS,
            **prefixed("over_hyperband", over_hyperband),
            **prefixed("over_bohb", over_bohb),
            **{f"{name}_reached": float((rows < limit).mean()) for name, rows in spent.items()},
        },
    )
