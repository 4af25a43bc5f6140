"""The tables of the SQLite store, how a file is opened, and what its errors mean in words."""

from __future__ import annotations

import contextlib
import os
import re
import sqlite3
import sys
import time
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal
from urllib.parse import quote

from tunewright.errors import SchemaError, StoreError, StoreUnavailable

Durability = Literal["process", "full"]
APPLICATION = 0x54574E31
_BUSY_MS = 250
# WAL pages between checkpoints: 4 MiB keeps fsync off most commits; larger was 10 % faster and too big for small disks.
_CHECKPOINT = 1000
_TABLES = (
    """
    CREATE TABLE study(
        id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE, spec TEXT NOT NULL, created REAL NOT NULL)
    """,
    "CREATE TABLE name(id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE)",
    """
    CREATE TABLE event(
        study INTEGER NOT NULL, seq INTEGER NOT NULL, at REAL NOT NULL, worker INTEGER NOT NULL, data BLOB NOT NULL,
        PRIMARY KEY(study, seq)) WITHOUT ROWID
    """,
    """
    CREATE TABLE head(
        study INTEGER NOT NULL, trial INTEGER NOT NULL, token INTEGER NOT NULL, state INTEGER NOT NULL,
        worker INTEGER NOT NULL, place INTEGER NOT NULL, expires REAL NOT NULL, wall REAL NOT NULL,
        ended INTEGER NOT NULL DEFAULT 0, PRIMARY KEY(study, trial)) WITHOUT ROWID
    """,
    "CREATE INDEX running ON head(study, trial) WHERE state = 0",
    "CREATE TABLE snapshot(study INTEGER PRIMARY KEY, seq INTEGER NOT NULL, data BLOB NOT NULL)",
)
Step = Callable[[sqlite3.Connection], None]


def _create(connection: sqlite3.Connection) -> None:
    for statement in _TABLES:
        connection.execute(statement)


def _sum(connection: sqlite3.Connection) -> None:
    """SQLite does not notice a changed bit inside a value; rows written before have no sum and are not checked."""
    for table in ("study", "event", "snapshot"):
        connection.execute(f"ALTER TABLE {table} ADD COLUMN crc INTEGER")


# Step i takes a file from version i to version i + 1. A published step is never edited; a change is a new step.
STEPS: tuple[Step, ...] = (_create, _sum)

_REMOTE = re.compile(
    r"nfs\d?|cifs|smb\w*|ncpfs|afs|9p|fuse\..*|fuse|lustre|ceph|glusterfs|beegfs|gpfs|pvfs2|davfs"
)
_TRANSIENT = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL}


def connect(path: str) -> sqlite3.Connection:
    """Opens the file; one that cannot be written is opened for reading.

    Args:
        path: The file; its folder must exist.

    Raises:
        sqlite3.Error: If the file cannot be opened at all.
    """
    connection = sqlite3.connect(
        path, timeout=_BUSY_MS / 1000, isolation_level=None, check_same_thread=False, cached_statements=64
    )
    try:
        try:
            connection.execute("PRAGMA schema_version").fetchone()
        except sqlite3.OperationalError as error:
            if (
                _primary(error) not in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY)
                or not Path(path).exists()
            ):
                raise
            connection.close()
            connection = _read_only(path)
        connection.execute(f"PRAGMA wal_autocheckpoint={_CHECKPOINT}")
        connection.execute("PRAGMA trusted_schema=OFF")
    except BaseException:
        connection.close()
        raise
    return connection


def settle(connection: sqlite3.Connection, durability: Durability) -> bool:
    """Sets when SQLite flushes.

    With a write-ahead log a flush after the commit and outside the lock is as good as one inside: the log is
    sequential, so it covers every earlier commit too, and it does not keep other processes waiting.

    Returns:
        Whether the caller must flush the write-ahead log after each commit.
    """
    ours = (
        durability == "full"
        and sys.platform == "linux"
        and connection.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
    )
    connection.execute(f"PRAGMA synchronous={'NORMAL' if ours or durability == 'process' else 'FULL'}")
    return ours


def _read_only(path: str) -> sqlite3.Connection:
    """A file in a place where SQLite cannot keep its shared memory can still be read if nobody writes it."""
    wal = Path(path + "-wal")
    mode = "mode=ro" if wal.exists() and wal.stat().st_size else "mode=ro&immutable=1"
    return sqlite3.connect(
        f"file:{quote(path)}?{mode}",
        uri=True,
        timeout=_BUSY_MS / 1000,
        isolation_level=None,
        check_same_thread=False,
    )


