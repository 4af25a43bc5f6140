"""Addresses of servers, and where tokens come from and do not go."""

from __future__ import annotations

from pathlib import Path

import pytest

from tunewright.errors import ConfigError
from tunewright.store import access
from tunewright.store.base import Asks
from tunewright.store.http import HttpStore
from tunewright.store.urls import open_store


@pytest.fixture(autouse=True)
def _no_tokens(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing of this machine's user, and nothing of the test before."""
    monkeypatch.delenv(access.VARIABLE, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setattr(access, "_tokens", {})
    monkeypatch.setattr(access, "_seen", {})


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("http://localhost:8000", "http://localhost:8000"),
        ("http://localhost:80/", "http://localhost"),
        ("https://host/behind/proxy/", "https://host/behind/proxy"),
        ("http://[::1]:9000", "http://[::1]:9000"),
        ("http://:s3cret@host:8000", "http://host:8000"),
        ("http://name:s3cret@host:8000", "http://host:8000"),
    ],
)
def test_url_names_the_server_and_no_secret(text: str, url: str) -> None:
    store = open_store(text)
    assert isinstance(store, HttpStore)
    assert isinstance(store, Asks)
    assert store.url == url
    assert "s3cret" not in f"{store!r}{store.url}{vars(store)['_client']!r}"


@pytest.mark.parametrize(
    "text",
    [
        "http://host?token=s3cret",
        "http://host?ca=file.pem",
        "https://host?cafile=file.pem",
        "http://",
        "http://host:port",
        "ftp://host",
    ],
)
def test_address_that_cannot_be_used_is_refused_without_its_secrets(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        HttpStore(text)
    assert "s3cret" not in str(caught.value)


def test_token_comes_from_whoever_is_nearest(monkeypatch: pytest.MonkeyPatch) -> None:
    address = access.read_address("http://localhost:1")
    assert access.token_for(address) == ""
    path = access.token_file()
    path.parent.mkdir(parents=True)
    path.write_text("file\n")
    path.chmod(0o600)
    assert access.token_for(address) == "file"
    monkeypatch.setenv(access.VARIABLE, "environment")
    assert access.token_for(address) == "environment"
    assert access.token_for(access.read_address("http://:address@localhost:1")) == "address"
    assert access.token_for(address, "argument") == "argument"
    assert access.token_for(address) == "argument", "it was given for this server"
    assert access.token_for(access.read_address("http://localhost:2")) == "environment"
    assert access.tokens_for("http://localhost:1/api/v1/studies/@1/checkpoints") == {
        "http://localhost:1": "argument"
    }
    assert access.tokens_for("/some/folder") == {}


def test_token_file_that_others_can_read_is_refused() -> None:
    path = access.token_file()
    path.parent.mkdir(parents=True)
    path.write_text("file")
    path.chmod(0o640)
    with pytest.raises(ConfigError, match="chmod 600"):
        HttpStore("http://localhost:1")


@pytest.mark.parametrize("token", ["two words", "line\nbreak", "gr\u00f6\u00dfe"])
def test_token_that_would_break_a_header_is_refused(token: str) -> None:
    with pytest.raises(ConfigError, match="plain text"):
        HttpStore("http://localhost:1", token=token)


def test_token_without_encryption_is_remarked(caplog: pytest.LogCaptureFixture) -> None:
    HttpStore("http://localhost:1", token="t")
    HttpStore("https://far.example", token="t")
    assert caplog.text == ""
    HttpStore("http://far.example", token="s3cret")
    assert "unencrypted" in caplog.text
    assert "s3cret" not in caplog.text


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("http://h:8000/a", ("http://h:8000", "a")),
        ("http://h:8000/a/b%20c", ("http://h:8000", "a/b c")),
        ("https://h/deep/api/v1/studies/a?ca=f.pem", ("https://h/deep?ca=f.pem", "a")),
        ("a", None),
    ],
)
def test_study_in_an_address(text: str, parts: tuple[str, str] | None) -> None:
    assert access.split_study(text) == parts
