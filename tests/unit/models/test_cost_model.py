"""Cost models: units, unknown and absurd costs, the division of an acquisition, and cooling."""

import math

import numpy as np
import pytest

from tunewright.core.domains import Float
from tunewright.core.events import Ended, Started
from tunewright.core.history import History
from tunewright.core.problem import Objective, Problem
from tunewright.core.space import Space
from tunewright.errors import ConfigError
from tunewright.models.cost import cooling, cost_model, cost_objective, log_costs, per_cost
from tunewright.models.kernel import columns_of

COLUMNS = columns_of(np.zeros(1, dtype=np.int64), np.zeros(1, dtype=bool))
SPACE = Space(x=Float(0, 1))
TWO = (Objective("loss"), Objective("latency"), Objective("size", "maximize"))


def history_of(costs, objectives=TWO[:1]):
    """A study whose trials lie evenly and cost what is given, in seconds and latency."""
    history = History(Problem(SPACE, objectives))
    for i, cost in enumerate(costs):
        latency = 1.0 if cost is None else cost
        history.apply(Started(i, {"x": i / max(len(costs) - 1, 1)}))
        metrics = {"loss": 1.0, "latency": latency, "size": 1.0}
        history.apply(Ended(i, 0, "completed", metrics, cost=cost))
    return history, np.ones(len(costs), dtype=bool)


def test_it_learns_an_exponential_cost_in_log_seconds():
    x = np.linspace(0.0, 1.0, 20)
    model = cost_model({}, COLUMNS, *history_of((2.0 * 10.0 ** (3.0 * x)).tolist()))
    rows = np.array([[0.1], [0.55], [0.97]])
    mean, std = model.predict(rows)
    expected = math.log(2.0) + 3.0 * math.log(10.0) * rows[:, 0]
    np.testing.assert_allclose(model.shift + model.scale * mean, expected, atol=0.1)
    assert (std < 0.2).all()


def test_improvement_per_cost_prefers_the_cheaper_of_two_equals():
    x = np.linspace(0.0, 1.0, 20)
    model = cost_model({}, COLUMNS, *history_of((10.0**x).tolist()))
    rows = np.array([[0.0], [1.0]])
    plain = np.array([-1.0, -1.0])
    # A tenfold cost takes log 10 off, half of it with half the exponent, nothing with none.
    for exponent in (1.0, 0.5, 0.0):
        low, high = per_cost(plain, model, rows, exponent)
        assert low - high == pytest.approx(exponent * math.log(10.0), abs=0.02)
    assert per_cost(plain, model, rows, 0.0).tolist() == plain.tolist()


def test_costs_that_are_not_known_count_as_the_median():
    history, rows = history_of([1.0, None, 100.0, 10.0])
    np.testing.assert_allclose(log_costs(history, rows, None), np.log([1.0, 10.0, 100.0, 10.0]))
    history, rows = history_of([None, None])
    assert log_costs(history, rows, None).tolist() == [0.0, 0.0]
    model = cost_model({}, COLUMNS, history, rows)
    assert np.isfinite(model.predict(np.array([[0.3]]))[1]).all()


def test_absurd_costs_are_survived():
    history, rows = history_of([0.0, 1e300, 1.0, 2.0, 60.0])
    assert np.isfinite(log_costs(history, rows, None)).all()
    model = cost_model({}, COLUMNS, history, rows)
    assert np.isfinite(per_cost(np.zeros(1), model, np.array([[0.5]]))).all()


def test_an_objective_can_be_the_cost():
    history, rows = history_of([1.0, 4.0], TWO)
    assert cost_objective(history.problem, "seconds") is None
    place = cost_objective(history.problem, "latency")
    assert place == 1
    np.testing.assert_allclose(log_costs(history, rows, place), np.log([1.0, 4.0]))


@pytest.mark.parametrize(("objectives", "cost"), [(TWO, "size"), (TWO, "price"), (TWO[:1], "loss")])
def test_what_cannot_be_a_cost_is_refused(objectives, cost):
    with pytest.raises(ConfigError, match="cost must be"):
        cost_objective(Problem(SPACE, objectives), cost)


@pytest.mark.parametrize(
    ("spent", "exponent"), [(0.0, 1.0), (20.0, 1.0), (60.0, 0.5), (100.0, 0.0), (500.0, 0.0)]
)
def test_cooling_by_hand(spent, exponent):
    assert cooling(spent, 100.0, before=20.0) == exponent
