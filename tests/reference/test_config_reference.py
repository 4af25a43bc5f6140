"""The auxiliary problem against its solution by hand where the bounds are known functions."""

from __future__ import annotations

import numpy as np
import pytest

from tunewright.models.acquisition import lower_confidence_bound


@pytest.mark.parametrize(
    ("deviations", "expected"),
    [
        # Xu et al. 2023, arXiv:2211.00162, Algorithm 1, line 3, on five points with known means and deviations:
        # the lowest bound of the objective among those whose bound of the constraint is at most 0.
        (0.0, 3),
        (1.0, 2),
        (4.0, 0),
    ],
)
def test_optimism_widens_what_counts_as_feasible(deviations: float, expected: int) -> None:
    objective = np.array([0.0, 1.0, 2.0, 3.0, 4.0])
    constraint = np.array([3.5, 3.0, 1.0, 0.0, -1.0])
    std = np.array([1.0, 0.5, 1.0, 0.2, 0.2])
    feasible = lower_confidence_bound(constraint, std, deviations**2) <= 0.0
    bound = np.where(feasible, lower_confidence_bound(objective, std, deviations**2), np.inf)
    assert int(np.argmin(bound)) == expected
