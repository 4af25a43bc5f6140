"""Constants of trust regions against the paper, and against the values that the authors published with it."""

from __future__ import annotations

import numpy as np
import pytest

from tunewright.samplers import turbo


@pytest.mark.parametrize(
    ("ours", "published"),
    [
        # Eriksson et al. 2019, arXiv:1910.01739, supplement, "Details on TuRBO": L_init, L_min, L_max, tau_succ.
        (turbo.FIRST, 0.8),
        (turbo.LEAST, 0.0078125),
        (turbo.MOST, 1.6),
        (turbo.SUCCESSES, 3),
    ],
)
def test_constants_are_those_of_the_paper(ours: float, published: float) -> None:
    assert ours == published


def test_a_region_collapses_after_seven_halvings() -> None:
    # 0.8 / 2^7 = 0.00625 is the first edge below 2^-7; with tau_fail = 5 in a row that takes 35 failures.
    region = turbo.Region(0, np.array([0.0]))
    collapsed = [region.judge(False, 5) for _ in range(35)]
    assert collapsed.index(True) == 34
    assert region.edge == pytest.approx(0.00625)
