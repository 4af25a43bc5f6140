"""The facade: open, ask, tell, enqueue, edit, look; determinism and replay."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import pytest
from study_helpers import open_, quiet, train

import tunewright as tw
from tunewright.core.events import Noted, Started
from tunewright.errors import (
    ConfigError,
    LeaseLost,
    ReplayMismatch,
    SpaceError,
    StudyExists,
    StudyMissing,
)


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
        open_(tmp_path, steps=8)
    with pytest.raises(ConfigError, match="keeps its seed"):
        open_(tmp_path, seed=2)
    with pytest.raises(ConfigError, match="Did you mean 'tpe'"):
        open_(name="t", method="tpee")
    with pytest.raises(ConfigError, match="got 'gama'. Did you mean"):
        open_(name="t", method="tpe", options={"gama": 1})
    with pytest.raises(ConfigError, match="A study name must be printable text"):
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
