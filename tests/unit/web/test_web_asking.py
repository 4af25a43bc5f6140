"""Work handed out and taken back over HTTP: nothing twice, nothing lost, whoever speaks is named."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from asgi_client import Talk, made
from hypothesis import given, settings
from hypothesis import strategies as st

from tunewright.core.algorithm import Start
from tunewright.run.messages import Segment
from tunewright.store.clock import place, worker_alive, worker_id
from tunewright.store.memory import MemoryStore
from tunewright.store.sqlite import SqliteStore
from tunewright.web import shelf
from tunewright.web.shelf import spoken
from tunewright.web.tokens import Who

ANN = "host/boot/1/2/ann"


def test_a_trial_from_ask_to_tell(talk: Talk) -> None:
    key = talk.study(steps=4)
    found = msgspec.convert(talk.ask(worker=ANN), Segment)
    assert (found.trial, found.token, found.until, found.high) == (0, 1, 4, 4)
    assert found.blobs == f"http://localhost:8787/api/v1/studies/@{key}/checkpoints"
    for step in (1, 2):
        body = {"token": 1, "step": step, "metrics": {"loss": 1.0 / step, "other": "nan"}}
        assert talk("POST", "/studies/s/trials/0/report", body).json == {"go_on": True}
    told = talk("POST", "/studies/s/trials/0/tell", {"token": 1, "value": 0.25}).json
    assert (told["status"], told["metrics"]) == ("completed", {"loss": 0.25})
    shown = talk("GET", "/studies/s/trials/0").json
    assert [r["step"] for r in shown["reports"]] == [1, 2]
    assert shown["reports"][0]["bad"] == {"other": "nan"}
    assert talk("GET", "/studies/s/best").json["trials"][0]["number"] == 0
    assert talk("GET", "/studies").json[0]["counts"] == {"completed": 1}


def test_a_lost_answer_is_given_again_and_a_known_one_is_not(talk: Talk) -> None:
    talk.study()
    first = talk.ask(worker=ANN, held=[])
    again = talk.ask(worker=ANN, held=[])
    assert again == first
    assert talk.ask(worker=ANN, held=[0])["trial"] == 1
    assert talk.ask(worker="host/boot/1/2/bob", held=[])["trial"] == 2
    assert talk.ask(worker=ANN)["trial"] == 3, "without 'held' nothing is given again"
    assert [t["trial"] for t in talk("POST", "/studies/s/ask", {"worker": ANN, "held": [], "slots": 9}).json["trials"]] == [
        0, 1, 3, 4, 5, 6, 7, 8, 9,
    ]  # fmt: skip


def test_a_lost_answer_survives_the_server(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    talk = Talk(SqliteStore(path))
    talk.study()
    first = talk.ask(worker=worker_id("w"), held=[])
    talk.close()
    talk = Talk(SqliteStore(path))
    assert talk.ask(worker=worker_id("w"), held=[])["token"] == first["token"]
    assert talk.ask(worker=worker_id("w"), held=[0])["trial"] == 1
    talk.close()


def test_what_is_over_is_not_given_again(talk: Talk) -> None:
    talk.study()
    talk.ask(worker=ANN, held=[])
    ended = {"kind": "ended", "trial": 0, "token": 1, "metrics": {"loss": 1.0}}
    assert talk("POST", "/studies/s/events", {"events": [ended], "worker": ANN}).status == 200
    assert talk.ask(worker=ANN, held=[])["trial"] == 1


def test_the_same_result_told_twice_is_one(talk: Talk) -> None:
    talk.study()
    talk.ask()
    body = {"token": 1, "value": 0.5}
    first, second = (talk("POST", "/studies/s/trials/0/tell", body) for _ in range(2))
    assert first.json == second.json
    other = talk("POST", "/studies/s/trials/0/tell", {"token": 1, "value": 0.7})
    assert (other.status, other.code) == (409, "TW044")
    kinds = [r[3]["kind"] for r in talk("GET", "/studies/s/events").json["records"]]
    assert kinds == ["started", "ended", "noted"]


@pytest.mark.parametrize(
    "word",
    [
        {"kind": "report", "step": 1, "metrics": {"loss": 1.0}},
        {"kind": "save", "step": 1, "checkpoint": "w.0123456789abcdef"},
        {"kind": "finish", "outcome": "completed", "metrics": {"loss": 1.0}},
        {"kind": "finish", "outcome": "failed", "error": "boom"},
        {"kind": "finish", "outcome": "lost"},
    ],
)
def test_a_word_said_again_is_written_once(word: dict[str, Any], talk: Talk) -> None:
    talk.study(steps=4)
    talk.ask(worker=ANN)
    body = {"message": {**word, "trial": 0, "token": 1}, "worker": ANN}
    first = talk("POST", "/studies/s/say", body)
    last = talk("GET", "/studies/s/events").json["last"]
    second = talk("POST", "/studies/s/say", {**body, "again": True})
    assert (first.status, second.status) == (200, 200), (first.body, second.body)
    assert first.json == second.json
    assert talk("GET", "/studies/s/events").json["last"] == last > 1


def test_words_of_an_attempt_that_is_over_are_refused(talk: Talk) -> None:
    talk.study(steps=4)
    talk.ask()
    for trial, token in ((0, 7), (5, 1)):
        word = {"kind": "report", "trial": trial, "token": token, "step": 1, "metrics": {"loss": 1.0}}
        got = talk("POST", "/studies/s/say", {"message": word})
        assert (got.status, got.code) == (409, "TW044")
    assert talk("POST", "/studies/s/trials/9/tell", {"token": 1, "value": 1.0}).status == 404
    assert talk("POST", "/studies/s/say", {"message": {"kind": "segment"}}).status == 422
    assert talk("POST", "/studies/s/say", {"message": 5}).status == 422


def test_a_key_queues_once(talk: Talk) -> None:
    talk.study()
    body = {"params": {"x": 0.25}, "key": "k"}
    positions = {talk("POST", "/studies/s/queue", body).json["position"] for _ in range(3)}
    assert len(positions) == 1
    event = {"kind": "enqueued", "config": {"x": 0.25}, "key": "k"}
    assert talk("POST", "/studies/s/events", {"events": [event]}).json["records"][0][0] in positions
    assert talk.ask()["config"] == {"x": 0.25}
    assert talk("POST", "/studies/s/queue", {"params": {"y": 1}}).status == 422


def test_a_study_is_made_once(talk: Talk) -> None:
    body = {"name": "s", "space": {"x": "0.0..1.0"}}
    assert [talk("POST", "/studies", body).status for _ in range(2)] == [201, 409]
    same = talk("POST", "/studies", {**body, "exist_ok": True})
    assert (same.status, same.json["id"]) == (200, 1)
    made_ = talk.together(
        *[("POST", "/studies", {"name": "t", "space": {"x": "0..9"}, "exist_ok": True})] * 8
    )
    assert sorted(g.status for g in made_) == [200] * 7 + [201]
    assert len({g.json["id"] for g in made_}) == 1


def test_asking_waits_for_work(talk: Talk) -> None:
    talk.study(method="grid", space={"x": "a|b"})
    assert [talk.ask(worker=ANN)["trial"] for _ in range(2)] == [0, 1]
    began = time.monotonic()
    got = talk("POST", "/studies/s/ask", {"worker": ANN, "wait": 0.2})
    assert got.json["trials"] == []
    if not got.json.get("finished"):
        assert time.monotonic() - began >= 0.19

    async def both() -> list[Any]:
        waiting = asyncio.ensure_future(talk.call("POST", "/studies/s/ask", {"worker": ANN, "wait": 5.0}))
        await asyncio.sleep(0.05)
        await talk.call("POST", "/studies/s/queue", {"params": {"x": "a"}})
        return [await waiting]

    began = time.monotonic()
    (got,) = talk._loop.run_until_complete(both())
    assert [t["trial"] for t in got.json["trials"]] == [2]
    assert time.monotonic() - began < 3.0


def test_limits_of_asking(talk: Talk) -> None:
    talk.study()
    for bad in (
        {"slots": -1},
        {"slots": 10_000},
        {"wait": -1.0},
        {"wait": 1e6},
        {"lease": -1.0},
        {"lease": 1e12},
    ):
        assert talk("POST", "/studies/s/ask", bad).status == 422, bad
    assert talk("POST", "/studies/s/ask", {"slots": 0}).json["trials"] == []
    got = talk("POST", "/studies/s/ask", {"slots": 5, "limit": 3}).json
    assert len(got["trials"]) == 3


def test_several_asks_at_once_give_different_trials(talk: Talk) -> None:
    talk.study()
    got = talk.together(*[("POST", "/studies/s/ask", {"worker": f"host/boot/1/2/{n}"}) for n in range(20)])
    assert sorted(g.json["trials"][0]["trial"] for g in got) == list(range(20))


# ------------------------------------------------------------------ who speaks


@pytest.mark.parametrize(
    ("worker", "id", "kept"),
    [
        ("h/b/1/2/tag", "ab12", "h/b/1/2/tag@ab12"),
        ("h/b/1/2/", "ab12", "h/b/1/2/ab12"),
        ("h/b/1/2/a/b", "ab12", "h/b/1/2/a/b@ab12"),
        ("h/b/1/2/tag", "", "h/b/1/2/tag"),
        ("", "ab12", "external/http/ab12"),
        ("", "", "external/http"),
        ("somebody", "ab12", "external/somebody/ab12"),
        ("external/x", "ab12", "external/x/ab12"),
        ("a\nb", "", "external/ab"),
    ],
)
def test_the_name_in_the_log_ends_with_the_token(worker: str, id: str, kept: str) -> None:
    assert spoken(worker, Who(id, "worker", ("*",))) == kept


@settings(max_examples=40)
@given(st.text(max_size=400), st.sampled_from(["", "ab12cd34"]))
def test_any_name_can_be_kept(worker: str, id: str) -> None:
    kept = spoken(worker, Who(id, "worker", ("*",)))
    assert 0 < len(kept) < 300 and kept.isprintable()
    assert not id or kept.endswith(id)


def test_a_worker_of_this_host_is_still_known_to_live_or_not() -> None:
    who = Who("ab12cd34", "worker", ("*",))
    assert worker_alive(spoken(worker_id("x"), who)) is True
    assert worker_alive(spoken(f"{place()}/999999999/1/x", who)) is False
    assert worker_alive(spoken("elsewhere/boot/1/2/x", who)) is None
    assert worker_alive(spoken("", who)) is None


def test_every_event_says_which_token_it_came_with(tmp_path: Path) -> None:
    path, (admin, worker) = made(tmp_path, ("admin", "*"), ("worker", "*"))
    talk = Talk(tokens=path)
    talk.token = admin
    talk.study()
    talk.ask(worker=ANN)
    talk.token = worker
    talk("POST", "/studies/s/trials/0/tell", {"token": 1, "value": 1.0, "worker": ANN})
    talk("POST", "/studies/s/queue", {"params": {}})
    talk(
        "POST", "/studies/s/events", {"events": [{"kind": "noted", "topic": "t", "data": {}}], "worker": "me"}
    )
    names = [r[2] for r in talk("GET", "/studies/s/events").json["records"]]
    first, second = admin.split("_")[1], worker.split("_")[1]
    assert names == [f"{ANN}@{first}", f"{ANN}@{second}", f"external/http/{second}", f"external/me/{second}"]
    talk.close()


def test_a_dead_worker_of_this_host_is_noticed_at_once(tmp_path: Path) -> None:
    path, (token,) = made(tmp_path, ("admin", "*"))
    talk = Talk(SqliteStore(tmp_path / "s.db"), tokens=path)
    talk.token = token
    talk.study()
    dead = talk.ask(worker=f"{place()}/999999999/1/x", lease=3600.0)
    time.sleep(0.55)
    found = talk.ask(worker=worker_id("alive"))
    assert (found["trial"], found["attempt"]) == (dead["trial"], 2)
    talk.close()


# ------------------------------------------------------------------ the server was away, or thinks


def test_an_outage_of_the_server_costs_nobody_a_lease(tmp_path: Path) -> None:
    now = [1000.0]
    file = tmp_path / "s.db"
    talk = Talk(SqliteStore(file, clock=lambda: now[0]))
    talk.study()
    talk.ask(worker="elsewhere/boot/1/2/x", lease=5.0)
    talk.close()
    now[0] += 3600.0
    talk = Talk(SqliteStore(file, clock=lambda: now[0]))
    assert talk.ask(worker="elsewhere/boot/1/2/y")["trial"] == 1
    assert talk("POST", "/studies/s/trials/0/tell", {"token": 1, "value": 1.0}).status == 200
    talk.close()


def test_who_began_after_the_outage_is_not_spared(tmp_path: Path) -> None:
    """It had the server to talk to all the time, so its silence means what it means elsewhere."""
    now = [1000.0]
    talk = Talk(SqliteStore(tmp_path / "s.db", clock=lambda: now[0]))
    talk.study()
    talk.ask(worker="elsewhere/boot/1/2/x", lease=5.0)
    now[0] += 6.0
    found = talk.ask(worker="elsewhere/boot/1/2/y")
    assert (found["trial"], found["attempt"]) == (0, 2)
    talk.close()


def test_a_worker_that_stays_silent_after_the_outage_loses_its_lease(tmp_path: Path) -> None:
    now = [1000.0]
    file = tmp_path / "s.db"
    talk = Talk(SqliteStore(file, clock=lambda: now[0]))
    talk.study()
    talk.ask(worker="elsewhere/boot/1/2/x", lease=5.0)
    talk.close()
    now[0] += 3600.0
    talk = Talk(SqliteStore(file, clock=lambda: now[0]))
    assert talk.ask(worker="elsewhere/boot/1/2/y")["trial"] == 1
    now[0] += shelf.GRACE + 1.0
    found = talk.ask(worker="elsewhere/boot/1/2/y", held=[1])
    assert (found["trial"], found["attempt"]) == (0, 2)
    talk.close()


@dataclass(frozen=True)
class Ponderer:
    """A deliberate method that thinks until it is let go."""

    gate: Any
    began: Any
    deliberate: bool = True
    name: str = "ponderer"

    def init(self, problem: Any) -> int:
        return 0

    def tell(self, state: int, events: Any) -> int:
        return state + len(events)

    def ask(self, state: int, slots: int, rng: np.random.Generator) -> tuple[Any, ...]:
        self.began.set()
        assert self.gate.wait(20.0)
        return (Start({"x": float(rng.random())}),) if slots else ()


def test_a_thinking_method_keeps_nobody_else_waiting(talk: Talk) -> None:
    gate, began = threading.Event(), threading.Event()
    talk.study()
    talk.study("other")
    held = talk.ask()
    opened = talk._loop.run_until_complete(talk.app.state.shelf.open("s", Who("", "admin", ("*",))))
    opened.session.algorithm = Ponderer(gate, began)
    opened.session._untold = None
    opened.thinks = True

    async def story() -> tuple[list[int], Any]:
        asking = asyncio.ensure_future(talk.call("POST", "/studies/s/ask", {}))
        while not began.is_set():
            await asyncio.sleep(0.01)
        ended = {"kind": "ended", "trial": held["trial"], "token": held["token"], "metrics": {"loss": 1.0}}
        calls: list[tuple[Any, ...]] = [
            ("GET", "/health"),
            ("GET", "=/metrics"),
            ("GET", "/studies"),
            ("POST", "/studies/s/leases", {"held": [[held["trial"], held["token"]]]}),
            ("GET", "/studies/s/leases"),
            ("GET", "/studies/s/trials"),
            ("GET", "/studies/s/best"),
            ("GET", "/studies/s/events"),
            ("POST", "/studies/s/events", {"events": [ended]}),
            ("POST", "/studies/other/ask", {}),
        ]
        statuses = [(await asyncio.wait_for(talk.call(*c), 3.0)).status for c in calls]
        best = (await talk.call("GET", "/studies/s/best")).json["trials"]
        assert [t["metrics"] for t in best] == [{"loss": 1.0}], "what was told meanwhile is seen"
        assert not asking.done()
        gate.set()
        return statuses, await asking

    statuses, asked = talk._loop.run_until_complete(story())
    assert statuses == [200] * 10
    assert asked.json["trials"][0]["trial"] == 1


def test_too_long_a_thought_is_an_answer_too(talk: Talk, monkeypatch: pytest.MonkeyPatch) -> None:
    gate, began = threading.Event(), threading.Event()
    monkeypatch.setattr("tunewright.web.lanes.DEADLINE", 0.1)
    talk.study()
    talk.ask(worker=ANN, held=[])
    opened = talk._loop.run_until_complete(talk.app.state.shelf.open("s", Who("", "admin", ("*",))))
    opened.session.algorithm = Ponderer(gate, began)
    opened.session._untold = None
    got = talk("POST", "/studies/s/ask", {"worker": ANN, "held": [0]})
    assert (got.status, got.headers["retry-after"]) == (503, "1")
    gate.set()
    monkeypatch.setattr("tunewright.web.lanes.DEADLINE", 20.0)
    assert talk.ask(worker=ANN, held=[0])["trial"] == 1, "what was decided meanwhile is handed out"


# ------------------------------------------------------------------ dropped replies


Step = tuple[str, bool]


@settings(max_examples=15)
@given(st.lists(st.tuples(st.sampled_from(["ask", "tell", "say", "queue"]), st.booleans()), max_size=25))
def test_answers_that_get_lost_leave_no_trace(steps: list[Step]) -> None:
    talk = Talk(MemoryStore(expiring=True))
    talk.study()
    held: dict[int, int] = {}
    queued = asked = 0

    def sure(send: Callable[[bool], Any], lost: bool) -> Any:
        """Sends a request; where its answer is lost, once more."""
        got = send(False)
        return send(True) if lost else got

    for kind, lost in steps:
        if kind == "ask":
            trial = sure(lambda again: talk.ask(worker=ANN, held=sorted(held)), lost)
            assert trial["trial"] not in held
            held[trial["trial"]] = trial["token"]
            asked += 1
        elif kind == "queue":
            queued += 1
            body = {"params": {"x": 0.5}, "key": f"k{queued}"}
            sure(lambda again, body=body: talk("POST", "/studies/s/queue", body), lost)
        elif held:
            number, token = held.popitem()
            word = {
                "kind": "finish",
                "trial": number,
                "token": token,
                "outcome": "completed",
                "metrics": {"loss": 1.0},
            }
            if kind == "say":
                got = sure(
                    lambda again, word=word: talk(
                        "POST", "/studies/s/say", {"message": word, "worker": ANN, "again": again}
                    ),
                    lost,
                )
            else:
                body = {"token": token, "value": 1.0, "worker": ANN}
                got = sure(
                    lambda again, n=number, body=body: talk("POST", f"/studies/s/trials/{n}/tell", body), lost
                )
            assert got.status == 200
    records = talk("GET", "/studies/s/events").json["records"]
    kinds = [r[3]["kind"] for r in records]
    assert kinds.count("started") == asked
    assert kinds.count("ended") == asked - len(held)
    assert kinds.count("enqueued") == queued
    assert "noted" not in kinds
    talk.close()
