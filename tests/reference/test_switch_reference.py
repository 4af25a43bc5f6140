"""The schedule of methods against that of Ax, with points that are known from outside: factorials and Sobol's nets."""

from __future__ import annotations

import numpy as np
from scipy.stats import qmc

from tunewright.core.algorithm import generator
from tunewright.core.domains import Float
from tunewright.core.events import Ended, Started
from tunewright.core.problem import Problem
from tunewright.core.space import Space
from tunewright.samplers.grid import Grid
from tunewright.samplers.quasirandom import QuasiRandom
from tunewright.samplers.random import Random
from tunewright.samplers.switch import Switch

SPACE = Space(x=Float(0, 1), y=Float(0, 1))


def played(switch, trials, seed=0):
    state, configs = switch.init(Problem(SPACE, seed=seed)), []
    for number in range(trials):
        (action,) = switch.ask(state, 1, generator(seed, number))
        end = Ended(number, 0, "completed", {"loss": 0.0})
        state = switch.tell(state, [Started(number, action.config), end])
        configs.append(action.config)
    return np.array([[c["x"], c["y"]] for c in configs])


def test_the_first_method_has_as_many_trials_as_said_and_the_second_all_others():
    # As Ax documents GenerationStep(num_trials=5): trials 0 to 4 are the first step's, here points of a factorial of 3 x 3 by
    # NumPy; the next step, without an end, has all later ones.
    points = played(Switch((Grid(resolution=3), Random()), (5,)), 200)
    grid = np.array(np.meshgrid([0, 0.5, 1], [0, 0.5, 1], indexing="ij")).reshape(2, -1).T
    on_grid = np.isin(points, [0.0, 0.5, 1.0]).all(axis=1)
    assert on_grid.tolist() == [True] * 5 + [False] * 195
    assert {tuple(p) for p in points[:5]} <= {tuple(p) for p in grid}
    assert len({tuple(p) for p in points[:5]}) == 5


def test_three_methods_in_turn():
    # A Sobol net (Sobol 1967: 32 points, one in each of 32 strips), twelve independent draws, and the corners of the square.
    points = played(Switch((QuasiRandom(), Random(), Grid(resolution=2)), (32, 44)), 48, seed=4)
    assert sorted(np.floor(points[:32, 0] * 32).astype(int)) == list(range(32))
    assert {tuple(p) for p in points[44:]} == {(0.0, 0.0), (0.0, 1.0), (1.0, 0.0), (1.0, 1.0)}
    assert qmc.discrepancy(points[:32]) < qmc.discrepancy(np.random.default_rng(0).random((32, 2)))


def test_the_second_method_goes_on_where_the_sequence_of_all_trials_is():
    # Trials of the first method count for the second: a Sobol sequence in charge from trial 16 on takes points 16 to 31,
    # which are stratified by themselves (Sobol 1967), one in each sixteenth.
    points = played(Switch((Random(), QuasiRandom()), (16,)), 32, seed=1)
    assert sorted(np.floor(points[16:, 1] * 16).astype(int)) == list(range(16))
