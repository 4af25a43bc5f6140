"""The proposed points against the net property of Sobol's sequence and against SciPy's scrambled one."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import ks_2samp, qmc

from tunewright.core.algorithm import generator
from tunewright.core.domains import Choice, Float
from tunewright.core.events import Started
from tunewright.core.problem import Problem
from tunewright.core.space import Space
from tunewright.samplers.quasirandom import QuasiRandom


def proposed(space: Space, n: int, seed: int) -> list[dict]:
    """Configurations of n trials, asked for one at a time."""
    method = QuasiRandom()
    state, out = method.init(Problem(space, seed=seed)), []
    for i in range(n):
        (action,) = method.ask(state, 1, generator(seed, i))
        state = method.tell(state, [Started(i, action.config)])
        out.append(action.config)
    return out


def cube(d: int, n: int, seed: int) -> np.ndarray:
    space = Space({f"x{j}": Float(0, 1) for j in range(d)})
    return np.array([[c[f"x{j}"] for j in range(d)] for c in proposed(space, n, seed)])


@pytest.mark.parametrize("seed", range(4))
def test_two_dimensions_are_a_net_of_quality_zero(seed):
    # Sobol 1967: the first 2^k points in two dimensions have one in each of the 2^k boxes of any shape of this volume.
    points = cube(2, 64, seed)
    for k in range(7):
        wide, high = 2**k, 2 ** (6 - k)
        cells = np.floor(points * [wide, high]).astype(int)
        assert len({tuple(c) for c in cells}) == 64


def test_every_coordinate_is_stratified():
    # Sobol 1967: each coordinate is a (0, 1)-sequence, in blocks of 2^k as well; here the second block of 32.
    points = cube(12, 64, 5)[32:]
    for j in range(12):
        assert sorted(np.floor(points[:, j] * 32).astype(int)) == list(range(32))


@pytest.mark.parametrize("d", [3, 6])
def test_discrepancy_is_distributed_as_that_of_scipy(d):
    # SciPy scrambles by the same method (Matousek 1998); 40 scramblings of each, compared by their distribution.
    ours = [qmc.discrepancy(cube(d, 64, seed)) for seed in range(40)]
    theirs = [qmc.discrepancy(qmc.Sobol(d, rng=seed).random(64)) for seed in range(40)]
    plain = [qmc.discrepancy(np.random.default_rng(seed).random((64, d))) for seed in range(40)]
    assert ks_2samp(ours, theirs).pvalue > 0.01
    assert ks_2samp(ours, plain).pvalue < 1e-6


def test_options_get_equal_numbers_of_points_and_log_scales_equal_decades():
    space = Space(r=Float(1e-4, 1.0, log=True), c=Choice(list("abcd")), x=Float(0, 1))
    configs = proposed(space, 64, 3)
    assert [sum(c["c"] == o for c in configs) for o in "abcd"] == [16] * 4
    decades = np.floor(np.log10([c["r"] for c in configs]) + 4).astype(int)
    assert np.bincount(decades, minlength=4).tolist() == [16] * 4
