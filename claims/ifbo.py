"""Freeze-thaw with the learned predictor finds better trainings than racing and random search at equal epochs.

Rakotoarison, Adriaensen, Mallik, Garibov, Bergman and Hutter (2024) report the state of the art of three benchmark families
for ifBO: the network in its context and a random horizon and target at every decision.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from claims.record import Claim, Result, Verdict
from claims.study import corrected, curve_tasks, lower, missing, prefixed, traces
from tunewright.errors import ConfigError
from tunewright.samplers.random import Random
from tunewright.schedulers.asha import Asha
from tunewright.schedulers.hyperband import Hyperband
from tunewright.schedulers.ifbo import Ifbo

CLAIM = Claim(
    title="Freeze-thaw with a learned predictor beats ASHA, Hyperband and random search at equal epochs.",
    paper="Rakotoarison et al. 2024, ICML, arXiv:2404.16795, Section 5.2",
    check=(
        "Five trainings of 81 epochs (perceptrons and boosted trees, forests fitted to 1,200 to 3,000 real runs each), one "
        "worker, 8 full trainings' worth of epochs. Regret of the best validation loss after any epoch, 0 at the best "
        "known and 1 at that of a median random configuration. ASHA and Hyperband promote random configurations."
    ),
    rule=(
        "Holds at reduced scale if ifBO's mean regret after 8 trainings' worth of epochs is lower than that of all three, "
        "each with p < 0.05 after Holm; not reproduced otherwise."
    ),
)
_AT = (81, 4 * 81, 8 * 81)


def run(quick: bool) -> Result:
    """Checks the claim."""
    baseline = "ASHA, Hyperband and random search, random configurations"
    seeds = tuple(range(1 if quick else 10))
    try:
        tasks = curve_tasks(quick)
    except ConfigError as error:
        return missing(error, baseline)
    methods: dict[str, Any] = {
        "ifbo": lambda: Ifbo(Random()),
        "asha": lambda: Asha(Random()),
        "hyperband": lambda: Hyperband(Random()),
        "random": Random,
    }
    runs = traces(methods, tasks, seeds, steps=_AT[1] if quick else _AT[-1])
    budget = _AT[1] if quick else _AT[-1]
    regret = {
        name: np.array(
            [
                [float(t.regret(r.best_by(r.steps, budget))) for r in rs]
                for t, rs in zip(tasks, found, strict=True)
            ]
        )
        for name, found in runs.items()
    }
    compared = {name: lower(regret["ifbo"], regret[name]) for name in list(methods)[1:]}
    corrected(*compared.values())
    good = all(c["regret"] < c["baseline_regret"] and c["p"] < 0.05 for c in compared.values())
    verdict: Verdict = "holds at reduced scale" if good else "not reproduced"
    course = {
        f"{name}_at_{at // 81}": float(
            np.mean(
                [[t.regret(r.best_by(r.steps, at)) for r in rs] for t, rs in zip(tasks, found, strict=True)]
            )
        )
        for name, found in runs.items()
        for at in _AT
        if at <= budget
    }
    return Result(
        verdict,
        f"Mean regret {compared['asha']['regret']:.3f} against {compared['asha']['baseline_regret']:.3f} of ASHA, "
        f"{compared['hyperband']['baseline_regret']:.3f} of Hyperband and {compared['random']['baseline_regret']:.3f} of random "
        f"search (largest p = {max(c['p'] for c in compared.values()):.2g}).",
        baseline,
        "Wilcoxon signed-rank on regrets, one-sided, pairs by task and seed, Holm over three comparisons",
        seeds,
        {
            "tasks": len(tasks),
            **course,
            **{k: v for name, c in compared.items() for k, v in prefixed(f"over_{name}", c).items()},
        },
    )
