"""Conditional quantiles against closed forms, and against scikit-learn's."""

from __future__ import annotations

import numpy as np
import pytest

from tunewright.models import quantile

# Quantiles of the standard normal distribution at 1/6, 2/6, 3/6, 4/6 and 5/6 (tables of the inverse normal).
NORMAL = np.array([-0.9674216, -0.4307273, 0.0, 0.4307273, 0.9674216])


def test_quantiles_of_a_normal_response_whose_spread_grows():
    found = []
    query = np.array([[0.25], [0.75]])
    for seed in range(12):
        rng = np.random.default_rng(seed)
        x = rng.random((1500, 1))
        y = (0.5 + x[:, 0]) * rng.standard_normal(1500)
        shape = np.zeros(1, dtype=np.int64), np.zeros(1, dtype=np.bool_)
        model = quantile.fit(x, y, *shape, quantile.fan(5), rng, trees=1, leaf=150)
        found.append(quantile.predict(model, query))
    mean = np.mean(found, axis=0)
    # Leaves of 150 rows and more average the spread over some of its range; standard errors are near 0.03.
    assert mean[0] == pytest.approx(0.75 * NORMAL, abs=0.15)
    assert mean[1] == pytest.approx(1.25 * NORMAL, abs=0.2)


def test_pinball_loss_as_low_as_that_of_boosted_quantiles():
    ensemble = pytest.importorskip("sklearn.ensemble")
    metrics = pytest.importorskip("sklearn.metrics")
    p = np.array([1 / 6, 0.5, 5 / 6])
    ours, theirs = [], []
    for seed in range(3):
        rng = np.random.default_rng(seed)
        x, query = rng.random((200, 4)), rng.random((400, 4))
        y, truth = (
            np.sin(6 * z[:, 0]) + z[:, 1] + (0.1 + 0.5 * z[:, 2]) * rng.standard_normal(len(z))
            for z in (x, query)
        )
        shape = np.zeros(4, dtype=np.int64), np.zeros(4, dtype=np.bool_)
        found = quantile.predict(quantile.fit_conformal(x, y, *shape, p, rng), query)
        ours.append([metrics.mean_pinball_loss(truth, found[:, k], alpha=q) for k, q in enumerate(p)])
        boosted = [
            ensemble.GradientBoostingRegressor(loss="quantile", alpha=q, random_state=0).fit(x, y) for q in p
        ]
        theirs.append(
            [
                metrics.mean_pinball_loss(truth, b.predict(query), alpha=q)
                for b, q in zip(boosted, p, strict=True)
            ]
        )
    assert np.mean(ours) < 1.1 * np.mean(theirs)
