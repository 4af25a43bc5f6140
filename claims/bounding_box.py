"""A box around earlier optima makes any search faster.

Perrone, Shen, Seeger, Archambeau and Jenatton (2019) restrict the space to the box of lowest volume that holds the best
configurations of earlier tasks and find that random search and Gaussian-process optimisation in it are much
faster than in the full space.
"""

from __future__ import annotations

from typing import Any

from claims.families import CHECK, TEST, families, leave_one_out
from claims.record import Claim, Result, Verdict
from claims.study import corrected, lower, missing, prefixed, seeds_for
from tunewright.errors import ConfigError, MissingExtra
from tunewright.samplers.bayes import Bayes
from tunewright.samplers.bounding_box import BoundingBox
from tunewright.samplers.random import Random

CLAIM = Claim(
    title="Random search and a Gaussian process are faster in the box around earlier optima.",
    paper="Perrone et al. 2019, NeurIPS, arXiv:1909.12552, section 5",
    check=CHECK + "20 trials one after another, in the full space and in the box.",
    rule=(
        "Holds at reduced scale if mean regret after 20 trials in the box is lower than in the full space, for random "
        "search and for the Gaussian process, both with p < 0.01 after Holm; not reproduced otherwise."
    ),
)
_TRIALS = 20


def run(quick: bool) -> Result:
    """Checks the claim."""
    baseline = "the same searches in the full space"
    seeds = seeds_for(quick, 10)
    try:
        pairs = families(quick, 2)
    except (ConfigError, MissingExtra) as error:
        return missing(error, baseline)
    methods: dict[str, Any] = {
        "random": lambda s: Random(),
        "gp": lambda s: Bayes(),
        "box_random": lambda s: BoundingBox(Random(), s),
        "box_gp": lambda s: BoundingBox(Bayes(), s),
    }
    after = leave_one_out(methods, pairs, seeds, _TRIALS)
    random = lower(after["box_random"][1], after["random"][1])
    gp = lower(after["box_gp"][1], after["gp"][1])
    corrected(random, gp)
    good = all(c["regret"] < c["baseline_regret"] and c["p"] < 0.01 for c in (gp, random))
    verdict: Verdict = "holds at reduced scale" if good else "not reproduced"
    return Result(
        verdict,
        f"After {_TRIALS} trials random search has a mean regret of {random['regret']:.3f} in the box and "
        f"{random['baseline_regret']:.3f} in the full space (p = {random['p']:.2g}), the Gaussian process "
        f"{gp['regret']:.3f} and {gp['baseline_regret']:.3f} (p = {gp['p']:.2g}).",
        baseline,
        TEST,
        seeds,
        {
            "tasks": len(pairs),
            "trials": _TRIALS,
            **prefixed("random", random),
            **prefixed("gp", gp),
            **{f"{name}_after_8": float(v[0].mean()) for name, v in after.items()},
        },
    )
