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
        "A network with two hidden layers on 256 digits, all of them in every step, first values that keep variances (2 over the "
        "fan-in, of the readout 1 over it), gradient descent at 1/5, with which sharpness rises to the edge of stability: slope in "
        "log-log of sharpness against width over the second half of 60 steps, widths 32, 256 and 1,024, under muP and in the NTK "
        "parametrization; best of six rates at widths 32, 128 and 512. This is the second set-up. The first had PyTorch's first values, "
        "whose scores of about .1 have to grow tenfold, so that in the NTK parametrization, too, networks up to its widest, 512, learned "
        "features, and batches of 128; the paper's NTK networks start with scores of order one. It gave slopes of -.05 and -.11."
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


def _network(width: int = 32) -> Any:
    """Two hidden layers without biases, with first values that keep variances."""
    import torch

    from tunewright.bench.micro import Mlp

    model = Mlp(width=width, bias=False)
    for layer in model.modules():
        if isinstance(layer, torch.nn.Linear):
            gain = 1.0 if layer is model.outlet else 2.0
            torch.nn.init.normal_(layer.weight, std=(gain / layer.in_features) ** 0.5)
    return model


def _run(quick: bool, seeds: tuple[int, ...], baseline: str, x: Any, y: Any) -> Result:
    import torch

    from tunewright.scaling import Family
    from tunewright.scaling.checking import slope
    from tunewright.scaling.rates import rate_check
    from tunewright.scaling.sharpness import sharpness_check

    x = ((x - x.mean()) / x.std()).float()

    def batches(seed: int) -> Iterator[Any]:
        rows = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))[:256]
        while True:
            yield x[rows], y[rows]

    family = Family(_network, base={"width": 32})
    more: dict[str, Any] = {"optimizer": "sgd", "seeds": seeds}
    sizes = (32, 64, 128) if quick else (32, 256, 1024)
    narrower = (32, 64, 128) if quick else (32, 128, 512)
    steps = 20 if quick else 60
    slopes, shifts, figures = {}, {}, {}
    for rule in _RULES:
        seen = sharpness_check(family, rule, batches, lr=0.2, steps=steps, moments=4, sizes=sizes, **more)
        slopes[rule] = slope(seen.sizes, seen.late)
        rates = rate_check(family, rule, batches, rates=_RATES, steps=steps, sizes=narrower, **more)
        shifts[rule] = float(np.abs(rates.shifts).max())
        for i, size in enumerate(seen.sizes):
            figures[f"{rule}_sharpness_{size}"] = float(np.exp(np.log(seen.late[i]).mean()))
        for i, size in enumerate(rates.sizes):
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
