import numpy as np
import pytest

from tunewright.errors import ConfigError
from tunewright.numerics.shrinkage import deconvolve, james_stein


def test_few_values_and_no_noise_are_left_alone():
    for values, variance in (([1.0, 2.0, 3.0], 1.0), ([1.0, 2.0, 3.0, 4.0], 0.0)):
        means, factor = james_stein(values, variance)
        assert means.tolist() == values
        assert factor == 1.0


def test_values_that_vary_less_than_the_noise_become_their_mean():
    means, factor = james_stein([1.0, 2.0, 3.0, 4.0, 5.0], 100.0)
    assert factor == 0.0
    assert means.tolist() == [3.0] * 5


def test_the_best_of_equal_ones_is_taken_back_to_them():
    y = np.random.default_rng(0).normal(5.0, 1.0, 200)
    found = deconvolve(y, 1.0, int(np.argmin(y)))
    assert abs(found.mean - 5.0) < 0.7
    assert found.low < 5.0 < found.high


def test_one_that_stands_out_far_is_believed():
    y = np.concatenate([np.random.default_rng(0).normal(5.0, 1.0, 50), [-60.0]])
    found = deconvolve(y, 1.0, 50)
    assert found.mean == pytest.approx(-60.0, abs=0.1)
    assert found.high - found.low > 1.0


def test_the_scale_of_the_numbers_does_not_matter():
    y = np.random.default_rng(1).gamma(2.0, 1.0, 60)
    a, b = deconvolve(y, 0.5, 3), deconvolve(1e6 * y - 7.0, 0.5e6, 3)
    assert b.mean == pytest.approx(1e6 * a.mean - 7.0, rel=1e-6)


def test_bad_input_is_refused():
    for values, sd in (([], 1.0), ([1.0, float("nan")], 1.0), ([1.0, 2.0], 0.0)):
        with pytest.raises(ConfigError, match="finite values"):
            deconvolve(values, sd, 0)


@pytest.mark.stat
def test_intervals_cover_and_errors_cancel():
    """The lowest of 60 in 200 draws: 95 % intervals must cover in 180 or more (P < 0.002 if coverage is 0.95)."""
    rng = np.random.default_rng(3)
    covered, errors, naive = 0, [], []
    for _ in range(200):
        true = rng.gamma(2.0, 1.0, 60)
        y = true + rng.normal(0.0, 1.0, 60)
        which = int(np.argmin(y))
        found = deconvolve(y, 1.0, which)
        covered += found.low <= true[which] <= found.high
        errors.append(found.mean - true[which])
        naive.append(y[which] - true[which])
    assert covered >= 180
    assert abs(np.mean(errors)) < 0.25 * abs(np.mean(naive))
