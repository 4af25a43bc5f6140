import math

import numpy as np
import pytest

import tunewright as tw
from tunewright.core.events import Ended, Started
from tunewright.core.history import History
from tunewright.core.problem import Problem
from tunewright.core.space import Space
from tunewright.models.data import pool, pooled


def test_trials_of_one_configuration_become_one_row_in_order_of_the_first():
    x = np.array([[0.5, np.nan], [0.1, 0.2], [0.5, np.nan], [0.5, 0.0], [0.5, np.nan]])
    found = pool(x, np.array([1.0, 7.0, 2.0, 5.0, 6.0]))
    np.testing.assert_array_equal(found.rows, x[[0, 1, 3]])
    assert found.losses.tolist() == [3.0, 7.0, 5.0]
    assert found.counts.tolist() == [3.0, 1.0, 1.0]
    # Deviations -2, -1, 3: variance 7, over three.
    assert found.errors[0] == pytest.approx(math.sqrt(7 / 3))
    assert np.isnan(found.errors[1:]).all()


def test_different_configurations_are_left_as_they_are():
    x, losses = np.array([[0.5], [0.1]]), np.array([1.0, 2.0])
    found = pool(x, losses)
    assert found.rows is x
    assert found.counts.tolist() == [1.0, 1.0]
    assert pool(np.empty((0, 3)), np.empty(0)).rows.shape == (0, 3)


def test_equal_large_losses_keep_an_exact_mean():
    found = pool(np.zeros((3, 1)), np.full(3, 0.1))
    assert found.losses[0] == 0.1
    assert found.errors[0] == 0.0


def test_failures_count_as_in_the_training_set():
    history = History(Problem(Space(x=tw.Float(0, 1))))
    for i, (x, loss) in enumerate([(0.5, 1.0), (0.5, 3.0), (0.2, None), (0.9, 9.0)]):
        history.apply(Started(i, {"x": x}))
        history.apply(Ended(i, 1, "failed") if loss is None else Ended(i, 1, "completed", {"loss": loss}))
    found = pooled(history, np.random.default_rng(0))
    assert found.losses.tolist() == [2.0, 9.0, 9.0]
    assert found.counts.tolist() == [2.0, 1.0, 1.0]
