"""Every route, whoever asks: what is let in, what is refused, and what every answer carries."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from asgi_client import Got, Talk, made

from tunewright.core.domains import Float
from tunewright.core.scale import Scale
from tunewright.core.snapshot import dump
from tunewright.run.child import log_path
from tunewright.store import blobs
from tunewright.store.memory import MemoryStore
from tunewright.study import Study
from tunewright.web.openapi import document, statuses
from tunewright.web.table import TABLE, Route

DATA = b"weights"
FILE = f"w.{hashlib.sha256(DATA).hexdigest()[:16]}"
PEOPLE = ("none", "wrong", "read", "worker", "admin", "stranger")
OCTETS = [("content-type", "application/octet-stream")]


class House:
    """A server with a study of one running trial, and one token of each kind."""

    def __init__(self, folder: Path) -> None:
        store = MemoryStore(expiring=True)
        path, tokens = made(
            folder, ("read", "s"), ("worker", "s"), ("admin", "s*"), ("admin", "t*"), ("read", "t*")
        )
        self.tokens = dict(zip(("read", "worker", "admin", "stranger", "reader"), tokens, strict=True))
        self.tokens |= {"none": "", "wrong": "tw_00000000_" + "x" * 43}
        self.talk = Talk(store, tokens=path)
        # With a scale, since one address is only for studies that have one.
        space = {"x": Float(0.001, 1.0, log=True)}
        study = Study.open("s", space, storage=store, method="random", scale=Scale({"width": (4, 16)}))
        study.ask()
        session = study.session
        self.snapshot = dump(session.sync())
        store.save_snapshot(session.info.id, session.ledger.cursor, self.snapshot)
        blobs.put(store.blobs(session.info.id), "w", DATA, flush=False)
        output = log_path(store.blobs(session.info.id), 0)
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text("epoch 1\n", encoding="utf-8")

    def body(self, route: Route) -> Any:
        """A body that the route accepts."""
        ended = {"kind": "ended", "trial": 0, "token": 1, "metrics": {"loss": 1.0}}
        return {
            "create": {"name": "s2", "space": {"x": "0.0..1.0"}, "method": "random"},
            "append": {"events": [{"kind": "noted", "topic": "t", "data": {}}]},
            "graft": {"records": [[2, 1.0, "w", {"kind": "noted", "topic": "t", "data": {}}]]},
            "ask": {"slots": 1},
            "say": {"message": {**ended, "kind": "finish", "outcome": "completed"}},
            "report": {"token": 1, "step": 1, "metrics": {"loss": 1.0}},
            "tell": {"token": 1, "value": 1.0},
            "queue": {"params": {"x": 0.5}},
            "renew": {"held": [[0, 1]]},
            "keep_snapshot": self.snapshot,
            "keep": DATA,
            "order": {"action": "pause"},
            "note": {"text": "x"},
            "tag": {"add": ["x"]},
        }.get(route.handler.__name__)

    def visit(self, route: Route, who: str) -> Got:
        """One request."""
        path = (
            route.path.replace("{study}", "s")
            .replace("{number}", "0")
            .replace("{file}", FILE)
            .replace("{kind}", "timeline")
        )
        query = "?position=1" if route.handler.__name__ == "keep_snapshot" else ""
        headers = OCTETS if route.body is bytes else []
        return self.talk(
            route.method, f"={path}{query}", self.body(route), token=self.tokens[who], headers=headers
        )


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    found = House(tmp_path)
    yield found
    found.talk.close()


def expected(route: Route, who: str) -> int:
    """What a visitor gets."""
    if route.scope is None:
        return route.status
    if who in ("none", "wrong"):
        return 401
    level = {"read": 0, "worker": 1}.get(who, 2)
    if level < route.level:
        return 403
    if who == "stranger" and ("{study}" in route.path or route.method == "POST"):
        return 404
    return route.status


@pytest.mark.parametrize("route", TABLE, ids=lambda r: f"{r.method} {r.path}")
def test_whoever_asks_gets_what_the_table_says(route: Route, house: House) -> None:
    for who in ("none", "wrong", "stranger", "read", "worker", "admin"):
        got = house.visit(route, who)
        assert got.status == expected(route, who), (who, got.body)
        assert got.status in statuses(route)
        if got.status >= 400 and route.method != "HEAD":
            assert set(got.json["error"]) == {"code", "message"}


def test_what_is_hidden_sounds_like_what_is_not_there(house: House) -> None:
    for route in TABLE:
        if "{study}" in route.path and route.level == 0 and route.method == "GET":
            hidden = house.visit(route, "reader")
            absent = house.talk("GET", "=" + route.path.replace("{study}", "absent").replace("{number}", "0")
                                .replace("{file}", FILE).replace("{kind}", "timeline"), token=house.tokens["admin"])  # fmt: skip
            assert hidden.status == absent.status == 404
            assert hidden.body.replace(b"'s'", b"") == absent.body.replace(b"'absent'", b"")


def test_lists_and_counters_hold_only_what_the_token_may_see(house: House) -> None:
    assert house.talk("GET", "/studies", token=house.tokens["stranger"]).json == []
    assert [s["name"] for s in house.talk("GET", "/studies", token=house.tokens["read"]).json] == ["s"]
    assert b'study="s"' in house.talk("GET", "=/metrics", token=house.tokens["read"]).body
    assert b'study="s"' not in house.talk("GET", "=/metrics", token=house.tokens["stranger"]).body


def test_headers_of_every_answer(house: House) -> None:
    wanted = {
        "x-content-type-options": "nosniff",
        "content-security-policy": "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
        "referrer-policy": "no-referrer",
        "cross-origin-resource-policy": "same-origin",
        "cache-control": "no-store",
    }
    asked_anew = {**wanted, "cache-control": "private, no-cache"}
    for route in TABLE:
        for who in ("none", "admin"):
            headers = house.visit(route, who).headers
            # What has a mark may be kept by the browser, which asks each time whether there is something new.
            assert (asked_anew if "etag" in headers else wanted).items() <= headers.items()
            assert not {"set-cookie", "access-control-allow-origin", "server"} & set(headers)
    odd = [
        house.talk("GET", "=/api/nowhere"),
        house.talk("GET", "=/api/v2/studies"),
        house.talk("TRACE", "/studies"),
        house.talk("GET", "/studies", host="evil.example"),
    ]
    assert [g.status for g in odd] == [404, 404, 405, 421]
    for got in odd:
        assert wanted.items() <= got.headers.items()
        assert got.code == "HTTP"
    assert odd[2].headers["allow"] == "GET, POST"


def test_an_option_that_asks_for_other_origins_gets_nothing(talk: Talk) -> None:
    got = talk("OPTIONS", "/studies", headers=[("origin", "http://evil.example")])
    assert got.status == 405
    assert not any(name.startswith("access-control") for name in got.headers)


def test_the_description_names_every_route_and_status(talk: Talk) -> None:
    found = talk("GET", "/openapi.json").json
    assert found == msgspec.to_builtins(document())
    assert found["openapi"] == "3.1.0"
    for route in TABLE:
        operation = found["paths"][route.path][route.method.lower()]
        assert set(operation["responses"]) == set(map(str, statuses(route)))
        assert bool(operation.get("security")) == (route.scope is not None)
    names = [o["operationId"] for path in found["paths"].values() for o in path.values()]
    assert len(set(names)) == len(names)


def test_health_needs_nothing_and_tells_the_end(talk: Talk) -> None:
    assert talk("GET", "/health").json["status"] == "ok"
    talk.app.state.closing = type("Set", (), {"is_set": lambda self: True, "set": lambda self: None})()
    got = talk("GET", "/health")
    assert (got.status, got.json["status"]) == (503, "closing")


def test_too_many_wrong_tokens_are_slowed_down(house: House) -> None:
    found = [house.talk("GET", "/studies", token=f"tw_{n}").status for n in range(14)]
    assert found[:10] == [401] * 10
    assert found[-1] == 429
    assert house.talk("GET", "/studies", token=house.tokens["read"]).status == 200


def test_a_token_has_a_rate(tmp_path: Path) -> None:
    path, (token,) = made(tmp_path, ("read", "*"))
    talk = Talk(tokens=path, rate=1.0, burst=5.0)
    found = [talk("GET", "/studies", token=token) for _ in range(7)]
    assert [g.status for g in found][:5] == [200] * 5
    assert found[-1].status == 429
    assert found[-1].headers["retry-after"] == "1"
    talk.close()


def test_so_many_requests_at_a_time_and_no_more(tmp_path: Path) -> None:
    talk = Talk(concurrent=2)
    found = talk.together(*[("GET", "/studies")] * 5)
    assert sorted(g.status for g in found) == [200, 200, 503, 503, 503]
    talk.close()


def test_pages_are_served_behind_the_same_door() -> None:
    from starlette.requests import Request
    from starlette.responses import HTMLResponse
    from starlette.routing import Route as Page

    async def page(request: Request) -> HTMLResponse:
        if request.query_params:
            raise RuntimeError("a secret of the server")
        return HTMLResponse("<p>hello", headers={"content-security-policy": "default-src 'self'"})

    talk = Talk(pages=[Page("/hello", page)])
    got = talk("GET", "=/hello")
    assert (got.status, got.body) == (200, b"<p>hello")
    assert got.headers["content-security-policy"] == "default-src 'self'"
    assert got.headers["x-content-type-options"] == "nosniff"
    assert talk("GET", "=/hello", host="evil.example").status == 421
    assert talk("POST", "=/hello", headers=[("origin", "http://evil.example")]).status == 403
    assert (talk("POST", "=/hello").status, talk("GET", "=/nothing").status) == (405, 404)
    failed = talk("GET", "=/hello?x=1")
    assert (failed.status, failed.code) == (500, "HTTP")
    assert b"secret" not in failed.body
    talk.close()


def test_a_worker_changes_no_study_and_leaves_no_snapshot(house: House) -> None:
    space = {"parameters": [{"name": "x", "type": "float", "low": 0.0, "high": 2.0}]}
    edited = {"events": [{"kind": "edited", "space": space}], "expected": 1}
    assert house.talk("POST", "/studies/s/events", edited, token=house.tokens["worker"]).status == 403
    assert house.talk("POST", "/studies/s/events", edited, token=house.tokens["admin"]).status == 200
    longer = {"events": [{"kind": "extended", "high": 5, "before": 1}], "expected": 2}
    assert house.talk("POST", "/studies/s/events", longer, token=house.tokens["worker"]).status == 403
    (study,) = house.talk.store.studies()
    house.talk.store.save_snapshot(study.id, 1, b"ours")
    offered = house.talk(
        "PUT", "/studies/s/snapshot?position=1", house.snapshot, token=house.tokens["worker"], headers=OCTETS
    )
    assert offered.status == 204
    assert house.talk.store.load_snapshot(study.id) == (1, b"ours")
