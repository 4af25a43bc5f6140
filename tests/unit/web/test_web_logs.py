"""The log over HTTP: what may be appended, how it is read and followed, and copies of it."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from asgi_client import Talk

from tunewright.core.domains import Float
from tunewright.store import wire
from tunewright.store.memory import MemoryStore
from tunewright.study import Study

STARTED = {"kind": "started", "trial": 0, "config": {"x": 0.5}}
SPACE = {"parameters": [{"name": "x", "type": "float", "low": 0.0, "high": 2.0}]}
NOTE = {"kind": "noted", "topic": "t", "data": {}}


def append(talk: Talk, *events: dict[str, Any], **more: Any) -> Any:
    return talk("POST", "/studies/s/events", {"events": list(events), **more})


def test_decisions_rest_on_the_newest_log(talk: Talk) -> None:
    talk.study()
    assert append(talk, STARTED).status == 422
    assert append(talk, STARTED, expected=5).code == "TW043"
    first = append(talk, STARTED, expected=0, worker="h/b/1/2/x")
    assert (first.status, first.json["last"]) == (200, 1)
    assert append(talk, STARTED, expected=0, worker="h/b/1/2/y", again=True).code == "TW043"
    again = append(talk, STARTED, expected=0, worker="h/b/1/2/x", again=True)
    assert again.json == first.json
    assert talk("GET", "/studies/s/events?limit=0").json == {"records": [], "last": 1}


@pytest.mark.parametrize(
    "event",
    [
        {**STARTED, "trial": 5},
        {**STARTED, "trial": -1},
        {**STARTED, "config": {"x": 9.0}},
        {**STARTED, "config": {}},
        {**STARTED, "config": {"x": 0.5, "y": 1}},
        {**STARTED, "parent": [3, 1]},
        {**STARTED, "parent": [-1, 1]},
        {**STARTED, "until": -5},
        {**STARTED, "queue": -5},
        {"kind": "resumed", "trial": 0},
        {"kind": "signalled", "trial": 0, "verdict": "stop"},
        {"kind": "signalled", "trial": -1, "verdict": "stop"},
        {"kind": "amended", "trial": 3, "config": {}},
        {"kind": "dropped", "trial": 3, "checkpoint": "x"},
        {"kind": "edited", "space": {}},
        {"kind": "edited", "space": {"parameters": [{"name": "x", "type": "nonsense"}]}},
        {"kind": "edited", "space": {"parameters": 5}},
        {"kind": "extended", "high": 10, "before": 1},
        {"kind": "enqueued", "config": {"x": "a"}},
        {"kind": "enqueued", "config": {"x": 0.5}, "key": "a\nb"},
        {"kind": "noted", "topic": "", "data": {}},
        {"kind": "nonsense"},
        {"trial": 0},
        5,
    ],
)
def test_an_event_that_would_not_fold_is_refused(event: Any, talk: Talk) -> None:
    talk.study()
    got = append(talk, event, expected=0)
    assert got.status == 422, got.body
    assert talk("GET", "/studies/s/events").json["last"] == 0
    assert talk.ask()["trial"] == 0


def test_nobody_can_make_a_study_unreadable_with_facts(talk: Talk) -> None:
    talk.study()
    for trial in (0, 7, -1, 2**60):
        for event in (
            {"kind": "reported", "trial": trial, "token": 1, "step": 1, "metrics": {}},
            {"kind": "ended", "trial": trial, "token": 1},
            {"kind": "saved", "trial": trial, "token": 0, "step": 1, "checkpoint": "x"},
            {"kind": "paused", "trial": trial, "token": -1},
            {"kind": "interrupted", "trial": trial, "token": 1},
        ):
            assert append(talk, event).status in (409, 422)
    assert talk.ask()["trial"] == 0
    assert talk("GET", "/studies/s/trials").status == 200


def test_several_decisions_and_a_change_at_once(talk: Talk) -> None:
    talk.study()
    got = append(talk, STARTED, {**STARTED, "trial": 1}, {"kind": "edited", "space": SPACE}, expected=0)
    assert [r[0] for r in got.json["records"]] == [1, 2, 3]
    assert append(talk, {**STARTED, "trial": 2, "config": {"x": 1.5}}, expected=3).status == 200
    assert talk("GET", "/studies/s/trials").json["total"] == 3


def test_reading_in_pages(talk: Talk) -> None:
    talk.study()
    append(talk, *[NOTE] * 500)
    whole = talk("GET", "/studies/s/events?limit=10000").json
    assert (len(whole["records"]), whole["last"]) == (500, 500)
    page = talk("GET", "/studies/s/events?after=100&limit=200").json
    assert page["records"] == whole["records"][100:300]
    assert talk("GET", "/studies/s/events?after=500").json == {"records": [], "last": 500}


def test_a_page_is_no_larger_than_a_body_may_be(talk: Talk) -> None:
    talk.study()
    large = {**NOTE, "data": {"text": "x" * 500_000}}
    for _ in range(30):
        assert append(talk, large).status == 200
    got = talk("GET", "/studies/s/events?limit=10000")
    assert len(got.json["records"]) < 30 or len(got.body) < 20 * 2**20
    assert len(got.body) < 5 * wire.LARGEST_BODY


def test_waiting_for_a_record(talk: Talk) -> None:
    talk.study()

    async def both() -> Any:
        waiting = asyncio.ensure_future(talk.call("GET", "/studies/s/events?wait=5"))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        await talk.call("POST", "/studies/s/events", {"events": [NOTE]})
        return await waiting

    assert talk._loop.run_until_complete(both()).json["last"] == 1
    assert talk("GET", "/studies/s/events?after=1&wait=0.05").json == {"records": [], "last": 1}


def test_news_of_another_process_is_noticed_too(talk: Talk) -> None:
    key = talk.study()

    async def both() -> Any:
        waiting = asyncio.ensure_future(talk.call("GET", "/studies/s/events?wait=5"))
        await asyncio.sleep(0.05)
        from tunewright.core.events import Noted

        await asyncio.to_thread(talk.store.append, key, [Noted("t", {})], worker="elsewhere")
        return await waiting

    assert talk._loop.run_until_complete(both()).json["last"] == 1


def test_following_the_log_and_going_on_where_one_left_off(talk: Talk) -> None:
    talk.study()
    append(talk, NOTE, NOTE, NOTE)
    accept = [("accept", "text/event-stream")]
    got = talk("GET", "/studies/s/events", headers=accept, events=2)
    assert got.headers["content-type"].startswith("text/event-stream")
    ids = [line[4:] for line in got.body.decode().splitlines() if line.startswith("id: ")]
    assert ids == ["1", "2", "3"]
    datas = [json.loads(line[6:]) for line in got.body.decode().splitlines() if line.startswith("data: ")]
    assert datas == talk("GET", "/studies/s/events").json["records"]
    got = talk("GET", "/studies/s/events?after=1", headers=[*accept, ("last-event-id", "2")], events=2)
    assert got.body.count(b"id: ") == 1 and b"id: 3\n" in got.body
    assert talk("GET", "/studies/s/events", headers=[*accept, ("last-event-id", "x")]).status == 422
    assert talk.app.state.streams == 0


def test_streams_are_counted_and_beat(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tunewright.web.logs._BEAT", 0.02)
    talk = Talk(streams=1)
    talk.study()
    accept = [("accept", "text/event-stream")]

    async def both() -> list[Any]:
        first = asyncio.ensure_future(talk.call("GET", "/studies/s/events", headers=accept, events=4))
        await asyncio.sleep(0.01)
        second = await talk.call("GET", "/studies/s/events", headers=accept)
        return [await first, second]

    first, second = talk._loop.run_until_complete(both())
    assert b": still here" in first.body
    assert (second.status, second.headers["retry-after"]) == (503, "30")
    talk.close()


def test_a_stream_ends_with_the_server(talk: Talk) -> None:
    talk.study()

    async def both() -> Any:
        call = talk.call("GET", "/studies/s/events", headers=[("accept", "text/event-stream")])
        following = asyncio.ensure_future(call)
        waiting = asyncio.ensure_future(talk.call("GET", "/studies/s/events?wait=30"))
        await asyncio.sleep(0.05)
        talk.app.state.end()
        return [(await asyncio.wait_for(x, 2.0)).status for x in (following, waiting)]

    assert talk._loop.run_until_complete(both()) == [200, 200]
    assert talk.app.state.streams == 0


# ------------------------------------------------------------------ copies


def source(trials: int = 4) -> tuple[MemoryStore, dict[str, Any], list[Any]]:
    """A study of another store, as a copy carries it over."""
    store = MemoryStore()
    study = Study.open("from", {"x": Float(0.0, 1.0)}, storage=store, method="random")
    for _ in range(trials):
        asked = study.ask()
        assert asked is not None
        if asked.number < trials - 1:
            asked.tell(0.5)
    info = study.session.info
    import msgspec

    return store, info.spec, msgspec.to_builtins(store.read(info.id))


def test_a_copy_is_the_same_log(talk: Talk) -> None:
    _, spec, records = source()
    made = talk("POST", "/studies", {"name": "s", "spec": spec, "created": 5.0})
    assert (made.status, made.json["created"]) == (201, 5.0)
    for part in (records[:3], records[3:]):
        assert talk("POST", "/studies/s/graft", {"records": part}).status == 200
    assert talk("GET", "/studies/s/events").json["records"] == records
    assert talk("POST", "/studies/s/graft", {"records": records[:1]}).code == "TW043"
    found = talk.ask()
    assert (found["trial"], found["token"]) == (3, 9), "what ran elsewhere is taken back at once"


@pytest.mark.parametrize(
    "spoil",
    [
        lambda r: [r[1]],
        lambda r: [[7, *r[0][1:]]],
        lambda r: [r[0], [3, *r[1][1:]]],
        lambda r: [[1, 1.0, "w", {"kind": "ended", "trial": 0, "token": 1}]],
        lambda r: [r[0], r[1], [3, 1.0, "w", r[1][3]]],
        lambda r: [[1, 1.0, "w", {"kind": "started", "trial": 4, "config": {}}]],
        lambda r: [[1, 1.0, "w", {"kind": "edited", "space": {"parameters": [5]}}]],
        lambda r: [[1, 1.0, "w", {"kind": "resumed", "trial": 0}]],
        lambda r: [r[0], [2, 1.0, "w", {"kind": "interrupted", "trial": 0, "token": 1}],
                   [3, 1.0, "w", {"kind": "interrupted", "trial": 0, "token": 1}]],
    ],
)  # fmt: skip
def test_a_copy_that_makes_no_sense_is_refused_whole(spoil: Any, talk: Talk) -> None:
    _, spec, records = source()
    talk("POST", "/studies", {"name": "s", "spec": spec})
    got = talk("POST", "/studies/s/graft", {"records": spoil(records)})
    ok = spoil(records)[-1][3]["kind"] == "interrupted"
    assert got.status in ((200, 422) if ok else (409, 422)), got.body
    assert talk("GET", "/studies/s/trials").status == 200
    assert talk.ask() is not None


@pytest.mark.parametrize(
    "spec",
    [
        {},
        {"problem": {}},
        {"problem": 5, "method": "random"},
        {"problem": {"space": {"parameters": []}, "objectives": []}},
        {"method": "random"},
    ],
)
def test_a_spec_that_no_store_made_is_refused(spec: dict[str, Any], talk: Talk) -> None:
    assert talk("POST", "/studies", {"name": "s", "spec": spec}).status == 422
    assert talk("GET", "/studies").json == []


def test_snapshots_are_checked_before_they_are_trusted(talk: Talk) -> None:
    from tunewright.core.snapshot import dump
    from tunewright.web.tokens import Who

    talk.study()
    talk.ask()
    assert talk("GET", "/studies/s/snapshot").status == 204
    opened = talk._loop.run_until_complete(talk.app.state.shelf.open("s", Who("", "admin", ("*",))))
    data = dump(opened.session.sync())
    octets = [("content-type", "application/octet-stream")]
    for position, body in ((1, b"{}"), (2, data), (1, data[:-20]), (1, b"")):
        assert talk("PUT", f"/studies/s/snapshot?position={position}", body, headers=octets).status == 422
    assert talk("PUT", "/studies/s/snapshot?position=1", data, headers=octets).status == 204
    got = talk("GET", "/studies/s/snapshot")
    assert (got.body, got.headers[wire.POSITION.lower()]) == (data, "1")
    assert got.headers["content-disposition"].startswith("attachment")
