import numpy as np
import pytest

from tunewright.models import criteria
from tunewright.models import gp as model
from tunewright.models.acquisition import lower_confidence_bound, maximize_acquisition
from tunewright.models.entropy import max_value_entropy

LEVELS = np.array([0, 4, 0])
CATEGORICAL = np.array([False, True, False])


def repair(codes):
    codes = np.clip(codes, 0.0, 1.0)
    codes[:, 1] = (np.minimum((codes[:, 1] * 4).astype(int), 3) + 0.5) / 4
    return codes


def rows(n, seed=0):
    return repair(np.random.default_rng(seed).random((n, 3)))


def losses(x):
    return (x[:, 0] - 0.62) ** 2 + 0.3 * (np.abs(x[:, 1] - 0.625) > 0.1) + (x[:, 2] - 0.5) ** 2


def fitted(n=25):
    x = rows(n)
    return model.fit(x, losses(x), LEVELS, CATEGORICAL)


def chosen(name, gp, seed=1):
    rng = np.random.default_rng(seed)
    cover = rows(200, seed + 10)
    return criteria.criterion(name, gp, float(gp.y.min()), cover, rng), cover, rng


@pytest.mark.parametrize("name", criteria.NAMES)
def test_each_finds_the_good_region_and_nothing_known(name):
    gp = fitted()
    acquisition, cover, rng = chosen(name, gp)
    row, value = maximize_acquisition(
        acquisition, gp.x, LEVELS, CATEGORICAL, cover, gp.x[np.argsort(gp.y)[:3]], repair, rng
    )
    assert np.isfinite(value)
    assert losses(row[None])[0] < np.quantile(losses(rows(2000, 7)), 0.2)
    assert np.abs(gp.x - row).max(axis=1).min() > 1e-6


@pytest.mark.parametrize("name", ["log_ei", "lcb", "mes"])
def test_the_slope_is_the_derivative(name):
    gp = fitted()
    acquisition, _, _ = chosen(name, gp)
    x = rows(6, 5)
    value, slope = acquisition.slope(x)
    np.testing.assert_allclose(value, acquisition.value(x), rtol=1e-6)
    for j in (0, 2):
        step = np.zeros(3)
        step[j] = 1e-6
        by_hand = (acquisition.value(x + step) - acquisition.value(x - step)) / 2e-6
        np.testing.assert_allclose(slope[:, j], by_hand, rtol=1e-3, atol=1e-3)
    np.testing.assert_array_equal(slope[:, 1], 0.0)


def test_partial_derivatives_of_the_formulas():
    mean, std = np.array([0.3, -0.2, 1.0]), np.array([0.5, 0.1, 0.3])
    minima = np.array([-1.0, -0.4])
    for function in (
        lambda m, s: criteria.log_max_value_entropy(m, s, minima),
        lambda m, s: criteria.optimism(m, s, 0.1, 4.0),
    ):
        _, by_mean, by_std = function(mean, std)
        np.testing.assert_allclose(
            by_mean, (function(mean + 1e-6, std)[0] - function(mean - 1e-6, std)[0]) / 2e-6, rtol=1e-5
        )
        np.testing.assert_allclose(
            by_std, (function(mean, std + 1e-6)[0] - function(mean, std - 1e-6)[0]) / 2e-6, rtol=1e-5
        )


def test_values_are_those_of_the_papers():
    mean, std = np.array([0.3, -0.2]), np.array([0.5, 0.1])
    minima = np.array([-1.0, -0.4])
    np.testing.assert_allclose(
        np.exp(criteria.log_max_value_entropy(mean, std, minima)[0]), max_value_entropy(mean, std, minima)
    )
    # Far below the incumbent the corner is not felt.
    np.testing.assert_allclose(
        np.exp(criteria.optimism(mean, std, 3.0, 4.0)[0]), 3.0 - lower_confidence_bound(mean, std, 4.0)
    )


def test_the_soft_corner_keeps_the_order_and_stays_finite():
    z = np.array([-1e6, -10.0, -3.1, -2.9, 0.0, 1.0, 1e6])
    value, steep = criteria.log_softplus(z)
    assert np.isfinite(value).all()
    assert np.all(np.diff(value) > 0)
    assert np.all(steep > 0)
    assert value[4] == pytest.approx(np.log(0.1 * np.log(2.0)))


def test_far_rows_keep_a_finite_information():
    value, by_mean, by_std = criteria.log_max_value_entropy(
        np.array([1e3]), np.array([1e-6]), np.array([-1.0])
    )
    assert np.isfinite([value, by_mean, by_std]).all()


def test_a_thompson_draw_is_one_function():
    gp = fitted(8)
    acquisition, _, _ = chosen("thompson", gp)
    x = rows(50, 3)
    first, again = acquisition.value(x), acquisition.value(x)
    np.testing.assert_allclose(first, again, atol=0.05)
    other, _, _ = chosen("thompson", gp, seed=2)
    assert np.abs(first - other.value(x)).max() > 0.1


@pytest.mark.parametrize("name", criteria.NAMES)
def test_the_same_chance_gives_the_same_choice(name):
    gp = fitted(10)
    x = rows(20, 3)
    a, b = (chosen(name, gp)[0].value(x) for _ in range(2))
    np.testing.assert_array_equal(a, b)


def test_a_row_given_a_drawn_minimum_is_that_of_a_process_that_was_told():
    gp = fitted(12)
    x, others = rows(5, 4), rows(3, 6)
    mean, std, shared = model.predict_with_covariance(gp, x, others)
    np.testing.assert_allclose(mean, model.predict(gp, x)[0])
    np.testing.assert_allclose(std, model.predict(gp, x)[1])
    level, spread = model.predict(gp, others)
    told = model.condition_on(gp, others[:1], level[:1] - 1.0)
    noise = np.exp(gp.hyper.noise)
    by_hand = mean - shared[:, 0] / (spread[0] ** 2 + noise)
    np.testing.assert_allclose(model.predict(told, x)[0], by_hand, rtol=1e-6, atol=1e-9)
