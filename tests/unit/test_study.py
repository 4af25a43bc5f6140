"""The facade: open, run, ask, tell, enqueue, edit, look; determinism and replay."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pytest

import tunewright as tw
from tunewright.core.algorithm import Start
from tunewright.core.events import Interrupted, Noted, Started
from tunewright.errors import (
    ConfigError,
    LeaseLost,
    ReplayMismatch,
    SpaceError,
    StudyExists,
    StudyMissing,
    TooManyFailures,
)
from tunewright.run.session import Policy

SPACE = tw.Space(x=tw.Float(0, 1), n=tw.Int(1, 5))


def quiet(**more: Any) -> dict[str, Any]:
    return {"progress": "none", **more}


def train(x: float, n: int) -> float:
    return (x - 0.3) ** 2 + n


def open_(path: Path | None = None, name: str = "s", **more: Any) -> tw.Study:
    more.setdefault("space", SPACE)
    more.setdefault("method", "random")
    return tw.Study.open(name, storage="memory" if path is None else str(path / "studies.db"), **more)


def test_a_run_reaches_its_number_and_continues_to_the_next(tmp_path: Path) -> None:
    study = open_(tmp_path)
    assert study.run(train, trials=12, **quiet()).why == "trials"
    assert study.counts == {"completed": 12}
    assert study.run(train, trials=12, **quiet()).ended == 0
    study.close()
    again = open_(tmp_path)
    assert again.run(train, trials=20, **quiet()).ended == 8
    assert again.best.metrics["loss"] == min(t.metrics["loss"] for t in again.trials)
    assert again.best.params["n"] == 1
    assert again.replay().verified == 20


@pytest.mark.parametrize("method", ["random", "quasirandom", "tpe", "bayes", "auto", "grid"])
def test_the_same_seed_gives_the_same_trials_in_memory_and_on_disk_and_after_a_restart(
    method: str, tmp_path: Path
) -> None:
    configs = []
    for where in (None, tmp_path / "a", tmp_path / "b"):
        if where is not None:
            where.mkdir()
        study = open_(where, method=method, seed=5)
        study.run(train, trials=7, **quiet())
        if where is not None and where.name == "b":
            study.close()
            study = open_(where, method=None, seed=5)
        study.run(train, trials=14, **quiet())
        configs.append([t.params for t in study.trials])
        assert study.replay().verified == 14
    assert configs[0] == configs[1] == configs[2]


def test_random_configurations_do_not_depend_on_the_number_of_workers() -> None:
    one, four = open_(seed=3), open_(seed=3)
    one.run(train, trials=8, **quiet())
    asked = [four.ask() for _ in range(8)]
    for trial in reversed(asked):
        assert trial is not None
        trial.tell(1.0)
    assert [t.params for t in one.trials] == [t.params for t in four.trials]


def test_ask_and_tell_in_any_order_replay_exactly(tmp_path: Path) -> None:
    for method in ("tpe", "bayes"):
        study = open_(tmp_path, name=method, method=method)
        rng = np.random.default_rng(0)
        open_trials: list[tw.Asked] = []
        while len(study.trials) < 30 or open_trials:
            if len(study.trials) < 30 and len(open_trials) < 4:
                asked = study.ask()
                assert asked is not None
                open_trials.append(asked)
            else:
                trial = open_trials.pop(int(rng.integers(len(open_trials))))
                trial.tell(train(**trial.params))
        assert study.replay().verified == 30


def test_two_sessions_on_one_store_never_take_the_same_decision(tmp_path: Path) -> None:
    for method in ("random", "tpe", "bayes"):
        a, b = open_(tmp_path, name=method, method=method), open_(tmp_path, name=method, method=method)
        trials = []
        for i in range(20):
            asked = (a, b)[i % 2].ask()
            assert asked is not None
            trials.append(asked)
            if i % 3:
                done = trials.pop(0)
                done.tell(train(**done.params))
        assert [t.number for t in a.trials] == list(range(20))
        assert [t.params for t in a.trials] == [t.params for t in b.trials]
        assert b.replay().verified == 20


def test_a_decision_that_was_tampered_with_is_found() -> None:
    study = open_()
    study.run(train, trials=3, **quiet())
    study.session.record(Started(3, {"x": 0.5, "n": 2}, basis=study.session.ledger.cursor, by="random"))
    with pytest.raises(ReplayMismatch, match="take the decision at position 7 again"):
        study.replay()


def test_telling_twice_is_told_once_and_contradictions_are_refused(tmp_path: Path) -> None:
    study = open_(tmp_path)
    trial = study.ask()
    assert trial is not None
    assert trial.tell(0.5).metrics == {"loss": 0.5}
    assert trial.tell(loss=0.5).metrics == {"loss": 0.5}
    with pytest.raises(LeaseLost, match="is over already"):
        trial.tell(0.6)
    assert study.counts == {"completed": 1}
    notes = [r.event for r in study.session.store.read(study.session.info.id) if isinstance(r.event, Noted)]
    assert [n.topic for n in notes] == ["late"]


def test_a_bad_result_is_refused_before_the_trial_is_touched() -> None:
    study = open_()
    trial = study.ask()
    assert trial is not None
    for bad in ("1.5", b"1", None, 1j, [1.0, 2.0], {"los": 1.0}):
        with pytest.raises(ConfigError):
            trial.tell(bad)  # type: ignore[arg-type]
    assert study.trials[0].status == "running"
    assert trial.tell(float("nan")).status == "failed"
    assert study.trials[0].error == "returned loss=nan"
    with pytest.raises(ConfigError, match="tell needs a trial of this study; got 7"):
        study.tell(7, 1.0)


def test_enqueued_items_are_served_once_in_order_and_filled(tmp_path: Path) -> None:
    a, b = open_(tmp_path), open_(tmp_path)
    first = a.enqueue({"x": 0.25}, key="k")
    assert b.enqueue({"x": 0.25}, key="k") == first
    a.enqueue({"n": 5})
    with pytest.raises(SpaceError, match="'n' must be a whole number"):
        a.enqueue({"n": 9})
    one, two, three = b.ask(), a.ask(), b.ask()
    assert one is not None and two is not None and three is not None
    assert one.params["x"] == 0.25
    assert two.params["n"] == 5
    assert [t.start.by for t in a.trials] == ["queue", "queue", "random"]


def test_queue_items_in_a_conditional_space_are_completed_legally() -> None:
    space = tw.Space(m=tw.Choice({"a": {"p": tw.Float(0, 1)}, "b": {"q": tw.Int(1, 3)}}), z=tw.Bool())
    study = open_(space=space)
    for option in ("a", "b"):
        study.enqueue({"m": option})
    for option, child in (("a", "p"), ("b", "q")):
        asked = study.ask()
        assert asked is not None
        assert asked.params["m"] == option
        assert set(asked.params) == {"m", child, "z"}


def test_defaults_of_a_function_are_trial_zero() -> None:
    def function(x: Annotated[float, tw.Float(0, 1)] = 0.125, n: Annotated[int, tw.Int(1, 5)] = 4) -> float:
        return x * n

    study = open_(space=function)
    study.run(function, trials=3, **quiet())
    assert study.trials[0].params == {"x": 0.125, "n": 4}


def test_open_says_what_is_wrong(tmp_path: Path) -> None:
    open_(tmp_path, minimize="loss", steps=9, seed=1)
    with pytest.raises(StudyExists, match="'s' is there already"):
        open_(tmp_path, exist="error")
    with pytest.raises(StudyMissing, match="No study 'sz'.*did you mean 's'"):
        open_(tmp_path, name="sz", exist="must")
    with pytest.raises(ConfigError, match="keeps its objectives; 's' has minimize loss, got maximize acc"):
        open_(tmp_path, maximize="acc")
    with pytest.raises(ConfigError, match="keeps its steps"):
        open_(tmp_path, steps=10)
    with pytest.raises(ConfigError, match="keeps its seed"):
        open_(tmp_path, seed=2)
    with pytest.raises(ConfigError, match="Did you mean 'tpe'"):
        open_(name="t", method="tpee")
    with pytest.raises(ConfigError, match="got 'gama'. Did you mean"):
        open_(name="t", method="tpe", options={"gama": 1})
    with pytest.raises(ConfigError, match="1 to 256 printable characters"):
        open_(name="a\x00b")
    with pytest.raises(tw.TunewrightError, match=r"step"):
        open_(name="t", method="asha")


def test_a_changed_space_is_a_new_version_or_an_error_that_lists_the_changes(tmp_path: Path) -> None:
    study = open_(tmp_path)
    study.run(train, trials=5, **quiet())
    wider = tw.Space(x=tw.Float(0, 2), n=tw.Int(1, 9))
    with pytest.raises(
        SpaceError, match=r"differs: ~ x: a number in \[0.0, 1.0\] -> a number in \[0.0, 2.0\]; ~ n:"
    ):
        open_(tmp_path, space=wider, on_change="error")
    again = open_(tmp_path, space=wider)
    again.run(train, trials=60, **quiet())
    assert len(again.trials) == 60
    assert max(t.params["x"] for t in again.trials[5:]) > 1
    assert max(t.params["x"] for t in again.trials[:5]) <= 1
    assert again.replay().verified == 60
    assert open_(tmp_path, space=None).space == wider


@pytest.mark.parametrize("method", ["tpe", "bayes"])
def test_models_go_on_after_the_space_was_edited(method: str) -> None:
    study = open_(method=method)
    study.run(train, trials=15, **quiet())
    study.edit({"x": tw.Float(-1, 2), "n": tw.Int(1, 9), "extra": tw.Choice(["u", "v"])})
    summary = study.run(lambda trial: train(trial.params["x"], trial.params["n"]), trials=30, **quiet())
    assert summary.failed == 0
    assert all("extra" in t.params for t in study.trials[15:])
    assert study.replay().verified == 30


def test_several_objectives_have_a_front_and_no_best() -> None:
    study = open_(minimize=["a"], maximize=["b"], method="tpe")
    study.run(
        lambda trial: {"a": trial.params["x"], "b": trial.params["x"] - trial.params["n"]},
        trials=40,
        **quiet(),
    )
    with pytest.raises(ConfigError, match="Look at study.pareto"):
        _ = study.best
    front = study.pareto
    assert 0 < len(front) < 40
    for t in front:
        assert not any(
            u.metrics["a"] <= t.metrics["a"] and u.metrics["b"] >= t.metrics["b"] and u.metrics != t.metrics
            for u in study.trials
        )


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
    with pytest.raises(ConfigError, match="Coroutines take the limits trials and timeout"):
        asyncio.run(study.arun(slow, trials=20, memory=5))


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


def test_asked_trials_of_a_scheduler_pause_and_are_promoted() -> None:
    study = open_(method="asha(random)", steps=9, options={"eta": 3})
    untils: dict[int, list[int]] = {}
    for _ in range(40):
        asked = study.ask()
        assert asked is not None and asked.until is not None
        untils.setdefault(asked.number, []).append(asked.until)
        if asked.number % 2:
            asked.report(asked.until, loss=train(**asked.params))
            asked.tell()
        else:
            asked.tell(train(**asked.params))
    assert {1, 3, 9} == {u for us in untils.values() for u in us}
    assert all(us == sorted(us) for us in untils.values())
    assert set(study.counts) <= {"paused", "completed"}
    assert study.counts["completed"] == sum(us[-1] == 9 for us in untils.values())
    assert study.replay().skipped == 0


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
