"""Point sets: determinism, random access and evenness."""

import numpy as np
import pytest

from tunewright.errors import ConfigError
from tunewright.numerics.sequences import SOBOL_DIMENSIONS, latin_hypercube, sobol


def test_block_and_point_agree():
    sequence = sobol(7, (3, 5))
    block = sequence.block(13, 50)
    np.testing.assert_array_equal(block, [sequence.point(i) for i in range(13, 63)])


def test_same_seed_same_points_and_other_seed_others():
    first = sobol(4, (1,)).block(0, 8)
    np.testing.assert_array_equal(first, sobol(4, (1,)).block(0, 8))
    assert not np.isclose(first, sobol(4, (2,)).block(0, 8)).any()


@pytest.mark.parametrize("start", [0, 64, 192])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_scramble_keeps_the_net_of_the_first_two_dimensions(seed, start):
    # Dimensions 1 and 2 of Sobol form a (0, m, 2)-net: 64 points put one point into every dyadic box of area 1/64.
    points = sobol(2, (seed,)).block(start, 64)
    for power in range(7):
        cells = np.floor(points * [2**power, 2 ** (6 - power)]).astype(int)
        assert len({tuple(cell) for cell in cells}) == 64


def test_each_dimension_is_stratified():
    points = sobol(SOBOL_DIMENSIONS, (9,)).block(0, 256)
    assert all(len(set(np.floor(column * 256))) == 256 for column in points.T)


def test_dimensions_past_the_table_are_uniform_and_addressed():
    sequence = sobol(SOBOL_DIMENSIONS + 3, (4,))
    tail = sequence.block(0, 4000)[:, SOBOL_DIMENSIONS:]
    np.testing.assert_array_equal(sequence.point(17)[SOBOL_DIMENSIONS:], tail[17])
    np.testing.assert_allclose(tail.mean(axis=0), 0.5, atol=0.03)
    np.testing.assert_allclose(tail.var(axis=0), 1 / 12, atol=0.006)
    assert np.abs(np.corrcoef(tail.T) - np.eye(3)).max() < 0.08


def test_scrambled_points_stay_inside():
    points = sobol(5, (0,)).block(0, 2048)
    assert points.min() > 0.0
    assert points.max() < 1.0


def test_bad_dimensions_are_refused():
    with pytest.raises(ConfigError, match="d >= 1"):
        sobol(0, (1,))
    with pytest.raises(ConfigError, match="at most 128"):
        sobol(129, None)


def test_latin_hypercube_fills_every_stratum_once():
    points = latin_hypercube(20, 6, np.random.default_rng(0))
    assert points.shape == (20, 6)
    assert all(sorted(np.floor(column * 20)) == list(range(20)) for column in points.T)
    assert latin_hypercube(0, 3, np.random.default_rng(0)).shape == (0, 3)
