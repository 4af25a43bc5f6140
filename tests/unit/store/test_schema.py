"""Opening, creating and migrating files."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from tunewright.core.events import Ended, Noted, Reported, Started
from tunewright.errors import SchemaError, StoreUnavailable
from tunewright.store import schema
from tunewright.store.sqlite import SqliteStore

GOLDEN = Path(__file__).with_name("format_1.sql")


def rebuilt(path: Path) -> None:
    """The file as format 1 left it."""
    connection = sqlite3.connect(path)
    connection.executescript(GOLDEN.read_text(encoding="utf-8"))
    connection.execute(f"PRAGMA application_id={schema.APPLICATION}")
    connection.execute("PRAGMA user_version=1")
    connection.close()


def test_file_of_format_1_opens(tmp_path: Path) -> None:
    rebuilt(tmp_path / "old.db")
    store = SqliteStore(tmp_path / "old.db")
    (study,) = store.studies()
    assert (study.name, study.spec) == ("golden", {"seed": 1})
    assert [r.event for r in store.read(study.id)] == [
        Started(0, {"x": 0.5, "net": "größe"}, until=3),
        Reported(0, 1, 1, {"loss": 0.25}),
        Ended(0, 1, "completed", {"loss": 0.125}, 3),
        Started(1, {"x": 0.75}),
    ]
    assert store.append(study.id, [Ended(0, 1, "completed", {"loss": 0.125})], worker="external/b") == []
    assert [x.trial for x in store.leases(study.id)] == [1]
    assert store.append(study.id, [Noted("new", {})], worker="external/b")[0].seq == 5
    store.close()


def test_new_file_has_the_format_that_the_golden_one_had(tmp_path: Path) -> None:
    """Changing a published step would leave old files without the change."""
    rebuilt(tmp_path / "old.db")
    connection = sqlite3.connect(tmp_path / "new.db", isolation_level=None)
    schema.prepare(connection, "new.db", schema.STEPS[:1])
    tables = "SELECT name, sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY name"

    def words(connection: sqlite3.Connection) -> list[tuple[str, list[str]]]:
        return [(name, sql.split()) for name, sql in connection.execute(tables)]

    old = sqlite3.connect(tmp_path / "old.db")
    assert words(connection) == words(old)
    connection.close()
    old.close()


def test_steps_are_taken_once_and_all_or_none(tmp_path: Path) -> None:
    rebuilt(tmp_path / "old.db")
    calls: list[int] = []

    def second(connection: sqlite3.Connection) -> None:
        calls.append(2)
        connection.execute("CREATE TABLE second(x)")

    def third(connection: sqlite3.Connection) -> None:
        calls.append(3)
        if calls == [2, 3]:
            raise sqlite3.OperationalError("pulled the plug")

    connection = sqlite3.connect(tmp_path / "old.db", isolation_level=None)
    steps = (*schema.STEPS[:1], second, third)
    with pytest.raises(sqlite3.OperationalError):
        schema.prepare(connection, "old.db", steps)
    assert connection.execute("PRAGMA user_version").fetchone() == (1,)
    assert connection.execute("SELECT count(*) FROM sqlite_schema WHERE name = 'second'").fetchone() == (0,)
    for _ in range(2):
        schema.prepare(connection, "old.db", steps)
    assert calls == [2, 3, 2, 3]
    assert connection.execute("PRAGMA user_version").fetchone() == (3,)
    with pytest.raises(SchemaError, match="has format 3"):
        schema.prepare(connection, "old.db", steps[:2])
    connection.close()


def test_place_is_checked_first(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable, match="is a folder"):
        SqliteStore(tmp_path)
    with pytest.raises(StoreUnavailable, match="must exist"):
        SqliteStore(tmp_path / "no" / "such.db")
    assert not (tmp_path / "no").exists()


@pytest.mark.parametrize("kind", ["nfs", "nfs4", "cifs", "smb3", "fuse.sshfs", "9p", "lustre"])
def test_network_disks_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setattr(schema, "filesystem", lambda folder: kind)
    with pytest.raises(StoreUnavailable, match=rf"on {kind}\. Move it, or add \?force=1"):
        SqliteStore(tmp_path / "s.db")
    assert list(tmp_path.iterdir()) == []
    SqliteStore(tmp_path / "s.db", force=True).close()


@pytest.mark.parametrize("kind", ["ext4", "xfs", "tmpfs", "overlay", "btrfs", "zfs", "fuseblk", ""])
def test_local_disks_are_fine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setattr(schema, "filesystem", lambda folder: kind)
    store = SqliteStore(tmp_path / "s.db")
    assert store.studies() == []
    store.close()


def test_kind_of_file_system_is_that_of_the_deepest_mount(monkeypatch: pytest.MonkeyPatch) -> None:
    table = (
        "22 1 8:1 / / rw shared:1 - ext4 /dev/sda1 rw\n"
        "40 22 0:5 / /mnt/my\\040share rw - nfs4 server:/x rw\n"
        "41 22 0:6 / /mnt rw master:2 - xfs /dev/sdb rw\n"
    )
    monkeypatch.setattr(schema.Path, "read_text", lambda self, **kw: table)
    assert schema.filesystem("/mnt/my share/deep") == "nfs4"
    assert schema.filesystem("/mnt/other") == "xfs"
    assert schema.filesystem("/mntx") == "ext4"


def error(code: int) -> sqlite3.OperationalError:
    made = sqlite3.OperationalError("what sqlite says")
    made.sqlite_errorcode = code
    return made


@pytest.mark.parametrize(
    ("code", "kind", "words"),
    [
        (sqlite3.SQLITE_FULL, StoreUnavailable, "free space"),
        (sqlite3.SQLITE_READONLY, StoreUnavailable, "write access"),
        (sqlite3.SQLITE_BUSY, StoreUnavailable, "keeps it locked"),
        (sqlite3.SQLITE_CANTOPEN, StoreUnavailable, "permissions"),
        (sqlite3.SQLITE_IOERR | (8 << 8), StoreUnavailable, "working disk"),
        (sqlite3.SQLITE_CORRUPT, SchemaError, "undamaged"),
        (sqlite3.SQLITE_NOTADB, SchemaError, "undamaged"),
        (sqlite3.SQLITE_MISUSE, StoreUnavailable, "Check the file"),
    ],
)
def test_errors_are_put_in_words(code: int, kind: type[Exception], words: str) -> None:
    told = schema.explain(error(code), "s.db")
    assert type(told) is kind
    assert words in str(told)
    assert "s.db" in str(told)
    assert "what sqlite says" in str(told)
