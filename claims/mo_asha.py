"""Promoting an epsilon-net of every rung finds better fronts than random search, and none worse than by crowding.

Schmucker, Donini, Zafar, Salinas and Archambeau (2021) extend ASHA to several objectives by ranking a rung by fronts and,
within a front, by an epsilon-net, and report larger hypervolumes in the same time than random search and than
scalarisation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from claims.record import Claim, Result, Verdict
from claims.study import Floats, corrected, lcbench_tasks, missing, prefixed, seeds_for
from tunewright.bench.simulate import Task
from tunewright.core.algorithm import Resume, Start, generator
from tunewright.core.events import Ended, Event, Paused, Record, Reported, Resumed, Started
from tunewright.core.problem import Objective
from tunewright.core.trial import Ledger
from tunewright.errors import ConfigError, MissingExtra
from tunewright.numerics.pareto import hypervolume, nondominated
from tunewright.numerics.statistics import wilcoxon
from tunewright.samplers.random import Random
from tunewright.schedulers.asha import Asha

CLAIM = Claim(
    title="ASHA with an epsilon-net dominates more than random search, and no less than ASHA by crowding.",
    paper="Schmucker et al. 2021, arXiv:2106.12639, sections 3 and 4",
    check=(
        "Every third of seventeen trainings of 50 epochs (LCBench, nearest of 500 recorded curves), two objectives: "
        "validation error and logarithm of the recorded seconds per epoch, scaled by what 500 random configurations "
        "range over. One worker, 40 full trainings' worth of epochs, random configurations, eta = 3. Counted: volume "
        "that is not dominated by any measured (error, seconds) within the unit square."
    ),
    rule=(
        "Holds at reduced scale if the mean undominated volume is below that of random search with p < 0.01 after Holm, "
        "and not above that of ASHA by crowding by more than 2 % of the latter; not reproduced otherwise."
    ),
)
_TRAININGS = 40


def undominated(build: Callable[[], Any], task: Task, seed: int, corners: Floats) -> float:
    """Volume of the unit square that a study leaves undominated.

    Args:
        build: Makes the method.
        task: The training.
        seed: Seed of the study.
        corners: Best and worst value of each objective, shape (2, 2).
    """
    fidelity = task.problem.fidelity
    assert fidelity is not None
    name = task.problem.objectives[0]
    problem = replace(task.problem, objectives=(name, Objective("seconds")), seed=seed)
    method, ledger = build(), Ledger(problem)
    state, found, left = method.init(problem), [], _TRAININGS * fidelity.high

    def append(event: Event) -> None:
        nonlocal state
        if ledger.apply(Record(ledger.cursor + 1, 0.0, "", event)):
            state = method.tell(state, (event,))

    while left > 0:
        (action,) = method.ask(state, 1, generator(seed, ledger.decisions))
        if isinstance(action, Start):
            number = len(ledger.trials)
            append(Started(number, action.config, action.until))
        else:
            assert isinstance(action, Resume)
            number = action.trial
            append(Resumed(number, ledger.trials[number].step, action.until))
        trial = ledger.trials[number]
        values, seconds = task.curve(trial.config)
        until = trial.until or fidelity.high
        for step in range(trial.step + 1, until + 1):
            metrics = {name.name: float(values[step - 1]), "seconds": float(np.log(seconds.mean()))}
            append(Reported(number, trial.token, step, metrics))
            found.append(problem.losses(metrics))
            left -= 1
        if until >= fidelity.high:
            append(Ended(number, trial.token, "completed", metrics, until))
        else:
            append(Paused(number, trial.token, until))
    scaled = (np.array(found) - corners[0]) / (corners[1] - corners[0])
    return 1.0 - hypervolume(np.maximum(scaled[nondominated(scaled)], 0.0), np.ones(2))


def corners_of(task: Task) -> Floats:
    """Best and worst loss and logarithmic seconds of random configurations, shape (2, 2)."""
    rng = np.random.default_rng(0)
    rows = []
    for _ in range(500):
        values, seconds = task.curve(task.problem.space.draw(rng))
        losses = task.problem.losses({task.problem.objectives[0].name: float(values[-1])})
        assert losses is not None
        rows.append((losses[0], float(np.log(seconds.mean()))))
    table = np.array(rows)
    return np.array([table.min(axis=0), table.max(axis=0)])


def run(quick: bool) -> Result:
    """Checks the claim."""
    baseline = "random search with full trainings; ASHA that ranks fronts by crowding distance"
    seeds = seeds_for(quick, 10)
    try:
        tasks = lcbench_tasks(False)[:: 9 if quick else 3]
    except (ConfigError, MissingExtra) as error:
        return missing(error, baseline)
    methods: dict[str, Callable[[], Any]] = {
        "net": lambda: Asha(Random(), ranking="epsilon_net"),
        "crowding": lambda: Asha(Random()),
        "random": Random,
    }
    corners = [corners_of(task) for task in tasks]
    left = {
        name: np.array(
            [[undominated(b, t, s, c) for s in seeds] for t, c in zip(tasks, corners, strict=True)]
        )
        for name, b in methods.items()
    }
    mean = {name: float(x.mean()) for name, x in left.items()}
    over_random = {"p": wilcoxon(left["net"].ravel(), left["random"].ravel(), "less")}
    over_crowding = {"p": wilcoxon(left["net"].ravel(), left["crowding"].ravel(), "less")}
    corrected(over_random, over_crowding)
    good = mean["net"] < mean["random"] and over_random["p"] < 0.01 and mean["net"] <= 1.02 * mean["crowding"]
    verdict: Verdict = "holds at reduced scale" if good else "not reproduced"
    return Result(
        verdict,
        f"An epsilon-net leaves {mean['net']:.4f} of the unit square undominated, crowding {mean['crowding']:.4f} "
        f"(p = {over_crowding['p']:.2g}), random search with full trainings {mean['random']:.4f} "
        f"(p = {over_random['p']:.2g}).",
        baseline,
        "Wilcoxon signed-rank on undominated volumes, one-sided, pairs by task and seed, Holm over the two comparisons",
        seeds,
        {
            "tasks": len(tasks),
            **{f"undominated_{name}": value for name, value in mean.items()},
            **prefixed("over_random", over_random),
            **prefixed("over_crowding", over_crowding),
        },
    )
