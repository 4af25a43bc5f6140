"""Smoothing weights of the cross-entropy method against the table its source's formula gives."""

from __future__ import annotations

import pytest

from tunewright.core.domains import Float
from tunewright.core.events import Ended, Started
from tunewright.core.problem import Problem
from tunewright.core.space import Space
from tunewright.samplers.cem import Cem


@pytest.mark.parametrize(("batches", "weights"), [(4, (0.8, 0.775, 0.694650, 0.610156))])
def test_dynamic_smoothing(batches, weights):
    # Rubinstein and Kroese 2004, eq. 5.16: b_t = b - b (1 - 1/t)^q with b = 0.8, q = 5: 0.8 (1 - {0, 1/32, 32/243, 243/1024}).
    cem = Cem(size=2, elite=1.0, smoothing=0.8)
    state = cem.init(Problem(Space(x=Float(0, 1))))
    std = 0.3
    for batch in range(batches):
        for i in (2 * batch, 2 * batch + 1):
            end = Ended(i, 0, "completed", {"loss": 1.0})
            state = cem.tell(state, [Started(i, {"x": 0.5}), end])
        std *= 1.0 - weights[batch]
        assert state.std[0] == pytest.approx(std, rel=1e-4)
