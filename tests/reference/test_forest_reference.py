"""Forests against scikit-learn's, on Friedman's first function."""

from __future__ import annotations

import numpy as np
import pytest

from tunewright.models import forest

ensemble = pytest.importorskip("sklearn.ensemble")
tree = pytest.importorskip("sklearn.tree")


def friedman(x):
    """Friedman 1991 (Annals of Statistics 19), eq. 61."""
    wave = 10 * np.sin(np.pi * x[:, 0] * x[:, 1])
    return wave + 20 * (x[:, 2] - 0.5) ** 2 + 10 * x[:, 3] + 5 * x[:, 4]


def share_explained(told, truth):
    return 1.0 - np.mean((told - truth) ** 2) / truth.var()


def test_forests_explain_as_much_as_those_of_scikit_learn():
    ours, theirs = [], []
    for seed in range(4):
        rng = np.random.default_rng(seed)
        x, query = rng.random((300, 8)), rng.random((500, 8))
        y = friedman(x) + rng.standard_normal(300)
        shape = np.zeros(8, dtype=np.int64), np.zeros(8, dtype=np.bool_)
        mean, _ = forest.predict(forest.fit(x, y, *shape, rng, trees=30), query)
        other = ensemble.RandomForestRegressor(30, random_state=seed).fit(x, y)
        ours.append(share_explained(mean, friedman(query)))
        theirs.append(share_explained(other.predict(query), friedman(query)))
    assert np.mean(ours) > 0.75
    assert np.mean(ours) == pytest.approx(np.mean(theirs), abs=0.03)


def test_a_single_tree_has_the_leaves_of_scikit_learns():
    # Values in general position: the best cut is unique, so leaves hold the same rows wherever exactly the cuts lie.
    rng = np.random.default_rng(11)
    x, y = rng.random((120, 4)), rng.standard_normal(120)
    shape = np.zeros(4, dtype=np.int64), np.zeros(4, dtype=np.bool_)
    ours = forest.fit(x, y, *shape, rng, trees=1, bootstrap=False, leaf=6, split=12)
    theirs = tree.DecisionTreeRegressor(min_samples_leaf=6, min_samples_split=12, random_state=0).fit(x, y)
    np.testing.assert_allclose(forest.predict(ours, x)[0], theirs.predict(x), rtol=1e-9)
