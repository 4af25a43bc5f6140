"""Letting the oldest die, rather than the worst, helps when results are noisy.

Real, Aggarwal, Huang and Le (2019) find that ageing evolution reaches better architectures than the same evolution without
ageing, and explain it by noise: without ageing, a lucky evaluation lives for ever. Their simulation in the appendix uses bits.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from claims.record import Claim, Result, Verdict
from claims.study import Floats, lower, prefixed, seeds_for
from tunewright.bench.simulate import Task, simulate
from tunewright.core.domains import Bool
from tunewright.core.problem import Objective, Problem
from tunewright.core.space import Space
from tunewright.samplers.regularized import Regularized

CLAIM = Claim(
    title="Under noise, ageing evolution finds better configurations than evolution in which the worst dies.",
    paper="Real et al. 2019, arXiv:1802.01548, section 5 and appendix on noisy simulated search",
    check=(
        "Strings of 16, 32 and 64 bits, loss the share of wrong bits, measured with normal noise of deviation 0.1; 600 "
        "trials; both pick the trial with the lowest measured loss, and its true loss counts."
    ),
    rule=(
        "Holds at reduced scale if the mean true loss is lower with p < 0.01 and on at least two of the three lengths; not "
        "reproduced otherwise."
    ),
)
_LENGTHS = (16, 32, 64)
_TRIALS = 600
_NOISE = 0.1


def _true_loss(method: Regularized, bits: int, seed: int) -> float:
    """Share of wrong bits in the trial with the lowest measured loss."""
    target = np.random.default_rng((seed, bits)).random(bits) < 0.5
    noise = np.random.default_rng((seed, bits, 1))

    def truth(config: Mapping[str, Any]) -> float:
        return float(np.mean([config[f"b{i}"] != bool(target[i]) for i in range(bits)]))

    def curve(config: Mapping[str, Any]) -> tuple[Floats, Floats]:
        return np.array([truth(config) + _NOISE * noise.standard_normal()]), np.ones(1)

    problem = Problem(Space({f"b{i}": Bool() for i in range(bits)}), (Objective("loss"),))
    trace = simulate(method, Task(f"bits{bits}", problem, curve, 0.0, 0.5), seed=seed, trials=_TRIALS)
    return truth(trace.ledger.trials[int(trace.trials[int(np.argmin(trace.losses))])].config)


def run(quick: bool) -> Result:
    """Checks the claim."""
    seeds = seeds_for(quick, 20)
    lengths = _LENGTHS[1:2] if quick else _LENGTHS
    ours, theirs = (
        np.array([[_true_loss(Regularized(ageing=a), bits, s) for s in seeds] for bits in lengths])
        for a in (True, False)
    )
    figures = lower(ours, theirs)
    good = figures["p"] < 0.01 and figures["tasks_won"] > 0.5
    verdict: Verdict = "holds at reduced scale" if good else "not reproduced"
    return Result(
        verdict,
        f"After {_TRIALS} noisy trials the configuration picked has a true loss of {figures['regret']:.3f} with ageing and "
        f"{figures['baseline_regret']:.3f} where the worst dies (p = {figures['p']:.2g}); ageing is ahead on "
        f"{figures['tasks_won'] * len(lengths):.0f} of {len(lengths)} lengths.",
        "the same evolution in which the worst member dies",
        "Wilcoxon signed-rank on true loss, one-sided, pairs by length and seed",
        seeds,
        {
            "trials": _TRIALS,
            "noise": _NOISE,
            **prefixed("ageing", figures),
            **{f"ageing_{b}": float(o.mean()) for b, o in zip(lengths, ours, strict=True)},
            **{f"worst_{b}": float(o.mean()) for b, o in zip(lengths, theirs, strict=True)},
        },
    )
