"""Memory copies tell how long a step takes where FLOPs do not, and so which shape learns most in a given time.

Inbar and Sernau (2024) predict step times of transformers from a count of memory copies, put them into a Chinchilla-like law and so
predict the loss of any shape after any time; they find that models should be wider rather than deeper.
"""

from __future__ import annotations

import time
from functools import cache
from typing import Any

import numpy as np
from benchmarks import scaling_time

from claims.record import Claim, Result, Verdict
from tunewright.bench.language import Language, windows
from tunewright.errors import MissingExtra
from tunewright.numerics.statistics import wilcoxon
from tunewright.scaling.counting import TransformerShape
from tunewright.scaling.timing import best_shapes, calibrate, fit_loss, training_step

CLAIM = Claim(
    title="Memory copies predict the time of a training step better than FLOPs, and the loss after a given time from the shape alone.",
    paper="Inbar and Sernau 2024, arXiv:2406.18922, sections 3 and 4",
    check=(
        "60 transformers of random shape, 30 to calibrate and 30 to judge, one thread: copies alone against FLOPs alone, and copies, "
        "kernels and FLOPs against a curve in FLOPs with as many coefficients. Then 12 shapes (32 to 256 wide, 1 to 6 deep) train "
        "for 4 processor seconds each on a generated language (five seeds); a law fitted to 1-second trainings of 6 narrow ones "
        "chooses among them. A first run had two seeds and trained for 8 and 2 seconds."
    ),
    rule=(
        "Holds at reduced scale if on held-out shapes copies alone have a lower mean relative error than FLOPs alone, copies with "
        "kernels and FLOPs at most half the error of the curve in FLOPs, and for every seed the chosen shape ends among the best "
        "three of the 12; not reproduced otherwise."
    ),
)
_CONTEXT, _BATCH, _LETTERS = 64, 8, 27


@cache
def _texts() -> tuple[Any, Any]:
    language = Language(seed=4)
    return language.text(600_000, seed=0), language.text(20_000, seed=1)


