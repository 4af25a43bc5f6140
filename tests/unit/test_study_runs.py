"""Running a study: limits, failures, interruptions, coroutines, spaces declared on the way."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from study_helpers import SPACE, open_, quiet, train

import tunewright as tw
from tunewright.core.algorithm import Start
from tunewright.core.events import Interrupted, Started
from tunewright.errors import (
    ConfigError,
    LeaseLost,
    TooManyFailures,
)
from tunewright.run.session import Policy


def test_failures_are_recorded_with_the_users_frames_only() -> None:
    study = open_()

    def sometimes(x: float, n: int) -> float:
        if n > 3:
            raise ValueError(f"n is {n}")
        if n == 3:
            raise tw.InvalidTrial("three is not allowed")
        return x

    study.run(sometimes, trials=30, failures=None, **quiet())
    counts = study.counts
    assert set(counts) == {"completed", "failed", "invalid"}
    failed = next(t for t in study.trials if t.status == "failed")
    assert "ValueError: n is" in failed.error
    assert "in sometimes" in failed.error
    assert "worker.py" not in failed.error
    assert next(t for t in study.trials if t.status == "invalid").error == "three is not allowed"


def test_a_study_gives_up_when_everything_fails_alike() -> None:
    study = open_()

    def broken(x: float) -> float:
        raise KeyError("lr")

    with pytest.raises(
        TooManyFailures, match="first 3 trials all failed in the same way(.|\n)*KeyError: 'lr'"
    ):
        study.run(broken, trials=50, **quiet())
    assert study.counts == {"failed": 3}
    with pytest.raises(TooManyFailures, match="after 2 failures"):
        study.run(broken, trials=50, failures=2, **quiet())


@pytest.mark.parametrize(
    ("result", "message"),
    [
        ("abc", "must be a number; got 'abc'"),
        (None, "returned None and reported nothing"),
        ({"los": 1.0}, "Did you mean 'los'"),
        ((1.0, 2.0), "one number per objective"),
    ],
)
def test_mistakes_in_what_is_returned_stop_the_study_at_the_first_trial(result: Any, message: str) -> None:
    study = open_()
    with pytest.raises(TooManyFailures, match=message):
        study.run(lambda trial: result, trials=50, **quiet())
    assert study.counts == {"failed": 1}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_values_that_are_not_finite_fail_the_trial_only(value: float) -> None:
    study = open_()
    study.run(lambda trial: value if trial.number == 1 else 1.0, trials=4, **quiet())
    assert study.counts == {"completed": 3, "failed": 1}
    assert study.trials[1].error == f"returned loss={value}"


def test_sys_exit_in_the_function_is_a_failure() -> None:
    study = open_()

    def leaves(x: float, trial: Any) -> float:
        if trial.number == 1:
            raise SystemExit(3)
        return x

    study.run(leaves, trials=3, **quiet())
    assert "sys.exit(3)" in study.trials[1].error


def test_a_target_and_a_timeout_end_the_run() -> None:
    study = open_()
    assert study.run(train, trials=500, target=1.2, **quiet()).why == "target"
    assert study.best.metrics["loss"] <= 1.2
    assert (
        open_().run(lambda trial: __import__("time").sleep(0.02) or 1.0, timeout=0.2, **quiet()).why
        == "timeout"
    )
    high = open_(maximize="acc")
    assert (
        high.run(lambda trial: {"acc": trial.params["x"]}, trials=500, target=0.8, **quiet()).why == "target"
    )
    assert high.best.metrics["acc"] >= 0.8


def test_define_by_run_learns_its_conditions_and_replays() -> None:
    study = tw.Study.open("d", storage="memory")

    def objective(trial: tw.Attempt) -> float:
        x = trial.suggest_float("x", 0, 1)
        if trial.suggest_categorical("kind", ["a", "b"]) == "a":
            return x + trial.suggest_int("depth", 1, 5)
        return x + trial.suggest_float("rate", 1e-3, 1, log=True)

    study.run(objective, trials=40, **quiet())
    assert study.counts == {"completed": 40}
    assert study.space.when == {"depth": {"kind": ["a"]}, "rate": {"kind": ["b"]}}
    for t in study.trials[10:]:
        assert set(t.params) == {"x", "kind", "depth" if t.params["kind"] == "a" else "rate"}
    assert study.replay().verified == 40


def test_a_parameter_that_changes_its_type_stops_the_study() -> None:
    study = tw.Study.open("d", storage="memory")

    def confused(trial: tw.Attempt) -> float:
        return trial.suggest_float("x", 0, 1) if trial.number < 2 else float(trial.suggest_int("x", 5, 9))

    with pytest.raises(TooManyFailures, match="must keep its type and scale"):
        study.run(confused, trials=10, **quiet())


def test_interrupted_trials_are_retried_first_and_lost_ones_end() -> None:
    study = open_(policy=Policy(max_attempts=2))
    first, second = study.ask(), study.ask()
    assert first is not None and second is not None
    study.session.record(Interrupted(first.number, first.token, "lost"))
    again = study.ask()
    assert again is not None
    assert again.number == first.number
    assert again.token != first.token
    with pytest.raises(LeaseLost, match="taken over"):
        first.tell(1.0)
    study.session.record(Interrupted(again.number, again.token, "lost"))
    third = study.ask()
    assert third is not None
    assert third.number == 2
    assert study.trials[0].status == "lost"
    assert "lost 2 times" in study.trials[0].error
    # Being shut down in good order does not count against a trial.
    for _ in range(5):
        study.session.record(Interrupted(second.number, second.token, "shutdown"))
        second = study.ask()
        assert second is not None and second.number == 1


def test_coroutines_run_side_by_side() -> None:
    study = open_()
    live, most = 0, 0

    async def slow(x: float, n: int) -> float:
        nonlocal live, most
        live += 1
        most = max(most, live)
        await asyncio.sleep(0.01)
        live -= 1
        return train(x, n)

    summary = asyncio.run(study.arun(slow, trials=12, workers=4))
    assert summary.ended == 12
    assert most == 4
    assert study.replay().verified == 12
    assert asyncio.run(study.arun(train, trials=15, progress="none")).ended == 3
    with pytest.raises(ConfigError, match="Coroutines share this process, so memory cannot be set"):
        asyncio.run(study.arun(slow, trials=20, memory=5))


def test_coroutines_report_fail_pause_and_time_out_like_everything_else() -> None:
    study = open_(steps=5, method="median(random)")

    async def stepwise(trial: tw.Attempt) -> None:
        for step in trial.steps():
            await asyncio.sleep(0.001)
            if trial.number == 2:
                raise ValueError("no luck")
            if trial.number == 3:
                await asyncio.sleep(60)
            trial.report(step, loss=trial.params["x"] + 1 / step)

    summary = asyncio.run(study.arun(stepwise, trials=12, workers=3, trial_timeout=0.3))
    assert summary.why == "trials"
    assert study.trials[2].status == "failed"
    assert "ValueError: no luck" in study.trials[2].error
    assert study.trials[3].status == "timed_out"
    assert study.counts["completed"] >= 3
    assert study.replay().skipped == 0

    async def broken(x: float) -> float:
        raise KeyError("lr")

    with pytest.raises(TooManyFailures, match="failed in the same way"):
        asyncio.run(open_().arun(broken, trials=50))


def test_a_cancelled_async_run_leaves_trials_that_the_next_one_continues() -> None:
    study = open_()
    patience = 30.0

    async def slow(x: float) -> float:
        await asyncio.sleep(patience)
        return x

    async def cancelled() -> None:
        task = asyncio.create_task(study.arun(slow, trials=4, workers=4, grace=0.01))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancelled())
    assert study.counts == {"waiting": 4}
    patience = 0.01
    assert asyncio.run(study.arun(slow, trials=4, workers=4)).ended == 4
    assert study.counts == {"completed": 4}


class Own:
    """An algorithm of a user's own."""

    def init(self, problem: Any) -> int:
        return 0

    def tell(self, state: int, events: Any) -> int:
        return state + sum(isinstance(e, Started) for e in events)

    def ask(self, state: int, slots: int, rng: Any) -> Any:
        return tuple(Start({"x": 1 / (2 + state), "n": 1}) for _ in range(slots)) if state < 5 else ()


