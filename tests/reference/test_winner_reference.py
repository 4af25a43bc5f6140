"""Estimates of the best of several against published tables, closed forms and SciPy."""

from __future__ import annotations

import numpy as np
import pytest

from tunewright.analysis.confirmation import best_of_several
from tunewright.numerics.shrinkage import deconvolve, james_stein

# Efron and Morris 1977, "Stein's Paradox in Statistics", Scientific American 236(5), table: batting averages of 18
# players after 45 times at bat in 1970, and the James-Stein estimates printed beside them.
AVERAGES = (
    .400, .378, .356, .333, .311, .311, .289, .267, .244, .244, .222, .222, .222, .222, .222, .200, .178, .156,
)  # fmt: skip
PRINTED = (
    .294, .289, .284, .279, .275, .275, .270, .265, .261, .261, .256, .256, .256, .256, .256, .251, .247, .242,
)  # fmt: skip


def test_baseball() -> None:
    mean = float(np.mean(AVERAGES))
    estimates, factor = james_stein(AVERAGES, mean * (1 - mean) / 45)
    assert mean == pytest.approx(0.265, abs=5e-4)
    # The shrinking factor given in the article.
    assert factor == pytest.approx(0.212, abs=2e-3)
    np.testing.assert_allclose(estimates, PRINTED, atol=1.2e-3)


def test_normal_true_values_give_the_linear_rule_of_bayes() -> None:
    """Closed form: with true values N(m, t^2) and noise s, E[true | y] = m + t^2 / (t^2 + s^2) (y - m)."""
    rng = np.random.default_rng(0)
    m, t, s = 2.0, 1.5, 1.0
    y = np.sort(rng.normal(m, t, 3000) + rng.normal(0.0, s, 3000))
    for which in (150, 1500, 2850):
        expected = m + t**2 / (t**2 + s**2) * (y[which] - m)
        found = deconvolve(y, s, which)
        assert found.mean == pytest.approx(expected, abs=0.15)
        # Posterior deviation t s / sqrt(t^2 + s^2), 1.96 of it on either side.
        half = 1.96 * t * s / np.hypot(t, s)
        assert (found.high - found.low) / 2 == pytest.approx(half, rel=0.2)


def test_confidence_is_bonferronis_over_paired_t_tests_of_scipy() -> None:
    from scipy import stats

    losses = np.random.default_rng(1).normal(0.0, 1.0, (3, 8)) + [[0.0], [1.5], [2.0]]
    index, confidence, among = best_of_several(losses)
    p = [stats.ttest_rel(losses[index], losses[j], alternative="less").pvalue for j in range(3) if j != index]
    assert confidence == pytest.approx(max(0.0, 1.0 - 2.0 * max(p)))
    kept = [
        i
        for i in range(3)
        if i == index
        or 2
        * min(stats.ttest_rel(losses[j], losses[i], alternative="less").pvalue for j in range(3) if j != i)
        > 0.05
    ]
    assert among == kept
