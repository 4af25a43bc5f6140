"""Guesses that are right make a search faster, and guesses that are wrong are given up.

Mallik et al. (2023) show PriorBand to profit from good priors, to recover from bad ones, and never to lose much against the
same search without a prior.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from claims.record import Claim, Result, Verdict
from claims.study import corrected, lower, missing, point_tasks, prefixed, regrets, seeds_for
from tunewright.bench.simulate import Task, simulate
from tunewright.core.domains import Domain
from tunewright.core.space import Space
from tunewright.errors import ConfigError
from tunewright.models.reshape import reshaped
from tunewright.samplers.bayes import Bayes
from tunewright.samplers.prior import Prior
from tunewright.samplers.tpe import Tpe

CLAIM = Claim(
    title="A good prior speeds a search up, and a bad one is recovered from.",
    paper="Mallik et al. 2023, NeurIPS, arXiv:2306.12370, section 7",
    check=(
        "Eight trainings (support vector machines, forests, boosted trees, perceptrons; forests fitted to 3,000 real "
        "runs each), TPE without guesses inside. Good guesses: the best of 50 random configurations; bad guesses: "
        "the worst of 50; confidence 0.75. Regret after 10 and after 50 trials, against TPE without guesses."
    ),
    rule=(
        "Holds at reduced scale if with good guesses mean regret after 10 trials is lower with p < 0.01, and with bad "
        "ones mean regret after 50 trials is at most 0.02 above; not reproduced otherwise."
    ),
)
_TRIALS, _EARLY, _LATEST = 50, 10, 0.02


def guessed(task: Task, seed: int, *, good: bool) -> Task:
    """The task with the best, or the worst, of 50 random configurations as guesses."""
    rng = np.random.default_rng([seed, 7])
    space = task.problem.space
    drawn = [space.draw(rng) for _ in range(50)]
    losses = [float(task.curve(c)[0][-1]) for c in drawn]
    config = drawn[int(np.argmin(losses) if good else np.argmax(losses))]

    def change(name: str, domain: Domain) -> Domain:
        return replace(domain, guess=config[name], confidence=0.75) if name in config else domain

    believed: Space = reshaped(space, change)
    return replace(task, problem=task.problem.with_space(believed))


def run(quick: bool) -> Result:
    """Checks the claim."""
    baseline = "TPE without guesses"
    seeds = seeds_for(quick, 20)
    try:
        tasks = point_tasks(quick)
    except ConfigError as error:
        return missing(error, baseline)
    runs: dict[str, Any] = {name: [] for name in ("plain", "good", "bad", "bad_gp", "plain_gp")}
    for task in tasks:
        right = [guessed(task, s, good=True) for s in seeds]
        wrong = [guessed(task, s, good=False) for s in seeds]
        some = seeds[:5]
        runs["plain"].append([simulate(Tpe(), task, seed=s, trials=_TRIALS) for s in seeds])
        runs["good"].append(
            [simulate(Prior(Tpe()), t, seed=s, trials=_TRIALS) for s, t in zip(seeds, right, strict=True)]
        )
        runs["bad"].append(
            [simulate(Prior(Tpe()), t, seed=s, trials=_TRIALS) for s, t in zip(seeds, wrong, strict=True)]
        )
        runs["plain_gp"].append([simulate(Bayes(), task, seed=s, trials=_TRIALS) for s in some])
        runs["bad_gp"].append([simulate(Prior(Bayes()), wrong[s], seed=s, trials=_TRIALS) for s in some])
    at = {name: [regrets(r, tasks, n) for n in (_EARLY, _TRIALS)] for name, r in runs.items()}
    early, late = lower(at["good"][0], at["plain"][0]), lower(at["bad"][1], at["plain"][1])
    corrected(early, late)
    behind = late["regret"] - late["baseline_regret"]
    holds = early["regret"] < early["baseline_regret"] and early["p"] < 0.01 and behind <= _LATEST
    verdict: Verdict = "holds at reduced scale" if holds else "not reproduced"
    return Result(
        verdict,
        f"With good guesses mean regret after {_EARLY} trials is {early['regret']:.3f}, without guesses "
        f"{early['baseline_regret']:.3f} (p = {early['p']:.2g}). With bad ones it is {at['bad'][0].mean():.3f} after "
        f"{_EARLY} trials and {late['regret']:.3f} after {_TRIALS}, without guesses {late['baseline_regret']:.3f}. "
        f"Around a Gaussian process, bad guesses end at {at['bad_gp'][1].mean():.3f} against "
        f"{at['plain_gp'][1].mean():.3f}.",
        baseline,
        "Wilcoxon signed-rank on regret, one-sided, pairs by task and seed, Holm over the two comparisons",
        seeds,
        {
            "tasks": len(tasks),
            "trials": _TRIALS,
            **prefixed("good", early),
            **prefixed("bad", late),
            "bad_after_10": float(at["bad"][0].mean()),
            "good_after_50": float(at["good"][1].mean()),
            "bad_gp_after_50": float(at["bad_gp"][1].mean()),
            "plain_gp_after_50": float(at["plain_gp"][1].mean()),
        },
    )
