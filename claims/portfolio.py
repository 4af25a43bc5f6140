"""A zero-shot portfolio of eight configurations beats eight trials of search.

Wistuba, Schilling and Schmidt-Thieme (2015) and Winkelmolen, Ivkin, Bozkurt and Karnin (2020) choose configurations that
together served earlier tasks best and find that a handful of them beats random search and Bayesian optimisation with as
many trials.
"""

from __future__ import annotations

from typing import Any

from claims.families import CHECK, TEST, families, leave_one_out
from claims.record import Claim, Result, Verdict
from claims.study import corrected, lower, missing, prefixed, seeds_for
from tunewright.errors import ConfigError, MissingExtra
from tunewright.samplers.bayes import Bayes
from tunewright.samplers.portfolio import Portfolio
from tunewright.samplers.random import Random

CLAIM = Claim(
    title="Eight configurations chosen on earlier tasks beat eight trials of search.",
    paper="Winkelmolen et al. 2020, arXiv:2007.13382, section 5; Wistuba et al. 2015, ICDM, section VI",
    check=CHECK + "8 trials one after another; 20 for the figures on what follows the portfolio.",
    rule=(
        "Holds at reduced scale if mean regret after 8 trials is lower than that of a Gaussian process without "
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
        "portfolio": lambda s: Portfolio(Bayes(), s),
    }
    after = leave_one_out(methods, pairs, seeds, _TRIALS)
    early = after["portfolio"][0]
    gp, random = lower(early, after["gp"][0]), lower(early, after["random"][0])
    corrected(gp, random)
    good = all(c["regret"] < c["baseline_regret"] and c["p"] < 0.01 for c in (gp, random))
    verdict: Verdict = "holds at reduced scale" if good else "not reproduced"
    return Result(
        verdict,
        f"After 8 trials the portfolio has a mean regret of {gp['regret']:.3f}, the Gaussian process without transfer "
        f"{gp['baseline_regret']:.3f} (p = {gp['p']:.2g}), random search {random['baseline_regret']:.3f} "
        f"(p = {random['p']:.2g}). After {_TRIALS} trials, a Gaussian process behind the portfolio is at "
        f"{after['portfolio'][1].mean():.3f}, alone at {after['gp'][1].mean():.3f}.",
        baseline,
        TEST,
        seeds,
        {
            "tasks": len(pairs),
            "trials": 8,
            **prefixed("over_gp", gp),
            **prefixed("over_random", random),
            **{f"{name}_after_20": float(v[1].mean()) for name, v in after.items()},
        },
    )
