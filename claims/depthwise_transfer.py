"""One rate for all widths and depths.

Bordelon et al. (2023) multiply the residual branches of networks under muP by one over the root of the depth, find the best rate
at the same place for all widths and depths, and show that networks converge to a limit as both grow.
"""

from __future__ import annotations

import numpy as np

from claims.digit_sweeps import batches, losses, residual
from claims.record import Claim, Result, Verdict
from claims.transfer import optimum
from tunewright.errors import MissingExtra

CLAIM = Claim(
    title="With muP and branches over the root of the depth, the best rate moves neither with width nor with depth.",
    paper="Bordelon, Noci, Li, Hanin and Pehlevan 2023, arXiv:2309.16620, sections 1 and 3, table 1",
    check=(
        "Residual networks (blocks of a ReLU and a layer) on the digits, Adam and SGD with momentum .9, 40 steps in batches of 64: "
        "best rate by mean training loss, rates a factor of 2 apart, at widths 32 and 64 and depths 3 "
        "and 48; the same depths at width 32 under muP alone. Size of the stream before the readout at first values, "
        "8 draws, by depth."
    ),
    rule=(
        "Holds at reduced scale if for both optimizers no best rate is more than one octave from that of width 32 and depth 3, under "
        "muP alone one is for both, and the stream at depth 48 is within 10 % of that at depth 12; not reproduced otherwise."
    ),
)
_RATES = {"adam": tuple(2.0**k for k in range(-12, -3)), "sgd": tuple(2.0**k for k in range(-10, -1))}
_BASE = {"width": 32, "depth": 3}


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
    sizes = [(32, 3), (32, 48), (64, 3), (64, 48)]
    steps = 40
    if quick:
        sizes, steps = [(32, 3), (32, 6)], 8
    optima: dict[tuple[str, str], dict[tuple[int, int], float]] = {}
    lowest: dict[tuple[str, str], dict[tuple[int, int], float]] = {}
    for optimizer, all_rates in _RATES.items():
        rates = all_rates[::3] if quick else all_rates
        for rule in ("depthwise", "mup"):
            key = (optimizer, rule)
            optima[key], lowest[key] = {}, {}
            for width, depth in sizes:
                if rule == "mup" and width != 32:
                    continue
                found = losses(
                    rule,
                    {"width": width, "depth": depth},
                    rates,
                    seeds,
                    base=_BASE,
                    optimizer=optimizer,
                    steps=steps,
                    block="pre",
                ).mean(axis=1)
                optima[key][width, depth] = optimum(rates, found)
                lowest[key][width, depth] = float(found.min())
    moves = {k: max(abs(v - m[32, 3]) for v in m.values()) for k, m in optima.items()}
    stream = {d: _stream(d) for d in ((3, 6) if quick else (3, 12, 48))}
    last, before = list(stream.values())[-1], list(stream.values())[-2]
    stays = all(moves[o, "depthwise"] <= 1 < moves[o, "mup"] for o in _RATES)
    verdict: Verdict = (
        "holds at reduced scale" if stays and abs(last / before - 1) <= 0.1 else "not reproduced"
    )

    def told(optimizer: str, rule: str) -> str:
        m = optima[optimizer, rule]
        return ", ".join(f"{v:.1f} ({w} wide, {d} deep)" for (w, d), v in m.items())

    return Result(
        verdict,
        " ".join(
            f"{o}: best log2 rates {told(o, 'depthwise')}; under muP alone {told(o, 'mup')}." for o in _RATES
        )
        + f" Size of the stream by depth: {', '.join(f'{v:.3f} ({d})' for d, v in stream.items())}.",
        baseline,
        "none: best rates of mean losses over seeds, by parabola through the lowest",
        seeds,
        {
            **{f"largest move {o} {r}": v for (o, r), v in moves.items()},
            **{f"log2 rate {o} {r} {w}x{d}": v for (o, r), m in optima.items() for (w, d), v in m.items()},
            **{f"loss {o} {r} {w}x{d}": v for (o, r), m in lowest.items() for (w, d), v in m.items()},
            **{f"stream {d}": v for d, v in stream.items()},
        },
    )


def _stream(depth: int) -> float:
    """RMS of what enters the readout of a network of width 64 at first values, mean over 8 draws."""
    import torch

    from tunewright import scaling

    family = scaling.Family(residual, base=_BASE, fixed={"block": "pre"})
    x, _ = next(batches(64)(7))
    found = []
    for seed in range(8):
        model, _ = family.build("depthwise", seed, optimizer="sgd", width=64, depth=depth)
        with torch.no_grad():
            found.append(float(model[:-1](x).square().mean().sqrt()))  # type: ignore[index]
    return float(np.mean(found))