def _shape(width: int, depth: int) -> TransformerShape:
    return TransformerShape(width, depth, max(1, width // 16), _CONTEXT, _BATCH, _LETTERS)


def _losses(shape: TransformerShape, seed: int, seconds: float, looks: int) -> list[tuple[int, float]]:
    """Tokens seen and test loss at so many moments of a training, evenly spaced in processor time; testing is not counted."""
    import torch

    torch.manual_seed(seed)
    model = scaling_time.built(shape)
    # The rate goes with 1 / width, so that narrow and wide shapes are treated alike.
    optimizer = torch.optim.AdamW(model.parameters(), lr=min(4e-3, 0.192 / shape.width))
    rng = np.random.default_rng([seed, 5])
    train, held_out = _texts()
    x, y = (torch.from_numpy(a) for a in windows(held_out, _CONTEXT, 96, np.random.default_rng(9)))
    out, used, steps = [], 0.0, 0
    for look in range(1, looks + 1):
        while used < seconds * look / looks:
            begin = time.thread_time()
            a, b = (torch.from_numpy(v) for v in windows(train, _CONTEXT, _BATCH, rng))
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(a).reshape(-1, _LETTERS), b.reshape(-1)).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            used += time.thread_time() - begin
            steps += 1
        with torch.no_grad():
            loss = float(torch.nn.functional.cross_entropy(model(x).reshape(-1, _LETTERS), y.reshape(-1)))
        out.append((steps * shape.tokens, loss))
    return out


def _times(quick: bool) -> tuple[list[dict[str, Any]], float]:
    """Errors of the models of time, and the p-value that the full model's are lower than those of the curve in FLOPs."""
    n, rounds = (12, 1) if quick else (30, 6)
    shapes = scaling_time.shapes(2 * n, seed=1)
    seconds = scaling_time.times(shapes, rounds).min(axis=1)
    rows = scaling_time.judged(shapes[:n], seconds[:n], shapes[n:], seconds[n:])
    errors = [
        [
            abs(calibrate(shapes[:n], list(seconds[:n]), basis=b).predict(s, slack=1e9).seconds / t - 1)
            for s, t in zip(shapes[n:], seconds[n:], strict=True)
        ]
        for b in ("full", "flops-curve")
    ]
    return rows, wilcoxon(*errors, "less")


def _chosen(quick: bool, seeds: tuple[int, ...]) -> dict[str, Any]:
    """Ranks of the chosen shape among all, by seed, and what the choice and the best one are."""
    widths, depths = ((32, 128), (1, 3)) if quick else ((32, 64, 128, 256), (1, 3, 6))
    budget, short = (1.0, 0.4) if quick else (4.0, 1.0)
    grid = [_shape(w, d) for w in widths for d in depths]
    near = grid + [_shape(w, d) for w in (48, 96, 192) for d in (2, 4)]
    taken = np.min([[_step(s) for s in near] for _ in range(1 if quick else 3)], axis=0)
    times = calibrate(near, list(taken), level=0.8)
    small = [_shape(w, d) for w in (32, 64, 128) for d in (1, 3)]
    runs = [(s.parameters, *look) for s in small for look in _losses(s, 100, short, 3)]
    law = fit_loss(*np.array(runs).T)
    offers = best_shapes(grid, budget, times, law)
    choice = offers[0].shape
    ends = np.array([[_losses(s, seed, budget, 1)[0][1] for s in grid] for seed in seeds])
    ranks = (ends < ends[:, [grid.index(choice)]]).sum(axis=1) + 1
    predicted = np.array([next(o.loss for o in offers if o.shape == s) for s in grid])
    mean = ends.mean(axis=0)
    best = grid[int(mean.argmin())]
    return {
        "ranks": ranks,
        "chosen": f"width {choice.width}, depth {choice.depth}",
        "best": f"width {best.width}, depth {best.depth}",
        "gap": float(mean[grid.index(choice)] - mean.min()),
        "correlation": float(np.corrcoef(predicted, mean)[0, 1]),
        "bias": float(np.mean(predicted - mean)),
        "spread_over_grid": float(mean.max() - mean.min()),
    }


def _step(shape: TransformerShape) -> float:
    from tunewright.scaling.timing import measure

    return measure(training_step(shape, scaling_time.built), repeats=5)


def run(quick: bool) -> Result:
    """Checks the claim."""
    baseline = "FLOPs of the same network, fitted in the same way to the same times"
    seeds = (0,) if quick else tuple(range(5))
    try:
        import torch
    except ImportError:
        return Result("cannot be checked here", str(MissingExtra("PyTorch is needed.")), baseline, "none", ())
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        rows, p = _times(quick)
        choice = _chosen(quick, seeds)
    finally:
        torch.set_num_threads(threads)
    error = {r["model"]: r["mean_error"] for r in rows}
    good = (
        error["copies"] < error["flops"]
        and error["full"] <= 0.5 * error["flops-curve"]
        and max(choice["ranks"]) <= 3
    )
    verdict: Verdict = "holds at reduced scale" if good else "not reproduced"
    return Result(
        verdict,
        f"Mean errors of step times on held-out shapes: copies alone {100 * error['copies']:.1f} %, FLOPs alone "
        f"{100 * error['flops']:.1f} %; copies, kernels and FLOPs {100 * error['full']:.1f} %, a curve in FLOPs with as many "
        f"coefficients {100 * error['flops-curve']:.1f} % (p = {p:.2g}). The law chose {choice['chosen']}, the best is "
        f"{choice['best']}; ranks of the choice among 12 by seed {[int(r) for r in choice['ranks']]}, {choice['gap']:.3f} nats "
        f"above the best where shapes differ by {choice['spread_over_grid']:.2f}.",
        baseline,
        "fixed margins; Wilcoxon signed-rank on relative errors of full model and FLOPs curve, one-sided, pairs by shape",
        seeds,
        {
            **{f"error {k}": v for k, v in error.items()},
            "p_full_below_curve": p,
            **{k: v for k, v in choice.items() if k != "ranks"},
            "worst_rank": int(max(choice["ranks"])),
        },
    )
