"""A ranking-weighted ensemble of earlier tasks' Gaussian processes beats one that starts from nothing.

Feurer, Letham and Bakshy (2018) weigh one Gaussian process per earlier task by how well it ranks the new task's trials and
find lower regret than Gaussian-process optimisation without transfer on 35 support vector machine tuning tasks and others.
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
from tunewright.samplers.rgpe import Rgpe

CLAIM = Claim(
    title="A ranking-weighted ensemble of earlier tasks' processes beats a Gaussian process without transfer.",
    paper="Feurer, Letham and Bakshy 2018, arXiv:1802.02219, section 5",
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
        "rgpe": Rgpe,
    }
    after = leave_one_out(methods, pairs, seeds, _TRIALS)
    behind: dict[str, Any] = {"behind": lambda s: Portfolio(Rgpe(s), s)}
    portfolio = leave_one_out(behind, pairs, seeds[:3], _TRIALS)["behind"][1]
    early, late = after["rgpe"]
    gp, random = lower(late, after["gp"][1]), lower(late, after["random"][1])
    corrected(gp, random)
    good = all(c["regret"] < c["baseline_regret"] and c["p"] < 0.01 for c in (gp, random))
    verdict: Verdict = "holds at reduced scale" if good else "not reproduced"
    return Result(
        verdict,
        f"After {_TRIALS} trials the ensemble has a mean regret of {gp['regret']:.3f}, the Gaussian process without "
        f"transfer {gp['baseline_regret']:.3f} (p = {gp['p']:.2g}), random search {random['baseline_regret']:.3f} "
        f"(p = {random['p']:.2g}); after 8 trials {early.mean():.3f} against {after['gp'][0].mean():.3f} and "
        f"{after['random'][0].mean():.3f}. With a portfolio in front it comes to "
        f"{portfolio.mean():.3f} on the first three seeds, the Gaussian process alone to "
        f"{after['gp'][1][:, :3].mean():.3f}.",
        baseline,
        TEST,
        seeds,
        {
            "tasks": len(pairs),
            "trials": _TRIALS,
            **prefixed("over_gp", gp),
            **prefixed("over_random", random),
            **{f"{name}_after_8": float(v[0].mean()) for name, v in after.items()},
            "portfolio_rgpe_regret": float(portfolio.mean()),
        },
    )
