"""Copies a study from one store to another, record by record, and proves that the copy is the same.

The records of a log never change and their positions are dense, so a copy that was cut short is continued where it ends,
and one that is made while the source is in use is a true copy of the log up to some position.
"""

from __future__ import annotations

import contextlib
import hashlib
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from tunewright.core.events import Ended, Noted, Paused, Record, Saved
from tunewright.errors import CheckpointError, SchemaError, StoreUnavailable, StudyExists, StudyMissing
from tunewright.store import blobs as files
from tunewright.store.base import Store, StudyInfo
from tunewright.store.depots import local

Progress = Callable[[int, int], object]
_BLOCK = 2_000
_CREATED = 1e-3  # seconds; stores keep the time of creation with different accuracy
_encoder = msgspec.json.Encoder(order="deterministic")


@dataclass(frozen=True, slots=True)
class Copied:
    """What a copy came to.

    Attributes:
        name: The study's name in the target.
        records: Length of the copy's log.
        found: Records that were there already, from a copy that was cut short.
        late: Records that were appended to the source while the rest was copied, and were copied after it.
        digest: Of the source and of the copy.
        files: Checkpoint files copied now.
        bytes: Their size.
        damaged: Checkpoint files of the source that do not match their name; they were left out.
        unknown: Records of kinds that this version does not know, kept as notes.
        running: Trials that run in the source; in the copy they are taken back and given out again.
    """

    name: str
    records: int
    found: int
    late: int
    digest: str
    files: int
    bytes: int
    damaged: tuple[str, ...]
    unknown: int
    running: int


def digest(store: Store, study: int, *, upto: int | None = None) -> str:
    """SHA-256 over what a study is and what happened in it, whatever its name and wherever it is kept.

    It covers the problem, the method and its settings, and of every record the position, the time, the worker and the
    event. Reads in blocks, so that it needs as much memory for a long log as for a short one.

    Args:
        store: Where the log lives.
        study: Key of the study.
        upto: Position of the last record that counts; None for the newest.

    Raises:
        StudyMissing: If there is no such study.
        SchemaError: If a record is missing or damaged.
    """
    return Reading(store, study, upto).digest


class Reading:
    """One pass over a log: its digest, and the checkpoints that it names; see ``digest`` for the arguments.

    Attributes:
        digest: See ``digest``.
        named: Checkpoints that an event says were saved, in order.
        unknown: Events of kinds that this version does not know.
    """

    def __init__(self, store: Store, study: int, upto: int | None) -> None:
        sum_ = hashlib.sha256(_encoder.encode(_info(store, study).spec))
        self.named: dict[str, None] = {}
        self.unknown = 0
        for block in _blocks(store, study, 0, store.last(study) if upto is None else upto):
            for record in block:
                sum_.update(b"\n" + _encoder.encode(record))
                event = record.event
                if isinstance(event, Saved | Paused | Ended) and event.checkpoint is not None:
                    self.named[event.checkpoint] = None
                self.unknown += isinstance(event, Noted) and event.topic == "unknown"
        self.digest = sum_.hexdigest()


def copy_study(
    source: Store,
    name: str,
    target: Store,
    new_name: str | None = None,
    *,
    blobs: bool = True,
    progress: Progress | None = None,
) -> Copied:
    """Copies a study with its whole log and, unless told otherwise, its checkpoints; continues a copy that was cut short.

    The source may be in use: first everything up to a fixed position is copied, then what was appended meanwhile. Trials
    that run in the source are not running in the copy, and begin again there from their newest checkpoint.

    Args:
        source: Where the study is.
        name: Its name there.
        target: Where the copy goes; may be the same store under another name.
        new_name: Its name there; None for the same.
        blobs: Whether checkpoint files are copied, too.
        progress: Called with the position reached and the last one.

    Raises:
        StudyMissing: If there is no such study.
        StudyExists: If the target has another study of that name, or a copy that has been used since.
        SchemaError: If a record of the source is missing or damaged, or the copy turns out not to be the same.
    """
    info = source.find(name)
    if info is None:
        raise StudyMissing(
            f"A study must be there to be copied; {source.url} has no '{name}'. Correct the name."
        )
    goal = source.last(info.id)
    made = target.create(new_name or name, info.spec, exist_ok=True, created=info.created)
    found = _same_so_far(source, info, target, made, goal)
    _append(source, info.id, target, made.id, (found, goal), progress)
    end = source.last(info.id)
    _append(source, info.id, target, made.id, (goal, end), progress)
    told = Reading(source, info.id, end)
    if digest(target, made.id, upto=end) != told.digest:
        raise SchemaError(
            f"A copy must be the same as its source; '{made.name}' in {target.url} is not. "
            "Delete it there and copy again."
        )
    number, size = 0, 0
    damaged: list[str] = []
    if blobs and told.named:
        number, size, damaged = copy_files(source.blobs(info.id), target.blobs(made.id), told.named)
    running = len(source.leases(info.id))
    return Copied(
        made.name, end, found, end - goal, told.digest, number, size, tuple(damaged), told.unknown, running
    )


