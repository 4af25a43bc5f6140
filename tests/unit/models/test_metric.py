"""Standardised processes: units come back, failures are worst, limits have probabilities."""

import numpy as np

from tunewright.core.domains import Float
from tunewright.core.events import Ended, Started
from tunewright.core.history import History
from tunewright.core.problem import Limit, Problem
from tunewright.core.space import Space
from tunewright.models.kernel import columns_of
from tunewright.models.metric import MAX_ROWS, best_and_newest, capped, log_feasible, metric_of, outcomes

COLUMNS = columns_of(np.zeros(1, dtype=np.int64), np.zeros(1, dtype=bool))
X = np.linspace(0.0, 1.0, 15)[:, None]


def test_means_come_back_in_the_metrics_unit():
    values = 500.0 + 100.0 * X[:, 0]
    metric = metric_of({}, COLUMNS, X, values)
    mean, _ = metric.predict(X)
    np.testing.assert_allclose(metric.shift + metric.scale * mean, values, atol=2.0)
    np.testing.assert_allclose(metric.standard(values).std(), 1.0)


def test_hyperparameters_stay_until_they_are_due():
    rng = np.random.default_rng(0)
    x = rng.random((32, 1))
    memo = {}
    first = metric_of(memo, COLUMNS, x[:31], np.sin(5 * x[:31, 0])).process.hyper
    second = metric_of(memo, COLUMNS, x, np.sin(5 * x[:, 0])).process.hyper
    assert first is second


def test_constant_and_huge_values_are_survived():
    for values in (np.full(15, 7.0), np.zeros(15), np.where(X[:, 0] > 0.5, 1e300, X[:, 0])):
        mean, std = metric_of({}, COLUMNS, X, values).predict(X)
        assert np.isfinite(mean).all()
        assert (std > 0.0).all()
    assert capped(np.array([0.0, 1.0, 2.0, 1e9])).tolist() == [0.0, 1.0, 2.0, 45.0]


def test_many_rows_are_reduced_to_the_best_and_the_newest():
    values = np.arange(1000.0)[::-1]
    keep = best_and_newest(values, MAX_ROWS)
    assert len(np.unique(keep)) == MAX_ROWS
    assert keep.min() == 700
    assert 999 in best_and_newest(np.arange(1000.0), 10)
    assert 0 in best_and_newest(np.arange(1000.0), 10)


def study():
    history = History(Problem(Space(x=Float(0, 1)), limits=(Limit("h", 0.0),)))
    for i, x in enumerate(np.linspace(0.0, 1.0, 12).tolist()):
        history.apply(Started(i, {"x": x}))
        outcome = "failed" if i == 3 else "completed"
        metrics = None if i == 3 else {"loss": x, "h": x - 0.5}
        history.apply(Ended(i, 0, outcome, metrics))
    return history


def test_failures_count_as_the_worst():
    rows, losses, good = outcomes(study())
    assert rows.all()
    assert losses[3, 0] == 1.0
    assert good.sum() == 11


def test_limits_have_probabilities():
    found = log_feasible({}, COLUMNS, study(), np.array([[0.1], [0.5], [0.9]]), np.empty((0, 1)))
    assert np.exp(found[0]) > 0.95
    assert 0.2 < np.exp(found[1]) < 0.8
    assert np.exp(found[2]) < 0.05
