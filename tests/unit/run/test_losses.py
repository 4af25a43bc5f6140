"""A trial is given up when it gets nowhere, not when its workers are lost now and then."""

from __future__ import annotations

import tunewright as tw
from tunewright.core.events import Interrupted, Reported, Saved
from tunewright.store import blobs


def opened() -> tw.Study:
    return tw.Study.open("s", {"x": tw.Float(0, 1)}, steps=9, method="random", storage="memory")


def lose(study: tw.Study, step: int | None) -> bool:
    """One attempt that saves at a step, if it comes so far, and is lost; whether there was one."""
    session = study.session
    trial = session.ask(limit=1)
    if trial is None:
        return False
    if step is not None:
        name = blobs.put(session.store.blobs(session.info.id), f"t0-s{step}", str(step).encode())
        session.record(Reported(0, trial.token, step, {"loss": 1.0}))
        session.record(Saved(0, trial.token, step, name))
    session.record(Interrupted(0, trial.token, "lost", "its machine was taken away"))
    return True


def test_one_that_gets_further_is_taken_up_again_and_again() -> None:
    study = opened()
    assert all(lose(study, step) for step in range(1, 9))
    trial = study.session.ask(limit=1)
    assert trial is not None
    assert (trial.status, trial.attempts, trial.step) == ("running", 9, 8)


def test_one_that_gets_nowhere_is_lost() -> None:
    study = opened()
    assert [lose(study, None) for _ in range(4)] == [True, True, True, False]
    assert study.trials[0].status == "lost"
    assert study.trials[0].error == "its worker was lost 3 times"


def test_one_that_comes_to_the_same_step_again_is_lost() -> None:
    study = opened()
    assert [lose(study, step) for step in (4, 4, 3, 4)] == [True, True, True, False]
    assert study.trials[0].status == "lost"
