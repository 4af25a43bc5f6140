from __future__ import annotations

import numpy as np
import pytest

from tunewright.models.drift import Hyper, awaiting, condition, covariance, learn, predict, scaled


def data(n: int = 30) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    x = rng.random((n, 2))
    return x, np.arange(n) / 4.0, -((x[:, 0] - 0.5) ** 2)


def test_results_are_scaled_and_outliers_and_diverged_ones_held_in() -> None:
    y = scaled(np.array([1.0, 2.0, 3.0, 4.0, 1e300, np.nan]))
    assert y.mean() == pytest.approx(0.0, abs=1e-12)
    assert y.std() == pytest.approx(1.0)
    assert y[5] == y[0] == y.min()
    assert not scaled(np.full(3, np.nan)).any()
    assert not scaled(np.full(3, 7.0)).any()
    assert np.isfinite(scaled(np.array([-1e300, 1e300, 0.0, np.inf]))).all()


def test_the_mean_follows_the_data_and_the_deviation_grows_away_from_it() -> None:
    x, t, y = data()
    drift = condition(Hyper(0.3, 0.01, 0.0), x, t, y)
    mean, deviation = predict(drift, np.array([[0.5, 0.5], [0.0, 0.5], [3.0, 3.0]]), 7.0)
    assert mean[0] > mean[1]
    assert mean[2] == pytest.approx(0.0, abs=1e-6)
    assert deviation[2] == pytest.approx(1.0)
    assert deviation[0] < 0.3


def test_what_is_long_ago_counts_less() -> None:
    x = np.array([[0.5], [0.5]])
    drift = condition(Hyper(0.3, 0.1, 0.5), x, np.array([0.0, 20.0]), np.array([1.0, -1.0]))
    mean = [float(predict(drift, x[:1], t)[0][0]) for t in (0.0, 10.0, 20.0)]
    assert mean[0] > 0.5 > abs(mean[1])
    assert mean[2] < -0.5


def test_awaited_results_shrink_the_deviation_and_leave_the_mean() -> None:
    x, t, y = data()
    drift = condition(Hyper(0.2, 0.1, 0.05), x, t, y)
    spot = np.array([[0.9, 0.1]])
    more = awaiting(drift, np.repeat(spot, 3, axis=0), np.full(3, 8.0))
    before, after = predict(drift, spot, 8.0), predict(more, spot, 8.0)
    assert after[0] == pytest.approx(before[0])
    assert after[1] < 0.5 * before[1]
    assert awaiting(drift, np.empty((0, 2)), np.empty(0)) is drift


def test_learning_tells_change_from_constancy_and_noise_from_signal() -> None:
    rng = np.random.default_rng(1)
    x, t = rng.random((80, 1)), np.arange(80.0)
    still = learn(x, t, np.sin(6 * x[:, 0]))
    moving = learn(x, t, np.sin(6 * x[:, 0] + t / 6))
    assert still.rate < moving.rate
    assert learn(x, t, rng.standard_normal(80)).noise > still.noise


def test_the_covariance_is_the_product_of_the_two_parts() -> None:
    # The first factor is that of a distance of 0.3 at length 0.4, the second 0.81 to the power of 3 / 2.
    got = covariance(
        Hyper(0.4, 0.1, 0.19), np.array([[0.1]]), np.array([1.0]), np.array([[0.4]]), np.array([4.0])
    )
    assert got[0, 0] == pytest.approx(0.75484 * 0.729, rel=1e-4)
