"""MOEA/D: weights, scalarisation, neighbourhoods and what they come to together."""

import numpy as np
import pytest

from tunewright.bench.multiobjective import front_task, run_trials
from tunewright.core.domains import Float
from tunewright.core.problem import Limit, Objective, Problem
from tunewright.core.space import Space
from tunewright.errors import ConfigError
from tunewright.samplers.moead import Moead, chebyshev, lattice, neighbourhoods, solutions
from tunewright.samplers.random import Random


def test_weights_add_up_and_are_different():
    for m, size in ((2, 20), (3, 20), (5, 8)):
        weights = lattice(m, size)
        np.testing.assert_allclose(weights.sum(axis=1), 1.0)
        assert len(np.unique(weights, axis=0)) == len(weights)
        assert len(weights) <= max(size, m)
    assert lattice(1, 5).tolist() == [[1.0]] * 5


def test_scalarisation_by_hand():
    losses = np.array([[0.0, 10.0], [1.0, 0.0], [0.5, 5.0], [2.0, 20.0]])
    values = chebyshev(losses, np.array([[0.5, 0.5], [1.0, 0.0]]))
    # Ideal (0, 0), worst of the front (1, 10).
    np.testing.assert_allclose(values[:, 0], [0.5, 0.5, 0.25, 1.0])
    np.testing.assert_allclose(values[:, 1], [1e-6, 1.0, 0.5, 2.0])


def test_a_subproblem_takes_the_best_of_its_neighbourhood():
    near = neighbourhoods(lattice(2, 4), 2)
    assert near[:, 0].tolist() == [0, 1, 2, 3]
    values = np.array([[0.0, 0.0, 0.0, 0.0], [5.0, 5.0, 5.0, 5.0], [7.0, 7.0, 7.0, 7.0]])
    owners = np.array([0, 2, 3])
    picked = solutions(values, owners, near)
    assert picked[0] == 0
    assert picked[3] == 1
    # Without a trial of its own the best of all stands in.
    assert solutions(values[:1], np.array([0]), near).tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize("variation", ["sbx", "de"])
def test_it_dominates_more_than_random_search(variation):
    task = front_task("zdt2", 6)
    ours = [
        run_trials(Moead(variation=variation), task.problem, task.measure, seed=s, trials=250)[1]
        for s in range(3)
    ]
    theirs = [run_trials(Random(), task.problem, task.measure, seed=s, trials=250)[1] for s in range(3)]
    assert np.mean([task.share(r) for r in ours]) > np.mean([task.share(r) for r in theirs]) + 0.02


def test_limits_come_first():
    problem = Problem(Space(x=Float(0, 1)), (Objective("f"), Objective("g")), limits=(Limit("h", 0.0),))
    configs, _, _ = run_trials(
        Moead(subproblems=6, neighbours=3),
        problem,
        lambda c: ({"f": c["x"], "g": 1 - c["x"], "h": 0.8 - c["x"]}, 1.0),
        seed=2,
        trials=80,
    )
    assert sum(c["x"] >= 0.75 for c in configs[-20:]) >= 10


@pytest.mark.parametrize("settings", [{"subproblems": 1}, {"neighbours": 1}, {"variation": "pso"}])
def test_settings_out_of_range_are_refused(settings):
    with pytest.raises(ConfigError, match="Moead needs"):
        Moead(**settings)
