"""The estimators against finite differences and against numbers computed by hand."""

from __future__ import annotations

import numpy as np
import pytest

from tunewright.errors import ConfigError
from tunewright.models.smoothness import feed_forward, logistic_regression, naive_bayes


def test_a_network_by_hand():
    # |A| = 5, |W| = 2, k = 3, n = 2: (2/3) / 2 * 5 / 2.
    assert feed_forward([[3.0, 0.0], [0.0, 4.0]], [[2.0], [0.0]], 3) == pytest.approx(5 / 6)


def test_larger_weights_are_less_smooth_and_zero_weights_do_not_divide():
    assert logistic_regression([[1.0]], [[2.0]], 2) == pytest.approx(0.25)
    assert logistic_regression([[1.0]], [[4.0]], 2) < logistic_regression([[1.0]], [[2.0]], 2)
    assert np.isfinite(logistic_regression([[1.0]], [[0.0]], 2))


def test_naive_bayes_is_the_second_derivative_of_its_likelihood():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 50)
    x = rng.normal(size=(50, 2)) * [1.0, 2.0] + y[:, None]
    rest = x - np.array([x[y == c].mean(axis=0) for c in (0, 1)])[y]

    def loss(variance):
        return float(np.mean(np.sum(0.5 * np.log(variance) + rest**2 / (2 * variance), axis=1)))

    v = (rest**2).mean(axis=0)
    second = []
    for j in range(2):
        h = 1e-3 * v[j] * np.eye(2)[j]
        second.append((loss(v + h) - 2 * loss(v) + loss(v - h)) / (1e-3 * v[j]) ** 2)
    assert naive_bayes(x, y) == pytest.approx(-np.linalg.norm(second), rel=1e-4)


@pytest.mark.parametrize(
    "call",
    [
        lambda: feed_forward([1.0], [[1.0]], 2),
        lambda: feed_forward([[float("nan")]], [[1.0]], 2),
        lambda: feed_forward([[1.0]], [[1.0]], 1),
        lambda: naive_bayes([[1.0], [2.0]], [0]),
    ],
)
def test_what_cannot_be_used_is_refused(call):
    with pytest.raises(ConfigError, match="needs"):
        call()
