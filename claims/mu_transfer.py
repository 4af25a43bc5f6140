"""muTransfer: tune the learning rate of a narrow network, train a wide one with it.

Yang et al. (2022) find the best rate of every width at the same place under muP, where with the standard parametrization it falls
with the width, and report models as good as tuned ones at a fraction of the cost of tuning.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from typing import Any

import numpy as np

from claims.record import Claim, Result, Verdict
from claims.study import seeds_for
from tunewright.errors import MissingExtra
from tunewright.numerics.statistics import wilcoxon

CLAIM = Claim(
    title="Under muP the best learning rate of a narrow network is that of a wide one, so that tuning costs a small model's trainings.",
    paper="Yang et al. 2022, arXiv:2203.03466, sections 6 and 7, figures 1 and 3",
    check=(
        "A network with two hidden layers on the digits, Adam, 150 steps, widths 32, 128 and 512, nine rates from 2^-10 to 2^-2: best "
        "rate by mean training loss under muP and with the standard parametrization. Then, at width 512 under muP: the loss at the "
        "rate that is best at width 32, against the expected loss of the best of random rates of the grid, tried at width 512 "
        "itself, for the same total cost (two trainings) and for five times the transfer's."
    ),
    rule=(
        "Holds at reduced scale if under muP no best rate moves by more than one step of two from that of width 32, with the standard "
        "parametrization one moves by more, and the transferred rate's mean loss is at most that of direct tuning at equal total "
        "cost; not reproduced otherwise."
    ),
)
_RATES = tuple(2.0**k for k in range(-10, -1))


def run(quick: bool) -> Result:
    """Checks the claim."""
    baseline = "the standard parametrization; direct tuning at the target by random search"
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
    from tunewright.scaling.rates import rate_check

    x = ((x - x.mean()) / x.std()).float()

    def batches(seed: int) -> Iterator[Any]:
        g = torch.Generator().manual_seed(seed)
        while True:
            rows = torch.randint(0, len(x), (32,), generator=g)
            yield x[rows], y[rows]

    family = Family(Mlp, base={"width": 32, "depth": 2})
    sizes, steps = ((32, 64), 30) if quick else ((32, 128, 512), 150)
    found = {
        rule: rate_check(family, rule, batches, sizes=sizes, rates=_RATES, steps=steps, seeds=seeds)
        for rule in ("mup", "sp")
    }
    mup, sp = found["mup"], found["sp"]
    moved = {rule: float(np.abs(r.shifts).max()) for rule, r in found.items()}
    target = mup.losses[-1]
    at = int(np.argmin(mup.mean[0]))
    share = mup.losses[0].size * mup.weights[0] / mup.weights[-1]
    transferred, twice = target[at], _best_of(target, 2)
    many = _best_of(target, min(len(_RATES), round(5 * (1 + share))))
    p = wilcoxon(transferred, twice, "less") if len(seeds) > 1 else 1.0
    holds = moved["mup"] <= 1 < moved["sp"] and transferred.mean() <= twice.mean()
    verdict: Verdict = "holds at reduced scale" if holds else "not reproduced"

    places = {rule: ", ".join(f"{v:g}" for v in np.log2(r.best)) for rule, r in found.items()}
    return Result(
        verdict,
        f"Best log2 rates at widths {', '.join(map(str, sizes))}: {places['mup']} under muP, {places['sp']} with the standard "
        f"parametrization. At width {sizes[-1]} the transferred rate ends at {transferred.mean():.4f}, having cost {1 + share:.2f} "
        f"trainings of the target; two random rates there at {twice.mean():.4f} (p = {p:.2g}), five times the transfer's cost at "
        f"{many.mean():.4f}; the standard parametrization at its own best at {sp.mean[-1].min():.4f}.",
        baseline,
        "Wilcoxon signed-rank on the final loss, one-sided, pairs by seed; fixed margins otherwise",
        seeds,
        {
            "moved_mup": moved["mup"],
            "moved_sp": moved["sp"],
            "transferred": float(transferred.mean()),
            "two_direct": float(twice.mean()),
            "five_times_direct": float(many.mean()),
            "best_of_grid_mup": float(mup.mean[-1].min()),
            "best_of_grid_sp": float(sp.mean[-1].min()),
            "cost_in_target_trainings": 1 + share,
            "p": p,
            **{
                f"{r}_best_{s}": float(np.log2(v))
                for r, f in found.items()
                for s, v in zip(sizes, f.best, strict=True)
            },
        },
    )


def _best_of(losses: Any, count: int) -> Any:
    """Mean over all choices of so many rates of the lowest loss among them, by seed; a broken training counts as no better than
    the worst that ended.
    """
    worst = losses[np.isfinite(losses)].max()
    finite = np.where(np.isfinite(losses), losses, worst)
    chosen = [finite[list(rows)].min(axis=0) for rows in combinations(range(len(losses)), count)]
    return np.mean(chosen, axis=0)
