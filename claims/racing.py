"""Racing over seeds finds as good a configuration as fixed replicates do, with half the evaluations.

Birattari et al. (2002) race candidates over instances and report that racing finds better configurations than measuring
all of them equally often with as many evaluations; Hutter et al. (2011, SMAC) build their intensification on the same idea.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from claims.record import Claim, Result, Verdict
from claims.study import corrected, lower, missing, point_tasks, prefixed, seeds_for
from tunewright.bench.simulate import Task
from tunewright.core.algorithm import Start, generator
from tunewright.core.events import Ended, Record, Started
from tunewright.core.trial import Ledger
from tunewright.errors import ConfigError
from tunewright.numerics.statistics import bootstrap_interval
from tunewright.samplers.tpe import Tpe
from tunewright.schedulers.racing import Racing

CLAIM = Claim(
    title="Racing over seeds finds as good a configuration as five fixed replicates, with half the evaluations.",
    paper="Birattari et al. 2002, GECCO, section 4; Hutter et al. 2011, LION 5",
    check=(
        "Eight trainings (forests fitted to 3,000 real runs each) with normal noise of three tenths of the gap between "
        "the median and the best loss, independent for every configuration and seed; TPE proposes, 200 evaluations in "
        "all; what counts is the loss of the final choice without noise."
    ),
    rule=(
        "Holds at reduced scale if mean regret after 200 evaluations is lower than that of five replicates of every "
        "configuration with p < 0.01 after Holm's correction, and after 100 evaluations exceeds that of five replicates "
        "after 200 by no more than 0.02 (upper end of the 95 % bootstrap interval); not reproduced otherwise."
    ),
)
_EVALUATIONS, _FIXED, _NOISE, _MARGIN = 200, 5, 0.3, 0.02


class Noisy:
    """A task whose results depend on a seed."""

    def __init__(self, task: Task, seed: int) -> None:
        self.task = task
        self.seed = seed
        self.sd = _NOISE * (task.usual - task.best)

    def true(self, config: Mapping[str, Any]) -> float:
        """Loss without noise."""
        return float(self.task.curve(config)[0][-1]) * self.task.problem.objectives[0].sign

    def measured(self, config: Mapping[str, Any], number: int) -> float:
        """Loss with one of the seeds."""
        key = zlib.crc32(repr(sorted(config.items())).encode())
        return self.true(config) + self.sd * float(
            np.random.default_rng([self.seed, number, key]).standard_normal()
        )


def search(noisy: Noisy, algorithm: Any, evaluations: int, replicates: int) -> tuple[Ledger, list[Any]]:
    """Runs a method; every trial is the mean of so many seeds.

    Returns:
        The folded log, and the method's state after every trial as ``(evaluations, incumbent)`` where it has one.
    """
    problem = replace(noisy.task.problem, seed=noisy.seed)
    ledger, state = Ledger(problem), algorithm.init(problem)
    seen: dict[str, int] = {}
    incumbents: list[Any] = []
    while len(ledger.trials) * replicates < evaluations:
        (action,) = algorithm.ask(state, 1, generator(problem.seed, ledger.decisions))
        assert isinstance(action, Start)
        number, key = len(ledger.trials), repr(sorted(action.config.items()))
        first = seen.get(key, 0)
        seen[key] = first + replicates
        loss = float(np.mean([noisy.measured(action.config, first + i) for i in range(replicates)]))
        goal = problem.objectives[0]
        for event in (
            Started(number, action.config, parent=action.parent, why=action.why),
            Ended(number, ledger.cursor + 1, "completed", {goal.name: goal.sign * loss}),
        ):
            ledger.apply(Record(ledger.cursor + 1, 0.0, "", event))
            state = algorithm.tell(state, [event])
        incumbents.append(getattr(state, "incumbent", None))
    return ledger, incumbents


def choice(ledger: Ledger) -> int:
    """The trial with the lowest measured loss."""
    problem = ledger.problem
    losses = [problem.losses(t.metrics) for t in ledger.trials]
    return int(np.argmin([np.inf if x is None else x[0] for x in losses]))


def run(quick: bool) -> Result:
    """Checks the claim."""
    baseline = f"{_FIXED} replicates of every configuration with the same sampler; also a single one"
    seeds = seeds_for(quick, 15)
    try:
        tasks = point_tasks(quick)
    except ConfigError as error:
        return missing(error, baseline)
    names = ("racing", "racing_half", "fixed", "single")
    out = {n: np.empty((len(tasks), len(seeds))) for n in names}
    for i, task in enumerate(tasks):
        for j, seed in enumerate(seeds):
            noisy = Noisy(task, seed)
            raced, incumbents = search(noisy, Racing(Tpe()), _EVALUATIONS, 1)
            fixed, _ = search(noisy, Tpe(), _EVALUATIONS, _FIXED)
            single, _ = search(noisy, Tpe(), _EVALUATIONS, 1)
            for name, ledger, trial in (
                ("racing", raced, incumbents[-1]),
                ("racing_half", raced, incumbents[_EVALUATIONS // 2 - 1]),
                ("fixed", fixed, choice(fixed)),
                ("single", single, choice(single)),
            ):
                out[name][i, j] = task.regret(noisy.true(ledger.trials[trial].config))
    equal, alone = lower(out["racing"], out["fixed"]), lower(out["racing"], out["single"])
    corrected(equal, alone)
    excess = (out["racing_half"] - out["fixed"]).ravel()
    low, high = bootstrap_interval(excess, np.random.default_rng(0))
    good = equal["p"] < 0.01 and high <= _MARGIN
    verdict: Verdict = "holds at reduced scale" if good else "not reproduced"
    return Result(
        verdict,
        f"After {_EVALUATIONS} evaluations the choice has a mean regret of {equal['regret']:.3f} with racing, "
        f"{equal['baseline_regret']:.3f} with {_FIXED} replicates (p = {equal['p']:.2g}) and "
        f"{alone['baseline_regret']:.3f} with one (p = {alone['p']:.2g}); racing with half the evaluations "
        f"{out['racing_half'].mean():.3f}, {excess.mean():+.3f} [{low:+.3f}, {high:+.3f}] against {_FIXED} replicates.",
        baseline,
        "Wilcoxon signed-rank on regret, one-sided, Holm over the two, and a bootstrap interval; pairs by task and seed",
        seeds,
        {
            "tasks": len(tasks),
            "evaluations": _EVALUATIONS,
            **prefixed("fixed", equal),
            **prefixed("single", alone),
            "half_regret": float(out["racing_half"].mean()),
            "half_excess": float(excess.mean()),
            "half_excess_low": low,
            "half_excess_high": high,
        },
    )
