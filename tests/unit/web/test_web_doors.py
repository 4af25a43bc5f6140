"""Who is let near: Host, Origin, tokens in their file, and where a server may listen."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest
from asgi_client import Talk, made

from tunewright.errors import ConfigError
from tunewright.web.doors import Bucket, Doors, loopback
from tunewright.web.serving import Place, check
from tunewright.web.tokens import Guestbook, TokenFile, Who, digest_of


@pytest.mark.parametrize(
    ("host", "fine"),
    [
        ("localhost", True),
        ("localhost:8787", True),
        ("LOCALHOST:1", True),
        ("127.0.0.1:8787", True),
        ("[::1]:8787", True),
        ("evil.example", False),
        ("evil.example:8787", False),
        ("localhost.evil.example", False),
        ("127.0.0.1.evil.example", False),
        ("localhost@evil.example", False),
        ("10.0.0.1", False),
        ("", False),
    ],
)
def test_only_our_own_names_are_answered(host: str, fine: bool, talk: Talk) -> None:
    assert talk("GET", "/studies", host=host).status == (200 if fine else 421)
    assert talk("GET", "/health", host=host).status == (200 if fine else 421)


def test_two_hosts_are_none(talk: Talk) -> None:
    assert talk("GET", "/health", headers=[("host", "localhost")]).status == 421


def test_an_address_in_digits_cannot_be_a_name_made_to_point_here() -> None:
    talk = Talk(hosts=("tune.example.org",), anywhere=True)
    assert [talk("GET", "/health", host=h).status for h in ("10.1.2.3:80", "[fe80::1]", "tune.example.org", "x.org")] == [
        200, 200, 200, 421,
    ]  # fmt: skip
    talk.close()


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "TRACE", "NEW"])
@pytest.mark.parametrize(
    "headers",
    [
        [("origin", "http://evil.example")],
        [("origin", "null")],
        [("origin", "http://localhost:1")],
        [("origin", "https://localhost:8787")],
        [("sec-fetch-site", "cross-site")],
        [("sec-fetch-site", "same-site")],
    ],
)
def test_pages_of_other_sites_can_change_nothing(
    method: str, headers: list[tuple[str, str]], talk: Talk
) -> None:
    talk.study()
    for path in ("/studies", "/studies/s", "/studies/s/ask", "/health"):
        assert talk(method, path, headers=headers).status == 403
    assert len(talk("GET", "/studies").json) == 1


def test_our_own_pages_and_programs_may(talk: Talk) -> None:
    talk.study()
    for headers in ([], [("origin", "http://localhost:8787")], [("sec-fetch-site", "same-origin")]):
        assert talk("POST", "/studies/s/ask", {}, headers=headers).status == 200


def test_an_allowed_origin_may() -> None:
    talk = Talk(origins=("https://tune.example.org",))
    talk.study()
    assert talk("POST", "/studies/s/ask", {}, headers=[("origin", "https://tune.example.org")]).status == 200
    assert (
        talk("POST", "/studies/s/ask", {}, headers=[("origin", "https://tune.example.org.evil")]).status
        == 403
    )
    talk.close()


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"]
)
def test_what_a_form_can_send_is_no_json(kind: str, talk: Talk) -> None:
    talk.study()
    assert talk("POST", "/studies/s/ask", {}, headers=[("content-type", kind)]).status == 415


@pytest.mark.parametrize(
    ("place", "tokens", "fine"),
    [
        (Place(), False, True),
        (Place("localhost"), False, True),
        (Place("::1"), False, True),
        (Place("[::1]"), False, True),
        (Place("127.0.0.2"), False, True),
        (Place("0.0.0.0"), False, False),
        (Place("0.0.0.0"), True, False),
        (Place("0.0.0.0", proxy=True), False, False),
        (Place("0.0.0.0", proxy=True), True, True),
        (Place("10.0.0.1", cert=__file__, key=__file__), True, True),
        (Place("10.0.0.1", cert=__file__, key=__file__), False, False),
        (Place("10.0.0.1", cert=__file__), True, False),
        (Place("127.0.0.1", cert="no-such-file", key=__file__), True, False),
        (Place("::", cert=__file__, key=__file__), True, True),
        (Place("example.org"), True, False),
        (Place("localhost.evil.example"), False, False),
        (Place("0.0.0.0", socket="s.sock"), False, True),
    ],
)
def test_others_can_reach_a_server_only_with_a_token_and_tls(place: Place, tokens: bool, fine: bool) -> None:
    if fine:
        check(place, tokens)
    else:
        with pytest.raises(ConfigError):
            check(place, tokens)


def test_what_is_this_machine() -> None:
    assert [loopback(h) for h in ("localhost", "127.1.2.3", "::1", "0.0.0.0", "10.0.0.1", "localhost.example")] == [
        True, True, True, False, False, False,
    ]  # fmt: skip


# ------------------------------------------------------------------ tokens


def test_a_token_is_kept_as_a_digest_that_only_its_owner_can_read(tmp_path: Path) -> None:
    file = TokenFile(tmp_path / "deep" / "tokens.json")
    text, kept = file.new("worker", studies=["a-*"], note="for Ann")
    assert file.path.stat().st_mode & 0o777 == 0o600
    written = file.path.read_text(encoding="utf-8")
    assert text not in written
    assert text.split("_", 2)[2] not in written
    assert kept.digest == digest_of(text) and kept.digest in written
    assert len(text.split("_", 2)[2]) == 43
    assert not list(file.path.parent.glob("*.part"))


def test_tokens_differ(tmp_path: Path) -> None:
    file = TokenFile(tmp_path / "t.json")
    texts = {file.new("read")[0] for _ in range(20)}
    assert len(texts) == 20
    assert len({t.id for t in file.read()}) == 20


def test_a_file_that_others_can_read_is_refused(tmp_path: Path) -> None:
    file = TokenFile(tmp_path / "t.json")
    file.new("read")
    file.path.chmod(0o640)
    with pytest.raises(ConfigError, match="chmod 600"):
        file.read()


@pytest.mark.parametrize(
    "text", ["", "[]", "{", '{"format":1,"tokens":[{}]}', '{"format":1,"tokens":[],"more":1}']
)
def test_a_damaged_file_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "t.json"
    path.touch(0o600)
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError):
        TokenFile(path).read()


@pytest.mark.parametrize("patterns", [[], [""], ["x" * 300], ["a\nb"]])
def test_patterns_are_printable_and_short(tmp_path: Path, patterns: list[str]) -> None:
    with pytest.raises(ConfigError):
        TokenFile(tmp_path / "t.json").new("read", studies=patterns)


def test_a_token_is_over_when_it_is_over(tmp_path: Path) -> None:
    now = [1000.0]
    file = TokenFile(tmp_path / "t.json", clock=lambda: now[0])
    text, _ = file.new("read", life=60.0)
    book = Guestbook(file, clock=lambda: now[0])
    header = f"Bearer {text}".encode()
    assert book.who(header) is not None
    now[0] = 1060.0
    assert book.who(header) is None


@pytest.mark.parametrize(
    "shape",
    ["{0}", "Basic {0}", "Bearer", "Bearer ", "Bearer {0}x", "Bearer tw_", "Token {0}", "Bearer {0} {0}"],
)
def test_only_the_whole_token_opens(tmp_path: Path, shape: str) -> None:
    file = TokenFile(tmp_path / "t.json")
    text, _ = file.new("read")
    assert Guestbook(file).who(shape.format(text).encode()) is None
    assert Guestbook(file).who(text.encode()) is None
    assert Guestbook(file).who(None) is None
    assert Guestbook(file).who(f"bearer {text}".encode()) is not None


def test_the_digest_itself_opens_nothing(tmp_path: Path) -> None:
    file = TokenFile(tmp_path / "t.json")
    _, kept = file.new("admin")
    assert Guestbook(file).who(f"Bearer {kept.digest}".encode()) is None


def test_a_running_server_hears_of_new_and_revoked_tokens(tmp_path: Path) -> None:
    path, (first,) = made(tmp_path, ("admin", "*"))
    talk = Talk(tokens=path)
    file = TokenFile(path)
    second, kept = file.new("read")
    assert talk("GET", "/studies", token=second).status == 401
    talk.app.state.guests.refresh()
    assert talk("GET", "/studies", token=second).status == 200
    file.revoke(kept.id)
    talk.app.state.guests.refresh()
    assert talk("GET", "/studies", token=second).status == 401
    assert talk("GET", "/studies", token=first).status == 200
    for token in file.read():
        file.revoke(token.id)
    talk.app.state.guests.refresh()
    assert talk("GET", "/studies", token=first).status == 401
    assert talk("GET", "/studies", token="").status == 401, "without its last token a server stays closed"
    path.unlink()
    talk.app.state.guests.refresh()
    assert talk("GET", "/studies", token="").status == 401
    talk.close()


def test_a_token_is_replaced_with_a_grace(tmp_path: Path) -> None:
    now = [1000.0]
    file = TokenFile(tmp_path / "t.json", clock=lambda: now[0])
    old, kept = file.new("worker", studies=["a"], note="n")
    new, fresh = file.rotate(kept.id, grace=60.0)
    assert (fresh.scope, fresh.studies, fresh.note) == ("worker", ["a"], "n")
    book = Guestbook(file, clock=lambda: now[0])
    assert book.who(f"Bearer {old}".encode()) and book.who(f"Bearer {new}".encode())
    now[0] = 1061.0
    assert book.who(f"Bearer {old}".encode()) is None
    with pytest.raises(ConfigError):
        file.rotate("nobody")
    with pytest.raises(ConfigError):
        file.revoke("nobody")


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = TokenFile(tmp_path / "t.json")
    file.new("read")
    before = file.path.read_bytes()

    def full(number: int) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(Exception, match="no space left"):
        file.new("read")
    assert file.path.read_bytes() == before
    assert json.loads(before)["format"] == 1
    assert not list(tmp_path.glob("*.part"))


def test_patterns_decide_what_is_seen() -> None:
    who = Who("id", "read", ["team-a-*", "shared"])
    assert [who.sees(n) for n in ("team-a-1", "team-b-1", "shared", "shared2", "TEAM-A-1")] == [
        True, False, True, False, False,
    ]  # fmt: skip


def test_a_bucket_fills_with_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    bucket = Bucket(2.0, 3.0)
    assert [bucket.take() for _ in range(4)] == [True, True, True, False]
    now[0] = 0.5
    assert [bucket.take() for _ in range(2)] == [True, False]
    now[0] = 1000.0
    assert [bucket.take() for _ in range(4)] == [True, True, True, False]


def test_a_host_that_is_checked_again_is_still_refused() -> None:
    doors = Doors(["localhost"])
    scope = {"method": "GET", "scheme": "http", "headers": [(b"host", b"evil")]}
    for _ in range(3):
        with pytest.raises(Exception, match="Host"):
            doors.check(scope)
