"""What several claims share: studies over tasks and seeds, and paired comparisons of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from claims.record import Result
from tunewright.bench import tables
from tunewright.bench.simulate import Task, Trace, simulate
from tunewright.errors import ConfigError, MissingExtra
from tunewright.numerics.statistics import bootstrap_interval, holm, wilcoxon

Floats = NDArray[np.float64]
Build = Callable[[], Any]
QUICK_SEEDS = 10


def seeds_for(quick: bool, full: int) -> tuple[int, ...]:
    """Seeds of a run."""
    return tuple(range(QUICK_SEEDS if quick else full))


def missing(error: ConfigError | MissingExtra, baseline: str) -> Result:
    """The result where the data is not at hand."""
    return Result("cannot be checked here", str(error), baseline, "none", ())


def traces(
    methods: Mapping[str, Build], tasks: Sequence[Task], seeds: Sequence[int], **limits: Any
) -> dict[str, list[list[Trace]]]:
    """Every method on every task with every seed: by method, a list per task of a list per seed."""
    return {
        name: [[simulate(build(), task, seed=seed, **limits) for seed in seeds] for task in tasks]
        for name, build in methods.items()
    }


def regrets(runs: list[list[Trace]], tasks: Sequence[Task], evaluations: int) -> Floats:
    """Regret after so many measurements, shape (tasks, seeds)."""
    out = [[t.regret(r.incumbent[evaluations - 1]) for r in rs] for t, rs in zip(tasks, runs, strict=True)]
    return np.array(out, dtype=np.float64)


def targets(runs: list[list[Trace]]) -> list[float]:
    """Per task, the median over seeds of the best loss that a study ends with."""
    return [float(np.median([r.incumbent[-1] for r in rs])) for rs in runs]


def times_to(runs: list[list[Trace]], goals: Sequence[float], clock: str, limit: float) -> Floats:
    """When each study first reached its task's goal, shape (tasks, seeds); ``limit`` for those that never did."""
    out = [
        [min(limit, r.reached(getattr(r, clock), goal)) for r in rs]
        for rs, goal in zip(runs, goals, strict=True)
    ]
    return np.array(out, dtype=np.float64)


def speedup(ours: Floats, theirs: Floats) -> dict[str, float]:
    """How many times sooner, as a geometric mean over all pairs, with a bootstrap interval and a Wilcoxon test.

    Args:
        ours: Times of the method, shape (tasks, seeds).
        theirs: Times of the baseline, same shape.
    """
    gain = np.log(theirs / ours).ravel()
    low, high = bootstrap_interval(gain, np.random.default_rng(0))
    return {
        "speedup": math.exp(float(gain.mean())),
        "speedup_low": math.exp(low),
        "speedup_high": math.exp(high),
        "p": wilcoxon(np.log(ours).ravel(), np.log(theirs).ravel(), "less"),
    }


def lower(ours: Floats, theirs: Floats) -> dict[str, float]:
    """Mean regret of both, share of tasks won, and a Wilcoxon test of all pairs; shapes (tasks, seeds)."""
    return {
        "regret": float(ours.mean()),
        "baseline_regret": float(theirs.mean()),
        "tasks_won": float((ours.mean(axis=1) < theirs.mean(axis=1)).mean()),
        "p": wilcoxon(ours.ravel(), theirs.ravel(), "less"),
    }


def corrected(*comparisons: dict[str, float]) -> None:
    """Replaces the p-values of several comparisons by Holm's."""
    for comparison, p in zip(comparisons, holm([c["p"] for c in comparisons]), strict=True):
        comparison["p"] = float(p)


def prefixed(prefix: str, figures: Mapping[str, float]) -> dict[str, float | int | str]:
    """The same figures under longer names."""
    return {f"{prefix}_{k}": v for k, v in figures.items()}


def curve_tasks(quick: bool) -> list[Task]:
    """The 81-epoch tasks."""
    return [tables.curve_task(n) for n in (tables.CURVES[:3] if quick else tables.CURVES)]


def point_tasks(quick: bool) -> list[Task]:
    """The tasks without epochs."""
    return [tables.point_task(n) for n in (tables.POINTS[::3] if quick else tables.POINTS)]


def lcbench_tasks(quick: bool) -> list[Task]:
    """The LCBench tasks."""
    found = tables.lcbench_names()
    return [tables.lcbench_task(n) for n in (found[::4] if quick else found)]