def _info(store: Store, study: int) -> StudyInfo:
    for info in store.studies():
        if info.id == study:
            return info
    raise StudyMissing(f"No study has the key {study} in this store; it may have been deleted.")


def _blocks(store: Store, study: int, after: int, upto: int) -> Iterator[list[Record]]:
    """The records after a position, in blocks; complete or an error."""
    while after < upto:
        records = store.read(study, after, min(_BLOCK, upto - after))
        if [r.seq for r in records] != list(range(after + 1, after + 1 + len(records))) or not records:
            raise SchemaError(
                f"A log must have every position from 1 to {upto}; after {after} some are missing in {store.url}. "
                "Run: tunewright doctor --repair"
            )
        yield records
        after = records[-1].seq


def _same_so_far(source: Store, info: StudyInfo, target: Store, made: StudyInfo, goal: int) -> int:
    """Length of an earlier copy that can be continued; 0 for none.

    Raises:
        StudyExists: If what is there is no earlier copy, or has been used since.
    """
    if source is target and made.id == info.id:
        raise StudyExists(f"A copy in the same store needs another name; got '{info.name}' again. Use --as.")
    taken = (
        f"A copy needs a name of its own or an earlier copy to continue; '{made.name}' in {target.url} is "
        "{what}. Copy under another name, with --as."
    )
    same = _encoder.encode(made.spec) == _encoder.encode(info.spec)
    if not same or abs(made.created - info.created) > _CREATED:
        raise StudyExists(taken.format(what="another study"))
    have = target.last(made.id)
    if have > goal or (have and source.read(info.id, have - 1, 1) != target.read(made.id, have - 1, 1)):
        raise StudyExists(taken.format(what="a copy that went its own way since"))
    return have


def _append(
    source: Store, study: int, target: Store, copy: int, span: tuple[int, int], progress: Progress | None
) -> None:
    for block in _blocks(source, study, *span):
        target.graft(copy, block)
        if progress is not None:
            progress(block[-1].seq, span[1])


def copy_files(source: str, target: str, named: Iterable[str]) -> tuple[int, int, list[str]]:
    """Copies checkpoints from one place to another: those that a log names and that are still there.

    Between folders, logs of trials and the folders of trials go along.

    Args:
        source: Where they are, from ``Store.blobs``.
        target: Where they go.
        named: Their names.

    Returns:
        Number and bytes of the checkpoints copied now, and names of damaged ones, which were left out.
    """
    here = {entry.name: entry.size for entry in files.listing(source)}
    there = {entry.name: entry.size for entry in files.listing(target)}
    number, size = 0, 0
    damaged: list[str] = []
    for name in named:
        if name not in here or there.get(name) == here[name]:
            continue
        try:
            path = files.get_file(source, name)
        except CheckpointError:
            # Released since it was listed, or damaged; a damaged one is given up by whoever resumes the trial.
            if files.exists(source, name):
                damaged.append(name)
            continue
        files.put_file(target, name.rpartition(".")[0], path)
        number, size = number + 1, size + here[name]
    old, new = local(source), local(target)
    for part in ("logs", "files") if old is not None and new is not None else ():
        assert old is not None and new is not None
        if (old / part).is_dir():
            _copy_folder(old / part, new / part)
    return number, size, damaged


def _copy_folder(old: Path, new: Path) -> None:
    """Copies a folder that others may be writing to; what they remove meanwhile is left out."""

    def one(source: str, target: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            shutil.copy2(source, target, follow_symlinks=False)

    try:
        shutil.copytree(old, new, symlinks=True, dirs_exist_ok=True, copy_function=one)
    except OSError as error:
        raise StoreUnavailable(
            f"A copy needs room in {new}; writing gave '{str(error)[:500]}'. Free space or check permissions."
        ) from error
