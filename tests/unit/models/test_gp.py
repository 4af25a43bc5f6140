import numpy as np
import pytest

from tunewright.models import gp as model
from tunewright.models import kernel
from tunewright.models.evidence import evidence
from tunewright.models.warp import fit_warp

LEVELS = np.array([0, 0, 3, 5, 0])
CATEGORICAL = np.array([False, False, True, False, False])


def rows(n, seed=0):
    """Column 4 is active only under the first choice of column 2."""
    rng = np.random.default_rng(seed)
    x = rng.random((n, 5))
    x[:, 2] = (rng.integers(3, size=n) + 0.5) / 3
    x[:, 3] = (rng.integers(5, size=n) + 0.5) / 5
    x[x[:, 2] > 1 / 3, 4] = np.nan
    return x


def losses(x):
    return (x[:, 0] - 0.3) ** 2 + np.abs(x[:, 3] - 0.5) + (x[:, 2] > 0.5) + np.nan_to_num(x[:, 4]) * 0.5


def fitted(n=40, seed=0):
    x = rows(n, seed)
    return model.fit(x, losses(x), LEVELS, CATEGORICAL)


def test_distances_of_the_embedding():
    columns = model.columns_of(LEVELS, CATEGORICAL)
    a = np.array([0.1, 0.2, 0.5 / 3, 0.5, 0.7])
    b = np.array([0.4, 0.2, 2.5 / 3, 0.5, np.nan])
    difference = (columns.embed(a[None]) - columns.embed(b[None]))[0] ** 2
    by_column = np.bincount(columns.owner, difference, minlength=5)
    np.testing.assert_allclose(by_column, [0.09, 0.0, 1.0, 0.0, 0.2**2 + 0.1**2])
    both_off = columns.embed(np.array([b, b]))
    np.testing.assert_array_equal(both_off[0], both_off[1])


@pytest.mark.parametrize("additive", [False, True])
def test_gradient_of_the_posterior_of_hyperparameters(additive):
    x = rows(25)
    y = fit_warp(losses(x))(losses(x))
    columns = model.columns_of(LEVELS, CATEGORICAL)
    weights = np.random.default_rng(2).uniform(0.2, 1.0, 25)
    posterior = evidence(columns, x, y, weights, additive)
    v = posterior.location + np.random.default_rng(1).standard_normal(len(posterior.location)) * 0.5
    v[:5] -= 1.0
    v[6] = -4.0
    numeric = [
        (posterior.loss(v + 1e-5 * e)[0] - posterior.loss(v - 1e-5 * e)[0]) / 2e-5 for e in np.eye(len(v))
    ]
    np.testing.assert_allclose(posterior.loss(v)[1], numeric, rtol=1e-5, atol=1e-6)


def test_the_posterior_uses_the_kernel_of_the_predictions():
    x = rows(12)
    y = np.random.default_rng(3).standard_normal(12)
    columns = model.columns_of(LEVELS, CATEGORICAL)
    posterior = evidence(columns, x, y, None, True)
    v = posterior.start() + 0.3
    hyper = posterior.hyper(v)
    points = columns.embed(x)
    matrix = kernel.covariance(columns, hyper, points, points) + np.exp(hyper.noise) * np.eye(12) + 1.0
    away = (v - posterior.location) / posterior.spread
    expected = 0.5 * (y @ np.linalg.solve(matrix, y) + np.linalg.slogdet(matrix - 1.0)[1] + away @ away)
    assert posterior.loss(v)[0] == pytest.approx(expected, rel=1e-9)
    np.testing.assert_allclose(posterior.vector(hyper), v)


def test_an_additive_function_is_learned_from_few_rows():
    rng = np.random.default_rng(0)
    x, query = rng.random((40, 6)), rng.random((200, 6))

    def f(x):
        return np.sin(6.0 * x).sum(axis=1)

    columns = model.columns_of(np.zeros(6, dtype=np.int64), np.zeros(6, dtype=bool))
    errors = []
    for additive in (True, False):
        y = f(x)
        hyper = model.tune(columns, x, y, additive=additive)
        points = columns.embed(x)
        matrix = kernel.covariance(columns, hyper, points, points) + np.exp(hyper.noise) * np.eye(40)
        guess = kernel.covariance(columns, hyper, columns.embed(query), points) @ np.linalg.solve(matrix, y)
        errors.append(float(np.std(guess - f(query))))
    assert errors[0] < 0.3 * errors[1]


def test_replicated_rows_are_trusted_more():
    x = np.array([[0.2], [0.8]])
    columns = model.columns_of(np.zeros(1, dtype=np.int64), np.zeros(1, dtype=bool))
    hyper = model.Hyper(np.array([-1.0]), 0.0, np.log(0.5))
    gp = model.update(columns, hyper, x, np.array([0.0, 1.0]), np.array([0.1, 1.0]))
    _, std = model.predict(gp, x)
    assert std[0] < 0.5 * std[1]


