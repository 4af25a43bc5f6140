"""The critical batch size grows with the token budget, the best rate moves with batch and budget, and muP keeps both over widths.

Filatov et al. (2024) train transformers over grids of rate and batch on growing budgets under muP: the critical batch grows in
proportion to the budget, a fixed batch falls behind, losses become less sensitive to the rate, and none of this changes with width.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from claims import critical_batch, micro_lm
from claims.record import Claim, Result, Verdict
from tunewright.errors import ConfigError, MissingExtra
from tunewright.scaling.horizon import optimal_rate

CLAIM = Claim(
    title="The critical batch size grows in proportion to the token budget; that and the best rates are the same at all muP widths.",
    paper="Filatov et al. 2024, arXiv:2410.05838, sections 3 and 4",
    check=(
        "One-block character transformers of widths 16, 32 and 48 under muP (base 16) on a generated language read once; batches of 32 "
        "to 1024 letters, five rates a factor of two apart at each, five seeds, Adam at a constant rate with averaged weights, budgets "
        "of 16k to 93k letters. Critical batch: 20 % more letters than the best batch needs. Best rate and sensitivity (curvature of "
        "the loss in the logarithm of the rate) from parabolas at every batch and budget."
    ),
    rule=(
        "Holds at reduced scale if, over all widths, the exponent of the critical batch in the budget is between 0.5 and 1.5 with its "
        "interval above 0; width 48 and width 16 differ in critical batch by at most a factor of 1.5 and in best rate by at most a "
        "factor of 1.5, in geometric mean over what both measure; and the sensitivity falls with the budget. Not reproduced otherwise."
    ),
)


def surface(width: int, horizons: tuple[float, ...], quick: bool) -> Any:
    """Logarithms of best rate and curvature by batch size and horizon, shape ``(2, batch sizes, horizons)``; NaN at edges."""
    grid = micro_lm.grid(width, quick)
    out = np.full((2, len(grid), len(horizons)), math.nan)
    for i, rows in enumerate(sorted(grid)):
        found = micro_lm.curves(grid[rows])
        for j, tokens in enumerate(horizons):
            try:
                best = optimal_rate(grid[rows].rates, found.at(tokens).T, points=3)
            except ConfigError:
                continue
            if best.curvature > 0:
                out[:, i, j] = math.log(best.rate), math.log(best.curvature)
    return out


def slopes(values: Any, batches: Any, horizons: Any) -> Any:
    """Exponents in batch and budget of something's logarithm, each width with its own constant.

    Args:
        values: Shape ``(widths, batch sizes, horizons)``.
        batches: Letters, shape ``(batch sizes,)``.
        horizons: Shape ``(horizons,)``.
    """
    w, b, t = np.meshgrid(np.arange(len(values)), np.log(batches), np.log(horizons), indexing="ij")
    kept = np.isfinite(values)
    x = np.column_stack([*(w[kept] == k for k in range(len(values))), b[kept], t[kept]]).astype(float)
    return np.linalg.lstsq(x, values[kept], rcond=None)[0][-2:]


def run(quick: bool) -> Result:
    """Checks the claim."""
    baseline = "the narrowest width, and a budget that does not matter"
    try:
        import torch  # noqa: F401
    except ImportError:
        return Result("cannot be checked here", str(MissingExtra("PyTorch is needed.")), baseline, "none", ())
    widths, horizons = (
        (critical_batch.WIDTHS[:2], (2.0**13.5, 2.0**14))
        if quick
        else (critical_batch.WIDTHS, critical_batch.HORIZONS)
    )
    where, cells, steps = critical_batch.grids(widths, horizons, quick)
    sizes, drawn = critical_batch.resampled(where, cells, steps)
    # A constant of its own for each width, one exponent for all
    found = _growth(sizes, len(widths), horizons)
    cloud = np.array([_growth(row, len(widths), horizons) for row in drawn])
    cloud = cloud[np.isfinite(cloud)]
    low, high = np.quantile(cloud, [0.025, 0.975]) if len(cloud) else (math.nan, math.nan)
    per_width = sizes.reshape(len(widths), -1)
    with np.errstate(invalid="ignore"):
        critical_ratio = math.exp(float(np.nanmean(np.log(per_width[-1] / per_width[0]))))
    batches = [c.batch for _, c in sorted(cells[0].items())]
    rates, curvatures = np.moveaxis(np.array([surface(w, horizons, quick) for w in widths]), 1, 0)
    rate_ratio = math.exp(float(np.nanmean(rates[-1] - rates[0])))
    in_batch, in_budget = slopes(rates, batches, horizons)
    sensitivity = slopes(curvatures, batches, horizons)[1]
    parts = {
        "critical batch in proportion to the budget": 0.5 <= found <= 1.5 and low > 0,
        "critical batch the same at all widths": max(critical_ratio, 1 / critical_ratio) <= 1.5,
        "best rate the same at all widths": max(rate_ratio, 1 / rate_ratio) <= 1.5,
        "sensitivity falling with the budget": sensitivity < 0,
    }
    missed = [name for name, met in parts.items() if not met]
    verdict: Verdict = "not reproduced" if missed else "holds at reduced scale"
    return Result(
        verdict,
        f"The critical batch grows as budget^{found:.3g} (95 % interval {low:.3g} to {high:.3g}); that of width {widths[-1]} is "
        f"{critical_ratio:.3g} times that of width {widths[0]}, its best rate {rate_ratio:.3g} times. The best rate goes as "
        f"batch^{in_batch:.2g} budget^{in_budget:.2g}, the sensitivity to it as budget^{sensitivity:.2g}. "
        + (f"Missed: {', '.join(missed)}." if missed else "All parts hold."),
        baseline,
        "percentile bootstrap over seeds within every batch size, shared by the budgets of a training",
        (0,) if quick else (0, 1, 2, 3, 4),
        {
            "critical_exponent": found,
            "critical_exponent_low": float(low),
            "critical_exponent_high": float(high),
            "critical_width_ratio": critical_ratio,
            "rate_width_ratio": rate_ratio,
            "rate_batch_exponent": in_batch,
            "rate_budget_exponent": in_budget,
            "sensitivity_budget_exponent": sensitivity,
            **{
                f"critical_exponent_width{w}": _growth(per_width[i], 1, horizons)
                for i, w in enumerate(widths)
            },
        },
    )


def _growth(sizes: Any, widths: int, horizons: tuple[float, ...]) -> float:
    """Exponent in the budget shared by all widths; NaN without two budgets at any."""
    logs = np.log(np.asarray(sizes, dtype=float).reshape(widths, -1))
    x = np.where(np.isfinite(logs), np.log(horizons), math.nan)
    kept = np.isfinite(logs).sum(axis=1) >= 2
    if not kept.any():
        return math.nan
    x, y = x[kept], logs[kept]
    dx, dy = (v - np.nanmean(v, axis=1, keepdims=True) for v in (x, y))
    return float(np.nansum(dx * dy) / np.nansum(dx * dx))
