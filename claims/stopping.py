"""Stopping when a bound on the regret is small saves trials and costs little.

Makarova et al. (2022) stop Bayesian optimisation when the gap between confidence bounds of a Gaussian process falls under
a threshold, and report large savings at hardly any loss.
"""

from __future__ import annotations

import math

import numpy as np

from claims.record import Claim, Result, Verdict
from claims.study import missing, point_tasks, seeds_for, traces
from tunewright.analysis.stopping import LEAST, regret_bound
from tunewright.bench.simulate import Task, Trace
from tunewright.core.algorithm import generator
from tunewright.core.history import History
from tunewright.errors import ConfigError
from tunewright.numerics.statistics import binomial_interval
from tunewright.samplers.tpe import Tpe

CLAIM = Claim(
    title="A bound on the regret ends a search early without giving up more than was asked for.",
    paper="Makarova et al. 2022, AutoML-Conf, arXiv:2104.08166, section 5",
    check=(
        "Eight trainings (forests fitted to 3,000 real runs each, 8 to 10 partly conditional parameters), 100 trials of "
        "TPE, looked at whenever a fifth more trials have completed; the threshold is three tenths of the gap between "
        "the median and the best loss."
    ),
    rule=(
        "Holds at reduced scale if, of the studies that are ended, at least 90 % have a regret under the threshold, the "
        "mean regret given up against 100 trials is under a quarter of the threshold, and trials saved over all studies "
        "are 10 % or more; not reproduced otherwise."
    ),
)
_TRIALS, _SHARE, _GROWTH = 100, 0.3, 1.2


def ended(task: Task, trace: Trace, seed: int) -> int | None:
    """Trials after which the rule ends a study; None when it does not."""
    history, due = History(task.problem), float(LEAST)
    threshold = _SHARE * (task.usual - task.best)
    for trial in trace.ledger.trials:
        assert trial.end is not None
        history.apply(trial.start)
        history.apply(trial.end)
        if history.n >= due and history.n < _TRIALS:
            due = max(history.n + 1, math.ceil(history.n * _GROWTH))
            bound = regret_bound(history, generator(seed, history.n, 19))
            if bound is not None and bound.gap < threshold:
                return history.n
    return None


def run(quick: bool) -> Result:
    """Checks the claim."""
    baseline = f"{_TRIALS} trials with the same sampler and seeds"
    seeds = seeds_for(quick, 12)
    try:
        tasks = point_tasks(quick)
    except ConfigError as error:
        return missing(error, baseline)
    runs = traces({"tpe": Tpe}, tasks, seeds, trials=_TRIALS)["tpe"]
    saved, given, kept = [], [], []
    for task, row in zip(tasks, runs, strict=True):
        for seed, trace in zip(seeds, row, strict=True):
            n = ended(task, trace, seed)
            saved.append(0.0 if n is None else 1.0 - n / _TRIALS)
            if n is not None:
                regret, last = (float(task.regret(trace.incumbent[i - 1])) for i in (n, _TRIALS))
                given.append(regret - last)
                kept.append(regret < _SHARE)
    count = len(kept)
    valid = float(np.mean(kept)) if kept else 0.0
    cost = float(np.mean(given)) if given else 0.0
    low, high = binomial_interval(sum(kept), count) if count else (0.0, 1.0)
    good = valid >= 0.9 and cost < 0.25 * _SHARE and float(np.mean(saved)) >= 0.1
    verdict: Verdict = "holds at reduced scale" if good else "not reproduced"
    return Result(
        verdict,
        f"The rule ends {count} of {len(saved)} studies early and saves {np.mean(saved):.0%} of all trials; where it "
        f"ends one, the regret is under the threshold of {_SHARE:g} in {valid:.0%} [{low:.0%}, {high:.0%}], and "
        f"{cost:.3f} of regret are given up on average, {max(given, default=0.0):.3f} at most.",
        baseline,
        "shares of studies with exact binomial intervals",
        seeds,
        {
            "tasks": len(tasks),
            "ended": count,
            "studies": len(saved),
            "saved": float(np.mean(saved)),
            "valid": valid,
            "valid_low": low,
            "valid_high": high,
            "given_up": cost,
            "given_up_most": max(given, default=0.0),
        },
    )
