"""PASHA finds what ASHA finds in less time, because it trains longer only while that still changes the ranking.

Bohdal, Balles, Wistuba, Ermis, Archambeau and Zappella (2023) let ASHA's longest training grow on demand. With 256
configurations and 4 workers they report 1.5 to over 10 times shorter searches than ASHA's on NASBench201, PD1 and LCBench at
about the same accuracy after retraining; they note that the gain is smaller where trainings are short, as on LCBench.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from claims.record import Claim, Result, Verdict
from claims.study import (
    Floats,
    curve_tasks,
    lcbench_tasks,
    lower,
    missing,
    prefixed,
    seeds_for,
    speedup,
    traces,
)
from tunewright.bench.simulate import Task, Trace
from tunewright.errors import ConfigError, MissingExtra
from tunewright.samplers.random import Random
from tunewright.schedulers.asha import Asha
from tunewright.schedulers.pasha import Pasha

CLAIM = Claim(
    title="PASHA is faster than ASHA and finds as good a configuration.",
    paper="Bohdal et al. 2023, ICLR, arXiv:2207.06940, section 5, Tables 1 to 4",
    check=(
        "Seventeen trainings of 50 epochs (LCBench) and five of 81 (forests fitted to real runs), 256 random configurations, "
        "4 workers on a virtual clock, eta = 3. Counted: virtual seconds until all is done, PASHA's training of its best "
        "configuration to the end included, and the best loss of a full training."
    ),
    rule=(
        "Holds at reduced scale if the geometric mean speed-up is at least 1.5 with p < 0.01 and the mean regret is not more "
        "than 0.02 above ASHA's; not reproduced otherwise."
    ),
)
_CONFIGURATIONS = 256
_WORKERS = 4


def finals(runs: list[list[Trace]], tasks: list[Task]) -> Floats:
    """Regret of the best full training of each study, shape (tasks, seeds)."""
    return np.array(
        [
            [
                float(
                    task.regret(min(t.metrics["loss"] for t in run.ledger.trials if t.status == "completed"))
                )
                for run in row
            ]
            for task, row in zip(tasks, runs, strict=True)
        ]
    )


def run(quick: bool) -> Result:
    """Checks the claim."""
    baseline = "ASHA with the same configurations"
    seeds = seeds_for(quick, 10)[: 4 if quick else None]
    try:
        curves, lcbench = curve_tasks(quick), lcbench_tasks(quick)
    except (ConfigError, MissingExtra) as error:
        return missing(error, baseline)
    tasks = [*curves, *lcbench]
    methods: dict[str, Any] = {"asha": lambda: Asha(Random()), "pasha": lambda: Pasha(Random())}
    runs = traces(methods, tasks, seeds, trials=64 if quick else _CONFIGURATIONS, workers=_WORKERS)
    seconds = {n: np.array([[t.seconds[-1] for t in row] for row in rows]) for n, rows in runs.items()}
    epochs = {n: np.array([[len(t.seconds) for t in row] for row in rows]) for n, rows in runs.items()}
    gain = speedup(seconds["pasha"], seconds["asha"])
    saved = speedup(epochs["pasha"], epochs["asha"])
    end = {n: finals(rows, tasks) for n, rows in runs.items()}
    loss = lower(end["pasha"], end["asha"])
    close = loss["regret"] <= loss["baseline_regret"] + 0.02
    good = gain["speedup"] >= 1.5 and gain["p"] < 0.01 and close
    verdict: Verdict = "holds at reduced scale" if good else "not reproduced"
    k = len(curves)
    return Result(
        verdict,
        f"PASHA is {gain['speedup']:.2f} times as fast as ASHA (95 % interval {gain['speedup_low']:.2f} to "
        f"{gain['speedup_high']:.2f}) and pays {saved['speedup']:.2f} times fewer epochs; its final regret is {loss['regret']:.3f}, "
        f"ASHA's {loss['baseline_regret']:.3f}.",
        baseline,
        "Wilcoxon signed-rank on log seconds, one-sided, pairs by task and seed; bootstrap interval of the mean log ratio",
        seeds,
        {
            "tasks": len(tasks),
            **prefixed("seconds", gain),
            **prefixed("epochs", saved),
            **prefixed("final", loss),
            "speedup_curves": speedup(seconds["pasha"][:k], seconds["asha"][:k])["speedup"],
            "speedup_lcbench": speedup(seconds["pasha"][k:], seconds["asha"][k:])["speedup"],
            "regret_curves": float(end["pasha"][:k].mean()),
            "regret_curves_asha": float(end["asha"][:k].mean()),
            "regret_lcbench": float(end["pasha"][k:].mean()),
            "regret_lcbench_asha": float(end["asha"][k:].mean()),
        },
    )
