"""The update of the distribution, its margin, and the chances of options."""

from __future__ import annotations

import numpy as np
import pytest

from tunewright.models import cma


def minimised(function, d, size, generations, seed=0):
    """Best value after so many generations on [0, 1]^d."""
    rng = np.random.default_rng(seed)
    search, rate = cma.normal(np.full(d, 0.5), 0.2), cma.rates(d, size)
    best = np.inf
    for _ in range(generations):
        points = np.array([search.draw(rng.standard_normal(d)) for _ in range(size)])
        values = np.array([function(p) for p in points])
        best = min(best, values.min())
        search = cma.update(search, points[np.argsort(values)[: len(rate.weights)]], rate)
    return best, search


def test_the_mean_moves_to_the_weighted_mean_of_the_best():
    search, rate = cma.normal(np.array([0.5, 0.5]), 0.1), cma.rates(2, 6)
    points = np.array([[0.55, 0.5], [0.5, 0.45], [0.5, 0.5]])
    after = cma.update(search, points, rate)
    assert after.mean == pytest.approx(rate.weights @ points)


def test_a_step_of_the_expected_length_is_what_the_path_adds_up_to():
    search, rate = cma.normal(np.array([0.5, 0.5]), 0.1), cma.rates(2, 6)
    points = np.array([[0.6, 0.5]] * 3)
    after = cma.update(search, points, rate)
    pace = np.sqrt(rate.c_sigma * (2 - rate.c_sigma) * rate.mu_eff)
    assert after.path_sigma == pytest.approx([pace, 0.0])
    assert after.sigma == pytest.approx(0.1 * np.exp(rate.c_sigma / rate.d_sigma * (pace / rate.chi - 1)))


def test_far_points_are_cut_to_a_length():
    search, rate = cma.normal(np.array([0.5, 0.5]), 0.01), cma.rates(2, 6)
    after = cma.update(search, np.array([[1.0, 0.5]] * 3), rate)
    assert after.mean[0] == pytest.approx(0.5 + 0.01 * (np.sqrt(2) + 1.0))


def test_it_finds_the_bottom_of_a_rotated_ellipsoid():
    turn = np.linalg.qr(np.random.default_rng(3).standard_normal((6, 6)))[0]
    axes = 10.0 ** np.linspace(0, 3, 6)
    best, search = minimised(lambda x: float(((turn @ (x - 0.6)) ** 2 * axes).sum()), 6, 9, 250)
    assert best < 1e-12
    assert search.condition > 100


def test_only_variances_adapt_in_many_dimensions():
    best, search = minimised(lambda x: float(((x - 0.4) ** 2).sum()), 120, 18, 150)
    assert search.cov.shape == (120,)
    assert best < 0.05


def test_without_levels_nothing_is_corrected():
    search = cma.normal(np.array([0.3, 0.7]), 1e-6)
    cma.keep_margin(search, np.array([0, 1]), 0.01)
    assert search.mean.tolist() == [0.3, 0.7]
    assert search.scale.tolist() == [1.0, 1.0]


def test_the_root_and_its_inverse_belong_together():
    _, search = minimised(lambda x: float(x @ x), 4, 8, 10)
    assert search.root @ search.root == pytest.approx(search.cov, abs=1e-12)
    assert search.root @ search.inverse == pytest.approx(np.eye(4), abs=1e-9)


def test_chances_follow_the_best_and_keep_a_least():
    state = cma.options([np.full(4, 0.25), np.full(2, 0.5)])
    for _ in range(60):
        state = cma.update_options(state, np.array([[2, 1], [2, 1]]), np.array([0.6, 0.4]))
    assert state.chances[0][2] > 0.8
    assert all(q.sum() == pytest.approx(1.0) for q in state.chances)
    # By hand: (1 - 0.73^(1/2)) / (k - 1).
    assert state.chances[0].min() == pytest.approx((1 - 0.73**0.5) / 3)
    assert state.chances[1].min() == pytest.approx(1 - 0.73**0.5)


def test_a_pick_in_proportion_to_the_chances_changes_nothing():
    state = cma.options([np.array([0.5, 0.5])])
    same = cma.update_options(state, np.array([[0], [1]]), np.array([0.5, 0.5]))
    assert same.chances[0].tolist() == [0.5, 0.5]


def test_levels_are_drawn_by_their_chances():
    state = cma.options([np.array([0.2, 0.5, 0.3])])
    drawn = [int(state.draw(np.array([u]))[0]) for u in (0.1, 0.3, 0.69, 0.71, 0.999)]
    assert drawn == [0, 1, 1, 2, 2]
