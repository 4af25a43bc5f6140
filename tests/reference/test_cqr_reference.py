"""Draws from quantiles against chances in closed form, and the conformal correction against its theorem."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from tunewright.core.domains import Float
from tunewright.core.space import Space
from tunewright.models import quantile
from tunewright.samplers.cqr import Cqr

SPACE = Space(x=Float(0, 1))
LEFT = stats.norm.ppf(np.arange(1, 6) / 6, 0.0, 1.0)
RIGHT = stats.norm.ppf(np.arange(1, 6) / 6, 0.4, 0.5)


def first_choices(monkeypatch, candidates, n):
    """How often the left half is chosen, with SciPy's normal quantiles of either half as the model's."""
    monkeypatch.setattr(quantile, "predict", lambda _, rows: np.where(rows < 0.5, LEFT, RIGHT))
    rng = np.random.default_rng(candidates)
    x, losses = rng.random((12, 1)), np.arange(12.0)
    method = Cqr(candidates=candidates)
    return sum(bool(method._draw(SPACE, x, losses, rng)[0][0, 0] < 0.5) for _ in range(n))


@pytest.mark.parametrize("candidates", [2, 5])
def test_a_candidate_is_chosen_as_often_as_its_draw_is_the_lowest(monkeypatch, candidates):
    # Salinas et al. 2023, Algorithm 1: for each candidate one of the quantiles with equal chances, then the lowest. Every
    # candidate is one of ten equally likely values, five on either side, so the lowest of k of them is on the left with
    # chance: sum over its values v of P(all k >= v) - P(all k > v), no two values being equal.
    values = np.sort(np.concatenate([LEFT, RIGHT]))
    assert len(np.unique(values)) == 10
    chance = sum(
        (((10 - i) / 10) ** candidates - ((9 - i) / 10) ** candidates)
        for i, v in enumerate(values)
        if v in LEFT
    )
    n = 1200
    assert stats.binomtest(first_choices(monkeypatch, candidates, n), n, chance).pvalue > 0.01


def test_probabilities_are_the_papers():
    # Salinas et al. 2023, section 4: evenly spaced quantiles j / (m + 1); SciPy's Weibull plotting positions are the same.
    for m in (3, 5, 9):
        there = stats.mstats.plotting_positions(np.arange(m), alpha=0, beta=0)
        assert quantile.fan(m) == pytest.approx(np.asarray(there))


@pytest.mark.parametrize("held", [9, 19, 40])
def test_coverage_is_that_of_the_theorem(held):
    # Romano et al. 2019, theorem 1: with c rows held out an interval of nominal coverage 1 - a covers with chance at least
    # 1 - a and at most 1 - a + 1 / (c + 1), however wrong the quantiles; exactly ceil((1 - a)(c + 1)) / (c + 1).
    probabilities = quantile.fan(5)
    wrong = np.array([-0.2, -0.1, 0.0, 0.3, 0.5])
    rng, runs = np.random.default_rng(held), 4000
    covered = np.zeros(2)
    for _ in range(runs):
        y = rng.standard_exponential(held + 1)
        moved = wrong + quantile.conformal_shift(np.tile(wrong, (held, 1)), y[:-1], probabilities)
        covered += [moved[k] <= y[-1] <= moved[-1 - k] for k in (0, 1)]
    for k, count in enumerate(covered):
        nominal = 1.0 - 2.0 * probabilities[k]
        exact = np.ceil(nominal * (held + 1) - 1e-9) / (held + 1)
        assert nominal - 1e-9 <= exact <= nominal + 1.0 / (held + 1)
        assert stats.binomtest(int(count), runs, exact).pvalue > 0.01
