"""Why learning rates transfer: under muP the sharpness of the loss does not depend on the width, in the NTK parametrization it does.

Noci et al. (2024) follow the largest eigenvalue of the Hessian through training: under muP its course is the same at all widths,
in the NTK parametrization wide networks sharpen less, and the best learning rate moves with it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from claims.record import Claim, Result, Verdict
from claims.study import seeds_for
from tunewright.errors import MissingExtra
from tunewright.numerics.statistics import wilcoxon

CLAIM = Claim(
    title="Sharpness over a training is the same at all widths under muP and not in the NTK parametrization.",
    paper="Noci et al. 2024, arXiv:2402.17457, sections 3 and 4",
    check=(
        "A network with two hidden layers on the digits, SGD at 1/2, widths 32, 128 and 512: slope in log-log of sharpness against "
        "width over the second half of 80 steps, under muP and in the NTK parametrization; best of six rates at each width."
    ),
    rule=(
        "Holds at reduced scale if the mean slope under muP is within 0.1 of 0 and that in the NTK parametrization is farther from "
        "0 for at least eight seeds of ten and by 0.1 in the mean, and the best rate under muP moves by one step of two at most; "
        "not reproduced otherwise."
    ),
)
_RULES = ("mup", "ntk")
_RATES = tuple(2.0**k for k in range(-4, 2))


def run(quick: bool) -> Result:
    """Checks the claim."""
    baseline = "the NTK parametrization, the same first networks at the base width of 32"
    try:
        import torch
        from sklearn.datasets import load_digits
    except ImportError:
        return Result(
            "cannot be checked here",
            str(MissingExtra("PyTorch and scikit-learn are needed.")),
            baseline,
            "none",
            (),
        )
    seeds = seeds_for(quick, 10)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return _run(quick, seeds, baseline, *(torch.as_tensor(v) for v in load_digits(return_X_y=True)))
    finally:
        torch.set_num_threads(threads)


def _run(quick: bool, seeds: tuple[int, ...], baseline: str, x: Any, y: Any) -> Result:
    import torch

    from tunewright.bench.micro import Mlp
    from tunewright.scaling import Family
    from tunewright.scaling.checking import slope
    from tunewright.scaling.rates import rate_check
    from tunewright.scaling.sharpness import sharpness_check

    x = ((x - x.mean()) / x.std()).float()

    def batches(seed: int) -> Iterator[Any]:
        g = torch.Generator().manual_seed(seed)
        while True:
            rows = torch.randint(0, len(x), (128,), generator=g)
            yield x[rows], y[rows]

    family = Family(Mlp, base={"width": 32, "depth": 2})
    more: dict[str, Any] = {
        "sizes": (32, 64, 128) if quick else (32, 128, 512),
        "optimizer": "sgd",
        "seeds": seeds,
    }
    steps = 20 if quick else 80
    slopes, shifts, figures = {}, {}, {}
    for rule in _RULES:
        seen = sharpness_check(family, rule, batches, lr=0.5, steps=steps, moments=5, **more)
        slopes[rule] = slope(seen.sizes, seen.late)
        rates = rate_check(family, rule, batches, rates=_RATES, steps=steps, **more)
        shifts[rule] = float(np.abs(rates.shifts).max())
        for i, size in enumerate(seen.sizes):
            figures[f"{rule}_sharpness_{size}"] = float(np.exp(np.log(seen.late[i]).mean()))
            figures[f"{rule}_best_log2_rate_{size}"] = float(np.log2(rates.best[i]))
    mup, ntk = slopes["mup"], slopes["ntk"]
    farther = int((np.abs(ntk) > np.abs(mup)).sum())
    gap = float(abs(ntk.mean()) - abs(mup.mean()))
    p = wilcoxon(np.abs(mup), np.abs(ntk), "less") if len(seeds) > 1 else 1.0
    holds = abs(mup.mean()) <= 0.1 and farther >= 0.8 * len(seeds) and gap >= 0.1 and shifts["mup"] <= 1
    verdict: Verdict = "holds at reduced scale" if holds else "not reproduced"
    return Result(
        verdict,
        f"Late sharpness against width has the slope {mup.mean():+.3f} under muP and {ntk.mean():+.3f} in the NTK parametrization "
        f"(farther from 0 for {farther} of {len(seeds)} seeds, p = {p:.2g}); the best rate moves by {shifts['mup']:g} and "
        f"{shifts['ntk']:g} steps of two.",
        baseline,
        "Wilcoxon signed-rank on the size of the slope, one-sided, pairs by seed; fixed margins otherwise",
        seeds,
        {
            "slope_mup": float(mup.mean()),
            "slope_ntk": float(ntk.mean()),
            "seeds_farther": farther,
            "shift_mup": shifts["mup"],
            "shift_ntk": shifts["ntk"],
            "p": p,
            **figures,
        },
    )
