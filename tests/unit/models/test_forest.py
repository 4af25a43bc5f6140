"""Trees against sums by hand, options and inactive parameters, and the law of total variance."""

from __future__ import annotations

import time

import numpy as np
import pytest

from tunewright.models import forest

ONE = (np.zeros(1, dtype=np.int64), np.zeros(1, dtype=np.bool_))


def rng(seed=0):
    return np.random.default_rng(seed)


def named(k):
    return np.array([k]), np.array([True])


def test_a_tree_cuts_where_it_explains_the_most():
    x = np.array([[0.1], [0.2], [0.6], [0.9]])
    y = np.array([1.0, 2.0, 8.0, 9.0])
    tree = forest.fit(x, y, *ONE, rng(), trees=1, bootstrap=False, leaf=2)
    # The whole: mean 5, variance (16 + 9 + 9 + 16) / 4; two leaves of two rows each.
    np.testing.assert_allclose(tree.mean, [5.0, 1.5, 8.5])
    np.testing.assert_allclose(tree.variance, [12.5, 0.25, 0.25])
    assert 0.2 <= tree.cut[0] < 0.6
    assert tree.feature.tolist() == [0, -1, -1]
    mean, variance = forest.predict(tree, np.array([[0.0], [1.0]]))
    np.testing.assert_allclose(mean, [1.5, 8.5])
    np.testing.assert_allclose(variance, [0.25, 0.25])


def test_the_variance_is_that_within_leaves_plus_that_between_trees():
    r = rng(3)
    x = r.random((60, 1))
    y = np.sin(6 * x[:, 0]) + 0.3 * r.standard_normal(60)
    trees = forest.fit(x, y, *ONE, rng(1), trees=7, leaf=4)
    query = r.random((20, 1))
    at = forest.leaves(trees, query)
    mean, variance = forest.predict(trees, query)
    mu, within = trees.mean[at], trees.variance[at]
    np.testing.assert_allclose(mean, mu.mean(axis=0))
    # Hutter et al. 2014: E[sigma^2 + mu^2] - E[mu]^2.
    np.testing.assert_allclose(variance, (within + mu**2).mean(axis=0) - mu.mean(axis=0) ** 2, atol=1e-12)
    assert np.all(variance >= 0.0)


def test_leaves_of_logarithms_average_on_the_original_scale():
    x = np.array([[0.1], [0.2], [0.3]])
    y = np.log([1.0, 2.0, 6.0])
    tree = forest.fit(x, y, *ONE, rng(), trees=1, bootstrap=False, leaf=3, logs=True)
    assert tree.mean[0] == pytest.approx(np.log(3.0))
    assert tree.variance[0] == pytest.approx(y.var())


def test_leaves_keep_the_least_number_of_rows_and_single_rows_are_learned_exactly():
    x, y = rng().random((50, 1)), rng(1).random(50)
    exact = forest.fit(x, y, *ONE, rng(), trees=3, bootstrap=False)
    np.testing.assert_allclose(forest.predict(exact, x)[0], y)
    coarse = forest.fit(x, y, *ONE, rng(), trees=3, bootstrap=False, leaf=5)
    for at in forest.leaves(coarse, x):
        assert np.unique(at, return_counts=True)[1].min() >= 5


def test_options_are_told_apart_whatever_their_order():
    options = np.tile(np.arange(6), 5)
    y = np.array([0.0, 5.0, 0.0, 5.0, 0.0, 5.0])[options]
    tree = forest.fit((options[:, None] + 0.5) / 6, y, *named(6), rng(), trees=4, leaf=10)
    assert np.all(np.isin(np.round(tree.mean[tree.feature < 0], 9), [0.0, 5.0]))
    mean, variance = forest.predict(tree, (np.arange(6)[:, None] + 0.5) / 6)
    np.testing.assert_allclose(mean, [0, 5, 0, 5, 0, 5], atol=1e-12)
    np.testing.assert_allclose(variance, 0.0, atol=1e-12)