def test_an_algorithm_of_ones_own_decides_and_finishes(tmp_path: Path) -> None:
    study = open_(tmp_path, method=Own())
    summary = study.run(train, trials=50, **quiet())
    assert summary.why == "finished"
    assert len(study.trials) == 5
    reader = open_(tmp_path, method=None)
    assert reader.method == "own"
    assert reader.replay().skipped == 5
    with pytest.raises(ConfigError, match="a method of its own, 'own'; it was opened without"):
        reader.run(train, trials=50, **quiet())
    assert study.replay().verified == 5


def test_steps_pause_and_resume_from_the_checkpoint(tmp_path: Path) -> None:
    study = open_(tmp_path, method="random", steps=6)
    seen: list[tuple[int, int]] = []

    def stepwise(trial: tw.Attempt) -> None:
        total = trial.checkpoint.load({"sum": 0})["sum"]
        for step in trial.steps():
            seen.append((trial.number, step))
            total += step
            trial.checkpoint.save({"sum": total})
            if len(seen) == 4:
                raise KeyboardInterrupt
            trial.report(step, loss=1 / total)

    with pytest.raises(KeyboardInterrupt):
        study.run(stepwise, trials=2, **quiet())
    assert study.counts == {"waiting": 1}
    study.run(stepwise, trials=2, **quiet())
    # Step 4 had been saved but not reported: it is trained again from step 3, so that no measurement is missing.
    expected = [(0, 1), (0, 2), (0, 3), (0, 4), (0, 4), (0, 5), (0, 6)]
    assert seen == [*expected, *((1, s) for s in range(1, 7))]
    assert [r.step for r in study.trials[0].reports] == [1, 2, 3, 4, 5, 6]
    assert [r.step for r in study.trials[1].reports] == [1, 2, 3, 4, 5, 6]
    assert study.best.metrics == {"loss": 1 / 21}
    assert study.replay().verified == 2


