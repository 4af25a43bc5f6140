"""Crossover and mutation against the closed forms of their papers."""

from __future__ import annotations

import numpy as np
import pytest

from tunewright.models.breeding import polynomial_step, sbx


@pytest.mark.parametrize("eta", [2.0, 20.0])
def test_the_spread_of_children_follows_its_law(eta):
    # Deb and Agrawal 1995, eq. 8 to 10: the spread b has P(b <= t) = t^(eta + 1) / 2 for t <= 1 and
    # 1 - t^-(eta + 1) / 2 beyond; parents this close lie far from the bounds.
    n = 40_000
    a, b = np.full(n, 0.499), np.full(n, 0.501)
    child = sbx(a, b, eta, np.random.default_rng(0), share=1.0)
    spread = np.abs(child - 0.5) / 0.001
    for t in (0.8, 0.95, 1.0):
        assert (spread <= t + 1e-9).mean() == pytest.approx(0.5 * t ** (eta + 1.0), abs=0.01)
    for t in (1.05, 1.5):
        assert (spread <= t).mean() == pytest.approx(1.0 - 0.5 * t ** -(eta + 1.0), abs=0.01)


@pytest.mark.parametrize("eta", [5.0, 20.0])
def test_the_step_of_a_mutation_follows_its_law(eta):
    # Deb and Goyal 1996, eq. 4: density (eta + 1)(1 - |s|)^eta / 2, so P(|s| <= t) = 1 - (1 - t)^(eta + 1), in the middle of
    # the range, where the bounds take off at most 2^-(eta + 1) of it.
    step = np.abs(polynomial_step(np.full(40_000, 0.5), eta, np.random.default_rng(1).random(40_000)))
    for t in (0.02, 0.05, 0.1):
        assert (step <= t).mean() == pytest.approx(1.0 - (1.0 - t) ** (eta + 1.0), abs=0.02)