def test_options_never_seen_are_uncertain():
    x = (np.repeat([0, 1], 10)[:, None] + 0.5) / 4
    y = np.repeat([0.0, 1.0], 10)
    trees = forest.fit(x, y, *named(4), rng(), trees=40)
    _, variance = forest.predict(trees, (np.arange(4)[:, None] + 0.5) / 4)
    assert variance[2:].min() > 0.1 > variance[:2].max()


def test_inactive_rows_have_their_own_branch():
    x = np.array([[np.nan]] * 5 + [[0.0]] * 5 + [[0.7]] * 5)
    y = np.repeat([3.0, -1.0, 2.0], 5)
    tree = forest.fit(x, y, *ONE, rng(), trees=1, bootstrap=False)
    mean, _ = forest.predict(tree, np.array([[np.nan], [0.0], [0.7], [1.0]]))
    np.testing.assert_allclose(mean, [3.0, -1.0, 2.0, 2.0])


def test_inactive_options_have_their_own_branch():
    x = np.array([[np.nan]] * 4 + [[0.25]] * 4 + [[0.75]] * 4)
    y = np.repeat([0.0, 1.0, 7.0], 4)
    tree = forest.fit(x, y, *named(2), rng(), trees=1, bootstrap=False)
    np.testing.assert_allclose(forest.predict(tree, x)[0], y)


@pytest.mark.parametrize("y", [np.zeros(20), np.full(20, 1e300), np.full(20, -7.25)])
def test_a_constant_is_a_leaf(y):
    trees = forest.fit(rng().random((20, 1)), y, *ONE, rng(), trees=3)
    np.testing.assert_allclose(forest.predict(trees, np.array([[0.5]]))[0], y[:1])


def test_large_offsets_do_not_hide_differences():
    x = np.linspace(0, 1, 40)[:, None]
    y = 1e8 + (x[:, 0] > 0.5)
    trees = forest.fit(x, y, *ONE, rng(), trees=5)
    np.testing.assert_allclose(forest.predict(trees, np.array([[0.1], [0.9]]))[0] - 1e8, [0.0, 1.0])


def test_no_columns_and_one_row():
    nothing = np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.bool_)
    trees = forest.fit(np.empty((3, 0)), np.array([1.0, 2.0, 3.0]), *nothing, rng(), bootstrap=False)
    assert forest.predict(trees, np.empty((2, 0)))[0].tolist() == [2.0, 2.0]
    single = forest.fit(np.array([[0.3]]), np.array([4.0]), *ONE, rng())
    assert forest.predict(single, np.array([[0.9]]))[0].tolist() == [4.0]


def test_a_share_of_the_columns_lets_weak_ones_be_cut():
    x = rng(1).random((100, 6))
    y = 10.0 * x[:, 0] + x[:, 1]
    shape = np.zeros(6, dtype=np.int64), np.zeros(6, dtype=np.bool_)
    roots = forest.fit(x, y, *shape, rng(), trees=60, share=0.34).feature[:60]
    assert len(np.unique(roots)) > 2
    assert np.all(forest.fit(x, y, *shape, rng(), trees=60).feature[:60] == 0)


def test_the_same_generator_grows_the_same_forest():
    x, y = rng(1).random((80, 1)), rng(2).random(80)
    a, b = (forest.fit(x, y, *ONE, rng(5)) for _ in range(2))
    assert a.cut.tobytes() == b.cut.tobytes()


def test_growing_takes_milliseconds():
    x = rng().random((300, 10))
    y = np.sin(4 * x[:, 0]) + x[:, 1]
    shape = np.zeros(10, dtype=np.int64), np.zeros(10, dtype=np.bool_)
    trees = forest.fit(x, y, *shape, rng())
    start = time.process_time()
    for _ in range(3):
        forest.fit(x, y, *shape, rng())
        forest.predict(trees, x)
    assert (time.process_time() - start) / 3 < 0.25
