"""The deep kernel: gradients, interpolation, trends, missing inputs, determinism."""

from __future__ import annotations

import numpy as np
import pytest

from tunewright.models import deep_kernel as model


def rows(n: int, p: int = 5, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, p))


def test_its_gradient_is_that_of_finite_differences() -> None:
    x, y = rows(12), np.random.default_rng(1).normal(size=12)
    usual = np.linspace(-2, 0, 5)
    values = model._initial(usual + 0.3, 3)
    _, slopes = model.loss_and_gradient(values, x, y, usual)
    for value, slope in zip(values, slopes, strict=True):
        for at in [tuple(s // 2 for s in value.shape), tuple(s - 1 for s in value.shape)]:
            kept = value[at]
            found = []
            for step in (1e-5, -1e-5):
                value[at] = kept + step
                found.append(model.loss_and_gradient(values, x, y, usual)[0])
            value[at] = kept
            assert slope[at] == pytest.approx((found[0] - found[1]) / 2e-5, rel=1e-4, abs=1e-8)


def test_learning_raises_the_likelihood() -> None:
    x = rows(40)
    y = np.sin(2 * x[:, 0]) + 0.5 * x[:, 1]
    kernel = model.fit(x, y)
    inputs = (x - kernel.middle) / kernel.width
    usual = np.full(5, -0.8)
    before = model.loss_and_gradient(model._initial(usual, 0), inputs, y - y.mean(), usual)[0]
    assert model.loss_and_gradient(kernel.parameters, inputs, y - y.mean(), usual)[0] < before - 0.3


def test_it_predicts_what_it_has_not_seen_and_knows_how_well() -> None:
    x, q = rows(120), rows(200, seed=9)

    def truth(z: np.ndarray) -> np.ndarray:
        out: np.ndarray = np.sin(2 * z[:, 0]) + 0.5 * z[:, 1] * z[:, 2]
        return out

    y = truth(x)
    posterior = model.condition(model.fit(x, y), x, y)
    mean, std = model.predict(posterior, q)
    error = mean - truth(q)
    assert np.mean(error**2) < 0.35 * truth(q).var()
    assert np.mean(np.abs(error) < 2 * std) > 0.7
    at, near = model.predict(posterior, x)
    assert np.mean((at - y) ** 2) < 0.02
    assert np.median(near) < np.median(std)


def test_a_trend_goes_on_beyond_the_data() -> None:
    x = np.linspace(0, 1, 30)[:, None]
    y = 3 * x[:, 0] - 1.5
    posterior = model.condition(model.fit(x, y), x, y)
    ahead = model.predict(posterior, np.array([[1.4]]))[0][0]
    assert ahead == pytest.approx(2.7, abs=0.4)


def test_missing_inputs_count_as_usual_and_constant_ones_not_at_all() -> None:
    x = rows(30)
    x[:, 4] = 7.0
    x[::3, 2] = np.nan
    y = x[:, 0]
    kernel = model.fit(x, y)
    filled = np.where(np.isnan(x), kernel.middle, x)
    assert np.allclose(kernel.features(x), kernel.features(filled))
    assert kernel.middle[2] == pytest.approx(np.nanmean(x[:, 2]))
    assert kernel.width[4] == 1.0
    assert np.isfinite(kernel.features(np.full((2, 5), np.nan))).all()


def test_the_same_data_give_the_same_process() -> None:
    x = rows(25)
    one, two = model.fit(x, x[:, 1]), model.fit(x.copy(), x[:, 1].copy())
    for a, b in zip(one.parameters, two.parameters, strict=True):
        assert np.array_equal(a, b)


def test_equal_results_and_equal_rows_are_survived() -> None:
    x = np.ones((8, 3))
    posterior = model.condition(model.fit(x, np.zeros(8)), x, np.zeros(8))
    mean, std = model.predict(posterior, rows(4, 3))
    assert np.isfinite(mean).all()
    assert (std > 0).all()
    assert np.abs(mean).max() < 1e-9


def test_a_result_that_is_not_finite_is_refused() -> None:
    x = rows(6)
    y = np.array([0.0, 1.0, np.nan, 0.0, 1.0, 0.0])
    with pytest.raises(np.linalg.LinAlgError):
        model.fit(x, y)


def test_inputs_that_are_doubted_count_less_until_they_prove_themselves() -> None:
    x = rows(60, 6)
    doubt = np.array([0.0, 0.0, 0.0, 3.0, 3.0, 3.0])
    idle = model.fit(x, x[:, 0], doubt=doubt).parameters.scales
    assert idle[3:].max() < idle[:3].min() + 1.0
    useful = model.fit(x, x[:, 3], doubt=doubt).parameters.scales
    assert useful[3] > max(useful[4:].max(), idle[3] + 1.0)
