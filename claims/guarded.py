"""Where learning curves cross, auditing ASHA trains as well as random search; where they do not, nearly as well as ASHA.

Early stopping rests on early results that predict late ones. Li et al. (2018) hedge against the opposite with the less
aggressive brackets of Hyperband, at fixed shares. Guarded spends a fifth of its steps on trainings to the end, and stops
comparing at levels whose order they contradict.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from claims.record import Claim, Result, Verdict
from claims.study import Floats, curve_tasks, lower, missing, prefixed, seeds_for, traces
from tunewright.bench.simulate import Task, Trace
from tunewright.core.domains import Float
from tunewright.core.problem import Fidelity, Problem
from tunewright.core.space import Space
from tunewright.errors import ConfigError
from tunewright.numerics.statistics import wilcoxon
from tunewright.samplers.random import Random
from tunewright.schedulers.asha import Asha
from tunewright.schedulers.guarded import Guarded
from tunewright.schedulers.hyperband import Hyperband

CLAIM = Claim(
    title="ASHA with audits stands crossing curves, and costs little where curves do not cross.",
    paper="the check is ours; the danger and the hedge against it: Li et al. 2018, JMLR 18(185), section 3",
    check=(
        "Three made tasks in three parameters whose best configurations begin as the worst, the order turning after "
        "10, 20 and 40 of 81 epochs; five trainings of 81 epochs (forests fitted to real runs). One worker, 50 full "
        "trainings' worth of epochs, random configurations. Counted: final loss of the best completed training, as "
        "regret. ASHA, Hyperband and random search run beside it."
    ),
    rule=(
        "Holds if on the crossing tasks its mean regret is below half of ASHA's (Wilcoxon, p < 0.01) and at most 0.05 "
        "above that of random search, and on the five trainings at most 0.03 above ASHA's; not reproduced otherwise."
    ),
)
_HIGH = 81
_BUDGET = 50 * _HIGH
_TURNS = (20, 40, 80)


def crossing(turn: int) -> Task:
    """A task whose losses are mirrored at first; the order of any two configurations turns half-way to ``turn`` steps."""
    done = np.minimum(np.arange(1, _HIGH + 1) / turn, 1.0)

    def curve(config: Mapping[str, Any]) -> tuple[Floats, Floats]:
        loss = sum((v - 0.3) ** 2 for v in config.values()) / 1.47
        return done * loss + (1.0 - done) * (2.0 - loss), np.ones(_HIGH)

    space = Space({f"x{i}": Float(0, 1) for i in range(3)})
    return Task(f"crossing_{turn // 2}", Problem(space, fidelity=Fidelity(_HIGH)), curve, 0.0, 0.25)


def final(task: Task, trace: Trace) -> float:
    """Regret of the best completed training; 1 without one."""
    best = trace.ledger.best
    losses = task.problem.losses(best.metrics) if best is not None else None
    return float(task.regret(math.inf if losses is None else losses[0]))


def run(quick: bool) -> Result:
    """Checks the claim."""
    baseline = "ASHA, Hyperband and random search with full trainings"
    seeds = seeds_for(quick, 20)
    try:
        tame = curve_tasks(quick)
    except ConfigError as error:
        return missing(error, baseline)
    methods: dict[str, Any] = {
        "guarded": lambda: Guarded(Random()),
        "asha": lambda: Asha(Random()),
        "hyperband": lambda: Hyperband(Random()),
        "random": Random,
    }
    found: dict[str, dict[str, Floats]] = {}
    for kind, tasks in (("crossing", [crossing(t) for t in _TURNS]), ("tame", tame)):
        runs = traces(methods, tasks, seeds, steps=_BUDGET)
        found[kind] = {
            name: np.array([[final(t, r) for r in rows] for t, rows in zip(tasks, by_task, strict=True)])
            for name, by_task in runs.items()
        }
    hard, easy = found["crossing"], found["tame"]
    against = lower(hard["guarded"], hard["asha"])
    means = {f"{kind}_{name}": float(x.mean()) for kind, by in found.items() for name, x in by.items()}
    good = (
        means["crossing_guarded"] < 0.5 * means["crossing_asha"]
        and against["p"] < 0.01
        and means["crossing_guarded"] <= means["crossing_random"] + 0.05
        and means["tame_guarded"] <= means["tame_asha"] + 0.03
    )
    verdict: Verdict = "holds" if good else "not reproduced"
    return Result(
        verdict,
        f"Where curves cross, the regret of the best full training is {means['crossing_guarded']:.3f}; ASHA's is "
        f"{means['crossing_asha']:.3f}, Hyperband's {means['crossing_hyperband']:.3f}, random search's "
        f"{means['crossing_random']:.3f}. On real trainings it is {means['tame_guarded']:.3f}; ASHA's is "
        f"{means['tame_asha']:.3f}, Hyperband's {means['tame_hyperband']:.3f}, random search's {means['tame_random']:.3f}.",
        baseline,
        "Wilcoxon signed-rank on regrets, one-sided, pairs by task and seed",
        seeds,
        {
            **means,
            **prefixed("over_asha_crossing", against),
            "p_worse_than_asha_tame": wilcoxon(easy["guarded"].ravel(), easy["asha"].ravel(), "greater"),
        },
    )
