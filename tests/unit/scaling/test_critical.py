"""The critical batch size by its definition: closed forms and refusals."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunewright.errors import ConfigError
from tunewright.scaling.critical import critical_batch_size, fit_critical_law, fit_curve

SIZES = 2.0 ** np.arange(0, 13)


@settings(max_examples=50, deadline=None)
@given(st.floats(10, 1e4), st.floats(20, 2000))
def test_on_the_hyperbola_it_is_a_fifth_of_the_noise_scale(least, noise):
    # steps = least (1 + noise / B): examples exceed the fewest, at B = 1, by (noise + B) / (noise + 1)
    found = critical_batch_size(SIZES, least * (1 + noise / SIZES))
    exact = 1.2 * (noise + 1) - noise
    assert math.isclose(found.size, exact, rel_tol=0.06), "up to the interpolation between powers of two"
    assert math.isclose(found.curve_size, 0.2 * noise, rel_tol=1e-6)
    assert math.isclose(found.least_steps, least, rel_tol=1e-6)
    assert found.best == 1.0
    assert math.isnan(found.low)


def test_the_unit_of_batches_and_steps_does_not_matter():
    steps = 100 * (1 + 300 / SIZES)
    one, other = critical_batch_size(SIZES, steps), critical_batch_size(32 * SIZES, 7 * steps)
    assert math.isclose(32 * one.size, other.size, rel_tol=1e-12)


def test_a_best_batch_in_the_middle_is_where_the_overhead_starts():
    # Small batches waste examples too: fewest at 8, a quarter more at 64
    sizes = np.array([1.0, 8.0, 32.0, 64.0])
    found = critical_batch_size(sizes, np.array([2.0, 1.0, 1.1, 1.25]) * 800 / sizes)
    assert found.best == 8.0
    share = math.log(1.2 / 1.1) / math.log(1.25 / 1.1)
    assert math.isclose(found.size, 32 * 2**share, rel_tol=1e-12)


def test_more_overhead_allows_larger_batches():
    steps = 100 * (1 + 300 / SIZES)
    sizes = [critical_batch_size(SIZES, steps, overhead=o).size for o in (0.1, 0.2, 0.5, 1.0)]
    assert sizes == sorted(sizes)


def test_intervals_cover_the_truth_about_as_often_as_they_say():
    rng = np.random.default_rng(0)
    exact = critical_batch_size(SIZES, 100 * (1 + 300 / SIZES)).size
    hits = 0
    for i in range(60):
        noisy = 100 * (1 + 300 / SIZES) * np.exp(0.02 * rng.standard_normal((8, len(SIZES))))
        found = critical_batch_size(SIZES, noisy, seed=i)
        hits += found.low <= exact <= found.high
    # The best of many noisy batch sizes looks better than it is, which costs some coverage
    assert hits >= 40


@pytest.mark.parametrize(
    ("sizes", "steps", "says"),
    [
        ([1, 2, 4], [4, 2, 1], "4 batch sizes"),
        ([1, 2, 2, 4], [4, 2, 2, 1], "strictly increasing"),
        ([0, 1, 2, 4], [4, 2, 2, 1], "above 0"),
        ([1, 2, 4, 8], [4, 2, 1], "one number of steps"),
        ([1, 2, 4, 8], [8, 4, math.inf, 2], "those of 4 did not"),
        ([1, 2, 4, 8], [8, 4, math.nan, 2], "reach the target"),
        ([1, 2, 4, 8], [8, 4, 2, 0], "Steps must be above 0"),
        ([1, 2, 4, 8], [8, 4, 6, 2], "4 takes 6 where a smaller one took 4"),
        ([1, 2, 4, 8], [8, 4, 2, 1], "Try larger batches"),
    ],
)
def test_what_tells_nothing_is_refused(sizes, steps, says):
    with pytest.raises(ConfigError, match=says):
        critical_batch_size(sizes, steps)


def test_settings_out_of_range_are_refused():
    with pytest.raises(ConfigError, match="overhead"):
        critical_batch_size(SIZES, 1000 / SIZES, overhead=0)
    with pytest.raises(ConfigError, match="two batch sizes"):
        fit_curve([1.0], [1.0])


def test_a_law_gets_its_exponents_back():
    n, d = (g.ravel() for g in np.meshgrid([1e4, 4e4, 1.6e5], [1e5, 1e6, 1e7]))
    law = fit_critical_law(n, d, 0.5 * n**0.1 * d**0.4)
    assert math.isclose(law.parameters, 0.1, abs_tol=1e-9)
    assert math.isclose(law.tokens, 0.4, abs_tol=1e-9)
    assert math.isclose(law.scale, 0.5, rel_tol=1e-7)
    middle, low, high = law.predict(2e5, 2e7)
    assert math.isclose(middle, 0.5 * 2e5**0.1 * 2e7**0.4, rel_tol=1e-7)
    assert low <= middle * (1 + 1e-6)
    assert middle <= high * (1 + 1e-6)


def test_a_law_from_repetitions_has_intervals_around_its_exponents():
    rng = np.random.default_rng(1)
    n, d = (g.ravel() for g in np.meshgrid([1e4, 4e4, 1.6e5], [1e5, 1e6, 1e7]))
    law = fit_critical_law(n, d, d**0.5 * np.exp(0.1 * rng.standard_normal((6, 9))))
    assert law.parameters_interval[0] < 0 < law.parameters_interval[1]
    assert law.tokens_interval[0] < law.tokens < law.tokens_interval[1]
    assert 0.45 < law.tokens < 0.55


def test_a_law_is_not_asked_far_away():
    n, d = (g.ravel() for g in np.meshgrid([1e4, 4e4], [1e5, 1e6]))
    law = fit_critical_law(n, d, d**0.5)
    with pytest.raises(ConfigError, match="check the unit"):
        law.predict(1e9, 1e6)
    with pytest.raises(ConfigError, match="tokens"):
        law.predict(1e4, 1.0)


@pytest.mark.parametrize(
    ("n", "d", "b", "says"),
    [
        ([1, 2, 3], [1, 3, 2], [1, 2, 3], "4 measurements"),
        ([1, 2, 4, 8], [1, 2, 4, 8], [1, 2, 3, 4], "vary separately"),
        ([1, 1, 1, 1], [1, 2, 4, 8], [1, 2, 3, 4], "vary separately"),
        ([1, 2, 4, 8], [1, 1, 4, 2], [1, 2, 3, 0], "above 0"),
    ],
)
def test_laws_of_too_little_are_refused(n, d, b, says):
    with pytest.raises(ConfigError, match=says):
        fit_critical_law(n, d, b)
