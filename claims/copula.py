"""Quantile-based transfer finds good configurations sooner than a Gaussian process that starts from nothing.

Salinas, Shen and Perrone (2020) learn a prior of normal scores from earlier tasks and find that Gaussian copula
regression on top of it beats a Gaussian process without transfer, random search and other transfer methods on average
over four families of tasks.
"""

from __future__ import annotations

from typing import Any

from claims.families import CHECK, TEST, families, leave_one_out
from claims.record import Claim, Result, Verdict
from claims.study import corrected, lower, missing, prefixed, seeds_for
from tunewright.errors import ConfigError, MissingExtra
from tunewright.samplers.bayes import Bayes
from tunewright.samplers.copula import Copula
from tunewright.samplers.random import Random

CLAIM = Claim(
    title="A prior of normal scores from earlier tasks beats a Gaussian process without transfer.",
    paper="Salinas, Shen and Perrone 2020, ICML, arXiv:1909.13595, section 5 (table 1)",
    check=CHECK + "20 trials one after another.",
    rule=(
        "Holds at reduced scale if mean regret after 20 trials is lower than that of a Gaussian process without "
        "transfer and than that of random search, both with p < 0.01 after Holm; not reproduced otherwise."
    ),
)
_TRIALS = 20


def run(quick: bool) -> Result:
    """Checks the claim."""
    baseline = "a Gaussian process without transfer; random search"
    seeds = seeds_for(quick, 10)
    try:
        pairs = families(quick, 2)
    except (ConfigError, MissingExtra) as error:
        return missing(error, baseline)
    methods: dict[str, Any] = {
        "random": lambda s: Random(),
        "gp": lambda s: Bayes(),
        "copula": Copula,
        "thompson": lambda s: Copula(s, mode="thompson"),
    }
    after = leave_one_out(methods, pairs, seeds, _TRIALS)
    early, late = after["copula"]
    gp, random = lower(late, after["gp"][1]), lower(late, after["random"][1])
    corrected(gp, random)
    good = all(c["regret"] < c["baseline_regret"] and c["p"] < 0.01 for c in (gp, random))
    verdict: Verdict = "holds at reduced scale" if good else "not reproduced"
    return Result(
        verdict,
        f"After {_TRIALS} trials the copula process has a mean regret of {gp['regret']:.3f}, the Gaussian process "
        f"without transfer {gp['baseline_regret']:.3f} (p = {gp['p']:.2g}), random search "
        f"{random['baseline_regret']:.3f} (p = {random['p']:.2g}); after 8 trials {early.mean():.3f} against "
        f"{after['gp'][0].mean():.3f} and {after['random'][0].mean():.3f}. Thompson sampling from the prior alone "
        f"comes to {after['thompson'][1].mean():.3f}.",
        baseline,
        TEST,
        seeds,
        {
            "tasks": len(pairs),
            "trials": _TRIALS,
            **prefixed("over_gp", gp),
            **prefixed("over_random", random),
            **{f"{name}_after_8": float(v[0].mean()) for name, v in after.items()},
            "thompson_regret": float(after["thompson"][1].mean()),
        },
    )