def test_a_handle_survives_a_fork(tmp_path: Path) -> None:
    import os

    study = open_(tmp_path)
    first = study.ask()
    assert first is not None
    children = []
    for _ in range(3):
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                for _ in range(5):
                    asked = study.ask()
                    assert asked is not None
                    asked.tell(train(**asked.params))
                code = 0
            finally:
                os._exit(code)
        children.append(pid)
    assert [os.waitstatus_to_exitcode(os.waitpid(p, 0)[1]) for p in children] == [0, 0, 0]
    first.tell(1.0)
    assert study.counts == {"completed": 16}
    assert len({t.params["x"] for t in study.trials}) == 16
    assert len({t.worker for t in study.trials}) == 4
    assert study.replay().verified == 16


def test_closing_a_study_closes_the_store_it_opened_but_not_one_it_was_given(tmp_path: Path) -> None:
    from tunewright.store.urls import open_store

    store = open_store(tmp_path / "studies.db")
    with tw.Study.open("a", SPACE, storage=store) as study:
        study.enqueue({"x": 0.5})
    assert store.find("a") is not None
    with open_(tmp_path, name="b") as study:
        study.run(train, trials=2, **quiet())
    store.close()


@pytest.mark.parametrize("last", [3, 6])
def test_a_worker_lost_between_its_last_report_and_its_ending_costs_no_training(
    last: int, tmp_path: Path
) -> None:
    study = open_(tmp_path, steps=6)
    trained: list[int] = []

    def stepwise(trial: tw.Attempt) -> None:
        for step in trial.steps():
            trained.append(step)
            trial.checkpoint.save({"step": step})
            trial.report(step, loss=1 / step)
            if step == last and len(trained) == last:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        study.run(stepwise, trials=1, **quiet())
    study.run(stepwise, trials=1, **quiet())
    assert trained == [1, 2, 3, 4, 5, 6]
    assert study.trials[0].status == "completed"
    assert study.trials[0].metrics == {"loss": 1 / 6}
    folder = Path(study.session.store.blobs(study.session.info.id))
    assert len([p for p in folder.iterdir() if p.is_file()]) == 1


@pytest.mark.parametrize("method", ["asha(random)", "hyperband(random)", "asha(tpe)"])
def test_few_trials_under_early_stopping_still_end_with_one_full_training(method: str) -> None:
    study = open_(method=method, steps=27)

    def stepwise(trial: tw.Attempt) -> None:
        for step in trial.steps():
            trial.report(step, loss=train(trial.params["x"], trial.params["n"]) + 1 / step)

    study.run(stepwise, trials=5, **quiet())
    assert study.counts["completed"] >= 1
    assert study.best.step == 27
    assert study.best.status == "completed"
    again = study.run(stepwise, trials=12, **quiet())
    assert again.ended >= 0
    assert len(study.trials) == 12
    study.replay()


def test_a_bracket_larger_than_the_study_is_still_halved() -> None:
    study = open_(method="hyperband(random)", steps=27)

    def stepwise(trial: tw.Attempt) -> None:
        for step in trial.steps():
            trial.report(step, loss=train(trial.params["x"], trial.params["n"]) + 1 / step)

    study.run(stepwise, trials=10, **quiet())
    assert sorted(t.step for t in study.trials) == [1] * 6 + [3, 3, 9, 27]
    assert study.replay().skipped == 0


def test_a_report_that_is_not_finite_ends_the_trial_as_failed_whatever_comes_after() -> None:
    study = open_(steps=9)

    def diverges(trial: tw.Attempt) -> float:
        for step in trial.steps():
            trial.report(step, loss=float("nan") if (trial.number, step) == (1, 3) else 1.0)
        return 0.5

    study.run(diverges, trials=3, **quiet())
    assert study.counts == {"completed": 2, "failed": 1}
    assert study.trials[1].error == "reported loss=nan at step 3"
    assert study.trials[1].step == 3
    asked = open_(steps=9).ask()
    assert asked is not None
    assert asked.report(1, loss=1.0)
    assert not asked.report(2, loss=float("inf"))
