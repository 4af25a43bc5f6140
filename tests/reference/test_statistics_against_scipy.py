"""p-values and intervals against scipy.stats, and against enumeration where scipy has no exact law."""

import itertools

import numpy as np
import pytest
from scipy import stats

from tunewright.numerics import statistics as own

SIDES = ["two-sided", "less", "greater"]


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("n", [5, 12, 50, 80])
def test_wilcoxon(n, side):
    rng = np.random.default_rng(n)
    x, y = rng.normal(size=n), rng.normal(0.3, 1.0, size=n)
    method = "exact" if n <= 50 else "asymptotic"
    expected = stats.wilcoxon(x, y, alternative=side, method=method, correction=False).pvalue
    assert own.wilcoxon(x, y, side) == pytest.approx(expected, rel=1e-9)


def test_wilcoxon_with_ties_beyond_the_exact_range():
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 9, 120).astype(float), rng.integers(0, 10, 120).astype(float)
    keep = x != y
    expected = stats.wilcoxon(x[keep], y[keep], method="asymptotic", correction=False).pvalue
    assert own.wilcoxon(x, y) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("side", SIDES)
def test_wilcoxon_with_ties_equals_enumeration_of_signs(side):
    d = np.array([1.0, -1.0, 2.0, 2.0, 3.0, -2.0, 4.0, 4.0])
    place = own.ranks(np.abs(d))
    seen = place[d > 0].sum()
    sums = np.array([np.dot(signs, place) for signs in itertools.product([0, 1], repeat=len(d))])
    below, above = (sums <= seen).mean(), (sums >= seen).mean()
    expected = {"less": below, "greater": above, "two-sided": min(1.0, 2 * min(below, above))}[side]
    assert own.wilcoxon(d, np.zeros_like(d), side) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize(("n", "k"), [(4, 6), (15, 20), (30, 45)])
def test_mann_whitney(n, k, side):
    rng = np.random.default_rng(n)
    x, y = rng.normal(size=n), rng.normal(0.4, 1.0, size=k)
    method = "exact" if n + k <= 40 else "asymptotic"
    expected = stats.mannwhitneyu(x, y, alternative=side, method=method).pvalue
    assert own.mann_whitney(x, y, side) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("side", SIDES)
def test_mann_whitney_with_many_ties(side):
    rng = np.random.default_rng(3)
    x, y = rng.integers(0, 5, 60), rng.integers(0, 6, 60)
    expected = stats.mannwhitneyu(x, y, alternative=side, method="asymptotic").pvalue
    assert own.mann_whitney(x, y, side) == pytest.approx(expected, rel=1e-9)


def test_mann_whitney_with_ties_equals_enumeration_of_groups():
    x, y = np.array([1.0, 2.0, 2.0, 5.0]), np.array([2.0, 3.0, 5.0, 5.0, 7.0])
    place = own.ranks(np.concatenate((x, y)))
    sums = np.array([place[list(c)].sum() for c in itertools.combinations(range(9), 4)])
    assert own.mann_whitney(x, y, "less") == pytest.approx((sums <= place[:4].sum()).mean(), rel=1e-12)


@pytest.mark.parametrize("side", SIDES)
def test_welch(side):
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=9), rng.normal(0.5, 3.0, size=14)
    expected = stats.ttest_ind(x, y, equal_var=False, alternative=side).pvalue
    assert own.welch(x, y, side) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize(
    ("k", "n", "p"), [(0, 10, 0.5), (3, 10, 0.5), (7, 20, 0.1), (400, 1000, 0.43), (5, 5, 1.0)]
)
def test_binomial(k, n, p, side):
    assert own.binomial_test(k, n, p, side) == pytest.approx(stats.binomtest(k, n, p, side).pvalue, rel=1e-8)


@pytest.mark.parametrize(("k", "n"), [(0, 8), (8, 8), (3, 17)])
def test_clopper_pearson(k, n):
    expected = stats.binomtest(k, n).proportion_ci(0.9, method="exact")
    assert own.binomial_interval(k, n, 0.9) == pytest.approx((expected.low, expected.high), rel=1e-10)


def test_ranks():
    values = np.random.default_rng(5).integers(0, 7, 40)
    np.testing.assert_array_equal(own.ranks(values), stats.rankdata(values))
