"""The half-Cauchy prior against SciPy's distribution."""

from __future__ import annotations

import numpy as np
import pytest

from tunewright.models import sparse

stats = pytest.importorskip("scipy.stats")


@pytest.mark.parametrize("tau", [0.01, 0.1, 1.0])
def test_the_prior_is_scipys_half_cauchy_of_inverse_squared_lengths(tau: float) -> None:
    # Eriksson and Jankowiak 2021, arXiv:2103.00049, section 4.1: rho_i ~ HC(tau); density from scipy.stats.halfcauchy.
    log_length = np.array([-2.0, -0.5, 0.0, 0.7, 3.0])
    expected = -stats.halfcauchy.logpdf(np.exp(-2.0 * log_length), scale=tau).sum()
    assert sparse.shrinkage(log_length, tau)[0] == pytest.approx(expected, rel=1e-12)


def test_the_global_scale_is_that_of_the_paper() -> None:
    # Section 4.1: alpha = 0.1 is the default scale of tau.
    assert sparse.GLOBAL_SCALE == 0.1
