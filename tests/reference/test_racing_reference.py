"""The test that rejects a challenger, against SciPy and a printed table of Student's t."""

from __future__ import annotations

import numpy as np
import pytest

from tunewright.core.domains import Float
from tunewright.core.problem import Problem
from tunewright.core.space import Space
from tunewright.samplers.random import Random
from tunewright.schedulers.racing import Racer, Racing

# Upper points of Student's t (any printed table): probability 0.025 with 4 + n - 1 degrees of freedom.
TABLE = ((1, 2.776), (4, 2.365), (8, 2.201))


def look(gaps: list[float], freedom: int, squares: float, error: float = 0.025 * 5) -> bool:
    """Whether a challenger with these differences is rejected, after races with these squares."""
    algorithm = Racing(Random(), error=error)
    state = algorithm.init(Problem(Space(x=Float(0, 1))))
    state.freedom, state.squares = freedom, squares
    return bool(algorithm._rejects(state, Racer(0, {}), gaps))


@pytest.mark.parametrize(("n", "point"), TABLE)
def test_rejection_begins_at_the_tabled_point(n: int, point: float) -> None:
    """Earlier races: variance 9 with many degrees of freedom, of which 4 count; own differences: variance 9 too."""
    pattern = np.resize([1.0, -1.0], n)
    own = pattern * np.sqrt(9.0 * (n - 1) / max(1.0, float(pattern @ pattern)))
    edge = point * 3.0 / np.sqrt(n)
    for factor, rejected in ((0.99, False), (1.01, True)):
        assert look((own - own.mean() + factor * edge).tolist(), 40, 360.0) is rejected


def test_without_earlier_races_it_is_scipys_paired_test() -> None:
    from scipy import stats

    rng = np.random.default_rng(0)
    verdicts = set()
    for _ in range(40):
        gaps = rng.normal(0.8, 1.0, 6)
        p = stats.ttest_1samp(gaps, 0.0, alternative="greater").pvalue
        # Without prior degrees of freedom the moderated test is the plain one.
        assert look(gaps.tolist(), 0, 0.0) == (p < 0.025)
        verdicts.add(bool(p < 0.025))
    assert verdicts == {True, False}
