"""Acquisitions by information behave: never negative, larger where more is to be learnt, finite far away."""

from __future__ import annotations

import numpy as np

from tunewright.models.entropy import (
    gumbel_minima,
    joint_entropy,
    max_value_entropy,
    minimum_quantiles,
    sampled_minima,
)


def test_information_is_positive_and_grows_with_uncertainty():
    mean, std = np.zeros(3), np.array([0.1, 1.0, 3.0])
    gain = max_value_entropy(mean, std, np.array([-1.0, -0.5]))
    assert (gain >= 0.0).all()
    assert (np.diff(gain) > 0.0).all()


def test_far_away_it_is_finite():
    gain = max_value_entropy(np.array([1e3, -50.0]), np.array([1.0, 1.0]), np.array([0.0]))
    assert np.isfinite(gain).all()
    assert gain[0] == 0.0


def test_quantiles_are_in_order_and_below_the_lowest_mean():
    rng = np.random.default_rng(1)
    q = minimum_quantiles(rng.normal(size=200), np.full(200, 0.5), np.array([0.1, 0.5, 0.9]))
    assert (np.diff(q) > 0.0).all()


def test_draws_are_minima():
    samples = np.array([[3.0, 1.0, 2.0], [0.0, 5.0, -1.0]])
    assert sampled_minima(samples).tolist() == [1.0, -1.0]
    draws = gumbel_minima(np.array([0.0, 4.0]), np.array([1e-3, 1e-3]), 500, np.random.default_rng(0))
    assert abs(float(np.median(draws))) < 0.01


def test_a_row_that_the_optimum_explains_says_more():
    std = np.array([1.0, 1.0])
    given = np.array([[0.2, 0.9], [0.3, 0.95]])
    gain = joint_entropy(std, np.full((2, 2), 1.0), given, np.array([-1.0, -2.0]), 0.1)
    assert gain[0] > gain[1] > 0.0