def test_gradient_of_the_prediction():
    gp, x = fitted(), rows(6, seed=3)
    _, _, by_mean, by_std = model.predict_with_gradient(gp, x)
    for j in range(5):
        step = np.zeros(5)
        step[j] = 1e-6
        up, down = model.predict(gp, x + step), model.predict(gp, x - step)
        if j == 2:
            np.testing.assert_array_equal(by_mean[:, j], 0.0)
            continue
        off = np.isnan(x[:, j])
        np.testing.assert_allclose(by_mean[:, j], np.where(off, 0.0, (up[0] - down[0]) / 2e-6), atol=1e-5)
        np.testing.assert_allclose(by_std[:, j], np.where(off, 0.0, (up[1] - down[1]) / 2e-6), atol=1e-4)


def test_gradient_call_predicts_the_same():
    gp, x = fitted(), rows(6, seed=4)
    mean, std = model.predict(gp, x)
    again = model.predict_with_gradient(gp, x)
    np.testing.assert_allclose(again[0], mean)
    np.testing.assert_allclose(again[1], std, rtol=1e-6)


def test_it_learns_a_conditional_function():
    gp, x = fitted(80), rows(300, seed=5)
    mean, _ = model.predict(gp, x)
    truth = gp.warp(losses(x))
    assert np.corrcoef(mean, truth)[0, 1] > 0.95
    # The columns that matter have shorter length scales than the one that does not.
    assert gp.hyper.length[[0, 2, 3]].max() < gp.hyper.length[1]


def test_conditioning_equals_fitting_on_all_rows():
    x = rows(30)
    gp = fitted(30)
    new = rows(4, seed=9)
    y = gp.warp(losses(new))
    grown = model.condition_on(gp, new, y)
    query = rows(10, seed=11)
    points = gp.columns.embed(np.vstack([x, new]))
    cross = kernel.covariance(gp.columns, gp.hyper, gp.columns.embed(query), points)
    matrix = kernel.covariance(gp.columns, gp.hyper, points, points) + np.exp(gp.hyper.noise) * np.eye(34)
    mean, std = model.predict(grown, query)
    expected = gp.mean + cross @ np.linalg.solve(matrix, np.concatenate([gp.y, y]) - gp.mean)
    variance = np.exp(gp.hyper.scale) - np.einsum("ij,ji->i", cross, np.linalg.solve(matrix, cross.T))
    np.testing.assert_allclose(mean, expected, atol=1e-6)
    np.testing.assert_allclose(std**2, variance, atol=1e-7)


def test_awaited_rows_lower_uncertainty_and_keep_the_mean():
    gp, new, query = fitted(), rows(3, seed=7), rows(20, seed=8)
    grown = model.condition_on(gp, new)
    np.testing.assert_allclose(model.predict(grown, query)[0], model.predict(gp, query)[0], atol=1e-6)
    assert np.all(model.predict(grown, query)[1] <= model.predict(gp, query)[1] + 1e-9)
    assert np.all(model.predict(grown, new)[1] < 0.8 * model.predict(gp, new)[1])
    assert model.condition_on(gp, new[:0]) is gp


def test_an_awaited_row_that_is_already_known_is_harmless():
    gp = fitted()
    grown = model.condition_on(gp, gp.x[[3, 3]])
    assert np.isfinite(model.predict(grown, rows(5, seed=2))[0]).all()


@pytest.mark.parametrize("x", [rows(1), np.repeat(rows(1), 6, axis=0)])
def test_one_row_or_equal_rows_can_be_fitted(x):
    gp = model.fit(x, np.ones(len(x)), LEVELS, CATEGORICAL)
    mean, std = model.predict(gp, rows(5, seed=1))
    assert np.isfinite(mean).all()
    assert np.all(std > 0)


def test_starting_from_earlier_hyperparameters_is_not_worse():
    x = rows(40)
    y = fit_warp(losses(x))(losses(x))
    columns = model.columns_of(LEVELS, CATEGORICAL)
    first = model.tune(columns, x, y)
    again = model.tune(columns, x, y, first, max_evaluations=5)

    posterior = evidence(columns, x, y, None, True)

    def value(h):
        return posterior.loss(posterior.vector(h))[0]

    assert value(again) <= value(first) + 1e-9


def test_many_rows_are_thinned_to_the_best_and_a_spread():
    kept = model._best_and_spread(np.arange(1000.0)[::-1], 100)
    assert len(np.unique(kept)) == 100
    assert set(range(950, 1000)) <= set(kept.tolist())
    assert kept.min() < 20
    x = rows(700)
    gp = model.fit(x, losses(x), LEVELS, CATEGORICAL)
    assert len(gp.x) == model.MAX_EXACT


def test_draws_have_the_posterior_moments():
    gp, x = fitted(15), rows(4, seed=6)
    draws = model.sample(gp, x, np.random.default_rng(0), 20_000)
    mean, std = model.predict(gp, x)
    # Five standard errors of a mean of 20,000 draws.
    np.testing.assert_allclose(draws.mean(axis=0), mean, atol=5 * std.max() / 20_000**0.5)
    np.testing.assert_allclose(draws.std(axis=0), std, rtol=0.05, atol=1e-3)


def test_the_warp_is_learned():
    rng = np.random.default_rng(4)
    x = rng.random((60, 2))
    smooth = np.sin(4.0 * x[:, 0]) + x[:, 1]
    columns = model.columns_of(np.zeros(2, dtype=np.int64), np.zeros(2, dtype=bool))
    assert model.learn(columns, x, smooth).offset > 0.3
    assert model.learn(columns, x, np.exp(6.0 * smooth)).offset <= 0.3
