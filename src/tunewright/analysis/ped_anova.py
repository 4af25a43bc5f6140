"""How much each parameter decides whether a trial is among the best.

Use when      a few dozen trials or more are done, to see what to tune further and what to fix.
Do not use    below about 20 trials: the intervals will say so.
Paper         Watanabe, Bansal and Hutter 2023, PED-ANOVA, arXiv:2304.10255, Algorithm 1.
Differs       densities are kernel estimates on a grid of 24 cells, weighted, so that a bootstrap costs one matrix
              product; trials count less where the sampler looked more, so that a parameter it has settled still shows;
              what chance alone would give (random sets in place of the best trials) is subtracted;
              the columns of an order or a selection add up to one parameter;
              a conditional parameter is judged among the trials in which it is active and weighted by the share of
              the best trials that use it; trials that were trained longer count as better than those stopped before.
Cost          O(d (n log n + (bootstraps + draws) n cells)).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tunewright.analysis.shares import HasHistory, Importance, history_of, parameters, ranking
from tunewright.core.columns import Column
from tunewright.core.history import History
from tunewright.errors import ConfigError

Floats = NDArray[np.float64]
LEAST = 8
_CELLS, _BOOTSTRAPS, _DRAWS = 24, 100, 50
_TOP, _TOP_LEAST, _MANY = 0.1, 8, 1000
_BOUND = 20.0  # most that a trial in an empty region counts, against one where the sampler looked most


def ped_anova(study_or_history: HasHistory | History, seed: int = 0) -> list[Importance]:
    """Importance of every parameter for being among the best tenth of trials, largest first.

    Args:
        study_or_history: A study with one objective, or its history; of several objectives the first counts.
        seed: For the bootstrap.

    Raises:
        ConfigError: If fewer than 8 trials have a result.
    """
    history = history_of(study_or_history)
    space = history.problem.space
    _, codes = ranking(history)
    n = len(codes)
    if n < LEAST:
        raise ConfigError(
            f"Importance needs at least {LEAST} trials with a result; got {n}. Run more trials."
        )
    rng = np.random.default_rng(seed)
    weights = np.vstack([np.ones(n), rng.multinomial(n, np.full(n, 1.0 / n), size=_BOOTSTRAPS)]).astype(float)
    best = _top(weights)
    by_column = np.stack(
        [_column(codes[:, j], c, weights, best, rng) for j, c in enumerate(space.columns)], axis=1
    )
    raw = np.add.reduceat(by_column, [e.first for e in space.entries], axis=1)
    total = raw.sum(axis=1, keepdims=True)
    share = np.divide(raw, total, out=np.zeros_like(raw), where=total > 0)
    low, high = np.quantile(share[1:], [0.05, 0.95], axis=0)
    found = [
        Importance(
            name, float(share[0, j]), float(min(low[j], share[0, j])), float(max(high[j], share[0, j]))
        )
        for j, name in enumerate(parameters(space))
    ]
    return sorted(found, key=lambda i: (-i.value, -i.high, i.name))


def _column(codes: Floats, column: Column, weights: Floats, best: Floats, rng: np.random.Generator) -> Floats:
    """Unnormalised importance of one column under every weighting, shape ``(1 + bootstraps,)``.

    Args:
        codes: Its codes, best trial first, NaN where inactive, shape ``(n,)``.
        column: What it is.
        weights: How often each trial counts, shape ``(1 + bootstraps, n)``.
        best: The same, of the best trials only.
        rng: For the sets drawn by chance.
    """
    active = ~np.isnan(codes)
    if active.sum() < LEAST or np.ptp(codes[active]) == 0:
        return np.zeros(len(weights))
    cells = _cells(codes[active], column)
    level = _levelled(cells)
    inside = (weights if active.all() else weights[:, active]) * level
    top = _top(inside)
    seen = _divergence(top @ cells[: top.shape[1]], inside @ cells)
    chance = _chance(top[0], level, cells, rng)
    used = 1.0 if active.all() else best @ active[: best.shape[1]] / best.sum(axis=1)
    out: Floats = np.maximum(seen - chance, 0.0) * used
    return out


def _chance(top: Floats, level: Floats, cells: Floats, rng: np.random.Generator) -> float:
    """Divergence of as many trials drawn without regard to their rank: the median over draws.

    "As many" is Kish's effective number, since weights differ; drawing without putting back varies less, by the
    share of trials that is not drawn.
    """
    k = max(1, round(float(top.sum() ** 2 / (top**2).sum())))
    ends = np.cumsum(level)
    rows = np.searchsorted(ends, rng.random((_DRAWS, k)) * ends[-1], side="right")
    drawn = np.stack([cells[r].sum(axis=0) for r in np.minimum(rows, len(cells) - 1)])
    spread = _divergence(drawn, (level @ cells)[None])
    return float(np.median(spread)) * (1.0 - float(top.sum() / level.sum()))


def _levelled(cells: Floats) -> Floats:
    """Weights that make up for where the sampler looked most, mean 1, shape ``(n,)``; bounded against lone trials."""
    crowd = cells @ cells.mean(axis=0)
    weight = np.minimum(1.0 / crowd, _BOUND / crowd.max())
    out: Floats = weight / weight.mean()
    return out


def _top(weights: Floats) -> Floats:
    """Weights restricted to the best trials, which come first; without columns at the end where all are 0."""
    n = weights.shape[1]
    total = weights.sum(axis=1, keepdims=True)
    keep = np.maximum(np.ceil(_TOP * total), np.minimum(_TOP_LEAST, np.ceil(total / 3)))
    part = n if n <= _MANY else n // 3
    so_far = np.cumsum(weights[:, :part], axis=1)
    if part < n and (so_far[:, -1:] < keep).any():
        part, so_far = n, np.cumsum(weights, axis=1)
    head = weights[:, :part]
    out: Floats = np.clip(keep - (so_far - head), 0.0, head)
    return out


def _cells(codes: Floats, column: Column) -> Floats:
    """Mass that each trial puts on each cell, rows sum to 1, shape ``(n, cells)``."""
    levels = column.domain.levels
    if column.domain.categorical or 0 < levels <= 12:
        mass = np.zeros((len(codes), levels))
        mass[np.arange(len(codes)), np.minimum((codes * levels).astype(np.int64), levels - 1)] = 1.0
        smooth: Floats = 0.95 * mass + 0.05 / levels
        return smooth
    middle = (np.arange(_CELLS) + 0.5) / _CELLS
    width = max(1.06 * float(np.std(codes)) * len(codes) ** -0.2, 1.0 / _CELLS)
    near = np.exp(-0.5 * ((codes[:, None] - middle) / width) ** 2)
    # A little everywhere: else one lone trial far out makes up the whole divergence.
    kernel: Floats = 0.9 * near / near.sum(axis=1, keepdims=True) + 0.1 / _CELLS
    return kernel


def _divergence(best: Floats, every: Floats) -> Floats:
    """Pearson divergence of the density of the best from that of all, for every row."""
    p = best / best.sum(axis=1, keepdims=True)
    q = every / every.sum(axis=1, keepdims=True)
    out: Floats = ((p / q - 1.0) ** 2 * q).sum(axis=1)
    return out
