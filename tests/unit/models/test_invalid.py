"""Where trials fail and limits are exceeded is learned from few of them, and nothing is claimed where none were."""

from __future__ import annotations

import time

import numpy as np
import pytest

from tunewright.core.domains import Choice, Float
from tunewright.core.events import Ended, Started
from tunewright.core.history import History
from tunewright.core.problem import Limit, Problem
from tunewright.core.space import Space
from tunewright.models import invalid
from tunewright.models.kernel import columns_of

SPACE = Space(x=Float(0, 1), y=Float(0, 1), kind=Choice({"a": None, "b": Space(z=Float(0, 1))}))


def history(n, outcome, *, limits=(), seed=0):
    out = History(Problem(SPACE, limits=limits))
    for i, row in enumerate(SPACE.sample(np.random.default_rng(seed), n)):
        config = SPACE.decode(row)
        ended, metrics = outcome(config)
        out.apply(Started(i, config))
        out.apply(Ended(i, 0, ended, metrics))
    return out


def log_validity(told, memos=None, awaited=()):
    layout = told.problem.space.layout
    columns = columns_of(layout.levels, layout.categorical)
    return invalid.log_validity({} if memos is None else memos, columns, told, np.array(awaited))


def half(config):
    return ("invalid", None) if config["x"] > 0.5 else ("completed", {"loss": 1.0})


def queries(n=200):
    rows = SPACE.sample(np.random.default_rng(99), n)
    return rows, rows[:, 0] > 0.5


def test_nothing_is_said_while_every_trial_is_valid():
    assert log_validity(history(30, lambda c: ("completed", {"loss": c["x"]}))) is None
    assert log_validity(History(Problem(SPACE))) is None


def test_an_invalid_half_is_learned_from_twenty_trials():
    log_probability = log_validity(history(20, half))
    assert log_probability is not None
    rows, invalid = queries()
    p = np.exp(log_probability(rows))
    assert p[~invalid].mean() > 0.7 > 0.35 > p[invalid].mean()
    assert np.mean((p < 0.5) == invalid) > 0.85


def test_few_trials_leave_it_uncertain():
    probability = log_validity(history(2, lambda c: ("failed", None)))
    assert probability is not None
    p = np.exp(probability(queries()[0]))
    # At a label of 1 with the least variance, 1 / 2 + 0.05, the normal distribution function is 0.089.
    assert p.min() > 0.08
    assert p.max() < 0.5


def test_failures_by_chance_say_little_about_places():
    rng = np.random.default_rng(5)
    chance = history(60, lambda c: ("failed", None) if rng.random() < 0.3 else ("completed", {"loss": 0.0}))
    by_chance = log_validity(chance)(queries()[0])
    by_place = log_validity(history(60, half))(queries()[0])
    assert np.exp(by_chance).std() < 0.5 * np.exp(by_place).std()


def test_failures_and_limits_multiply():
    def outcome(config):
        return ("failed", None) if config["x"] > 0.7 else ("completed", {"loss": 0.0, "size": config["y"]})

    found = log_validity(history(60, outcome, limits=(Limit("size", 0.5),)))
    rows, _ = queries()
    good = (rows[:, 0] < 0.7) & (rows[:, 1] < 0.5)
    assert np.mean((np.exp(found(rows)) > 0.5) == good) > 0.9


def test_awaited_trials_leave_the_expectation_as_it_is():
    told = history(20, half)
    rows, _ = queries()
    alone, awaiting = (log_validity(told, awaited=more)(rows) for more in ((), rows[:3]))
    np.testing.assert_array_equal(alone > np.log(0.5), awaiting > np.log(0.5))
    assert not np.array_equal(alone[:3], awaiting[:3])


def test_an_invalid_branch_is_learned():
    found = log_validity(
        history(30, lambda c: ("failed", None) if c["kind"] == "b" else ("completed", {"loss": 0.0}))
    )
    assert found is not None
    rows, _ = queries()
    inside = ~np.isnan(rows[:, 3])
    p = np.exp(found(rows))
    assert p[inside].max() < 0.4 < 0.7 < p[~inside].min()


def test_limits_are_learned_from_their_margins():
    kept = history(
        40, lambda c: ("completed", {"loss": 0.0, "size": 1e6 * c["x"]}), limits=(Limit("size", 3e5),)
    )
    found = log_validity(kept)
    assert found is not None
    rows, _ = queries()
    p = np.exp(found(rows))
    assert np.mean((p > 0.5) == (rows[:, 0] < 0.3)) > 0.9
    assert np.all(np.isfinite(found(rows)))
    assert found(rows).max() <= 0.0


def test_limits_that_were_always_kept_are_no_reason():
    kept = history(30, lambda c: ("completed", {"loss": 0.0, "size": 0.1}), limits=(Limit("size", 3.0),))
    assert log_validity(kept) is None


def test_huge_margins_stay_finite():
    kept = history(
        20,
        lambda c: ("completed", {"loss": 0.0, "size": 1e300 if c["x"] > 0.5 else -1e300}),
        limits=(Limit("size", 0.0),),
    )
    found = log_validity(kept)
    assert found is not None
    assert np.all(np.isfinite(found(queries()[0])))


def test_the_same_history_says_the_same():
    a, b = (log_validity(history(25, half)) for _ in range(2))
    assert a is not None
    assert b is not None
    assert a(queries()[0]).tobytes() == b(queries()[0]).tobytes()


@pytest.mark.parametrize("n", [100])
def test_a_hundred_trials_take_milliseconds(n):
    told, memos = history(n, half), {}
    log_validity(told, memos)
    start = time.process_time()
    for _ in range(5):
        log_validity(told, memos)
    assert (time.process_time() - start) / 5 < 0.05
