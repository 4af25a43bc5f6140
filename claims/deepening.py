"""When full trainings turn out too short, iterative deepening saves the re-run of Hyperband.

Brandt, Wever, Iliadis, Bengs and Hüllermeier (2023) let the brackets of Hyperband grow when its maximal budget is raised: each gets
more configurations and one more rung, and what was evaluated is kept. Of three variants the efficient one lets former promotions
stand, the preserving one takes the best of all that were evaluated, and the discarding one revises former promotions. They report
that all of them find about what a re-run of Hyperband with the larger budget finds, at lower total budgets, the efficient
variant at the lowest.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, get_args

import numpy as np

from claims.record import Claim, Result, Verdict
from claims.study import Floats, corrected, curve_tasks, lower, missing, prefixed, seeds_for
from tunewright.bench.simulate import Task, Trace, simulate
from tunewright.core.brackets import brackets
from tunewright.core.problem import Fidelity
from tunewright.errors import ConfigError
from tunewright.samplers.random import Random
from tunewright.schedulers.deepening import Deepening, Variant
from tunewright.schedulers.hyperband import Hyperband

CLAIM = Claim(
    title="Raising the length of a training costs less with iterative deepening than a re-run of Hyperband, and finds as much.",
    paper="Brandt et al. 2023, arXiv:2302.00511, section 6; Brandt et al. 2024, IJCAI",
    check=(
        "Five trainings (forests fitted to 1,200 to 3,000 real runs each), eta = 3, one worker, random configurations: a round of brackets "
        "for 27 epochs, then for 81. Epochs of both together with each variant, where trials pause and resume; against a round of "
        "Hyperband for 27 epochs and a new one for 81. Compared: epochs, and the lowest loss after 81 epochs."
    ),
    rule=(
        "Holds at reduced scale if the efficient variant pays fewer epochs than Hyperband and its re-run for every task and seed, at "
        "most 85 % of them on average, and its mean regret is not more than 0.02 above; not reproduced otherwise."
    ),
)
_SHORT, _LONG = 27, 81


def round_of(high: int) -> tuple[int, int]:
    """Configurations and epochs of one round of brackets, where trials pause and resume."""
    plans = brackets(1, high, 3)
    epochs = sum(
        n * (r - before) for p in plans for n, r, before in zip(p.sizes, p.steps, (0, *p.steps), strict=False)
    )
    return sum(p.sizes[0] for p in plans), epochs


def shorter(task: Task) -> Task:
    """The same task, whose trainings have 27 epochs until they are made longer."""
    return replace(task, problem=replace(task.problem, fidelity=Fidelity(_SHORT, 1, "epoch")))


def final(task: Task, run: Trace) -> float:
    """Regret of the best training of 81 epochs."""
    losses = [t.metrics["loss"] for t in run.ledger.trials if t.step == _LONG]
    return float(task.regret(min(losses, default=np.inf)))


def run(quick: bool) -> Result:
    """Checks the claim."""
    baseline = "Hyperband for 27 epochs, then again for 81"
    seeds = seeds_for(quick, 30)
    try:
        tasks = curve_tasks(quick)
    except ConfigError as error:
        return missing(error, baseline)
    _, first = round_of(_SHORT)
    trials, _ = round_of(_LONG)
    methods: dict[str, Any] = {v: Deepening(Random(), variant=v) for v in get_args(Variant)}
    epochs: dict[str, list[list[int]]] = {}
    regrets: dict[str, list[list[float]]] = {}
    for task in tasks:
        early = shorter(task)
        again = [simulate(Hyperband(Random()), task, seed=s, trials=trials) for s in seeds]
        epochs.setdefault("again", []).append([first + len(r.losses) for r in again])
        regrets.setdefault("again", []).append([final(task, r) for r in again])
        for name, method in methods.items():
            runs = [simulate(method, early, seed=s, trials=trials, longer=[(first, _LONG)]) for s in seeds]
            epochs.setdefault(name, []).append([len(r.losses) for r in runs])
            regrets.setdefault(name, []).append([final(task, r) for r in runs])
    paid: dict[str, Floats] = {n: np.array(rows, dtype=np.float64) for n, rows in epochs.items()}
    ends: dict[str, Floats] = {n: np.array(rows) for n, rows in regrets.items()}
    shares = {n: float((paid[n] / paid["again"]).mean()) for n in methods}
    worse = {n: lower(ends["again"], ends[n]) for n in methods}
    corrected(*worse.values())
    always = bool((paid["efficient"] < paid["again"]).all())
    close = worse["efficient"]["baseline_regret"] <= worse["efficient"]["regret"] + 0.02
    verdict: Verdict = (
        "holds at reduced scale" if always and shares["efficient"] <= 0.85 and close else "not reproduced"
    )
    texts = ", ".join(
        f"{n} {shares[n]:.1%} of the epochs and regret {worse[n]['baseline_regret']:.3f}" for n in methods
    )
    return Result(
        verdict,
        f"Hyperband and its re-run pay {paid['again'].mean():.0f} epochs and end with regret {worse['efficient']['regret']:.3f}; "
        f"iterative deepening: {texts}.",
        baseline,
        "Wilcoxon signed-rank on regrets, one-sided (the re-run better), pairs by task and seed, Holm over the variants",
        seeds,
        {
            "tasks": len(tasks),
            "epochs_again": float(paid["again"].mean()),
            **{f"epochs_{n}": float(paid[n].mean()) for n in methods},
            **{f"share_{n}": shares[n] for n in methods},
            **{k: v for n, figures in worse.items() for k, v in prefixed(n, figures).items()},
        },
    )
