"""Saves what can be read of a damaged SQLite store into a new one; nothing is renumbered, every gap is reported."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from tunewright.core.problem import Problem
from tunewright.errors import CheckpointError, ConfigError, SchemaError, StoreUnavailable, TunewrightError
from tunewright.store.backup import draft_of, settle
from tunewright.store.copying import Reading, copy_files
from tunewright.store.inspection import rows
from tunewright.store.mending import Row, mend, read_event
from tunewright.store.pages import Pages, Value
from tunewright.store.repairing import rebuild, write
from tunewright.store.schema import check_place, explain, sound
from tunewright.store.sqlite import SqliteStore

_EVENT, _EVENT_1, _HEAD = 6, 5, 9
_STUDY, _STUDY_1, _NAME = 5, 4, 2
_DOUBT = "CREATE TEMP TABLE doubt AS SELECT * FROM event WHERE 0"
_BELIEVED = (
    "INSERT OR IGNORE INTO event(study, seq, at, worker, data, crc) SELECT study, seq, at, worker, data, crc FROM doubt d "
    "WHERE seq BETWEEN 1 AND (SELECT max(seq) FROM event e WHERE e.study = d.study)"
)


@dataclass(slots=True)
class Salvaged:
    """What was saved.

    Attributes:
        path: The new store.
        records: Records saved as they were, by study.
        lost: What is lost, one sentence each.
        pages: Pages of the old file with something that could not be read, or that are gone.
        files: Checkpoint files copied.
        apart: Files with records of studies whose settings are lost, one JSON document a line.
    """

    path: str
    records: dict[str, int] = field(default_factory=dict)
    lost: list[str] = field(default_factory=list)
    pages: int = 0
    files: int = 0
    apart: list[str] = field(default_factory=list)


def salvage(path: str | os.PathLike[str], new: str | os.PathLike[str]) -> Salvaged:
    """Reads a damaged store page by page and makes a new one of what is there. The old file is not changed.

    Records keep their positions. Where one is gone, a note has its place, as ``store.mending`` says; a study whose
    settings are lost is written to a file of lines beside the new store.

    Args:
        path: The damaged store; nobody may be writing to it.
        new: The file to make.

    Raises:
        ConfigError: If there is a file of that name.
        SchemaError: If no study can be found in the old file.
        StoreUnavailable: If the old file cannot be read or the new one not be written.
    """
    final = Path(os.path.realpath(new))
    check_place(str(final), force=True)
    if final.exists():
        raise ConfigError(f"A salvage must not overwrite anything; {final} is there. Name another file.")
    told = Salvaged(str(final))
    with draft_of(final) as draft:
        store = SqliteStore(draft, force=True)
        try:
            with contextlib.closing(sqlite3.connect(draft, timeout=30.0, isolation_level=None)) as connection:
                connection.execute(_DOUBT)
                connection.execute("BEGIN IMMEDIATE")
                _collect(path, connection, told)
                connection.execute(_BELIEVED)
                _mend(connection, told)
                connection.execute("COMMIT")
            _checkpoints(store, Path(f"{os.path.realpath(path)}-blobs"), Path(f"{final}-blobs"), told)
        except sqlite3.Error as error:
            raise explain(error, str(final)) from error
        finally:
            store.close()
        settle(draft, final)
    return told


def _collect(path: str | os.PathLike[str], connection: sqlite3.Connection, told: Salvaged) -> None:
    """Puts every row that is found where it belongs; the new file sorts them."""
    try:
        pages = Pages(os.fspath(path))
    except OSError as error:
        raise StoreUnavailable(
            f"A store must be readable to be salvaged; {os.fspath(path)} gave '{error}'. Check the path and the disk."
        ) from error
    try:
        for _, rowid, values in pages.rows():
            _place(connection, rowid, values)
        told.pages = len(pages.unread) + max(0, pages.wanted - pages.count)
    finally:
        pages.close()


def _place(connection: sqlite3.Connection, rowid: int | None, values: list[Value]) -> None:
    width = len(values)
    if rowid is None and width in (_EVENT, _EVENT_1):
        study, seq, at, worker, data, crc = [*values, None][:6]
        if all(isinstance(v, int) for v in (study, seq, worker)) and isinstance(data, bytes):
            _event(connection, (study, seq, at, worker, data, crc))
    elif rowid is None and width == _HEAD and all(isinstance(v, int | float) for v in values):
        connection.execute("INSERT OR REPLACE INTO head VALUES(?,?,?,?,?,?,?,?,?)", values)
    elif rowid is None and width == _NAME and "/" in str(values[0]) and isinstance(values[1], int):
        # Of the index of names; that of studies looks the same, but workers have such names.
        connection.execute("INSERT OR IGNORE INTO name(id, name) VALUES(?, ?)", (values[1], values[0]))
    elif rowid is not None and width == _NAME and values[0] is None and isinstance(values[1], str):
        connection.execute("DELETE FROM name WHERE id = ? OR name = ?", (rowid, values[1]))
        connection.execute("INSERT INTO name(id, name) VALUES(?, ?)", (rowid, values[1]))
    elif rowid is not None and width in (_STUDY, _STUDY_1) and values[0] is None:
        _, name, spec, created, crc = [*values, None][:5]
        if isinstance(name, str) and isinstance(spec, str) and sound(spec.encode(), _sum(crc)):
            connection.execute(
                "INSERT OR REPLACE INTO study(id, name, spec, created, crc) VALUES(?, ?, ?, ?, ?)",
                (rowid, name, spec, created, crc),
            )


def _sum(value: Value) -> int | None:
    return value if isinstance(value, int) else None


def _event(connection: sqlite3.Connection, row: tuple[Any, ...]) -> None:
    """Keeps a record; one that cannot be read apart, for its position may be wrong as well."""
    study, seq, at, worker, data, crc = row
    good = seq > 0 and not isinstance(read_event(Row(seq, at, "", data, crc)), str)
    table = "event" if good else "doubt"
    connection.execute(
        f"INSERT OR IGNORE INTO {table}(study, seq, at, worker, data, crc) VALUES(?, ?, ?, ?, ?, ?)",
        (study, seq, at if isinstance(at, int | float) else 0.0, worker, data, crc),
    )


def _mend(connection: sqlite3.Connection, told: Salvaged) -> None:
    studies = connection.execute("SELECT id, name, spec FROM study ORDER BY id").fetchall()
    if not studies:
        raise SchemaError(
            "A file must hold a study to be salvaged; nothing that looks like one was found. Restore it from a copy."
        )
    for study, name, spec in studies:
        heads = connection.execute(
            "SELECT token, trial, ended FROM head WHERE study = ?", (study,)
        ).fetchall()
        tokens = {token: trial for token, trial, _ in heads}
        beyond = max((max(token, ended) for token, _, ended in heads), default=0)
        (count,) = connection.execute("SELECT count(*) FROM event WHERE study = ?", (study,)).fetchone()
        try:
            problem = Problem.from_dict(msgspec.json.decode(spec)["problem"])
            made = mend(problem, lambda study=study: rows(connection, study), tokens, beyond)  # type: ignore[misc]
        except (TunewrightError, KeyError, TypeError) as error:
            _apart(connection, study, name, str(error), told)
            continue
        write(connection, study, made)
        rebuild(connection, study)
        told.records[name] = count - sum(seq in made.replaced for seq in _seqs(connection, study))
        told.lost += [f"{name}: {text}" for text in made.lost]
    known = [study for study, *_ in studies]
    marks = ",".join("?" * len(known))
    strangers = f"SELECT DISTINCT study FROM event WHERE study NOT IN ({marks})"  # noqa: S608 - only question marks
    for (study,) in connection.execute(strangers, known).fetchall():
        _apart(connection, study, f"number {study}", "its settings are lost", told)


def _seqs(connection: sqlite3.Connection, study: int) -> Iterator[int]:
    for row in rows(connection, study):
        yield row.seq


def _apart(connection: sqlite3.Connection, study: int, name: str, why: str, told: Salvaged) -> None:
    """Writes the records of a study that cannot be opened to a file of lines, and leaves it out of the store."""
    path = Path(f"{told.path}-study-{study}.jsonl")
    with path.open("w", encoding="utf-8") as file:
        for row in rows(connection, study):
            event = read_event(row)
            good = not isinstance(event, str)
            text = json.loads(row.data) if good else row.data.decode("utf-8", "replace")
            file.write(json.dumps([row.seq, row.at, row.worker, text, good], ensure_ascii=False) + "\n")
    told.apart.append(str(path))
    told.lost.append(f"study {name} cannot be opened: {why}; its records are in {path.name}")
    for table in ("event", "head", "study"):
        key = "id" if table == "study" else "study"
        connection.execute(f"DELETE FROM {table} WHERE {key} = ?", (study,))  # noqa: S608 - names from above


def _checkpoints(store: SqliteStore, old: Path, new: Path, told: Salvaged) -> None:
    for info in store.studies():
        source, target = old / str(info.id), new / str(info.id)
        if not source.is_dir():
            continue
        target.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(CheckpointError):
            number, _, damaged = copy_files(str(source), str(target), Reading(store, info.id, None).named)
            told.files += number
            told.lost += [f"{info.name}: checkpoint {name} is damaged" for name in damaged]
