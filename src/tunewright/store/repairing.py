"""Repairs an SQLite store in place, after copying the whole file aside, in one transaction."""

from __future__ import annotations

import contextlib
import itertools
import shutil
import sqlite3
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from zlib import crc32

from tunewright.core.events import encode_event
from tunewright.core.problem import Problem
from tunewright.errors import SchemaError, StoreUnavailable, TunewrightError
from tunewright.store import clock
from tunewright.store.base import FOREVER, LIVE, OVERDUE
from tunewright.store.inspection import (
    Attempts,
    FileFound,
    StudyFound,
    attempts,
    rows,
)
from tunewright.store.locks import FileLocks
from tunewright.store.mending import DOCTOR, Mended, mend, read_event
from tunewright.store.schema import explain

_DEADLINE = 30.0


@dataclass(slots=True)
class Repaired:
    """What a repair did.

    Attributes:
        aside: The copy of the file as it was; its write-ahead log beside it.
        done: What was changed, in words.
        lost: What could not be read and is lost, one sentence for each record.
    """

    aside: str
    done: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)


def repair(found: FileFound, drop: Collection[int] = (), doubtful: Collection[int] = ()) -> Repaired:
    """Mends logs, rebuilds the tables of attempts, drops snapshots that do not fit, and rebuilds indexes.

    Args:
        found: What ``inspect_file`` said.
        drop: Studies whose snapshot is to go although its checksum is right.
        doubtful: Studies whose log is to be mended although every record can be read.

    Raises:
        SchemaError: If the pages themselves are damaged, so that the file must be salvaged; or a log contradicts itself.
        StoreUnavailable: If somebody else keeps the file locked, or trials run in a study whose log must be mended.
    """
    path = found.path
    turnstile = FileLocks(f"{path}-lock")
    try:
        with (
            turnstile.turn(time.monotonic() + _DEADLINE) as granted,
            contextlib.closing(sqlite3.connect(path, timeout=_DEADLINE, isolation_level=None)) as connection,
        ):
            if not granted:
                raise sqlite3.OperationalError("database is locked")
            with _transaction(connection):
                if found.pages:
                    _reindex(connection, path)
                told = Repaired(_aside(path))
                told.done += ["indexes were built again"] if found.pages else []
                for study in found.studies:
                    _study(connection, study, told, study.id in drop, study.id in doubtful)
    except sqlite3.Error as error:
        raise explain(error, path) from error
    finally:
        turnstile.close()
    return told


def _reindex(connection: sqlite3.Connection, path: str) -> None:
    """Builds the indexes again, which hold nothing of their own; helps where only they are damaged."""
    try:
        connection.execute("REINDEX")
        well = connection.execute("PRAGMA integrity_check(1)").fetchone() == ("ok",)
    except sqlite3.DatabaseError:
        well = False
    if not well:
        raise SchemaError(
            f"A store must be made of undamaged pages to be repaired in place; {path} is not. "
            "Run: tunewright doctor --salvage NEW.db"
        )


@contextlib.contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        with contextlib.suppress(sqlite3.Error):
            connection.execute("ROLLBACK")
        raise


def _aside(path: str) -> str:
    """Copies the file and its write-ahead log; nobody writes to either while the transaction is open."""
    day = time.strftime(f"{path}.%Y%m%d-%H%M%S")
    aside = next(
        name for i in itertools.count() if not Path(name := f"{day}{f'-{i}' if i else ''}.bak").exists()
    )
    try:
        for suffix in ("-wal", ""):
            if Path(path + suffix).exists():
                shutil.copy2(path + suffix, aside + suffix)
    except OSError as error:
        for suffix in ("-wal", ""):
            Path(aside + suffix).unlink(missing_ok=True)
        raise StoreUnavailable(
            f"A repair begins with a copy of the file; writing {aside} gave '{error}'. Free space or check permissions."
        ) from error
    return aside


