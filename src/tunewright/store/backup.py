"""Backups: a whole store as one SQLite file with its checkpoints beside it, checked before it takes its name.

Of an SQLite store the file itself is copied, as it was at one moment, while others go on writing. Of any other store the
studies are copied record by record. Either way the result is a store like any other, and nothing is called a backup
before every page was checked and every study has the digest of its source.
"""

from __future__ import annotations

import contextlib
import glob
import os
import secrets
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from tunewright.errors import CheckpointError, ConfigError, SchemaError, StoreUnavailable, StudyMissing
from tunewright.store import blobs
from tunewright.store.base import Store
from tunewright.store.copying import Progress, Reading, copy_files, copy_study, digest
from tunewright.store.schema import check_place, connect, explain
from tunewright.store.sqlite import SqliteStore

_PAGES = 1_000
_STALE = 3600.0


@dataclass(frozen=True, slots=True)
class Backup:
    """What a backup holds.

    Attributes:
        path: The file.
        bytes: Its size, checkpoints left out.
        digests: Digest of every study by name.
        records: Records of all studies.
        files: Checkpoint files copied now; those that an earlier backup of that name had are not counted.
        file_bytes: Their size.
        damaged: Checkpoint files of the source that do not match their name; they were left out.
    """

    path: str
    bytes: int
    digests: dict[str, str]
    records: int
    files: int
    file_bytes: int
    damaged: tuple[str, ...]


def back_up(
    store: Store,
    path: str | os.PathLike[str],
    *,
    force: bool = False,
    checkpoints: bool = True,
    progress: Progress | None = None,
) -> Backup:
    """Copies a whole store into one SQLite file, while it is in use; a crash leaves the whole backup or none.

    Args:
        store: What to back up.
        path: The file to write, in a folder that exists; checkpoints go to the folder ``PATH-blobs``.
        force: Whether a file of that name may be replaced.
        checkpoints: Whether checkpoint files are copied, too.
        progress: Called with what is done and what there is, in pages or records.

    Raises:
        ConfigError: If there is a file of that name and ``force`` is not set.
        SchemaError: If the source is damaged.
        StoreUnavailable: If the backup cannot be written, or the file that it is to replace is in use.
    """
    final = Path(os.path.realpath(path))
    _check(store, final, force)
    with draft_of(final) as draft:
        if isinstance(store, SqliteStore):
            _copy_pages(store.path, str(draft), progress)
        copy = SqliteStore(draft, force=True)
        try:
            if not isinstance(store, SqliteStore):
                for info in store.studies():
                    copy_study(store, info.name, copy, blobs=False, progress=progress)
            made = _fill(store, copy, final, checkpoints)
        finally:
            copy.close()
        settle(draft, final)
    return replace(made, bytes=final.stat().st_size)


def _check(store: Store, final: Path, force: bool) -> None:
    check_place(str(final), force=True)
    if isinstance(store, SqliteStore) and final == Path(store.path):
        raise ConfigError(
            f"A backup needs a file of its own; got the store itself, {final}. Name another file."
        )
    if final.exists() and not force:
        raise ConfigError(
            f"A backup must not overwrite anything; {final} is there. Name another file, or pass --force."
        )
    wal = Path(f"{final}-wal")
    if wal.exists() and wal.stat().st_size:
        raise StoreUnavailable(
            f"A backup can only replace a file that is not in use; {final} has a write-ahead log. "
            "Close the programs that use it, or name another file."
        )


@contextlib.contextmanager
def draft_of(final: Path) -> Iterator[Path]:
    """A name beside the final one; nothing is left behind under it."""
    for stale in final.parent.glob(f".{glob.escape(final.name)}.*.part*"):
        with contextlib.suppress(OSError):
            if time.time() - stale.stat().st_mtime > _STALE:
                stale.unlink()  # of a process that was killed
    draft = final.with_name(f".{final.name}.{secrets.token_hex(6)}.part")
    try:
        yield draft
    finally:
        for suffix in ("", "-wal", "-shm", "-lock", "-journal"):
            Path(f"{draft}{suffix}").unlink(missing_ok=True)


def _copy_pages(source: str, target: str, progress: Progress | None) -> None:
    """Copies the file as it is now; the open transaction keeps later writes out of it without stopping them."""

    def told(status: int, remaining: int, total: int) -> None:
        if progress is not None:
            progress(total - remaining, total)

    try:
        with (
            contextlib.closing(connect(source)) as read,
            contextlib.closing(sqlite3.connect(target, isolation_level=None)) as written,
        ):
            read.execute("BEGIN")
            read.execute("SELECT count(*) FROM sqlite_schema").fetchone()
            read.backup(written, pages=_PAGES, progress=told, sleep=0.0)
            found = [row[0] for row in written.execute("PRAGMA integrity_check(5)")]
    except sqlite3.Error as error:
        raise explain(error, source) from error
    if found != ["ok"]:
        raise SchemaError(
            f"A store must be undamaged to be backed up; {source} has: {'; '.join(found)[:500]}. "
            "Run: tunewright doctor --salvage NEW.db"
        )


def _fill(store: Store, copy: SqliteStore, final: Path, checkpoints: bool) -> Backup:
    """Compares every study with its source and copies its checkpoints."""
    digests: dict[str, str] = {}
    records = number = size = 0
    damaged: list[str] = []
    for info in copy.studies():
        told = Reading(copy, info.id, None)
        last = copy.last(info.id)
        source = store.find(info.name)
        with contextlib.suppress(StudyMissing):  # deleted since
            if source is not None and digest(store, source.id, upto=last) != told.digest:
                raise SchemaError(
                    f"A backup must be the same as its source; '{info.name}' is not. Check the disk, then try again."
                )
        digests[info.name], records = told.digest, records + last
        if checkpoints and source is not None and told.named:
            place = Path(f"{final}-blobs") / str(info.id)
            try:
                place.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise _no_room(final, error) from error
            n, b, bad = copy_files(store.blobs(source.id), str(place), told.named)
            number, size, damaged = number + n, size + b, damaged + bad
            for entry in blobs.listing(place):
                if entry.name not in told.named:
                    with contextlib.suppress(CheckpointError):  # not one of ours
                        blobs.remove(place, entry.name)
    return Backup(str(final), 0, digests, records, number, size, tuple(damaged))


def settle(draft: Path, final: Path) -> None:
    """Gives a new file its name once it is on the disk.

    Raises:
        StoreUnavailable: If it cannot be written.
    """
    try:
        with draft.open("rb+") as file:
            os.fsync(file.fileno())
        for suffix in ("-wal", "-shm"):
            Path(f"{final}{suffix}").unlink(missing_ok=True)
        draft.replace(final)
        with contextlib.suppress(PermissionError):
            folder = os.open(final.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
    except OSError as error:
        raise _no_room(final, error) from error


def _no_room(final: Path, error: OSError) -> StoreUnavailable:
    return StoreUnavailable(
        f"A copy needs room in {final.parent}; writing gave '{error}'. Free space or check permissions."
    )
