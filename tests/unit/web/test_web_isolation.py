"""Two people on one server: whatever they do, neither reads, changes or learns of what is the other's."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from asgi_client import Got, Talk, made
from hypothesis import given, settings
from hypothesis import strategies as st

from tunewright.store.memory import MemoryStore

HOSTILE = [
    "'; DROP TABLE study; --",
    '" OR 1=1 --',
    "<img src=x onerror=alert(1)>",
    "<script>alert(1)</script>",
    "javascript:alert(1)",
    "{{7*7}}",
    "%s%n",
    "../../etc/passwd",
    "a/b",
    "@1",
    "a?b#c",
    "a%2fb",
    "naïve 学习 \N{GRINNING FACE}",
]
WORDS = (
    "ask",
    "tell",
    "report",
    "queue",
    "append",
    "leases",
    "graft",
    "put",
    "drop",
    "delete",
    "create",
    "look",
)


def act(talk: Talk, kind: str, name: str, secret: str, token: str) -> Got:
    """One thing that somebody does to a study, by its name or key."""
    if kind == "create":
        return talk("POST", "/studies", {"name": name, "space": {secret: "0.0..1.0"}}, token=token)
    where = f"/studies/{name}"
    bodies: dict[str, tuple[str, str, Any]] = {
        "ask": ("POST", "/ask", {"after": 0, "worker": secret}),
        "tell": ("POST", "/trials/0/tell", {"token": 1, "value": 0.5, "worker": secret}),
        "report": ("POST", "/trials/0/report", {"token": 1, "step": 1, "metrics": {secret: 1.0}}),
        "queue": ("POST", "/queue", {"params": {}, "key": secret}),
        "append": ("POST", "/events", {"events": [{"kind": "noted", "topic": secret, "data": {}}]}),
        "leases": ("POST", "/leases", {"held": [[0, 1]]}),
        "graft": ("POST", "/graft", {"records": []}),
        "put": ("PUT", f"/checkpoints/{secret}.ca978112ca1bbdca", b"a"),
        "drop": ("DELETE", f"/checkpoints/{secret}.ca978112ca1bbdca", None),
        "delete": ("DELETE", "", None),
    }
    method, path, body = bodies.get(kind, ("GET", "", None))
    headers = [("content-type", "application/octet-stream")] if kind == "put" else []
    return talk(method, where + path, body, token=token, headers=headers)


def looks(talk: Talk, token: str) -> bytes:
    """Everything that somebody can read of everything."""
    seen = [talk("GET", "/studies?specs=true", token=token), talk("GET", "=/metrics", token=token)]
    names = ("ann", "bob", "@1", "@2", "@3")
    pages = ("", "/events", "/trials", "/trials/0", "/best", "/leases", "/snapshot", "/checkpoints")
    seen += [talk("GET", f"/studies/{name}{page}", token=token) for name in names for page in pages]
    return b"\n".join(g.body for g in seen)


def state(talk: Talk, name: str) -> str:
    """All that the store holds of one study."""
    info = talk.store.find(name)
    if info is None:
        return "none"
    records = [repr(r) for r in talk.store.read(info.id)]
    files = sorted(p.name for p in Path(talk.store.blobs(info.id)).iterdir())
    return json.dumps([info.spec, records, files])


@settings(max_examples=10)
@given(
    st.lists(
        st.tuples(st.sampled_from("ab"), st.sampled_from(WORDS), st.sampled_from(["ann", "bob", "@1", "@2"])),
        max_size=20,
    )
)
def test_two_people_never_meet(steps: list[tuple[str, str, str]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path, tokens = made(Path(folder), ("admin", "ann*"), ("admin", "bob*"))
        talk = Talk(MemoryStore(expiring=True), tokens=path)
        people = {"a": ("ann", "secretofann", tokens[0]), "b": ("bob", "secretofbob", tokens[1])}
        for name, secret, token in people.values():
            assert act(talk, "create", name, secret, token).status == 201
        for who, kind, target in steps:
            name, secret, token = people[who]
            other = "bob" if who == "a" else "ann"
            before = state(talk, other)
            own = {"ann": "a", "bob": "b"}.get(target)
            got = act(talk, kind, target, secret, token)
            assert state(talk, other) == before
            if own is not None and own != who:
                assert got.status == 404, (kind, got.body)
            assert got.status < 500
        theirs = {w: looks(talk, people[w][2]) for w in "ab"}
        # Names of workers, keys and metrics of the other would all carry its secret.
        assert b"secretofbob" not in theirs["a"] and b"secretofann" not in theirs["b"]
        assert tokens[1].split("_")[1].encode() not in theirs["a"]
        talk.close()


@pytest.mark.parametrize("name", HOSTILE)
def test_any_printable_name_is_only_a_name(name: str, talk: Talk) -> None:
    from urllib.parse import quote

    first = talk.study("first")
    key = talk.study(name)
    assert talk("GET", f"/studies/@{key}").json["name"] == name
    if name != "@1":
        assert talk("GET", f"/studies/{quote(name, safe='')}").json["id"] == key
    assert talk("POST", f"/studies/@{key}/ask", {"worker": name}).status == 200
    for query in ("status", "limit", "after"):
        assert talk("GET", f"/studies/@{key}/trials?{query}={quote(name, safe='')}").status in (200, 422)
    body = {"params": {}, "key": name}
    assert talk("POST", f"/studies/@{key}/queue", body).status == 200
    assert (
        talk(
            "POST", f"/studies/@{key}/trials/0/report", {"token": 1, "step": 1, "metrics": {name: 1.0}}
        ).status
        == 200
    )
    listed = talk("GET", "/studies")
    assert [s["name"] for s in listed.json] == ["first", name]
    assert listed.headers["content-type"] == "application/json"
    line = [
        x for x in talk("GET", "=/metrics").body.decode().splitlines() if "running" in x and "study=" in x
    ]
    assert len(line) == 2
    assert talk("DELETE", f"/studies/@{key}").status == 204
    assert talk("GET", f"/studies/@{first}").status == 200


@pytest.mark.parametrize("name", ["", " ", "a\0b", "a\nb", "x" * 257, " a", "a\u202eb", 5, None])
def test_names_that_cannot_be_shown_are_refused(name: Any, talk: Talk) -> None:
    assert talk("POST", "/studies", {"name": name, "space": {"x": "0.0..1.0"}}).status == 422
    assert talk("GET", "/studies").json == []


def test_addresses_are_decoded_once(talk: Talk) -> None:
    talk.study("a%2fb")
    assert talk("GET", "/studies/a%252fb").status == 200
    for path in ("/studies/a%2fb", "/studies/a/b", "/studies/%ff", "/studies/%00", "/studies/", "/studies//events",
                 "/studies/a%252fb/", "//studies", "/studies/a%252fb/trials/-1", "/studies/a%252fb/trials/1e3",
                 "/studies/a%252fb/trials/%31%30%30", "/../v1/studies/x", "/studies/a%252fb/nothing"):  # fmt: skip
        assert talk("GET", path).status == 404, path
