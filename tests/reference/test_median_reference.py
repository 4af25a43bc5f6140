"""The median rule against NumPy's medians of running means, as Google Vizier states the rule."""

from __future__ import annotations

import numpy as np
import pytest

from tunewright.core.algorithm import Stop, generator
from tunewright.core.domains import Float
from tunewright.core.events import Ended, Reported, Started
from tunewright.core.problem import Fidelity, Problem
from tunewright.core.space import Space
from tunewright.samplers.random import Random
from tunewright.schedulers.median import Median

STEPS = 6


@pytest.mark.parametrize("finished", [5, 8, 13])
def test_a_trial_stops_above_numpys_median_of_running_averages(finished):
    # Golovin et al. 2017, section 3.2.2: a trial stops at step s if its best value until s is strictly worse than the median
    # of the running averages of the values of all completed trials until s.
    rng = np.random.default_rng(finished)
    done = rng.normal(size=(finished, STEPS))
    averages = np.cumsum(done, axis=1) / np.arange(1, STEPS + 1)
    medians = np.median(averages, axis=0)
    method, verdicts = Median(Random()), []
    problem = Problem(Space(x=Float(0, 1)), fidelity=Fidelity(STEPS))
    for curve in rng.normal(0.3, 1.0, (40, STEPS)):
        state = method.init(problem)
        for i, losses in enumerate(done):
            events = [Started(i, {"x": 0.5})]
            events += [Reported(i, 0, s + 1, {"loss": float(y)}) for s, y in enumerate(losses)]
            state = method.tell(state, [*events, Ended(i, 0, "completed", step=STEPS)])
        state = method.tell(state, [Started(finished, {"x": 0.5})])
        best = np.minimum.accumulate(curve)
        stops = [s + 1 for s in range(STEPS - 1) if best[s] > medians[s]]
        for step in range(1, STEPS):
            state = method.tell(state, [Reported(finished, 0, step, {"loss": float(curve[step - 1])})])
            asked = method.ask(state, 0, generator(0, step))
            if asked or step in stops:
                assert [type(a) for a in asked] == [Stop]
                assert asked[0].why["median"] == pytest.approx(medians[step - 1])
                assert step == stops[0]
                break
        verdicts.append(bool(stops))
    assert 5 < sum(verdicts) < 40
