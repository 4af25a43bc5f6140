"""A worker of a server: what it does with trials, outages, refusals and signals."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import tunewright as tw
from small_server import Proxy, SmallServer
from tunewright.core.events import Ended, Event, Interrupted, Noted, Paused, Reported, Resumed, Saved, Started
from tunewright.errors import ConfigError, StoreUnavailable, StudyMissing, TooManyFailures
from tunewright.run.agent import Agent, Shift, Terms
from tunewright.run.executor import InProcess
from tunewright.run.messages import Finish, Report, Save, pack
from tunewright.run.spool import Spool, key_of
from tunewright.store import access
from tunewright.store.base import StudyInfo
from tunewright.store.http import HttpStore
from tunewright.store.memory import MemoryStore

SPACE = {"x": tw.Float(0, 1)}
YOU = "external/you"


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TUNEWRIGHT_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv(access.VARIABLE, raising=False)
    monkeypatch.setattr("tunewright.store.client._PAUSE", 0.001)
    monkeypatch.setattr("tunewright.run.courier._PAUSE", 0.01)
    monkeypatch.setattr("tunewright.run.courier._LONGEST_PAUSE", 0.05)
    monkeypatch.setattr("tunewright.run.agent._ASK_EVERY", 0.01)
    monkeypatch.setattr("tunewright.run.agent._POLL", 0.01)


@pytest.fixture
def server() -> Iterator[SmallServer]:
    store = MemoryStore(expiring=True)
    with SmallServer(store) as made:
        yield made
    store.close()


def study(server: SmallServer, method: str = "random", **more: Any) -> StudyInfo:
    tw.Study.open("a", SPACE, minimize="loss", method=method, storage=server.store, **more)
    found = server.store.find("a")
    assert found is not None
    return found


def work(
    server: SmallServer | Proxy, info: StudyInfo, train: Callable[..., Any], home: Path, **terms: Any
) -> Shift:
    store = HttpStore(server.url, deadline=0.5, patience=5.0)
    return Agent(store, info, InProcess(train), Terms(**{"patience": 5.0, **terms}), home).run()


def events(server: SmallServer, *kinds: type[Event]) -> list[Any]:
    return [r.event for r in server.store.read(1) if isinstance(r.event, kinds or object)]


def spooled(home: Path) -> list[Path]:
    return sorted((home / "spool").rglob("*.spool"))


def test_works_until_all_trials_are_over(server: SmallServer, tmp_path: Path) -> None:
    shift = work(server, study(server), lambda x: x, tmp_path, trials=4)
    assert (shift.why, shift.begun, shift.ended, shift.undelivered) == ("finished", 4, 4, 0)
    assert [e.outcome for e in events(server, Ended)] == ["completed"] * 4
    assert spooled(tmp_path) == []
    looks = [call for call in server.calls if "GET" in call and "/events" in call]
    assert all("limit=0" in call for call in looks), "it does not follow the log"


def test_once_is_one_trial(server: SmallServer, tmp_path: Path) -> None:
    shift = work(server, study(server), lambda x: x, tmp_path, once=True)
    assert (shift.why, shift.begun) == ("once", 1)
    assert len(events(server, Started)) == 1


def test_idle_worker_leaves_when_it_is_told_to(server: SmallServer, tmp_path: Path) -> None:
    info = study(server)
    server.store.append(info.id, [Started(0, {"x": 0.5})], worker=YOU)
    server.calls.clear()
    shift = work(server, info, lambda x: x, tmp_path, trials=1, idle_exit=0.4)
    assert (shift.why, shift.begun) == ("idle", 0)
    assert len(server.calls) < 12


def test_parts_of_trainings_travel_with_their_checkpoints(server: SmallServer, tmp_path: Path) -> None:
    info = study(server, "sha", steps=(1, 4))
    seen: list[int] = []

    def train(trial: tw.Attempt) -> float:
        state = trial.checkpoint.load({"done": 0})
        for step in trial.steps():
            assert state["done"] == step - 1
            seen.append(step)
            state = {"done": step}
            trial.checkpoint.save(state)
            trial.report(step, loss=trial.params["x"] / step)
        return trial.params["x"] / trial.step

    homes = [tmp_path / "one", tmp_path / "two"]
    turn = 0
    while work(server, info, train, homes[turn % 2], trials=4, once=True).why == "once":
        turn += 1
        assert turn < 20
    assert seen.count(1) == 4
    assert seen.count(4) >= 1, "what was promoted went on in another folder"
    assert events(server, Saved)
    assert not list(tmp_path.rglob("trial-*/*.????????????????")), "delivered checkpoints are removed here"


def test_training_goes_on_while_the_server_is_away(
    server: SmallServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    info = study(server, steps=8)
    back: list[SmallServer] = []
    waited: list[list[Path]] = []

    def train(trial: tw.Attempt) -> float:
        for step in trial.steps():
            if trial.number == 1 and step == 3:
                server.close()
            if trial.number == 1 and step == 6:
                waited.append(spooled(tmp_path))
            trial.report(step, loss=1 / step)
        if trial.number == 1:
            threading.Timer(0.2, lambda: back.append(SmallServer(server.store, server.port))).start()
        return 0.125

    with caplog.at_level(logging.WARNING):
        shift = work(server, info, train, tmp_path, trials=3)
    back[0].close()
    assert (shift.why, shift.ended) == ("finished", 3)
    assert [p.name for p in waited[0]] == [f"trial-1-{events(server, Ended)[1].token}.spool"]
    assert spooled(tmp_path) == []
    reports = [(e.trial, e.step) for e in events(server, Reported)]
    assert reports == [(t, s) for t in range(3) for s in range(1, 9)], "all of them, once, in order"
    assert [e.trial for e in events(server, Ended)] == [0, 1, 2]
    assert "trainings go on" in caplog.text
    assert "answers again" in caplog.text


def test_checkpoints_that_a_newer_one_replaces_take_no_room_while_the_server_is_away(
    server: SmallServer, tmp_path: Path
) -> None:
    info = study(server, steps=9)
    back: list[SmallServer] = []
    files: list[int] = []

    def train(trial: tw.Attempt) -> float:
        for step in trial.steps():
            if step == 2:
                server.close()
            trial.checkpoint.save_bytes(bytes(1000 + step))
            trial.report(step, loss=1 / step)
            files.append(len([p for p in trial.folder.parent.parent.iterdir() if p.is_file()]))
        threading.Timer(0.1, lambda: back.append(SmallServer(server.store, server.port))).start()
        return 0.125

    work(server, info, train, tmp_path, trials=1)
    back[0].close()
    assert max(files) <= 4
    saves = events(server, Saved)
    assert saves[0].step == 1
    assert len(saves) <= 3
    (ended,) = events(server, Ended)
    assert ended.checkpoint.startswith("t0-s9.")
    assert any(f"PUT /api/v1/studies/@1/checkpoints/{ended.checkpoint}" in call for call in back[0].calls)


def test_checkpoint_that_is_gone_is_not_promised(server: SmallServer, tmp_path: Path) -> None:
    info = study(server)
    token = left_behind(server, info, tmp_path, finish=False)
    spool = Spool(tmp_path / "spool" / key_of(server.url, info.id, info.created))
    (letters,) = spool.orphans()
    letters.add(pack(Save(0, token, 1, "t0-s1.0123456789abcdef")))
    letters.add(pack(Finish(0, token, "completed", 1, {"loss": 0.5}, checkpoint="t0-s1.0123456789abcdef")))
    letters.close()
    work(server, info, lambda x: x, tmp_path, trials=1)
    assert events(server, Saved) == []
    (ended,) = events(server, Ended)
    assert ended.checkpoint is None


def test_server_that_stays_away_ends_the_worker_and_keeps_its_results(
    server: SmallServer, tmp_path: Path
) -> None:
    info = study(server)

    def train(x: float) -> float:
        server.close()
        return x

    with pytest.raises(StoreUnavailable, match="kept in"):
        work(server, info, train, tmp_path, patience=0.2, grace=0.2)
    assert len(spooled(tmp_path)) == 1
    again = SmallServer(server.store, server.port)
    shift = work(again, info, lambda x: x, tmp_path, trials=2)
    again.close()
    says = [c for c in again.calls if "/say" in c or "/ask" in c]
    assert says[0].endswith("/say"), "what was done comes before anything new"
    assert shift.begun == 1
    assert [e.trial for e in events(again, Ended)] == [0, 1]
    assert [e.attempts for e in tw.Study.open("a", storage=server.store).trials] == [1, 1]
    assert spooled(tmp_path) == []


def left_behind(server: SmallServer, info: StudyInfo, home: Path, *, finish: bool) -> int:
    """The spool of a worker that was killed."""
    (record,) = server.store.append(info.id, [Started(0, {"x": 0.5})], worker=YOU)
    spool = Spool(home / "spool" / key_of(server.url, info.id, info.created))
    letters = spool.begin(0, record.seq)
    letters.add(pack(Report(0, record.seq, 1, {"loss": 0.5})))
    if finish:
        letters.add(pack(Finish(0, record.seq, "completed", 1, {"loss": 0.5})))
    letters.close()
    return record.seq


def test_results_of_a_dead_worker_are_delivered_by_the_next(server: SmallServer, tmp_path: Path) -> None:
    info = study(server)
    left_behind(server, info, tmp_path, finish=True)
    work(server, info, lambda x: x, tmp_path, trials=1)
    (ended,) = events(server, Ended)
    assert (ended.outcome, ended.metrics) == ("completed", {"loss": 0.5})
    assert [e.step for e in events(server, Reported)] == [1]
    assert spooled(tmp_path) == []


def test_trial_of_a_worker_that_died_while_training_is_free_at_once(
    server: SmallServer, tmp_path: Path
) -> None:
    info = study(server)
    left_behind(server, info, tmp_path, finish=False)
    shift = work(server, info, lambda x: x, tmp_path, trials=1)
    assert [(e.trial, e.cause) for e in events(server, Interrupted)] == [(0, "lost")]
    assert shift.ended == 1
    assert spooled(tmp_path) == []


def test_result_that_comes_too_late_is_kept_as_a_note_and_hurts_nobody(
    server: SmallServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    info = study(server)
    token = left_behind(server, info, tmp_path, finish=True)
    server.store.append(info.id, [Interrupted(0, token), Resumed(0, by="retry")], worker=YOU)
    shift = work(server, info, lambda x: x, tmp_path, trials=2, idle_exit=0.3)
    assert shift.ended == 1
    assert [e.trial for e in events(server, Ended)] == [1]
    assert [e.topic for e in events(server, Noted)] == ["late"]
    assert "not recorded" in caplog.text
    assert spooled(tmp_path) == []


def test_worker_whose_trial_was_taken_over_goes_on_with_the_next(server: SmallServer, tmp_path: Path) -> None:
    info = study(server, steps=3)
    stopped: list[int] = []

    def train(trial: tw.Attempt) -> float:
        for step in trial.steps():
            if trial.number == 0 and step == 2:
                server.store.append(
                    info.id, [Interrupted(0, trial.token), Resumed(0, by="retry")], worker=YOU
                )
            try:
                trial.report(step, loss=1.0)
            except BaseException:
                stopped.append(trial.number)
                raise
        return 1.0

    shift = work(server, info, train, tmp_path, trials=3, idle_exit=0.3)
    assert stopped == [0]
    assert shift.begun == 3
    assert [e.trial for e in events(server, Ended)] == [1, 2]


def test_worker_that_is_asked_to_leave_pauses_its_trial(server: SmallServer, tmp_path: Path) -> None:
    info = study(server, steps=5)
    agents: list[Agent] = []

    def train(trial: tw.Attempt) -> float:
        for step in trial.steps():
            if step == 3:
                agents[0].interrupt()
            if not trial.report(step, loss=1.0):
                trial.checkpoint.save({"step": step})
        return 1.0

    store = HttpStore(server.url, deadline=0.5)
    agents.append(Agent(store, info, InProcess(train), Terms(trials=2), tmp_path))
    shift = agents[0].run()
    assert shift.why == "interrupted"
    assert [(e.trial, e.cause) for e in events(server, Interrupted)] == [(0, "shutdown")]
    assert events(server, Saved)
    assert server.store.leases(info.id) == []

    def rest(trial: tw.Attempt) -> float:
        assert trial.number or trial.checkpoint.load() == {"step": trial.step}
        return 0.5

    work(server, info, rest, tmp_path / "elsewhere", trials=1)
    assert [e.trial for e in events(server, Ended)] == [0]


def test_worker_that_cannot_train_anything_gives_up(server: SmallServer, tmp_path: Path) -> None:
    def train(x: float) -> float:
        raise RuntimeError("no such file")

    with pytest.raises(
        TooManyFailures, match=r"The worker stopped: its first 3 trials all failed[\s\S]*no such file"
    ):
        work(server, study(server), train, tmp_path)
    assert [e.outcome for e in events(server, Ended)] == ["failed"] * 3


def test_mistake_in_the_call_is_no_matter_of_parameters(server: SmallServer, tmp_path: Path) -> None:
    def train(trial: tw.Attempt) -> float:
        trial.report(-1, loss=1.0)
        return 1.0

    with pytest.raises(TooManyFailures, match="no other would do better"):
        work(server, study(server), train, tmp_path)


def test_study_that_is_gone_ends_the_worker(server: SmallServer, tmp_path: Path) -> None:
    info = study(server)

    def train(x: float) -> float:
        server.store.delete(info.id)
        return x

    with pytest.raises(StudyMissing):
        work(server, info, train, tmp_path)
    assert spooled(tmp_path) == []


def test_server_that_cannot_decide_is_said(server: SmallServer, tmp_path: Path) -> None:
    info = study(server)

    def refuse(*_: Any) -> Any:
        raise ConfigError("The study has a method of its own.")

    server._post_ask = refuse  # type: ignore[method-assign]
    with pytest.raises(ConfigError, match="a method of its own"):
        work(server, info, lambda x: x, tmp_path)


def test_word_that_the_server_cannot_use_fails_its_trial_alone(server: SmallServer, tmp_path: Path) -> None:
    info = study(server)
    say = server._post_say

    def strict(key: int, query: dict[str, str], body: bytes) -> Any:
        if b'"wide"' in body:
            raise ConfigError("A metric must have a shorter name.")
        return say(key, query, body)

    server._post_say = strict  # type: ignore[method-assign]

    def train(trial: tw.Attempt) -> dict[str, float]:
        return {"loss": 1.0, "wide" if trial.number == 0 else "fine": 1.0}

    work(server, info, train, tmp_path, trials=2)
    ends = events(server, Ended)
    assert [e.outcome for e in ends] == ["failed", "completed"]
    assert "shorter name" in ends[0].error


def test_parameters_met_while_running_are_drawn_by_the_server(server: SmallServer, tmp_path: Path) -> None:
    tw.Study.open("a", minimize="loss", method="random", storage=server.store)
    info = server.store.find("a")
    assert info is not None
    drops = iter([False, True, False, False])

    def plan(number: int, head: str) -> str:
        return "drop" if "/say" in head and next(drops, False) else ""

    def train(trial: tw.Attempt) -> float:
        return trial.suggest_float("a", 0, 1) + trial.suggest_int("b", 1, 3)

    with Proxy(server.port, plan) as proxy:
        work(proxy, info, train, tmp_path, trials=3)
    trials = tw.Study.open("a", storage=server.store).trials
    assert [t.status for t in trials] == ["completed"] * 3
    assert all(set(t.params) == {"a", "b"} for t in trials)


@pytest.mark.parametrize("fault", ["drop", "refuse", "cut"])
def test_no_lost_answer_makes_a_trial_more(server: SmallServer, tmp_path: Path, fault: str) -> None:
    info = study(server, steps=3)

    def plan(number: int, head: str) -> str:
        return fault if number % 3 == 1 else ""

    def train(trial: tw.Attempt) -> float:
        for step in trial.steps():
            trial.report(step, loss=trial.params["x"] / step)
        return trial.params["x"]

    with Proxy(server.port, plan) as proxy:
        shift = work(proxy, info, train, tmp_path, trials=6)
        assert proxy.hit > 5
    assert shift.ended == 6
    starts, ends = events(server, Started), events(server, Ended)
    assert [e.trial for e in starts] == list(range(6))
    assert sorted(e.trial for e in ends) == list(range(6))
    assert all(e.metrics["loss"] == starts[e.trial].config["x"] for e in ends)
    assert not events(server, Resumed, Paused, Interrupted, Noted)
    steps = [(e.trial, e.step) for e in events(server, Reported)]
    assert len(steps) == len(set(steps))


def test_lease_is_kept_while_a_training_is_silent(server: SmallServer, tmp_path: Path) -> None:
    info = study(server)

    def train(x: float) -> float:
        time.sleep(0.5)
        return x

    work(server, info, train, tmp_path, trials=1, lease=0.3)
    assert any("leases" in call for call in server.calls)
    assert len(events(server, Ended)) == 1
