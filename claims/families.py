"""Families of related tasks for claims on transfer: one task is searched, the recorded results of the others are given.

LCBench (17 data sets, 7 parameters, error after the last epoch, nearest of 500 recorded configurations) and a grid of
support vector machines (25 data sets, 288 settings, a conditional space; Wistuba et al. 2015).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from claims.study import Floats, regrets
from tunewright.bench import tables
from tunewright.bench.simulate import Task, Trace, simulate
from tunewright.core.domains import Choice, Int, Order
from tunewright.core.problem import Objective, Problem
from tunewright.core.space import Space
from tunewright.errors import ConfigError, MissingExtra
from tunewright.models.sources import Source

RECORDED = 100
Build = Callable[[tuple[Source, ...]], Any]


@functools.cache
def _svm() -> Any:
    try:
        import pandas
    except ImportError:
        raise MissingExtra(
            "The tables need pandas and pyarrow; got none. Install tunewright[frames]."
        ) from None
    path = tables.folder("data") / "svm_grid" / "svm.parquet"
    if not path.exists():
        raise ConfigError("The tables must be on this machine; got no svm_grid. Set TUNEWRIGHT_DATA.")
    return pandas.read_parquet(path)


def _key(config: Mapping[str, Any]) -> tuple[Any, ...]:
    return (config["kernel"], config["C"], config.get("gamma"), config.get("degree"))


def svm_tasks() -> list[Task]:
    """One task per data set: error of a support vector machine over 288 settings.

    Raises:
        ConfigError: If the files are not there.
        MissingExtra: If pandas is not installed.
    """
    frame = _svm()
    rbf = frame[frame["kernel"] == "rbf"]
    space = Space(
        C=Order(sorted(float(v) for v in frame["C"].unique())),
        kernel=Choice(
            {
                "linear": None,
                "poly": {"degree": Int(2, 10)},
                "rbf": {"gamma": Order(sorted(float(v) for v in rbf["gamma"].unique()))},
            }
        ),
    )
    found = []
    for name, rows in frame.groupby("dataset", observed=True):
        known: dict[tuple[Any, ...], float] = {}
        for kernel, c, gamma, degree, accuracy in rows[
            ["kernel", "C", "gamma", "degree", "accuracy"]
        ].itertuples(index=False):
            config: dict[str, Any] = {"kernel": str(kernel), "C": float(c)}
            if kernel == "rbf":
                config["gamma"] = float(gamma)
            if kernel == "poly":
                config["degree"] = int(degree)
            known[_key(config)] = 1.0 - float(accuracy)
        values = np.array(list(known.values()))
        best, usual = float(values.min()), float(np.median(values))
        if usual - best < 1e-6:
            continue
        found.append(_task(f"svm_{name}", space, known, best, usual))
    return found


def _task(name: str, space: Space, known: dict[tuple[Any, ...], float], best: float, usual: float) -> Task:
    one = np.ones(1)
    return Task(
        name,
        Problem(space, (Objective("loss"),)),
        lambda c: (np.array([known[_key(c)]]), one),
        best,
        usual,
    )


def lcbench_tasks() -> list[Task]:
    """One task per data set: validation error after the last epoch.

    Raises:
        ConfigError: If the files are not there.
        MissingExtra: If pandas is not installed.
    """
    found = []
    for name in tables.lcbench_names():
        full = tables.lcbench_task(name)
        problem = Problem(tables.LCBENCH, (Objective("loss", unit="%"),))
        draws = [tables.LCBENCH.draw(np.random.default_rng(i)) for i in range(300)]
        values = np.array([_last(full, c) for c in draws])
        best, usual = min(full.best, float(values.min())), float(np.median(values))
        found.append(Task(f"lcbench_{name}", problem, functools.partial(_end, full), best, usual))
    return found


def _end(task: Task, config: Mapping[str, Any]) -> tuple[Floats, Floats]:
    return np.array([_last(task, config)]), np.ones(1)


def _last(task: Task, config: Mapping[str, Any]) -> float:
    return float(task.curve(config)[0][-1])


def recorded(task: Task, seed: int) -> Source:
    """Random search on a task, as an earlier study of 100 trials."""
    rng = np.random.default_rng([seed, sum(task.name.encode())])
    configs = [task.problem.space.draw(rng) for _ in range(RECORDED)]
    return Source(task.name, tuple(configs), tuple(float(task.curve(c)[0][-1]) for c in configs))


def families(quick: bool, every: int) -> list[tuple[Task, tuple[Source, ...]]]:
    """Every so many tasks of both families, each with the recorded results of all other tasks of its family.

    Args:
        quick: Only three tasks of each.
        every: Take each so-many-th task as a target.

    Raises:
        ConfigError: If the files are not there.
        MissingExtra: If pandas is not installed.
    """
    out: list[tuple[Task, tuple[Source, ...]]] = []
    for tasks in (lcbench_tasks(), svm_tasks()):
        sources = [recorded(t, 0) for t in tasks]
        targets = list(range(0, len(tasks), every))
        out += [
            (tasks[i], tuple(s for j, s in enumerate(sources) if j != i))
            for i in (targets[:2] if quick else targets)
        ]
    return out


def leave_one_out(
    methods: Mapping[str, Build],
    pairs: Sequence[tuple[Task, tuple[Source, ...]]],
    seeds: Sequence[int],
    trials: int,
) -> dict[str, Floats]:
    """Regret of every method after ``trials`` trials, shape (tasks, seeds), by method."""
    tasks = [task for task, _ in pairs]
    out = {}
    for name, build in methods.items():
        runs: list[list[Trace]] = [
            [simulate(build(sources), task, seed=seed, trials=trials) for seed in seeds]
            for task, sources in pairs
        ]
        out[name] = np.stack([regrets(runs, tasks, n) for n in (min(8, trials), trials)])
    return out


CHECK = (
    "Every second data set of two families (LCBench, 7 parameters; support vector machines, 288 settings) is searched "
    "while the other data sets of its family, 16 or 24, give 100 random results each; "
)
TEST = "Wilcoxon signed-rank on regret, one-sided, pairs by task and seed, Holm over the comparisons"
