"""The critical batch size grows with the data and hardly with the model.

Zhang et al. (2024) train language models of 85M to 1.2B weights with a constant rate and averaged weights, measure the batch size
beyond which reaching a loss takes a fifth more examples, and find ``N^0.087`` at fixed data against ``D^0.47`` at a fixed model.
Infinite-dimensional least squares gives them the same picture in theory.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from claims import least_squares, micro_lm
from claims.record import Claim, Result, Verdict
from tunewright.errors import ConfigError, MissingExtra
from tunewright.scaling.critical import critical_batch_size, fit_critical_law

CLAIM = Claim(
    title="The critical batch size (20 % more examples than the best batch needs) grows with the data and hardly with the model.",
    paper="Zhang et al. 2024, arXiv:2410.21676, section 3 (scaling of N and D apart) and section 4 (least squares)",
    check=(
        "One-block character transformers of widths 16, 32 and 48 (5k to 33k weights, muP) on a generated language read once; batches "
        "of 32 to 1024 letters, five rates a factor of two apart at each, five seeds, Adam at a constant rate with averaged weights; "
        "the target is the best loss after 16k to 93k letters. Exponents of parameters and data by least squares on logarithms, "
        "intervals by resampling the seeds of every batch size. Beside it averaged SGD on Gaussian least squares, computed exactly, "
        "in 64 and 256 dimensions on 1024 to 8192 examples."
    ),
    rule=(
        "Holds at reduced scale if the interval of the data exponent lies above 0, the parameter exponent is at most half the data "
        "exponent in size, and in least squares the exponent of the dimension is below 0.05 and that of the data above 0.2; not "
        "reproduced otherwise."
    ),
)
WIDTHS = (16, 32, 48)
HORIZONS = tuple(2.0 ** (k / 2) for k in range(28, 34))
_RESAMPLES = 300


def target(cells: dict[int, micro_lm.Cell], tokens: float) -> float:
    """The best mean loss after so many letters over all batch sizes and rates."""
    return min(micro_lm.best_rate(c, tokens)[1] for c in cells.values())


def measured(cells: dict[int, micro_lm.Cell], steps: Any) -> float:
    """Critical batch size in letters from steps of shape ``(batch sizes,)``; NaN where it is refused.

    Batch sizes from the first that missed the target are left out: they took at least twice the letters.
    """
    sizes = np.array([cells[r].batch for r in sorted(cells)], dtype=float)
    missed = np.flatnonzero(~np.isfinite(steps))
    end = int(missed[0]) if len(missed) else len(steps)
    try:
        return critical_batch_size(sizes[:end], steps[:end]).size
    except ConfigError:
        return math.nan


def grids(
    widths: tuple[int, ...], horizons: tuple[float, ...], quick: bool
) -> tuple[list[tuple[float, float]], list[dict[int, micro_lm.Cell]], list[Any]]:
    """Parameters and tokens, cells and steps (seeds, batch sizes) of every model and horizon."""
    where, cells, steps = [], [], []
    for width in widths:
        grid = micro_lm.grid(width, quick)
        parameters = micro_lm.curves(grid[8]).parameters
        for tokens in horizons:
            where.append((float(parameters), tokens))
            cells.append(grid)
            steps.append(micro_lm.steps_to(grid, target(grid, tokens)))
    return where, cells, steps


def resampled(
    where: list[tuple[float, float]], cells: list[dict[int, micro_lm.Cell]], steps: list[Any]
) -> tuple[Any, Any]:
    """Critical batch sizes of every model and horizon, shape ``(m,)``, and over resampled seeds, shape ``(r, m)``."""
    sizes = np.array([measured(c, s.mean(axis=0)) for c, s in zip(cells, steps, strict=True)])
    rng = np.random.default_rng(0)
    drawn = []
    for _ in range(_RESAMPLES):
        # One draw for all horizons of a model and batch size: they are moments of the same trainings
        seeds = {p: rng.integers(0, s.shape[0], s.shape) for (p, _), s in zip(where, steps, strict=True)}
        means = [
            np.take_along_axis(s, seeds[p], axis=0).mean(axis=0)
            for (p, _), s in zip(where, steps, strict=True)
        ]
        drawn.append([measured(c, m) for c, m in zip(cells, means, strict=True)])
    return sizes, np.array(drawn)


def exponents(inputs: Any, sizes: Any) -> Any:
    """Coefficients of ``log size = c + sum of exponents times log inputs``, shape ``(..., 1 + k)``; NaN with too few sizes.

    Args:
        inputs: Shape ``(m, k)``.
        sizes: Shape ``(..., m)``; NaN where there is none.
    """
    x = np.column_stack([np.ones(len(inputs)), np.log(inputs)])

    def solve(row: Any) -> Any:
        kept = np.isfinite(row)
        if kept.sum() < x.shape[1] or np.linalg.matrix_rank(x[kept]) < x.shape[1]:
            return np.full(x.shape[1], math.nan)
        return np.linalg.lstsq(x[kept], np.log(row[kept]), rcond=None)[0]

    return np.apply_along_axis(solve, -1, sizes)


def run(quick: bool) -> Result:
    """Checks the claim."""
    baseline = "the other exponent"
    try:
        import torch  # noqa: F401
    except ImportError:
        return Result("cannot be checked here", str(MissingExtra("PyTorch is needed.")), baseline, "none", ())
    widths, horizons = (WIDTHS[:2], (2.0**13.5, 2.0**14)) if quick else (WIDTHS, HORIZONS)
    where, cells, steps = grids(widths, horizons, quick)
    sizes, drawn = resampled(where, cells, steps)
    found, cloud = exponents(where, sizes), exponents(where, drawn)
    kept = cloud[np.isfinite(cloud).all(axis=1)]
    spread = np.quantile(kept, [0.025, 0.975], axis=0) if len(kept) else np.full((2, 3), math.nan)
    exact = [(d, n) for d in (64, 256) for n in ((512, 1024) if quick else (1024, 2048, 4096, 8192))]
    law = fit_critical_law(
        [d for d, _ in exact],
        [n for _, n in exact],
        [least_squares.critical(d, n, [2**k for k in range(9)]) for d, n in exact],
    )
    models = bool(spread[0, 2] > 0 and abs(found[1]) <= found[2] / 2)
    theory = abs(law.parameters) < 0.05 and law.tokens > 0.2
    verdict: Verdict = "holds at reduced scale" if models and theory else "not reproduced"
    text = ", ".join(f"{v:.3g}" for v in sizes)
    return Result(
        verdict,
        f"Critical batch size of the transformers: data exponent {found[2]:.3g} (95 % interval {spread[0, 2]:.3g} to "
        f"{spread[1, 2]:.3g}), parameter exponent {found[1]:.3g} ({spread[0, 1]:.3g} to {spread[1, 1]:.3g}); letters by width and "
        f"horizon: {text}. Exact least squares: data {law.tokens:.3g}, dimension {law.parameters:.2g}.",
        baseline,
        "percentile bootstrap over seeds within every batch size, shared by the horizons of a training",
        (0,) if quick else (0, 1, 2, 3, 4),
        {
            "data_exponent": found[2],
            "data_exponent_low": spread[0, 2],
            "data_exponent_high": spread[1, 2],
            "parameter_exponent": found[1],
            "parameter_exponent_low": spread[0, 1],
            "parameter_exponent_high": spread[1, 1],
            "least_squares_data_exponent": law.tokens,
            "least_squares_dimension_exponent": law.parameters,
            "refused": int(np.isnan(sizes).sum()),
            **{f"critical_N{p:.0f}_D{d:.0f}": v for (p, d), v in zip(where, sizes, strict=True)},
        },
    )
