"""ASHA scales: with many workers it finds good configurations sooner than synchronous halving and random search.

Li, Jamieson, Rostamizadeh, Gonina, Ben-tzur, Hardt, Recht and Talwalkar (2020) promote trials as soon as a worker is free
instead of waiting for a rung to fill. They report a configuration of benchmark quality about 1.5 times sooner than
synchronous successive halving and BOHB with 25 workers, a good configuration in about the time of one full
training, and results that match synchronous halving with one worker.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from claims.record import Claim, Result, Verdict
from claims.study import (
    corrected,
    lcbench_tasks,
    missing,
    prefixed,
    seeds_for,
    speedup,
    targets,
    times_to,
    traces,
)
from tunewright.bench.simulate import Task
from tunewright.errors import ConfigError, MissingExtra
from tunewright.samplers.random import Random
from tunewright.schedulers.asha import Asha
from tunewright.schedulers.hyperband import Hyperband

CLAIM = Claim(
    title="ASHA with 25 workers is faster than synchronous halving and random search.",
    paper="Li et al. 2020, MLSys, arXiv:1810.05934, sections 4.1 to 4.3",
    check=(
        "Seventeen trainings of 50 epochs (LCBench, nearest of 500 recorded curves, with the recorded seconds per "
        "epoch), 25 workers on a virtual clock for three times the mean length of a full training, eta = 3. Goal: "
        "the median over seeds of what random search with full trainings ends with. Counted: virtual seconds until some validation "
        "error is as low; never counts as the whole time. Synchronous halving opens the next bracket while one waits."
    ),
    rule=(
        "Holds at reduced scale if the geometric mean speed-up is at least 1.5 over random search and above 1 over "
        "synchronous halving, both with p < 0.01 after Holm; not reproduced otherwise."
    ),
)
_WORKERS = 25
_LENGTHS = 3.0


def length(task: Task) -> float:
    """Mean seconds of a full training, over draws from the space."""
    rng = np.random.default_rng(0)
    return float(np.mean([task.curve(task.problem.space.draw(rng))[1].sum() for _ in range(100)]))


def run(quick: bool) -> Result:
    """Checks the claim."""
    baseline = "random search with full trainings; synchronous successive halving"
    seeds = seeds_for(quick, 20)
    try:
        tasks = lcbench_tasks(quick)
    except (ConfigError, MissingExtra) as error:
        return missing(error, baseline)
    methods: dict[str, Any] = {
        "random": Random,
        "halving": lambda: Hyperband(Random(), most=1),
        "asha": lambda: Asha(Random()),
    }
    times: dict[str, list[Any]] = {name: [] for name in methods}
    for task in tasks:
        limit = _LENGTHS * length(task)
        runs = traces(methods, [task], seeds, workers=_WORKERS, seconds=limit)
        goals = targets(runs["random"])
        for name in methods:
            # In units of the limit, so that tasks of any length weigh the same.
            times[name].append(times_to(runs[name], goals, "seconds", limit)[0] / limit)
    spent = {name: np.array(rows) for name, rows in times.items()}
    over_random = speedup(spent["asha"], spent["random"])
    over_halving = speedup(spent["asha"], spent["halving"])
    corrected(over_random, over_halving)
    good = over_random["speedup"] >= 1.5 and over_halving["speedup"] > 1.0
    sure = max(over_random["p"], over_halving["p"]) < 0.01
    verdict: Verdict = "holds at reduced scale" if good and sure else "not reproduced"
    return Result(
        verdict,
        f"With {_WORKERS} workers ASHA is {over_random['speedup']:.2f} times faster than random search and "
        f"{over_halving['speedup']:.2f} times faster than synchronous halving (p = {over_halving['p']:.2g}) at "
        f"reaching what random search ends with.",
        baseline,
        "Wilcoxon signed-rank on log seconds, one-sided, pairs by task and seed, Holm over the two comparisons",
        seeds,
        {
            "tasks": len(tasks),
            "workers": _WORKERS,
            **prefixed("over_random", over_random),
            **prefixed("over_halving", over_halving),
            **{f"{name}_time": math.exp(float(np.log(rows).mean())) for name, rows in spent.items()},
            **{f"{name}_reached": float((rows < 1.0).mean()) for name, rows in spent.items()},
        },
    )
