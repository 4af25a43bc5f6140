"""Reports of a trial that goes on without a checkpoint."""

from tunewright.core.domains import Float
from tunewright.core.events import Paused, Record, Reported, Resumed, Started
from tunewright.core.problem import Problem
from tunewright.core.space import Space
from tunewright.core.trial import Ledger


def test_a_trial_that_starts_over_keeps_what_it_reports_then():
    events = [
        Started(0, {"x": 0.5}, until=1),
        Reported(0, 1, 1, {"loss": 3.0}),
        Paused(0, 1, 1),
        Resumed(0, 0, until=2),
        Reported(0, 4, 1, {"loss": 2.0}),
        Reported(0, 4, 2, {"loss": 1.0}),
    ]
    ledger = Ledger(Problem(Space(x=Float(0, 1))))
    ledger.fold(Record(i, 0.0, "", e) for i, e in enumerate(events, start=1))
    trial = ledger.trials[0]
    assert [(r.step, r.metrics["loss"]) for r in trial.reports] == [(1, 2.0), (2, 1.0)]
    assert trial.metrics == {"loss": 1.0}