def prepare(connection: sqlite3.Connection, path: str, steps: Sequence[Step] = STEPS) -> None:
    """Brings a file to the newest version, in one exclusive transaction; a file that is there already is only read.

    Raises:
        SchemaError: If the file is not a store, or was written by a newer version.
        sqlite3.Error: If the file cannot be read or written; a busy file is worth another try.
    """
    if _version(connection, path, len(steps)) == len(steps):
        return
    connection.execute("PRAGMA journal_mode=WAL").fetchone()
    connection.execute("BEGIN EXCLUSIVE")
    try:
        for number in range(_version(connection, path, len(steps)), len(steps)):
            steps[number](connection)
        connection.execute(f"PRAGMA application_id={APPLICATION}")
        connection.execute(f"PRAGMA user_version={len(steps)}")
        connection.execute("COMMIT")
    except BaseException:
        with contextlib.suppress(sqlite3.Error):
            connection.execute("ROLLBACK")
        raise


def _version(connection: sqlite3.Connection, path: str, newest: int) -> int:
    # One statement, so that the numbers belong together while another process creates the tables.
    application, version, tables = connection.execute(
        "SELECT (SELECT application_id FROM pragma_application_id), (SELECT user_version FROM pragma_user_version), "
        "(SELECT count(*) FROM sqlite_schema)"
    ).fetchone()
    if application != APPLICATION and (tables or application):
        raise SchemaError(
            f"A store must be a file made by Tunewright; {path} holds another program's tables. "
            "Choose another file name."
        )
    if version > newest:
        raise SchemaError(
            f"A store must be of format {newest} or older; {path} has format {version}. Upgrade Tunewright."
        )
    return int(version)


def check_place(path: str, *, force: bool) -> None:
    """Checks where a store is to live before anything is created.

    Raises:
        StoreUnavailable: If the folder is missing, the path is a folder, or the file system is shared over a network.
    """
    folder = Path(path).parent
    if Path(path).is_dir():
        raise StoreUnavailable(f"A store must be a file; {path} is a folder. Add a file name.")
    if not folder.is_dir():
        raise StoreUnavailable(
            f"A store's folder must exist; {folder} does not. Create it or correct the path."
        )
    kind = "" if force else filesystem(str(folder))
    if remote(kind):
        raise StoreUnavailable(
            f"An SQLite store must be on a local disk, because network file systems do not lock reliably; {folder} is "
            f"on {kind}. Move it, or add ?force=1 if only one process at a time uses it."
        )


def remote(kind: str) -> bool:
    """Whether file systems of a kind are shared over a network."""
    return _REMOTE.fullmatch(kind) is not None


def filesystem(folder: str) -> str:
    """Kind of the file system that holds a folder, or an empty string where the system does not tell."""
    try:
        lines = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    real, best, kind = os.path.realpath(folder), -1, ""
    for line in lines:
        left, _, right = line.partition(" - ")
        mount = re.sub(r"\\([0-7]{3})", lambda m: chr(int(m[1], 8)), left.split()[4])
        inside = real == mount or real.startswith(mount.rstrip("/") + "/")
        if inside and len(mount) >= best:
            best, kind = len(mount), right.split()[0]
    return kind


def sound(data: bytes, crc: int | None, key: int = 0) -> bool:
    """Whether data is what was written under that key; rows from before format 2 have no sum."""
    return crc is None or zlib.crc32(data, key) == crc


def transient(error: sqlite3.Error) -> bool:
    """Whether the same call may succeed a moment later."""
    return _primary(error) in _TRANSIENT


def full(error: sqlite3.Error) -> bool:
    """Whether the disk has no room left."""
    return _primary(error) in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR)


def pause(attempt: int, jitter: float) -> None:
    """Sleeps before another try, longer each time, at most 0.2 s."""
    time.sleep(min(0.002 * 2 ** min(attempt, 10), 0.2) * (0.5 + jitter))


def explain(error: sqlite3.Error, path: str) -> StoreError:
    """What an error of SQLite means for the user, and what to do."""
    code = _primary(error)
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return SchemaError(
            f"A store must be an undamaged SQLite file; {path} is not one ({error}). "
            "Restore it from a copy, or save what is left with: tunewright doctor --salvage NEW.db"
        )
    told = {
        sqlite3.SQLITE_FULL: (
            "free space on the disk",
            "Free some space; finished work is kept, and the same call works then.",
        ),
        sqlite3.SQLITE_READONLY: (
            "write access",
            "Change its permissions or copy it elsewhere; reading works.",
        ),
        sqlite3.SQLITE_CANTOPEN: (
            "a file that can be opened",
            "Check the path, its permissions and the limit on open files.",
        ),
        sqlite3.SQLITE_PERM: ("a file that can be opened", "Check its permissions."),
        sqlite3.SQLITE_BUSY: ("the file to itself for a moment", "Find the process that keeps it locked."),
        sqlite3.SQLITE_LOCKED: ("the file to itself for a moment", "Find the process that keeps it locked."),
        sqlite3.SQLITE_IOERR: ("a working disk", "Check free space, quotas and the disk, then try again."),
    }
    need, remedy = told.get(code, ("a working file", "Check the file and try again."))
    return StoreUnavailable(
        f"The store needs {need}; {path} gave '{error}'. {remedy}", passing=full(error) or transient(error)
    )


def _primary(error: sqlite3.Error) -> int:
    return int(getattr(error, "sqlite_errorcode", 0) or 0) & 0xFF
