"""Stopping rules save a good part of the training without losing the result.

Golovin et al. (2017) report that automated stopping reaches the same result with much less training; the signed-rank rule
promises the same for averages over instances (folds, seeds, problems), where no curve falls.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from claims.record import Claim, Result, Verdict
from claims.study import Floats, curve_tasks, missing, seeds_for, traces
from tunewright.bench.simulate import Task, Trace
from tunewright.core.domains import Float
from tunewright.core.problem import Fidelity, Problem
from tunewright.core.space import Space
from tunewright.errors import ConfigError
from tunewright.numerics.statistics import bootstrap_interval
from tunewright.samplers.random import Random
from tunewright.schedulers.median import Median
from tunewright.schedulers.patience import Patience
from tunewright.schedulers.percentile import Percentile
from tunewright.schedulers.wilcoxon import Wilcoxon

CLAIM = Claim(
    title="Stopping rules save training without losing the result.",
    paper="Golovin et al. 2017, KDD, section 3.2.2; Goodfellow et al. 2016, Algorithm 7.1; Wilcoxon 1945",
    check=(
        "Sixty random configurations per study, each trained for 81 epochs unless stopped, on five trainings (forests "
        "fitted to real runs): median, best quarter, and patience of 10 epochs. For the signed-rank rule, averages over "
        "50 instances of a made problem whose instances differ more than its configurations. Counted: epochs or "
        "instances paid, and regret of the best completed trial, for the made problem by its true average."
    ),
    rule=(
        "Holds at reduced scale if every rule pays at most 75 % of the steps and the upper end of the 95 % bootstrap "
        "interval of its mean regret minus that without stopping is at most 0.05; not reproduced otherwise."
    ),
)
_TRIALS = 60
_INSTANCES = 50


def instances() -> Task:
    """Averages over instances: a bowl, plus what the instance adds for everybody and for the configuration."""
    rng = np.random.default_rng(5)
    common, slopes = rng.normal(0.0, 2.0, _INSTANCES), rng.normal(0.0, 0.5, (_INSTANCES, 3))

    def curve(config: Mapping[str, Any]) -> tuple[Floats, Floats]:
        x = np.array(list(config.values()))
        return ((x - 0.3) ** 2).sum() + common + slopes @ x, np.ones(_INSTANCES)

    space = Space({f"x{i}": Float(0, 1) for i in range(3)})
    problem = Problem(space, fidelity=Fidelity(_INSTANCES))
    draws = [float(curve(space.draw(rng))[0].mean()) for _ in range(20_000)]
    return Task("instances", problem, curve, min(draws), float(np.median(draws)))


def by_average(task: Task, trace: Trace) -> float:
    """Regret of the completed trial with the lowest average."""
    done = [task.curve(t.config)[0].mean() for t in trace.ledger.trials if t.status == "completed"]
    return float(task.regret(min(done, default=math.inf)))


def by_end(task: Task, trace: Trace) -> float:
    """Regret of the best completed trial."""
    best = trace.ledger.best
    losses = task.problem.losses(best.metrics) if best is not None else None
    return float(task.regret(math.inf if losses is None else losses[0]))


def run(quick: bool) -> Result:
    """Checks the claim."""
    baseline = "the same number of random configurations, none stopped"
    seeds = seeds_for(quick, 15)
    try:
        tasks = curve_tasks(quick)
    except ConfigError as error:
        return missing(error, baseline)
    curves: dict[str, Any] = {
        "nothing": Random,
        "median": lambda: Median(Random()),
        "percentile": lambda: Percentile(Random()),
        "patience": lambda: Patience(Random(), patience=10),
    }
    averages: dict[str, Any] = {"nothing": Random, "wilcoxon": lambda: Wilcoxon(Random())}
    figures: dict[str, float | int | str] = {}
    good = True
    for methods, group, judge in ((curves, tasks, by_end), (averages, [instances()], by_average)):
        runs = traces(methods, group, seeds, trials=_TRIALS)
        regret = {
            name: np.array([[judge(t, r) for r in rows] for t, rows in zip(group, by_task, strict=True)])
            for name, by_task in runs.items()
        }
        for name in methods:
            if name == "nothing":
                continue
            full = _TRIALS * (group[0].problem.fidelity or Fidelity(1)).high
            paid = float(np.mean([len(r.losses) for rows in runs[name] for r in rows])) / full
            gap = (regret[name] - regret["nothing"]).ravel()
            low, high = bootstrap_interval(gap, np.random.default_rng(0))
            figures |= {f"{name}_paid": paid, f"{name}_gap": float(gap.mean())}
            figures |= {f"{name}_gap_low": low, f"{name}_gap_high": high}
            good &= paid <= 0.75 and high <= 0.05
    verdict: Verdict = "holds at reduced scale" if good else "not reproduced"
    told = "; ".join(
        f"{name} pays {float(figures[f'{name}_paid']):.0%}, regret {float(figures[f'{name}_gap']):+.3f}"
        for name in ("median", "percentile", "patience", "wilcoxon")
    )
    return Result(
        verdict,
        f"Against training everything to the end: {told}.",
        baseline,
        "95 % percentile-bootstrap interval of the mean difference in regret, pairs by task and seed",
        seeds,
        figures,
    )
