"""Weights and quantiles by hand, the conformal correction by the paper's formula, and coverage where noise varies."""

from __future__ import annotations

import numpy as np
import pytest

from tunewright.models import forest, quantile

ONE = (np.zeros(1, dtype=np.int64), np.zeros(1, dtype=np.bool_))
FAN = quantile.fan(9)


def rng(seed=0):
    return np.random.default_rng(seed)


def test_one_leaf_gives_the_quantiles_of_the_sample():
    x, y = rng().random((9, 1)), np.array([9.0, 1, 5, 3, 7, 2, 8, 4, 6])
    model = quantile.fit(x, y, *ONE, quantile.fan(3), rng(), leaf=9)
    # 1/9 each: the first value whose share reaches 1/4 is the third, 1/2 the fifth, 3/4 the seventh.
    assert quantile.predict(model, x[:2]).tolist() == [[3.0, 5.0, 7.0]] * 2


def test_weights_are_means_over_trees_and_sum_to_one():
    x, y = rng().random((40, 1)), rng(1).random(40)
    model = quantile.fit(x, y, *ONE, FAN, rng(), trees=4, leaf=5)
    query = rng(2).random((30, 1))
    weights = quantile.weights(model, query)
    np.testing.assert_allclose(weights.sum(axis=1), 1.0)
    rows = forest.leaves(model.forest, x[np.argsort(y)])
    for q, leaf in enumerate(forest.leaves(model.forest, query).T):
        together = rows == leaf[:, None]
        np.testing.assert_allclose(weights[q], (together / together.sum(axis=1, keepdims=True)).mean(axis=0))


def test_the_correction_is_that_of_the_paper():
    low, high = np.zeros(9), np.ones(9)
    y = np.array([0.5, 0.5, 0.5, 1.1, 1.2, -0.3, 1.4, -0.5, 2.0])
    # Scores -0.5 three times, then 0.1, 0.2, 0.3, 0.4, 0.5, 1.0; of ten places the 0.8 quantile is the eighth.
    told = quantile.conformal_shift(np.stack([low, low, high], axis=1), y, np.array([0.1, 0.5, 0.9]))
    np.testing.assert_allclose(told, [-0.5, 0.0, 0.5])


def test_too_few_rows_are_not_held_out():
    x, y = rng().random((31, 1)), rng(1).random(31)
    assert not quantile.fit_conformal(x, y, *ONE, FAN, rng()).shift.any()
    x, y = rng().random((40, 1)), rng(1).random(40)
    held = quantile.fit_conformal(x, y, *ONE, FAN, rng())
    assert len(held.values) == 36
    assert held.shift.any()


def test_quantiles_rise():
    x, y = rng().random((60, 1)), rng(1).standard_normal(60)
    told = quantile.predict(quantile.fit_conformal(x, y, *ONE, FAN, rng()), rng(3).random((50, 1)))
    assert np.all(np.diff(told, axis=1) >= 0.0)


def noisy(n, seed):
    r = rng(seed)
    x = r.random((n, 1))
    return x, np.sin(5 * x[:, 0]) + (0.1 + x[:, 0]) * r.standard_t(3, size=n)


def test_intervals_follow_the_noise():
    x, y = noisy(600, 0)
    told = quantile.predict(quantile.fit_conformal(x, y, *ONE, FAN, rng(), leaf=25), np.array([[0.1], [0.9]]))
    width = told[:, -1] - told[:, 0]
    assert width[1] > 2.0 * width[0]


def test_intervals_cover_as_often_as_they_say():
    covered = []
    for seed in range(12):
        x, y = noisy(240, seed)
        query, truth = noisy(300, 1000 + seed)
        told = quantile.predict(quantile.fit_conformal(x, y, *ONE, FAN, rng(seed), held=0.25), query)
        covered.append(np.mean((told[:, 0] <= truth) & (truth <= told[:, -1])))
    # Nominal 0.8; Romano et al. bound the mean by 0.8 from below and 0.8 + 1/61 from above, up to chance.
    assert np.mean(covered) == pytest.approx(0.81, abs=0.04)
