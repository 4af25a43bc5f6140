"""Checkpoint files over HTTP: only by names that a store gives, only with the content that they name."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
from asgi_client import Talk

from tunewright.store.sqlite import SqliteStore

OCTETS = [("content-type", "application/octet-stream")]
DIGEST = hashlib.sha256(b"data").hexdigest()[:16]
NAME = f"weights.{DIGEST}"
# Names that have led out of folders elsewhere, as they are sent.
HOSTILE = [
    "..",
    "%2e%2e",
    "%2E%2E%2F%2E%2E%2Fs.db",
    "..%2f..%2fs.db",
    "..%5c..%5cs.db",
    "%252e%252e%252fs.db",
    "%2fetc%2fpasswd",
    "%00",
    f"a%00.{DIGEST}",
    f"%2e%2e%2f{NAME}",
    f"..%2f2%2f{NAME}",
    f"x%2f..%2f{NAME}",
    f"C%3A%5C{NAME}",
    f"%ef%bc%8e%ef%bc%8e%ef%bc%8f{NAME}",
    f"%e2%80%a4%e2%80%a4%2f{NAME}",
    f"%c0%ae%c0%ae%2f{NAME}",
    f"file%3a%2f%2f%2f{NAME}",
    f"-rf.{DIGEST}",
    f".{DIGEST}",
    f".hidden.{DIGEST}",
    f"a..b.{DIGEST}",
    f"a%20b.{DIGEST}",
    f"a%0d%0aset-cookie:x.{DIGEST}",
    f"{'a' * 200}.{DIGEST}",
    f"weights.{DIGEST.upper()}",
    f"weights.{DIGEST}.part",
    ".0123456789abcdef.part",
    "weights",
    "con",
]


def test_a_file_goes_in_and_out(talk: Talk) -> None:
    key = talk.study()
    for _ in range(2):
        assert talk("PUT", f"/studies/s/checkpoints/{NAME}", b"data", headers=OCTETS).status == 204
    got = talk("GET", f"/studies/@{key}/checkpoints/{NAME}")
    assert got.body == b"data"
    assert got.headers["content-type"] == "application/octet-stream"
    assert got.headers["content-disposition"] == f'attachment; filename="{NAME}"'
    assert got.headers["content-length"] == "4"
    head = talk("HEAD", f"/studies/s/checkpoints/{NAME}")
    assert (head.status, head.body, head.headers["content-length"]) == (200, b"", "4")
    (entry,) = talk("GET", "/studies/s/checkpoints").json
    assert (entry["name"], entry["size"]) == (NAME, 4)
    for _ in range(2):
        assert talk("DELETE", f"/studies/s/checkpoints/{NAME}").status == 204
    assert talk("GET", f"/studies/s/checkpoints/{NAME}").status == 404
    assert talk("HEAD", f"/studies/s/checkpoints/{NAME}").status == 404


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE"])
def test_no_name_leads_anywhere_else(method: str, tmp_path: Path) -> None:
    def files() -> dict[Path, bytes]:
        return {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file() and "db-" not in p.name}

    talk = Talk(SqliteStore(tmp_path / "s.db"))
    talk.study()
    talk.study("second")
    talk("PUT", f"/studies/second/checkpoints/{NAME}", b"data", headers=OCTETS)
    before = files()
    for name in HOSTILE:
        body = b"data" if method == "PUT" else None
        got = talk(method, f"/studies/s/checkpoints/{name}", body, headers=OCTETS)
        assert got.status in (404, 405, 422), (name, got.body)
        assert b"SQLite" not in got.body
        assert "\r" not in str(got.headers) and "set-cookie" not in got.headers
        assert files() == before, name
    talk.close()


def test_content_that_does_not_have_its_name_is_not_kept(talk: Talk) -> None:
    talk.study()
    for body in (b"other", b"", b"data "):
        got = talk("PUT", f"/studies/s/checkpoints/{NAME}", body, headers=OCTETS)
        assert (got.status, got.code) == (422, "TW053")
    assert talk("GET", "/studies/s/checkpoints").json == []


def test_a_file_comes_in_pieces_and_a_broken_one_is_forgotten(talk: Talk) -> None:
    talk.study()
    pieces = [b"x" * 300_000, b"y", b"", b"z" * 300_000]
    whole = b"".join(pieces)
    name = f"w.{hashlib.sha256(whole).hexdigest()[:16]}"
    assert talk("PUT", f"/studies/s/checkpoints/{name}", chunks=pieces, headers=OCTETS).status == 204
    assert talk("GET", f"/studies/s/checkpoints/{name}").body == whole
    talk("DELETE", f"/studies/s/checkpoints/{name}")
    assert talk("PUT", f"/studies/s/checkpoints/{name}", chunks=pieces[:2], headers=OCTETS).status == 422
    assert talk("GET", "/studies/s/checkpoints").json == []


def test_files_have_a_limit_of_their_own() -> None:
    talk = Talk(largest_file=1000)
    talk.study()
    body = b"x" * 1001
    name = f"w.{hashlib.sha256(body).hexdigest()[:16]}"
    assert talk("PUT", f"/studies/s/checkpoints/{name}", body, headers=OCTETS).status == 413
    assert (
        talk("PUT", f"/studies/s/checkpoints/{name}", chunks=[body[:600], body[600:]], headers=OCTETS).status
        == 413
    )
    assert talk("GET", "/studies/s/checkpoints").json == []
    talk.close()


def test_a_full_disk_is_said_before_anything_is_sent(talk: Talk, monkeypatch: pytest.MonkeyPatch) -> None:
    talk.study()
    usage = os.statvfs("/")
    assert usage.f_bsize
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("U", (), {"free": 2**26 + 2})())
    got = talk("PUT", f"/studies/s/checkpoints/{NAME}", b"data", headers=OCTETS)
    assert (got.status, got.code) == (507, "TW046")


def test_links_are_not_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = SqliteStore(tmp_path / "s.db")
    talk = Talk(store)
    key = talk.study()
    secret = tmp_path / "secret"
    secret.write_bytes(b"data")
    folder = Path(store.blobs(key))
    (folder / NAME).symlink_to(secret)
    assert talk("GET", f"/studies/s/checkpoints/{NAME}").status == 422
    assert talk("GET", "/studies/s/checkpoints").json == []
    # The same when the link is put there between the look and the opening.
    monkeypatch.setattr(Path, "is_symlink", lambda self: False)
    assert talk("GET", f"/studies/s/checkpoints/{NAME}").status == 404
    assert talk("PUT", f"/studies/s/checkpoints/{NAME}", b"data", headers=OCTETS).status == 204
    assert secret.read_bytes() == b"data"
    assert not os.path.islink(folder / NAME)  # noqa: PTH114 - the other way is patched
    talk.close()


def test_files_that_no_trial_needs_any_more_are_removed(talk: Talk) -> None:
    talk.study(steps=3)
    trial = talk.ask()
    names = []
    for step in (1, 2):
        body = f"state {step}".encode()
        names.append(f"w.{hashlib.sha256(body).hexdigest()[:16]}")
        assert talk("PUT", f"/studies/s/checkpoints/{names[-1]}", body, headers=OCTETS).status == 204
        said = {"trial": 0, "token": trial["token"], "step": step}
        for word in ({"kind": "report", "metrics": {"loss": 1.0}}, {"kind": "save", "checkpoint": names[-1]}):
            assert talk("POST", "/studies/s/say", {"message": {**said, **word}}).status == 200
    assert [f["name"] for f in talk("GET", "/studies/s/checkpoints").json] == [names[1]]
    over = {"kind": "finish", "trial": 0, "token": trial["token"], "outcome": "failed", "error": "boom"}
    assert talk("POST", "/studies/s/say", {"message": over}).status == 200
    assert talk("GET", "/studies/s/checkpoints").json == []
