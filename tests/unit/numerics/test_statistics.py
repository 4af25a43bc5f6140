"""Statistics: edges, directions and errors."""

import numpy as np
import pytest

from tunewright.errors import ConfigError
from tunewright.numerics.statistics import (
    binomial_interval,
    binomial_test,
    bootstrap_interval,
    holm,
    mann_whitney,
    sign_test,
    welch,
    wilcoxon,
)


def test_equal_samples_give_one():
    x = [1.0, 2.0, 3.0]
    assert wilcoxon(x, x) == sign_test(x, x) == 1.0
    assert mann_whitney([1.0] * 30, [1.0] * 30) == mann_whitney([1.0], [1.0]) == 1.0
    assert welch([2.0, 2.0], [2.0, 2.0]) == 1.0


def test_constant_but_different_samples_are_certain_for_welch():
    assert welch([1.0, 1.0], [2.0, 2.0]) == 0.0
    assert welch([1.0, 1.0], [2.0, 2.0], "less") == 0.0
    assert welch([1.0, 1.0], [2.0, 2.0], "greater") == 1.0


@pytest.mark.parametrize("test", [wilcoxon, sign_test, mann_whitney, welch])
def test_less_means_that_the_first_sample_is_smaller(test):
    x = np.arange(10.0)
    y = x + np.linspace(5.0, 6.0, 10)
    assert test(x, y, "less") < 0.01
    assert test(x, y, "greater") > 0.98


def test_sign_test_drops_equal_pairs():
    # Six differing pairs, all in one direction: 2 / 2**6.
    assert sign_test([1, 1, 1, 1, 1, 1, 4, 4], [2, 2, 2, 2, 2, 2, 4, 4]) == pytest.approx(2 / 64)


def test_bootstrap_of_the_mean_matches_its_standard_error():
    x = np.random.default_rng(0).normal(3.0, 2.0, 400)
    low, high = bootstrap_interval(x, np.random.default_rng(1))
    assert (high - low) / (2 * 1.96 * x.std() / 20.0) == pytest.approx(1.0, abs=0.06)
    assert low < x.mean() < high
    low, high = bootstrap_interval(x, np.random.default_rng(1), statistic=np.median, level=0.5)
    assert low < np.median(x) < high


def test_holm_by_hand():
    # Sorted 0.01, 0.02, 0.04 times 3, 2, 1 is 0.03, 0.04, 0.04.
    np.testing.assert_allclose(holm([0.04, 0.01, 0.02]), [0.04, 0.03, 0.04])
    np.testing.assert_allclose(holm([0.9, 0.8]), [1.0, 1.0])


def test_no_trials_decide_nothing():
    assert binomial_test(0, 0) == 1.0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: wilcoxon([1.0, 2.0], [1.0]), "equal length"),
        (lambda: mann_whitney([], [1.0]), "at least 1"),
        (lambda: welch([1.0], [1.0, 2.0]), "at least 2"),
        (lambda: wilcoxon([1.0, np.nan], [1.0, 2.0]), "no NaN"),
        (lambda: binomial_test(3, 2), "successes <= n"),
        (lambda: binomial_interval(0, 0), "n >= 1"),
        (lambda: bootstrap_interval([1.0], np.random.default_rng(0), level=95), r"\(0, 1\)"),
    ],
)
def test_misuse_is_refused(call, message):
    with pytest.raises(ConfigError, match=message):
        call()
