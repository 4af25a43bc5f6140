"""Counting trials that came back, ordering them, and beginning new ones."""

from __future__ import annotations

import numpy as np

from tunewright.core.domains import Float, Int
from tunewright.core.events import Ended, Paused, Reported, Started
from tunewright.core.history import History
from tunewright.core.problem import Fidelity, Limit, Objective, Problem
from tunewright.core.space import Space
from tunewright.models.population import Population, best_first, known, lost, starts

SPACE = Space(x=Float(0, 1))


def filled(problem, outcomes):
    """A population whose trials ended with these metrics, or failed where None."""
    population = Population(History(problem))
    for i, metrics in enumerate(outcomes):
        population.take(Started(i, {"x": i / 10}))
        population.take(Ended(i, 0, "failed" if metrics is None else "completed", metrics or {}))
    return population


def test_a_trial_counts_once_when_it_pauses_or_ends():
    population = Population(History(Problem(SPACE, fidelity=Fidelity(9))))
    assert population.take(Started(0, {"x": 0.5}, 3)) is None
    assert population.take(Reported(0, 0, 3, {"loss": 1.0})) is None
    assert population.take(Paused(0, 0, 3)) == 0
    assert population.take(Ended(0, 0, "stopped", step=3)) is None


def test_limits_come_before_losses_and_failures_last():
    problem = Problem(SPACE, limits=(Limit("size", 1.0),))
    outcomes = [
        {"loss": 0.0, "size": 3.0},
        None,
        {"loss": 5.0, "size": 1.0},
        {"loss": 0.0, "size": 2.0},
        {"loss": 4.0, "size": 0.0},
    ]
    history = filled(problem, outcomes).history
    assert best_first(history, range(5)).tolist() == [4, 2, 3, 0, 1]
    assert lost(history, np.arange(5)).tolist() == [False, True, False, False, False]


def test_those_that_got_further_come_first_and_equal_ones_keep_their_order():
    population = Population(History(Problem(SPACE, fidelity=Fidelity(9))))
    for i, (step, loss) in enumerate([(1, 0.0), (3, 2.0), (3, 1.0), (3, 1.0)]):
        population.take(Started(i, {"x": 0.5}, step))
        population.take(Reported(i, 0, step, {"loss": loss}))
        population.take(Paused(i, 0, step))
    assert best_first(population.history, [0, 1, 2, 3]).tolist() == [2, 3, 1, 0]
    assert best_first(population.history, [3, 2, 1, 0]).tolist() == [3, 2, 1, 0]


def test_several_objectives_go_by_front_then_crowding():
    problem = Problem(SPACE, (Objective("a"), Objective("b")))
    points = [(0, 10), (1, 9), (5, 5), (10, 0), (11, 11)]
    history = filled(problem, [{"a": float(a), "b": float(b)} for a, b in points]).history
    order = best_first(history, range(5)).tolist()
    # By hand: gaps of (0,10)-(5,5) and of (1,9)-(10,0) give the inner points 1.0 and 1.8; the ends are infinite.
    assert order == [0, 3, 2, 1, 4]


def test_rows_that_no_longer_fit_are_not_known():
    population = filled(Problem(SPACE), [{"loss": 1.0}, {"loss": 2.0}])
    population.history.codes[0] = np.nan
    assert known(population.history, [0, 1]) == [1]


def test_starts_number_their_proposals_and_end_with_a_finite_space():
    history = History(Problem(Space(n=Int(0, 2))))
    asked = []

    def propose(number, attempt):
        asked.append((number, attempt))
        return np.array([0.1])

    actions = starts(history, 5, np.random.default_rng(0), propose, {})
    assert sorted(a.config["n"] for a in actions) == [0, 1, 2]
    assert {number for number, _ in asked} == {0, 1, 2, 3}
    assert actions[0].config == {"n": 0}
