"""Shapley values of the parameters, from the library ``shap``.

*Use when* the question is what made the trials that were run good or bad, with credit for interactions shared out fairly. *Do
not use when* the question is about the space: the answer is about where the search went.

*Paper*: Lundberg et al. 2020, "From local explanations to global understanding with explainable AI for trees", Nature Machine
Intelligence 2, Algorithm 2 (path-dependent TreeSHAP).

*Differs*: the forest is scikit-learn's, on codes; options are one column each, whose values are added up, which Shapley values
allow; a parameter that a trial does not use gets a value drawn from the trials that use it, so that it cannot take the credit of
the choice that switched it off.

*Cost*: importing ``shap`` takes seconds, a forest of 32 trees and the values of at most 400 trials about half a second.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tunewright.analysis.shares import HasHistory, Importance, history_of, parameters
from tunewright.analysis.surrogate import fenced, sampled
from tunewright.core.history import History
from tunewright.core.space import Space
from tunewright.errors import missing_extra

Floats = NDArray[np.float64]
_TREES, _EXPLAINED, _BOOTSTRAPS, _DEPTH = 32, 400, 200, 12


def values(study_or_history: HasHistory | History, seed: int = 0) -> tuple[Floats, NDArray[np.int64]]:
    """Shapley values by trial and parameter.

    Args:
        study_or_history: A study, or its history; the first objective counts.
        seed: For the forest.

    Returns:
        By how much each parameter moves the expected loss of each trial from the average, shape ``(n, parameters)``; and
        the numbers of the trials, at most 400, shape ``(n,)``.

    Raises:
        MissingExtra: If ``shap`` or scikit-learn is not installed.
        ConfigError: If fewer than 20 trials have a result.
    """
    try:
        import shap
        from sklearn.ensemble import RandomForestRegressor
    except ImportError:
        raise missing_extra("shap", "shap") from None
    history = history_of(study_or_history)
    rows, _ = sampled(history, "Shapley importance")
    space = history.problem.space
    table, owner = _table(space, _filled(history.codes[rows], np.random.default_rng([seed, 66])))
    forest = RandomForestRegressor(
        _TREES, max_depth=_DEPTH, min_samples_leaf=2, max_features=0.8, random_state=seed
    )
    forest.fit(table, fenced(history.loss[rows]))
    keep = np.unique(np.linspace(0, len(rows) - 1, min(len(rows), _EXPLAINED)).astype(np.int64))
    found = np.asarray(shap.TreeExplainer(forest).shap_values(table[keep]), dtype=np.float64)
    out = np.zeros((len(keep), len(space.entries)))
    np.add.at(out.T, owner, found.T)
    return out, rows[keep]


def _filled(codes: Floats, rng: np.random.Generator) -> Floats:
    """Codes with those of inactive parameters drawn from the active ones, so that nothing tells that they are inactive."""
    out = codes.copy()
    for column in out.T:
        off = np.isnan(column)
        column[off] = 0.5 if off.all() else rng.choice(column[~off], int(off.sum()))
    return out


def _table(space: Space, codes: Floats) -> tuple[Floats, NDArray[np.int64]]:
    """What the forest sees, shape ``(n, features)``, and which parameter each feature belongs to."""
    features, owner = [], []
    for i, entry in enumerate(space.entries):
        for j in range(entry.first, entry.first + max(entry.width, 1)):
            column = codes[:, j]
            domain = space.columns[j].domain
            if domain.categorical and domain.levels > 2:
                level = np.floor(column * domain.levels)
                parts = [(level == k).astype(np.float64) for k in range(domain.levels)]
            else:
                parts = [column]
            features.extend(parts)
            owner.extend([i] * len(parts))
    return np.column_stack(features), np.array(owner, dtype=np.int64)


def shapley(study_or_history: HasHistory | History, seed: int = 0) -> list[Importance]:
    """Shares of the mean absolute Shapley value, with 90 % bootstrap intervals over trials, largest first.

    Args:
        study_or_history: A study, or its history.
        seed: For forest and bootstrap.

    Raises:
        MissingExtra: As for ``values``.
        ConfigError: As for ``values``.
    """
    found, _ = values(study_or_history, seed)
    size = np.abs(found)
    n = len(size)
    rng = np.random.default_rng([seed, 65])
    weights = np.vstack([np.ones(n), rng.multinomial(n, np.full(n, 1 / n), _BOOTSTRAPS)])
    means = weights @ size / n
    total = means.sum(axis=1, keepdims=True)
    share = np.divide(means, total, out=np.zeros_like(means), where=total > 0)
    low, high = np.quantile(share[1:], [0.05, 0.95], axis=0)
    names = parameters(history_of(study_or_history).problem.space)
    out = [
        Importance(name, float(v), float(min(a, v)), float(max(b, v)))
        for name, v, a, b in zip(names, share[0], low, high, strict=True)
    ]
    return sorted(out, key=lambda i: (-i.value, -i.high, i.name))
