"""The batch size that costs no loss grows as a power of the data, and of the compute, and small models tell that of larger ones.

Shuai et al. (2024) train language models of 125M to 2.6B weights over batch sizes and rates and fit laws of the best batch at a fixed
amount of data and at a fixed compute budget, which they extrapolate to larger models.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from claims import critical_batch, micro_lm
from claims.record import Claim, Result, Verdict
from tunewright.errors import ConfigError, MissingExtra
from tunewright.scaling.laws.fitting import fit_power

CLAIM = Claim(
    title="Best batch sizes follow power laws of the data and of the compute, which extrapolate from small models to larger ones.",
    paper="Shuai, Wang, Wu, Jiang and Ren 2024, arXiv:2412.01505",
    check=(
        "One-block character transformers of widths 16, 32 and 48 (5k to 33k weights, muP) on a generated language read once; batches "
        "of 32 to 1024 letters, five rates a factor of two apart at each, five seeds, Adam at a constant rate with averaged weights. "
        "At this scale the loss only falls as batches shrink to a single piece of text, so what is followed is the largest batch whose "
        "loss at its best rate is within 2 % of the best. Batch and loss laws are fitted to widths 16 and 32 on 16k to 65k letters and "
        "asked for width 48 on 131k; at fixed compute (6 weights x letters) the best of the widths is taken at every budget."
    ),
    rule=(
        "Holds at reduced scale if the intervals of the exponents of data and of compute lie above 0, the batch foretold for width 48 on "
        "131k letters is within a factor of 1.5 of that measured, and the loss measured there lies in the 95 % interval of the loss law; "
        "not reproduced otherwise."
    ),
)
_WITHIN = 0.02
_RESAMPLES = 200
Seeds = dict[tuple[int, int], Any]


def near_best(grid: dict[int, micro_lm.Cell], tokens: float, seeds: Seeds, width: int) -> tuple[float, float]:
    """Largest batch, in letters, within the margin of the best loss at so many letters, and that loss; NaN if beyond the grid."""
    rows = sorted(grid)
    losses = np.array(
        [micro_lm.best_rate(grid[r], tokens, seeds.get((width, r), slice(None)))[1] for r in rows]
    )
    batch = np.log([grid[r].batch for r in rows])
    best = int(np.argmin(losses))
    limit = losses[best] * (1 + _WITHIN)
    for i in range(best + 1, len(rows)):
        if losses[i] > limit:
            share = (limit - losses[i - 1]) / (losses[i] - losses[i - 1])
            return math.exp(batch[i - 1] + share * (batch[i] - batch[i - 1])), float(losses[best])
    return math.nan, float(losses[best])


def frontier(
    grids: dict[int, dict[int, micro_lm.Cell]], sizes: dict[int, int], budget: float, seeds: Seeds
) -> float:
    """Near-best batch of the width with the lowest loss at a compute budget; NaN where fewer than two widths have the data."""
    found = []
    for width, grid in grids.items():
        tokens = budget / (6 * sizes[width])
        if 2.0**13.5 <= tokens <= min(c.tokens for c in grid.values()):
            batch, loss = near_best(grid, tokens, seeds, width)
            found.append((loss, batch))
    return min(found)[1] if len(found) > 1 else math.nan


def run(quick: bool) -> Result:
    """Checks the claim."""
    baseline = "a batch size that does not grow"
    try:
        import torch  # noqa: F401
    except ImportError:
        return Result("cannot be checked here", str(MissingExtra("PyTorch is needed.")), baseline, "none", ())
    widths = (16, 32) if quick else critical_batch.WIDTHS
    small, large = widths[:-1], widths[-1]
    fitted = [2.0 ** (k / 2) for k in ((27, 28) if quick else range(28, 33))]
    asked = 2.0**15 if quick else 2.0**17
    grids = {w: micro_lm.grid(w, quick) for w in widths}
    sizes = {w: micro_lm.curves(g[8]).parameters for w, g in grids.items()}
    budgets = 6 * sizes[32] * 2.0 ** (np.arange(28, 34) / 2)
    count = len(grids[large][8].seeds)
    rng = np.random.default_rng(0)
    laws = []
    for i in range(_RESAMPLES + 1):
        # The first is the measurement itself, the others resample seeds within every model and batch size
        seeds = {(w, r): rng.integers(0, count, count) for w in widths for r in grids[w]} if i else {}
        laws.append(_laws(grids, sizes, small, fitted, budgets, seeds))
    data, data_constant, compute = laws[0]
    low, high = (_end(np.array(laws[1:]), q) for q in (0.025, 0.975))
    foretold = math.exp(data_constant + data * math.log(asked))
    batch, loss = near_best(grids[large], asked, {}, large)
    try:
        value, ends = _loss(grids, sizes, small, fitted, large, asked)
    except ConfigError as error:
        return Result(
            "not reproduced", f"The loss law was refused: {error}", baseline, "none", tuple(range(count))
        )
    met = abs(math.log(foretold / batch)) <= math.log(1.5) and ends[0] <= loss <= ends[1]
    verdict: Verdict = "holds at reduced scale" if met and low[0] > 0 and low[2] > 0 else "not reproduced"
    return Result(
        verdict,
        f"The largest batch within 2 % of the best loss goes as data^{data:.3g} (95 % interval {low[0]:.3g} to {high[0]:.3g}) at a fixed "
        f"model and as compute^{compute:.3g} ({low[2]:.3g} to {high[2]:.3g}) on the frontier. For width {large} on {asked:.0f} letters "
        f"the law says {foretold:.0f} letters, measured {batch:.0f}; the loss law says {value:.3f} ({ends[0]:.3f} to {ends[1]:.3f}), "
        f"measured {loss:.3f}.",
        baseline,
        "percentile bootstrap over seeds within every model and batch size; bootstrap over runs for the loss law",
        (0,) if quick else (0, 1, 2, 3, 4),
        {
            "data_exponent": data,
            "data_exponent_low": low[0],
            "data_exponent_high": high[0],
            "compute_exponent": compute,
            "compute_exponent_low": low[2],
            "compute_exponent_high": high[2],
            "foretold_batch": foretold,
            "measured_batch": batch,
            "foretold_loss": value,
            "foretold_loss_low": ends[0],
            "foretold_loss_high": ends[1],
            "measured_loss": loss,
        },
    )


def _loss(
    grids: dict[int, dict[int, micro_lm.Cell]],
    sizes: dict[int, int],
    small: tuple[int, ...],
    fitted: list[float],
    large: int,
    asked: float,
) -> tuple[float, tuple[float, float]]:
    """Loss that a law of the small models foretells for the large one, and its interval."""
    cells = [(w, d) for w in small for d in fitted]
    law = fit_power(
        [near_best(grids[w], d, {}, w)[1] for w, d in cells],
        {"params": [sizes[w] for w, _ in cells], "tokens": [d for _, d in cells]},
        output="loss",
    )
    said = law.predict(params=sizes[large], tokens=asked)
    return float(said.value), (float(said.low), float(said.high))


def _laws(
    grids: dict[int, dict[int, micro_lm.Cell]],
    sizes: dict[int, int],
    small: tuple[int, ...],
    fitted: list[float],
    budgets: Any,
    seeds: Seeds,
) -> tuple[float, float, float]:
    """Exponent and constant of the data law of the small models, and the exponent of the compute law of all."""
    near = [[near_best(grids[w], d, seeds, w)[0] for d in fitted] for w in small]
    data = critical_batch.exponents(np.tile(fitted, len(small))[:, None], np.ravel(near))
    spent = np.array([frontier(grids, sizes, c, seeds) for c in budgets])
    compute = critical_batch.exponents(budgets[:, None], spent)
    return float(data[1]), float(data[0]), float(compute[1])


def _end(cloud: Any, share: float) -> list[float]:
    """Quantile of each column, of those resamples that had one; NaN where none had."""
    columns = [c[np.isfinite(c)] for c in cloud.T]
    return [float(np.quantile(c, share)) if len(c) else math.nan for c in columns]
