"""Cost models: units, unknown and absurd costs, the correction of an acquisition, and cooling."""

import math

import numpy as np
import pytest

from tunewright.core.domains import Float
from tunewright.core.events import Ended, Started
from tunewright.core.history import History
from tunewright.core.problem import Problem
from tunewright.core.space import Space
from tunewright.models.cost import cooled, cost_model, cost_model_of, log_costs
from tunewright.models.kernel import columns_of

COLUMNS = columns_of(np.zeros(1, dtype=np.int64), np.zeros(1, dtype=bool))
X = np.linspace(0.0, 1.0, 20)[:, None]


def test_it_learns_an_exponential_cost_in_log_seconds():
    model = cost_model({}, COLUMNS, X, 2.0 * 10.0 ** (3.0 * X[:, 0]))
    rows = np.array([[0.1], [0.55], [0.97]])
    mean, std = model.predict(rows)
    np.testing.assert_allclose(mean, math.log(2.0) + 3.0 * math.log(10.0) * rows[:, 0], atol=0.1)
    assert (std > 0.0).all()
    assert (std < 0.3).all()


def test_the_correction_is_the_log_of_the_expected_inverse_cost():
    model = cost_model({}, COLUMNS, X[::6], np.exp(5.0 * X[::6, 0] ** 2))
    rows = np.array([[0.15], [0.8]])
    mean, std = model.predict(rows)
    drawn = np.random.default_rng(0).normal(mean, std, (400_000, 2))
    for exponent in (1.0, 0.5):
        expected = np.log(np.mean(np.exp(-exponent * drawn), axis=0))
        np.testing.assert_allclose(model.correction(rows, exponent), expected, atol=0.01)
    assert model.correction(rows, 0.0).tolist() == [0.0, 0.0]
    assert model.correction(rows)[0] > model.correction(rows)[1]


def test_units_shift_every_correction_alike():
    costs = np.exp(X[:, 0] + 0.3 * np.sin(9.0 * X[:, 0]))
    seconds, hours = cost_model({}, COLUMNS, X, costs), cost_model({}, COLUMNS, X, costs / 3600.0)
    rows = np.array([[0.2], [0.4], [0.9]])
    np.testing.assert_allclose(hours.correction(rows) - seconds.correction(rows), math.log(3600.0), atol=1e-6)


def test_unknown_and_absurd_costs_are_survived():
    costs = np.full(20, np.nan)
    assert cost_model({}, COLUMNS, X, costs) is None
    costs[3] = 1.0
    assert cost_model({}, COLUMNS, X, costs) is None
    costs[4:8] = [0.0, 1e300, -5.0, 2.0]
    model = cost_model({}, COLUMNS, X, costs)
    assert np.isfinite(model.correction(X)).all()
    assert log_costs(np.array([0.0])) == pytest.approx(math.log(1e-9))
    flat = cost_model({}, COLUMNS, X, np.full(20, 60.0))
    np.testing.assert_allclose(flat.predict(X)[0], math.log(60.0), atol=1e-6)


def test_awaited_costs_narrow_the_model():
    model = cost_model({}, COLUMNS, X[::6], np.exp(5.0 * X[::6, 0] ** 2))
    row = np.array([[0.5]])
    narrow = model.given(row)
    assert narrow.predict(row)[1] < model.predict(row)[1]
    np.testing.assert_allclose(narrow.predict(row)[0], model.predict(row)[0], atol=1e-6)


def test_costs_of_a_study_include_those_of_failures():
    history = History(Problem(Space(x=Float(0, 1))))
    for i, (outcome, cost) in enumerate([("completed", 10.0), ("failed", 1000.0), ("completed", None)]):
        history.apply(Started(i, {"x": (i + 1) / 4}))
        history.apply(Ended(i, 0, outcome, {"loss": 1.0} if outcome == "completed" else None, cost=cost))
    model = cost_model_of({}, COLUMNS, history)
    low, high = model.predict(np.array([[0.25], [0.5]]))[0]
    assert low < high


@pytest.mark.parametrize(
    ("spent", "exponent"), [(0.0, 1.0), (20.0, 1.0), (60.0, 0.5), (100.0, 0.0), (500.0, 0.0)]
)
def test_cooling_by_hand(spent, exponent):
    assert cooled(spent, 20.0, 100.0) == exponent


def test_a_budget_that_the_first_trials_spent_is_cold():
    assert cooled(5.0, 5.0, 5.0) == 0.0
