"""Bodies from strangers: too large, too deep, doubtful, malformed."""

from __future__ import annotations

import json
import time
from typing import Any

import msgspec
import pytest
from asgi_client import Talk
from hypothesis import given, settings
from hypothesis import strategies as st

from tunewright.core.limits import DEPTH
from tunewright.store import wire
from tunewright.web.strict import Malformed, deep, parse

ANY: msgspec.json.Decoder[Any] = msgspec.json.Decoder()
QUEUE = msgspec.json.Decoder(wire.QueueBody)
REPORT = msgspec.json.Decoder(wire.ReportBody)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[1,2",
        b'{"a":1,"a":2}',
        b'{"x":{"y":[{"a":1,"\\u0061":2}]}}',
        b"NaN",
        b'{"a":NaN}',
        b"[Infinity]",
        b"[-Infinity]",
        b"[1e999]",
        b"\xff\xfe",
        b'"\xc3\x28"',
        b'"\\ud800"',
        b'"\x01"',
        b"{'a':1}",
        b"[1,]",
        b"01",
        b"1 2",
        b"\xef\xbb\xbf{}",
        b"[" * (DEPTH + 1) + b"]" * (DEPTH + 1),
        b"[" * 100_000,
        b'{"a":' * 100 + b"1" + b"}" * 100,
    ],
)
def test_doubtful_json_is_refused(body: bytes) -> None:
    with pytest.raises(Malformed):
        parse(body, ANY)


@pytest.mark.parametrize(
    "body", [b"{}", b"[]", b'{"a":"{[{["}', b'"NaN"', b"[" * DEPTH + b"]" * DEPTH, b"-0.0"]
)
def test_plain_json_is_read(body: bytes) -> None:
    assert parse(body, ANY) == json.loads(body)


nested = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8")),
    lambda x: st.lists(x, max_size=4) | st.dictionaries(st.text('ab"\\[{}]', max_size=3), x, max_size=4),
    max_leaves=20,
)  # fmt: skip


@settings(max_examples=30)
@given(nested)
def test_what_json_writes_is_read_back(data: Any) -> None:
    assert parse(json.dumps(data).encode(), ANY) == data


@settings(max_examples=30)
@given(nested, st.integers(0, DEPTH + 5))
def test_depth_is_counted_outside_texts_only(data: Any, levels: int) -> None:
    def height(x: Any) -> int:
        inside = x.values() if isinstance(x, dict) else x if isinstance(x, list) else ()
        return (1 + max(map(height, inside), default=0)) if isinstance(x, dict | list) else 0

    for _ in range(levels):
        data = [data]
    assert deep(json.dumps(data).encode()) == (height(data) > DEPTH)


@pytest.mark.parametrize(
    "body",
    [
        b"[]",
        b"null",
        b"{}",
        b'{"params":[]}',
        b'{"params":{},"key":1}',
        b'{"params":{},"more":1}',
        b'{"params":{"x":NaN}}',
        b'{"params":{},"params":{"x":1}}',
    ],
)
def test_other_fields_and_types_are_refused(body: bytes, talk: Talk) -> None:
    with pytest.raises(Malformed):
        parse(body, QUEUE)
    talk.study()
    got = talk("POST", "/studies/s/queue", body)
    assert (got.status, got.code) == (422, "HTTP")
    assert "Traceback" not in got.body.decode()


def test_a_body_may_take_eight_megabytes_and_no_more(talk: Talk) -> None:
    talk.study()
    long = wire.LARGEST_BODY + 1
    assert talk("POST", "/studies/s/queue", b" " * long).status == 413
    announced = talk("POST", "/studies/s/queue", chunks=[b"{}"], headers=[("content-length", str(long))])
    assert announced.status == 413
    assert announced.headers["connection"] == "close"
    assert talk("POST", "/studies/s/queue", chunks=[b" " * 2**20] * 9).status == 413
    assert talk("POST", "/studies/s/queue", b" " * (wire.LARGEST_BODY - 20) + b'{"params":{}}').status == 200


def test_a_bomb_costs_little(talk: Talk) -> None:
    talk.study()
    bombs = [
        b"[" * 4_000_000,
        b'{"a":' * 750_000,
        b'"' + b"\\" * 4_000_000,
        b"[" + b"0," * 1_900_000 + b"0]",
    ]
    for bomb in bombs:
        began = time.process_time()
        assert talk("POST", "/studies/s/queue", bomb).status == 422
        assert time.process_time() - began < 1.5


def test_a_body_in_pieces_is_one_body(talk: Talk) -> None:
    talk.study()
    got = talk("POST", "/studies/s/queue", chunks=[b'{"par', b'ams":{"x"', b":0.5}}"])
    assert got.status == 200


@pytest.mark.parametrize("text", ["nan", "inf", "-inf"])
def test_numbers_that_json_cannot_write_are_texts(text: str, talk: Talk) -> None:
    talk.study()
    trial = talk.ask()
    got = talk("POST", "/studies/s/trials/0/tell", {"token": trial["token"], "value": text})
    assert got.status == 200
    assert got.json["status"] == "failed"
    assert text in got.json["error"]


@pytest.mark.parametrize(
    "query", ["after=-1", "after=1.5", "after=x", "limit=99999", "after=%00", "wait=nan", "wait=1e9"]
)
def test_a_wrong_query_is_refused(query: str, talk: Talk) -> None:
    talk.study()
    assert talk("GET", f"/studies/s/events?{query}").status == 422


@pytest.mark.parametrize(
    "query", ["after=1&after=2", "after", "&&", "after=%ff", "&".join(f"a{n}=1" for n in range(50))]
)
def test_a_query_that_cannot_be_read_is_refused(query: str, talk: Talk) -> None:
    talk.study()
    assert talk("GET", f"/studies/s/events?{query}").status == 400


def test_a_body_without_an_end_is_not_read_to_its_end(talk: Talk) -> None:
    talk.study()
    read: list[int] = []
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        read.append(1)
        assert len(read) < 20
        return {"type": "http.request", "body": b" " * 2**20, "more_body": True}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope = {
        "type": "http", "method": "POST", "path": "/api/v1/studies/s/queue", "query_string": b"", "scheme": "http",
        "raw_path": b"/api/v1/studies/s/queue", "headers": [(b"host", b"localhost")], "client": ("127.0.0.1", 1),
    }  # fmt: skip
    talk._loop.run_until_complete(talk.app(scope, receive, send))
    assert (sent[0]["status"], len(read)) == (413, 9)
