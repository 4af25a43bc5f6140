"""One Gaussian process per level of training, and how far each can be trusted about the longest.

*Use when* it is to be learned from which level on results mean something. *Do not use when* losses at the longest level are to
be predicted (``models.joint``).

*Paper*: Li et al. 2022 (Hyper-Tune, arXiv:2201.06834), section 4.1: the weight of a level is how often a draw of its process
ranks the results of the highest level best (``theta``); after Li et al. 2021 (MFES-HB, arXiv:2012.03011).

*Differs*: the highest level is judged by leave-one-out instead of cross-validation; while no level has enough results to
judge by, all that have a process count the same.

*Cost*: ``processes`` one fit of at most 60 rows per level; ``trust`` O(draws n^2) per level for n results of the highest.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tunewright.models import gp as model
from tunewright.models.sources import thinned
from tunewright.models.staged import Staged
from tunewright.models.warp import fit_warp
from tunewright.numerics.linalg import inverse_from_cholesky

FloatArray = NDArray[np.float64]

_ROWS = _JUDGES = 60
_LEAST, _ENOUGH = 3, 4
_DRAWS = 100


def learn_levels(staged: Staged, columns: model.Columns) -> dict[int, model.Hyper]:
    """Hyperparameters of each level with at least three different losses in the snapshot, by number of the level."""
    snapshot = staged.snapshot
    codes = staged.history.codes[snapshot.trials]
    found = {}
    for level in range(len(staged.steps)):
        x, losses = _level_rows(codes, snapshot.losses[:, level])
        if len(np.unique(losses)) >= _LEAST:
            found[level] = model.tune(
                columns, x, fit_warp(losses)(losses), additive=False, max_evaluations=20
            )
    return found


def _level_rows(codes: FloatArray, losses: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Codes and losses of the trials that have one, at most so many: the better half the best, then evenly."""
    have = np.flatnonzero(~np.isnan(losses) & ~np.isnan(codes).all(axis=1))
    return thinned(codes[have], losses[have], _ROWS)


def processes(
    columns: model.Columns, hyper: dict[int, model.Hyper], codes: FloatArray, losses: FloatArray
) -> dict[int, model.GP]:
    """A process of each level that has hyperparameters and losses, by number of the level.

    Args:
        columns: The embedding.
        hyper: From ``learn_levels``.
        codes: Codes of the trials, shape ``(n, d)``.
        losses: Loss of each at each level, NaN where not known, shape ``(n, k)``.
    """
    out = {}
    for level, found in hyper.items():
        x, values = _level_rows(codes, losses[:, level])
        if len(values):
            out[level] = model.update(columns, found, x, values)
    return out


def misranked(draws: FloatArray, losses: FloatArray) -> FloatArray:
    """Pairs that each draw puts in the wrong order, shape ``(draws,)``.

    Args:
        draws: Predicted losses, shape ``(draws, n)``.
        losses: Losses that came true, shape ``(n,)``.

    Source: Li et al. 2022, section 4.1.
    """
    wrong = (draws[:, :, None] < draws[:, None, :]) ^ (losses[:, None] < losses[None, :])
    out: FloatArray = wrong.sum(axis=(1, 2)).astype(np.float64) / 2.0
    return out


def trust(
    found: dict[int, model.GP], codes: FloatArray, losses: FloatArray, rng: np.random.Generator
) -> FloatArray:
    """Share of draws in which each level's process ranks the results of the highest level best, shape ``(k,)``.

    Zero for levels without a process, equal for the others while there is nothing to judge by.

    Args:
        found: From ``processes``.
        codes: Codes of the trials, shape ``(n, d)``.
        losses: Loss of each at each level, NaN where not known, shape ``(n, k)``.
        rng: Makes the draws and breaks ties.

    Source: Li et al. 2022, section 4.1.
    """
    weights = np.zeros(losses.shape[1])
    known = np.flatnonzero(~np.isnan(losses).all(axis=1))
    judged = int(np.max(np.flatnonzero((~np.isnan(losses)).sum(axis=0) >= _ENOUGH), initial=-1))
    usable = sorted(found)
    if judged < 0 or not usable or not len(known):
        weights[usable] = 1.0 / max(1, len(usable))
        return weights
    x, truth = thinned(
        codes[~np.isnan(losses[:, judged])], losses[~np.isnan(losses[:, judged]), judged], _JUDGES
    )
    wrong = np.full((len(usable), _DRAWS), np.inf)
    for i, level in enumerate(usable):
        if level == judged and len(truth) == len(found[level].y):
            mean, std = leave_one_out(found[level])
        elif level < judged:
            mean, std = model.predict(found[level], x)
        else:
            continue
        wrong[i] = misranked(mean + std * rng.standard_normal((_DRAWS, len(truth))), truth)
    lowest = (wrong == wrong.min(axis=0)) & np.isfinite(wrong)
    chosen = np.argmax(lowest * (1.0 - rng.random(wrong.shape)), axis=0)
    weights[usable] = np.bincount(chosen, minlength=len(usable)) / _DRAWS
    return weights


def leave_one_out(gp: model.GP) -> tuple[FloatArray, FloatArray]:
    """Mean and deviation of every known value given all others, shape ``(n,)`` each.

    Source: Rasmussen and Williams 2006, eq. 5.12.
    """
    diagonal = np.diagonal(inverse_from_cholesky(gp.factor))
    return gp.y - gp.alpha / diagonal, np.sqrt(1.0 / diagonal)
