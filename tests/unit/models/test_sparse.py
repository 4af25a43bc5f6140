"""The sparse prior finds the columns that matter, and its gradient is right."""

from __future__ import annotations

import numpy as np
import pytest

from tunewright.models.kernel import columns_of
from tunewright.models.sparse import modes, shrinkage


def test_only_the_columns_with_an_effect_stay_active():
    rng = np.random.default_rng(0)
    x = rng.random((60, 30))
    y = 3.0 * x[:, 4] + np.sin(6.0 * x[:, 17])
    y = (y - y.mean()) / y.std()
    members = modes(columns_of(np.zeros(30, dtype=np.int64), np.zeros(30, dtype=bool)), x, y)
    lengths = members[0].hyper.length
    assert set(np.argsort(lengths)[:2]) == {4, 17}
    assert np.exp(-2.0 * np.delete(lengths, [4, 17])).max() < 0.01
    assert sum(m.weight for m in members) == pytest.approx(1.0)
    assert members[0].weight == max(m.weight for m in members)


def test_the_gradient_of_the_prior_is_that_of_its_value():
    at = np.array([-1.0, 0.3, 2.0])
    _, gradient = shrinkage(at, 0.1)
    for j in range(3):
        step = np.zeros(3)
        step[j] = 1e-6
        slope = (shrinkage(at + step, 0.1)[0] - shrinkage(at - step, 0.1)[0]) / 2e-6
        assert gradient[j] == pytest.approx(slope, rel=1e-6, abs=1e-9)
