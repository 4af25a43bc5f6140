"""From text to store."""

from __future__ import annotations

from pathlib import Path

import pytest

from tunewright.errors import ConfigError, StoreUnavailable
from tunewright.store.memory import MemoryStore
from tunewright.store.sqlite import SqliteStore
from tunewright.store.urls import open_store


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("TUNEWRIGHT_STORE", raising=False)
    home = tmp_path / "project"
    home.mkdir()
    monkeypatch.chdir(home)
    return home


@pytest.mark.parametrize("spec", ["memory", "memory://", ":memory:"])
def test_memory(spec: str) -> None:
    assert isinstance(open_store(spec), MemoryStore)


def test_store_is_passed_through() -> None:
    store = MemoryStore()
    assert open_store(store) is store


@pytest.mark.parametrize(
    ("spec", "file"),
    [
        ("a.db", "a.db"),
        ("sqlite:///a.db", "a.db"),
        ("sqlite:///a%20b.db?durability=full", "a b.db"),
        (Path("c.db"), "c.db"),
    ],
)
def test_relative_files(home: Path, spec: str | Path, file: str) -> None:
    store = open_store(spec)
    assert isinstance(store, SqliteStore)
    assert store.path == str((home / file).resolve())
    assert (home / file).is_file()
    store.close()


def test_absolute_file(tmp_path: Path) -> None:
    store = open_store(f"sqlite:///{tmp_path}/a.db?deadline=3&force=1")
    assert store.url == f"sqlite:///{tmp_path.resolve()}/a.db"
    assert open_store(store.url).url == store.url
    store.close()


def test_nothing_said(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store()
    assert (home / ".tunewright" / "studies.db").is_file()
    assert (home / ".tunewright" / ".gitignore").read_text() == "*\n", (
        "results do not belong in version control"
    )
    deep = home / "src" / "deep"
    deep.mkdir(parents=True)
    monkeypatch.chdir(deep)
    again = open_store(None)
    assert again.url == store.url
    assert not (deep / ".tunewright").exists()
    store.close()
    again.close()


def test_environment(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNEWRIGHT_STORE", "sqlite:///mine.db")
    open_store().close()
    assert (home / "mine.db").is_file()
    assert not (home / ".tunewright").exists()


def test_folder_that_cannot_be_made(home: Path) -> None:
    (home / ".tunewright").write_text("in the way")
    with pytest.raises(StoreUnavailable, match="TUNEWRIGHT_STORE"):
        open_store()


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("", "empty"),
        ("sqlite://", "'sqlite:///path'"),
        ("sqlite:///", "'sqlite:///path'"),
        ("sqlite://a.db", "'sqlite:///path'"),
        ("mysql://user:secret@host/db", r"mysql://\*\*\*@host/db"),
        ("sqlite:///a.db?durability=none", "'process' or 'full'"),
        ("sqlite:///a.db?speed=11", "'speed'"),
        ("sqlite:///a.db?deadline=soon", "'soon'"),
        ("sqlite:///a.db?deadline=-1", "'-1'"),
    ],
)
def test_mistakes_are_named(home: Path, spec: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        open_store(spec)
    assert list(home.iterdir()) == []
