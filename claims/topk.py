"""One epoch is all you need, where curves do not cross: the mandatory baseline of every scheduler, and where it fails.

Egele, Guyon, Sun and Balaprakash (2023) train every configuration for one epoch and only the best few to the end. On tabular
benchmarks of fully connected and other networks they find about the same final losses as Hyperband, BOHB and other
multi-fidelity methods, at about a tenth of the compute of full trainings. The premise is that the ranking after one epoch
is that at the end; a table made for the purpose, in which what begins well ends badly, shows what happens without it.
"""

from __future__ import annotations

from collections.abc import Mapping
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
    targets,
    times_to,
    traces,
)
from tunewright.bench.simulate import Task, Trace
from tunewright.core.domains import Float
from tunewright.core.problem import Fidelity, Problem
from tunewright.core.space import Space
from tunewright.errors import ConfigError, MissingExtra
from tunewright.samplers.random import Random
from tunewright.schedulers.hyperband import Hyperband
from tunewright.schedulers.topk import TopK

CLAIM = Claim(
    title="Training everything for one epoch and the best three to the end is as good as Hyperband.",
    paper="Egele et al. 2023, ESANN, arXiv:2307.15422, sections 3 and 4",
    check=(
        "Five trainings of 81 epochs (forests fitted to real runs) and seventeen of 50 epochs (LCBench), one worker, 200 random "
        "configurations, as in the paper: all of them fully trained, or for one epoch and the best three of them to the "
        "end; and Hyperband with as many epochs as the full trainings have. Compared are the best losses of full trainings "
        "and the epochs until the loss is as low as the median over seeds of the full trainings' best. Then a table of "
        "crossing curves: 81 epochs, the loss after the first is the higher the lower it is in the end."
    ),
    rule=(
        "Holds if top-K needs at most a tenth of the epochs of full training and its mean final regret is not more than 0.02 above "
        "Hyperband's on both sets of tasks; holds at reduced scale if that is so on one of them; not reproduced "
        "otherwise, and in any case if the crossing curves do not make it fail, for then the check could not tell."
    ),
)
_CONFIGURATIONS = 200


def crossing() -> Task:
    """Curves that begin in the reverse order of their ends: ``(1 - x) exp(-t / 5) + (x - 0.3)^2``, worst first at 0.3."""
    steps = np.arange(81.0)

    def curve(config: Mapping[str, Any]) -> tuple[Floats, Floats]:
        end = (config["x"] - 0.3) ** 2
        begin = (0.49 - end) * 3.0
        return end + begin * np.exp(-steps / 5.0), np.ones(81)

    problem = Problem(Space(x=Float(0, 1)), fidelity=Fidelity(81))
    return Task("crossing", problem, curve, 0.0, 0.1)


def finals(runs: list[list[Trace]], tasks: list[Task]) -> Floats:
    """Regret of the best full training of each study, 1 where there is none, shape (tasks, seeds)."""
    out = []
    for task, row in zip(tasks, runs, strict=True):
        best = []
        for run in row:
            full = [t.metrics["loss"] for t in run.ledger.trials if t.status == "completed"]
            best.append(float(task.regret(min(full))) if full else 1.0)
        out.append(best)
    return np.array(out)


def compared(tasks: list[Task], seeds: tuple[int, ...], configurations: int) -> dict[str, dict[str, float]]:
    """Top-K against full trainings and Hyperband: final regrets, epochs paid, and speed-ups."""
    found: dict[str, list[Any]] = {}
    shares = []
    for task in tasks:
        fidelity = task.problem.fidelity
        assert fidelity is not None
        limit = configurations * fidelity.high
        ours = traces(
            {"topk": lambda: TopK(Random(), 3, configurations), "random": Random},
            [task],
            seeds,
            trials=configurations,
        )
        theirs = traces({"hyperband": lambda: Hyperband(Random())}, [task], seeds, steps=limit)
        goal = targets(ours["random"])
        for name, runs in {**ours, **theirs}.items():
            found.setdefault(name, []).append(finals(runs, [task])[0])
            times = times_to(runs, goal, "steps", limit)[0] / limit
            found.setdefault(f"{name}_times", []).append(times)
        pairs = zip(ours["topk"][0], theirs["hyperband"][0], strict=True)
        spent = [(t.incumbent[-1], h.best_by(h.steps, float(len(t.losses)))) for t, h in pairs]
        found.setdefault("equal", []).append(task.regret(np.array([ours for ours, _ in spent])))
        found.setdefault("equal_hyperband", []).append(task.regret(np.array([other for _, other in spent])))
        shares.append(np.mean([len(t.losses) for t in ours["topk"][0]]) / limit)
    table = {name: np.array(rows) for name, rows in found.items()}
    return {
        "hyperband": lower(table["topk"], table["hyperband"]),
        "equal": lower(table["equal"], table["equal_hyperband"]),
        "random": lower(table["topk"], table["random"]),
        "speed_over_random": speedup(table["topk_times"], table["random_times"]),
        "speed_over_hyperband": speedup(table["topk_times"], table["hyperband_times"]),
        "compute": {"share": float(np.mean(shares))},
    }


def good(found: dict[str, dict[str, float]]) -> bool:
    """Whether the rule holds on one set of tasks."""
    gap = found["hyperband"]["regret"] - found["hyperband"]["baseline_regret"]
    return found["compute"]["share"] <= 0.1 and gap <= 0.02


def run(quick: bool) -> Result:
    """Checks the claim."""
    baseline = "200 full trainings of random configurations; Hyperband with as many epochs"
    seeds = seeds_for(quick, 10)[: 3 if quick else None]
    try:
        curves, lcbench = curve_tasks(quick), lcbench_tasks(quick)
    except (ConfigError, MissingExtra) as error:
        return missing(error, baseline)
    count = 60 if quick else _CONFIGURATIONS
    sets = {"curves": compared(curves, seeds, count), "lcbench": compared(lcbench, seeds, count)}
    trap = compared([crossing()], seeds, count)
    fails = trap["hyperband"]["regret"] > trap["hyperband"]["baseline_regret"] + 0.1
    passed = sum(map(good, sets.values())) if fails else 0
    verdicts: tuple[Verdict, ...] = ("not reproduced", "holds at reduced scale", "holds")
    verdict = verdicts[passed]
    texts = [
        f"{name}: {found['compute']['share']:.3f} of the epochs of full training, final regret {found['hyperband']['regret']:.3f} "
        f"(Hyperband {found['hyperband']['baseline_regret']:.3f} with all epochs, full trainings "
        f"{found['random']['baseline_regret']:.3f}); at equal epochs, trainings of any length, {found['equal']['regret']:.3f} "
        f"and Hyperband {found['equal']['baseline_regret']:.3f}"
        for name, found in (*sets.items(), ("crossing curves", trap))
    ]
    return Result(
        verdict,
        f"{'; '.join(texts)}. The goal is reached {sets['curves']['speed_over_hyperband']['speedup']:.2f} times as fast as by Hyperband "
        f"on the curves and {sets['lcbench']['speed_over_hyperband']['speedup']:.2f} times on LCBench.",
        baseline,
        "Wilcoxon signed-rank, one-sided, pairs by task and seed, on regrets and on log epochs; the rule uses means",
        seeds,
        {
            "configurations": count,
            **{
                k: v
                for name, found in (*sets.items(), ("crossing", trap))
                for part, figures in found.items()
                for k, v in prefixed(f"{name}_{part}", figures).items()
            },
        },
    )
