"""Delays add to the regret of batched exploration; they do not multiply it as they do for confidence bounds.

Vakili, Ahmed, Bernacchia and Pike-Burke (2023) bound the regret of batched pure exploration under stochastic delays by that
without delays plus the mean delay, where a bound of GP-UCB-SDF multiplies the delay by the information gain.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from claims.record import Claim, Result, Verdict
from claims.study import seeds_for
from tunewright.bench.functions import function_task
from tunewright.bench.simulate import Task
from tunewright.core.algorithm import generator
from tunewright.core.events import Ended, Started
from tunewright.models import gp as model
from tunewright.models.acquisition import lower_confidence_bound
from tunewright.numerics.statistics import wilcoxon
from tunewright.samplers.delayed import Delayed

CLAIM = Claim(
    title="Rounds of exploration with elimination lose less regret per step of delay than confidence bounds.",
    paper="Vakili et al. 2023, arXiv:2302.00392, Theorem 1 and section 5",
    check=(
        "Branin and Hartmann functions, 100 trials, one begun per step, geometric delays of mean 1, 10 and 30 steps; "
        "cumulative regret against GP-UCB-SDF, which leaves out results that are awaited."
    ),
    rule=(
        "Holds at reduced scale if the slope of cumulative regret by mean delay is lower than that of GP-UCB-SDF with "
        "p < 0.05 (Wilcoxon, pairs by task and seed); not reproduced otherwise."
    ),
)
_TRIALS = 100
_DELAYS = (1.0, 10.0, 30.0)


class _Sdf:
    """GP-UCB on the results that arrived, with the deviation of all trials begun (Verma et al. 2022)."""

    def __init__(self, task: Task, seed: int) -> None:
        self.space, self.seed = task.problem.space, seed
        self.columns = model.columns_of(self.space.layout.levels, self.space.layout.categorical)
        self.hyper: model.Hyper | None = None
        self.tuned = 0

    def ask(self, rows: Any, losses: Any, awaited: Any, step: int) -> Any:
        """Where to go, as a row of codes."""
        draws = self.space.sample(generator(self.seed, step), 400)
        if len(losses) < 5:
            return draws[0]
        if self.hyper is None or len(losses) >= 1.2 * self.tuned:
            self.hyper = model.tune(self.columns, *model.for_tuning(rows, losses))
            self.tuned = len(losses)
        gp = model.update(self.columns, self.hyper, rows, losses)
        if len(awaited):
            gp = model.condition_on(gp, awaited)
        return draws[int(np.argmin(lower_confidence_bound(*model.predict(gp, draws), 1.5**2)))]


def _regret(task: Task, seed: int, mean: float, ours: bool) -> float:
    """Mean regret over the trials of a study, in units of the task."""
    late = np.random.default_rng(seed).geometric(1.0 / mean, _TRIALS)
    space = task.problem.space
    delayed = Delayed(horizon=_TRIALS)
    state = delayed.init(task.problem)
    sdf = _Sdf(task, seed)
    rows, losses = np.empty((0, space.d)), np.empty(0)
    arrived = np.zeros(_TRIALS, dtype=bool)
    for i in range(_TRIALS):
        if ours:
            (start,) = delayed.ask(state, 1, generator(seed, i))
            row = space.encode(start.config)  # type: ignore[union-attr]
        else:
            known = arrived[:i]
            row = sdf.ask(rows[known], losses[known], rows[~known], i)
        config = space.decode(row)
        rows = np.vstack([rows, row])
        losses = np.append(losses, float(task.curve(config)[0][0]))
        state = delayed.tell(state, [Started(i, config)])
        for j in np.flatnonzero(~arrived[: i + 1] & (np.arange(i + 1) + late[: i + 1] <= i + 1)):
            arrived[j] = True
            state = delayed.tell(state, [Ended(int(j), 0, "completed", {"loss": losses[j]})])
    return float(np.mean((losses - task.best) / (task.usual - task.best)))


def run(quick: bool) -> Result:
    """Checks the claim."""
    seeds = seeds_for(quick, 10)
    tasks = [function_task(n) for n in (("branin",) if quick else ("branin", "hartmann6"))]
    delays = _DELAYS[::2] if quick else _DELAYS
    found: dict[str, Any] = {}
    for name, ours in (("delayed", True), ("sdf", False)):
        found[name] = np.array([[[_regret(t, s, m, ours) for m in delays] for s in seeds] for t in tasks])
    slopes = {n: np.polyfit(delays, v.reshape(-1, len(delays)).T, 1)[0] for n, v in found.items()}
    p = wilcoxon(slopes["delayed"], slopes["sdf"], "less")
    mean = {n: float(v.mean()) for n, v in slopes.items()}
    good = mean["delayed"] < mean["sdf"] and p < 0.05
    verdict: Verdict = "holds at reduced scale" if good else "not reproduced"
    by = {n: v.mean(axis=(0, 1)) for n, v in found.items()}
    return Result(
        verdict,
        f"Mean regret per trial grows by {mean['delayed']:.4f} per step of delay, with GP-UCB-SDF by {mean['sdf']:.4f} "
        f"(p = {p:.2g}); it is {by['delayed'][0]:.2f} and {by['delayed'][-1]:.2f} at the least and the longest delay, "
        f"with GP-UCB-SDF {by['sdf'][0]:.2f} and {by['sdf'][-1]:.2f}.",
        "GP-UCB-SDF with the same process and width",
        "Wilcoxon signed-rank on the slope of regret by mean delay, one-sided, pairs by task and seed",
        seeds,
        {
            "trials": _TRIALS,
            "p": p,
            **{f"slope_{n}": v for n, v in mean.items()},
            **{f"{n}_at_{m:g}": float(x) for n, v in by.items() for m, x in zip(delays, v, strict=True)},
        },
    )
