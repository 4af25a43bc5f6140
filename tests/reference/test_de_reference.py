"""Factors of SHADE against the closed forms of the distributions the paper draws them from."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import ndtr

from tunewright.core.domains import Float
from tunewright.core.problem import Problem
from tunewright.core.space import Space
from tunewright.samplers.de import De


def drawn(f, cr, n=3000):
    de = De(memory=1)
    state = de.init(Problem(Space(x=Float(0, 1))))
    state.memory_f[:], state.memory_cr[:] = f, cr
    return np.array([de._factors(state, i) for i in range(n)])


@pytest.mark.parametrize("f", [0.5, 0.2])
def test_f_is_cauchy_cut_at_one_and_drawn_again_below_zero(f):
    # Tanabe and Fukunaga 2013, eq. 10: Cauchy(M_F, 0.1); its distribution function is 1/2 + atan((x - M) / 0.1) / pi.
    found = drawn(f, 0.5)[:, 0]

    def cdf(x):
        return 0.5 + np.arctan((x - f) / 0.1) / np.pi

    for x in (0.1, f, 0.6, 0.95):
        expected = (cdf(x) - cdf(0.0)) / (1.0 - cdf(0.0))
        assert (found <= x).mean() == pytest.approx(expected, abs=0.03)
    assert (found == 1.0).mean() == pytest.approx((1.0 - cdf(1.0)) / (1.0 - cdf(0.0)), abs=0.02)


@pytest.mark.parametrize("cr", [0.5, 0.95])
def test_cr_is_normal_cut_at_both_ends(cr):
    # Tanabe and Fukunaga 2013, eq. 9: Normal(M_CR, 0.1), cut to [0, 1].
    found = drawn(0.5, cr)[:, 1]
    for x in (0.4, 0.5, 0.9, 0.99):
        assert (found <= x).mean() == pytest.approx(float(ndtr((x - cr) / 0.1)), abs=0.03)


def test_the_paper_starts_with_a_memory_of_one_half():
    # Tanabe and Fukunaga 2013, algorithm 1, line 1.
    state = De().init(Problem(Space(x=Float(0, 1))))
    assert set(state.memory_f) == set(state.memory_cr) == {0.5}
