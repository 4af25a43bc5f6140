"""Gives the disk back what an SQLite store no longer needs."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import time
from pathlib import Path

from tunewright.store.locks import FileLocks
from tunewright.store.schema import connect, explain
from tunewright.store.sqlite import SqliteStore


def used(path: str) -> int:
    """Bytes of an SQLite store: the file and its write-ahead log."""
    total = 0
    for name in (path, f"{path}-wal"):
        with contextlib.suppress(OSError):
            total += Path(name).stat().st_size
    return total


def free_pages(store: SqliteStore) -> int:
    """Bytes inside the file that hold nothing."""
    with contextlib.closing(connect(store.path)) as connection:
        (free,) = connection.execute("PRAGMA freelist_count").fetchone()
        (page,) = connection.execute("PRAGMA page_size").fetchone()
    return int(free) * int(page)


def compact(store: SqliteStore, *, deadline: float = 30.0) -> None:
    """Gives free pages and the write-ahead log back to the disk; other processes wait with their writes meanwhile.

    Raises:
        StoreUnavailable: If others keep the file busy for longer than ``deadline`` seconds, or the disk has no room.
    """
    turnstile = FileLocks(f"{store.path}-lock")
    try:
        with (
            turnstile.turn(time.monotonic() + deadline) as granted,
            contextlib.closing(
                sqlite3.connect(store.path, timeout=deadline, isolation_level=None)
            ) as connection,
        ):
            if not granted:
                raise sqlite3.OperationalError("database is locked")
            connection.execute("VACUUM")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    except sqlite3.Error as error:
        raise explain(error, store.path) from error
    finally:
        turnstile.close()


def empty_log(store: SqliteStore) -> None:
    """Moves the write-ahead log into the file, as far as nobody reads older pages.

    Raises:
        StoreUnavailable: If the file cannot be written.
    """
    try:
        with contextlib.closing(
            sqlite3.connect(store.path, timeout=30.0, isolation_level=None)
        ) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    except sqlite3.Error as error:
        raise explain(error, store.path) from error


def leftovers(store: SqliteStore) -> list[Path]:
    """Checkpoint folders of studies that are no more."""
    folder = Path(f"{store.path}-blobs")
    # Listed before the studies are: a folder is made after its study.
    found = [p for p in folder.iterdir() if p.name.isdigit() and p.is_dir()] if folder.is_dir() else []
    here = {str(info.id) for info in store.studies()}
    return [p for p in found if p.name not in here and not p.is_symlink()]


def remove_tree(path: Path) -> int:
    """Removes a folder and returns its bytes."""
    size = sum(p.lstat().st_size for p in path.rglob("*") if p.is_file())
    shutil.rmtree(path, ignore_errors=True)
    return size