def _study(
    connection: sqlite3.Connection, study: StudyFound, told: Repaired, drop: bool, doubtful: bool
) -> None:
    broken = doubtful or not study.whole
    if broken and not _log(connection, study, told):
        return
    if study.heads or broken:
        rebuild(connection, study.id)
        told.done.append(f"{study.name}: the table of attempts was built again from the log")
    if study.snapshot or drop or broken:
        gone = connection.execute("DELETE FROM snapshot WHERE study = ?", (study.id,)).rowcount
        if gone:
            told.done.append(f"{study.name}: the snapshot was dropped; the next one is made from the log")


def _log(connection: sqlite3.Connection, study: StudyFound, told: Repaired) -> bool:
    """Mends the log of a study; False where that is impossible, and nothing was changed."""
    # Somebody outside, such as a person with a trial from tunewright ask, holds nothing of the log in memory.
    live = [
        worker
        for worker, expires in connection.execute(
            "SELECT n.name, h.expires FROM head h JOIN name n ON n.id = h.worker WHERE h.study = ? AND h.state = ?",
            (study.id, LIVE),
        )
        if not worker.startswith(clock.EXTERNAL)
        and clock.worker_alive(worker) is not False
        and expires > clock.now()
    ]
    if live:
        raise StoreUnavailable(
            f"A log is mended when nobody works on it; '{study.name}' is worked on by {', '.join(sorted(set(live))[:3])}. "
            "Stop that, and wait for its lease to run out."
        )
    try:
        if study.spec is None:
            raise SchemaError(
                "its settings are damaged, so its log cannot be mended. Make it again under another name with its old "
                "settings, and tell it the results that tunewright doctor --salvage NEW.db writes out."
            )
        problem = Problem.from_dict(study.spec["problem"])
        made = mend(problem, lambda: rows(connection, study.id), study.tokens, study.beyond)
    except (TunewrightError, KeyError) as error:
        told.lost.append(f"{study.name}: {error}")
        return False
    write(connection, study.id, made)
    told.lost += [f"{study.name}: {text}" for text in made.lost]
    told.done.append(
        f"{study.name}: {len(made.replaced)} records were replaced, {len(made.closing)} were appended"
    )
    return True


def write(connection: sqlite3.Connection, study: int, made: Mended) -> None:
    """Puts replaced and closing records into the log."""
    connection.execute("INSERT OR IGNORE INTO name(name) VALUES(?)", (DOCTOR,))
    (doctor,) = connection.execute("SELECT id FROM name WHERE name = ?", (DOCTOR,)).fetchone()
    fresh = [(seq, record.at, record.event) for seq, record in made.replaced.items()]
    fresh += [(made.last + i, time.time(), event) for i, event in enumerate(made.closing, start=1)]
    for seq, at, event in fresh:
        data = encode_event(event)
        connection.execute(
            "INSERT OR REPLACE INTO event(study, seq, at, worker, data, crc) VALUES(?, ?, ?, ?, ?, ?)",
            (study, seq, at, doctor, data, crc32(data, seq)),
        )


def rebuild(connection: sqlite3.Connection, study: int) -> None:
    """Builds the table of attempts from the log; leases that are right are kept, the others are over."""
    before = attempts(connection, study)
    leased = {
        row[0]: row[1:]
        for row in connection.execute(
            "SELECT trial, place, expires, wall FROM head WHERE study = ? AND state = ?", (study, LIVE)
        )
    }
    log = Attempts()
    for row in rows(connection, study):
        event = read_event(row)
        if not isinstance(event, str):
            log.take(row.seq, row.worker, event)
    connection.execute("DELETE FROM head WHERE study = ?", (study,))
    for trial, now in log.latest.items():
        connection.execute("INSERT OR IGNORE INTO name(name) VALUES(?), (?)", (now.worker, clock.place()))
        (worker,) = connection.execute("SELECT id FROM name WHERE name = ?", (now.worker,)).fetchone()
        (here,) = connection.execute("SELECT id FROM name WHERE name = ?", (clock.place(),)).fetchone()
        end = OVERDUE if now.state == LIVE else FOREVER
        lease = leased[trial] if before.get(trial) == now and trial in leased else (here, end, end)
        connection.execute(
            "INSERT INTO head(study, trial, token, state, worker, place, expires, wall, ended) VALUES(?,?,?,?,?,?,?,?,?)",
            (study, trial, now.token, now.state, worker, *lease, now.ended),
        )
