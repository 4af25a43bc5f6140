"""One rate for all depths.

Yang et al. (2023) divide residual branches by the root of the depth, and Adam's rates too, and find the best rate of shallow
networks to be that of deep ones; the absolute value to be the best activation, as it keeps the diversity of features; and blocks
of more than one layer to have no such parametrization.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from claims.digit_sweeps import Floats, losses
from claims.record import Claim, Result, Verdict
from claims.transfer import moved
from tunewright.errors import MissingExtra

CLAIM = Claim(
    title="Under depth-muP the best rate does not move with depth for blocks of one layer, which the absolute value suits best.",
    paper="Yang, Yu, Zhu and Hayou 2023, arXiv:2310.02244, sections 4, 5 and 8",
    check=(
        "Residual networks of width 64 on the digits, the mean taken off the output of every block, Adam, 100 steps in batches of "
        "64, nine rates from 2^-12 to 2^-4, depths 4, 12 and 48, by mean training loss at the end: blocks of one layer with ReLU and "
        "with the absolute value and blocks of two with ReLU under depth-muP; blocks of one with ReLU under muP. What the rate that is "
        "best at depth 4 loses at depth 48 is found by trainings at that very rate and at the best one there (both bottoms of "
        "parabolas). This is the second set-up: the first trained for 50 steps, two rounds of the data, and read the loss at the "
        "transferred rate off the line between two rates of the grid, which is too high where losses bend, and by as much as what "
        "was compared (.011 for one layer, .000 for two, whose rate happened to lie on the grid)."
    ),
    rule=(
        "Holds at reduced scale if from depth 4 to 48 the best rate moves by at most one octave under depth-muP for blocks of one "
        "layer with either activation, and by more under muP; at depth 48 the absolute value's best mean loss is below ReLU's; and "
        "the rate that is best at depth 4 loses more at depth 48 with blocks of two layers than with blocks of one (ReLU both). Not "
        "reproduced if one of them is not so."
    ),
)
_RATES = tuple(2.0**k for k in range(-12, -3))
_CASES = {
    "ReLU": ("depth-mup", "relu"),
    "absolute value": ("depth-mup", "abs"),
    "two layers": ("depth-mup", "relu-relu"),
    "muP": ("mup", "relu"),
}


def run(quick: bool) -> Result:
    """Checks the claim."""
    baseline = "muP, which scales the width alone"
    try:
        import sklearn  # noqa: F401
        import torch
    except ImportError:
        return Result(
            "cannot be checked here",
            str(MissingExtra("PyTorch and scikit-learn are needed.")),
            baseline,
            "none",
            (),
        )
    seeds = tuple(range(1 if quick else 10))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return _run(quick, seeds, baseline)
    finally:
        torch.set_num_threads(threads)


def _run(quick: bool, seeds: tuple[int, ...], baseline: str) -> Result:
    depths, steps = ((4, 8), 10) if quick else ((4, 12, 48), 100)
    rates = _RATES[::3] if quick else _RATES

    def trained(name: str, depth: int, at: Sequence[float]) -> Floats:
        rule, block = _CASES[name]
        size, base = {"width": 64, "depth": depth}, {"width": 64, "depth": depths[0]}
        found = losses(rule, size, at, seeds, base=base, optimizer="adam", steps=steps, block=block)
        # A training that broke down counts as one that learned nothing.
        return np.minimum(found, np.log(10))

    found = {}
    for name in _CASES:
        case = moved(rates, {depth: trained(name, depth, rates) for depth in depths})
        ends = [2.0 ** case.optima[depth] for depth in (depths[0], depths[-1])]
        there, best = trained(name, depths[-1], ends).mean(axis=1)
        best = min(float(best), case.loss)
        found[name] = replace(case, loss=best, regret=float(there) - best)
    relu, absolute, two, mup = (found[n] for n in _CASES)
    parts = {
        "rates stay": abs(relu.drift) <= 1 and abs(absolute.drift) <= 1 < abs(mup.drift),
        "absolute value is best": absolute.loss < relu.loss,
        "two layers lose more": two.regret > relu.regret,
    }
    verdict: Verdict = "holds at reduced scale" if all(parts.values()) else "not reproduced"
    told = "; ".join(
        f"{n}: best log2 rates {', '.join(f'{v:.1f}' for v in m.optima.values())}, loss {m.loss:.4f} at depth {depths[-1]}, "
        f"{m.regret:.4f} more at the shallow network's rate"
        for n, m in found.items()
    )
    return Result(
        verdict,
        f"Depths {', '.join(map(str, depths))}. {told}. "
        + " ".join(f"{n[0].upper()}{n[1:]}: {'yes' if v else 'no'}." for n, v in parts.items()),
        baseline,
        "none: best rates of mean losses over seeds, by parabola through the lowest",
        seeds,
        {
            **{f"drift {n}": m.drift for n, m in found.items()},
            **{f"regret {n}": m.regret for n, m in found.items()},
            **{f"loss {n}": m.loss for n, m in found.items()},
            **{f"log2 rate {n} {d}": v for n, m in found.items() for d, v in m.optima.items()},
            **{f"largest drift of a seed {n}": float(np.abs(m.by_seed).max()) for n, m in found.items()},
        },
    )
