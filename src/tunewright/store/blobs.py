"""Checkpoint files: named by what is in them, written so that a crash leaves the whole file or none."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import secrets
import shutil
from pathlib import Path
from typing import BinaryIO

from tunewright.errors import CheckpointError, StoreUnavailable

_DIGITS = 16
_CLONE = 0x40049409  # FICLONE of linux/fs.h; unknown elsewhere, and refused by file systems that cannot
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}\.[0-9a-f]{16}")


def put(folder: str | os.PathLike[str], name_stem: str, data: bytes, *, flush: bool = True) -> str:
    """Writes a blob and returns its name, ``stem.digest``; the same content gets the same name.

    Args:
        folder: The study's folder, from ``Store.blobs``.
        name_stem: What it is; characters other than letters, digits and ``._-`` are replaced.
        data: The content.
        flush: Whether it is to survive a power cut, not only the death of this process; takes several milliseconds.

    Raises:
        StoreUnavailable: If it cannot be written; nothing is left behind.
    """
    name = f"{_stem(name_stem)}.{hashlib.sha256(data).hexdigest()[:_DIGITS]}"
    temporary = Path(folder) / f".{secrets.token_hex(8)}.part"
    try:
        with temporary.open("xb") as file:
            file.write(data)
            _flush(file, flush)
        _settle(temporary, Path(folder) / name, flush)
    except OSError as error:
        _discard(temporary)
        raise _unwritable(folder, error) from error
    return name


def put_file(
    folder: str | os.PathLike[str], name_stem: str, source: str | os.PathLike[str], *, flush: bool = True
) -> str:
    """Copies a file in as a blob; see ``put``. Takes no room and no time on file systems that copy on write.

    Raises:
        CheckpointError: If there is no such file.
        StoreUnavailable: If it cannot be written.
    """
    if not Path(source).is_file():
        raise CheckpointError(
            f"A checkpoint must be a file; {source} is none. Save it before you hand it over."
        )
    temporary = Path(folder) / f".{secrets.token_hex(8)}.part"
    try:
        with Path(source).open("rb") as read, temporary.open("xb") as written:
            _copy(read, written)
            _flush(written, flush)
        name = f"{_stem(name_stem)}.{_digest(temporary)}"
        _settle(temporary, Path(folder) / name, flush)
    except OSError as error:
        _discard(temporary)
        raise _unwritable(folder, error) from error
    return name


def get(folder: str | os.PathLike[str], name: str) -> bytes:
    """Reads a blob and checks it against its name.

    Raises:
        CheckpointError: If it is missing or damaged, or the name is none that ``put`` gave.
    """
    path = where(folder, name)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise _missing(name, error) from error
    if hashlib.sha256(data).hexdigest()[:_DIGITS] != name[-_DIGITS:]:
        raise _damaged(name)
    return data


def get_file(folder: str | os.PathLike[str], name: str) -> Path:
    """Path of a blob whose content was checked against its name; do not write to it.

    Raises:
        CheckpointError: If it is missing or damaged, or the name is none that ``put`` gave.
    """
    path = where(folder, name)
    try:
        digest = _digest(path)
    except OSError as error:
        raise _missing(name, error) from error
    if digest != name[-_DIGITS:]:
        raise _damaged(name)
    return path


def where(folder: str | os.PathLike[str], name: str) -> Path:
    """Path of a blob, which may not exist; never outside the folder.

    Raises:
        CheckpointError: If the name is none that ``put`` gave.
    """
    if not _NAME.fullmatch(name) or ".." in name:
        raise CheckpointError(
            f"A checkpoint's name must be one that this store gave; got {name!r:.120}. Take it from the log."
        )
    path = Path(folder) / name
    if path.is_symlink():
        raise CheckpointError(f"A checkpoint must be a plain file; {name} is a link. Remove it.", blob=name)
    return path


def remove(folder: str | os.PathLike[str], name: str) -> None:
    """Removes a blob; a missing one is no error."""
    where(folder, name).unlink(missing_ok=True)


def _copy(read: BinaryIO, written: BinaryIO) -> None:
    """Lets both files share their blocks until one is written to, where the file system can; else copies."""
    try:
        import fcntl

        fcntl.ioctl(written.fileno(), _CLONE, read.fileno())
    except (ImportError, OSError):
        shutil.copyfileobj(read, written, 1 << 20)


def _stem(text: str) -> str:
    stem = re.sub(r"[^A-Za-z0-9_-]+", "_", text)[:80]
    return stem if stem and stem[0] != "-" else f"_{stem}"


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:_DIGITS]


def _flush(file: BinaryIO, flush: bool) -> None:
    file.flush()
    if flush:
        os.fsync(file.fileno())


def _settle(temporary: Path, final: Path, flush: bool) -> None:
    """The rename survives a power cut only once the folder is on disk too."""
    temporary.replace(final)
    if not flush:
        return
    with contextlib.suppress(PermissionError):
        fd = os.open(final.parent, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def _discard(temporary: Path) -> None:
    with contextlib.suppress(OSError):
        temporary.unlink(missing_ok=True)


def _unwritable(folder: object, error: OSError) -> StoreUnavailable:
    return StoreUnavailable(
        f"A checkpoint needs room in {folder}; writing gave '{error}'. Free space or check permissions."
    )


def _missing(name: str, error: OSError) -> CheckpointError:
    return CheckpointError(
        f"A checkpoint must be there to be loaded; {name} gave '{error}'. Start the trial from its beginning.",
        blob=name,
    )


def _damaged(name: str) -> CheckpointError:
    return CheckpointError(
        f"A checkpoint must match its name; the content of {name} was changed or cut. Start the trial from its beginning.",
        blob=name,
    )
