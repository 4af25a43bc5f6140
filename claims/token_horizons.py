"""The best learning rate falls with the length of training as a power law, so that short sweeps tell the rate of a long one.

Bjorck et al. (2024) sweep the rate over horizons of 25 to 800 billion tokens at a fixed batch size, fit a parabola in the logarithm
of the rate to each, and find ``rate ~ tokens^-0.32`` for models of about a billion weights.
"""

from __future__ import annotations

import math

import numpy as np

from claims import micro_lm
from claims.record import Claim, Result, Verdict
from tunewright.errors import ConfigError, MissingExtra
from tunewright.numerics.statistics import wilcoxon
from tunewright.scaling.horizon import EXPONENT, fit_horizon, optimal_rate

CLAIM = Claim(
    title="At a fixed batch size the best learning rate falls with the token horizon as a power law, which short horizons foretell.",
    paper="Bjorck et al. 2024, arXiv:2409.19913, sections 3 and 4",
    check=(
        "A one-block character transformer of width 16 (5k weights) on a generated language read once, batches of 128 letters, Adam "
        "with warm-up and a cosine to a tenth; seven rates a factor of two apart, three seeds, horizons of 16k to 512k letters (32 "
        "times). The law is fitted to 16k to 128k and asked for 512k; there the predicted rate, the one copied from 16k and the paper's "
        "rule (exponent 0.32 from 128k) are trained with seven fresh seeds."
    ),
    rule=(
        "Holds at reduced scale if the interval of the exponent lies above 0, the predicted rate is within a factor of two of the "
        "optimum swept at 512k, and its loss over fresh seeds is below that of the copied rate (one-sided Wilcoxon p < 0.05); not "
        "reproduced otherwise."
    ),
)
_RATES = tuple(2.0**k for k in range(-9, -2))


def run(quick: bool) -> Result:
    """Checks the claim."""
    baseline = "the best rate of the shortest horizon, copied"
    try:
        import torch  # noqa: F401
    except ImportError:
        return Result("cannot be checked here", str(MissingExtra("PyTorch is needed.")), baseline, "none", ())
    seeds, fresh = ((0,), (10, 11)) if quick else ((0, 1, 2), tuple(range(10, 17)))
    horizons = [2**k for k in ((14, 15, 16) if quick else range(14, 20))]
    short, longest = horizons[: 2 if quick else 4], horizons[-1]
    swept = {
        d: micro_lm.curves(micro_lm.Cell(micro_lm.BASE, 4, _RATES, seeds, d, cosine=True)).losses[:, :, -1].T
        for d in horizons
    }
    try:
        law = fit_horizon(short, _RATES, [swept[d] for d in short])
        best = optimal_rate(_RATES, swept[longest])
    except ConfigError as error:
        return Result("not reproduced", str(error), baseline, "none", seeds)
    predicted, low, high = law.rate(longest)
    copied = law.optima[0].rate
    ruled = law.optima[-1].rate * (short[-1] / longest) ** EXPONENT
    trained = micro_lm.curves(
        micro_lm.Cell(micro_lm.BASE, 4, (predicted, copied, ruled), fresh, longest, cosine=True)
    )
    ours, theirs, rule = trained.losses[:, :, -1]
    p = wilcoxon(ours, theirs, "less")
    apart = abs(math.log2(predicted / best.rate))
    verdict: Verdict = (
        "holds at reduced scale" if law.interval[0] > 0 and apart <= 1 and p < 0.05 else "not reproduced"
    )
    return Result(
        verdict,
        f"Exponent {law.exponent:.3g} (95 % interval {law.interval[0]:.3g} to {law.interval[1]:.3g}). For {longest} letters the law says "
        f"{predicted:.3g} ({low:.3g} to {high:.3g}); the sweep there has its optimum at {best.rate:.3g}. Loss with fresh seeds "
        f"{ours.mean():.4f}, at the rate copied from {short[0]} letters ({copied:.3g}) {theirs.mean():.4f} (p = {p:.2g}), by the "
        f"paper's exponent {rule.mean():.4f}.",
        baseline,
        "percentile bootstrap over seeds for the exponent; Wilcoxon signed-rank on loss, one-sided, pairs by seed",
        (*seeds, *fresh),
        {
            "exponent": law.exponent,
            "exponent_low": law.interval[0],
            "exponent_high": law.interval[1],
            "predicted_rate": predicted,
            "swept_rate": best.rate,
            "copied_rate": copied,
            "loss_predicted": float(np.mean(ours)),
            "loss_copied": float(np.mean(theirs)),
            "loss_paper_exponent": float(np.mean(rule)),
            "p": p,
            **{f"rate_{d}": optimal_rate(_RATES, swept[d]).rate for d in (*short, longest)},
        },
    )
