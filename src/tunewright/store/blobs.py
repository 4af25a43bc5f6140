"""Checkpoint files: named by what is in them, written so that a crash leaves the whole file or none.

A place is what ``Store.blobs`` returns: a folder, or an address of a place elsewhere (``store.depots``). Calls to the
latter are repeated for a minute when they fail; what is read from either is checked against its name.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import secrets
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, TypeVar

from tunewright.errors import CheckpointError, StoreUnavailable
from tunewright.store import scratch
from tunewright.store.depots import Entry, depot, local, patiently
from tunewright.store.redact import redacted

T = TypeVar("T")
_DIGITS = 16
_CLONE = 0x40049409  # FICLONE of linux/fs.h; unknown elsewhere, and refused by file systems that cannot
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}\.[0-9a-f]{16}")
_PART = re.compile(r"\.[0-9a-f]{1,32}\.part")
Place = str | os.PathLike[str]


def put(place: Place, name_stem: str, data: bytes, *, flush: bool = True) -> str:
    """Writes a blob and returns its name, ``stem.digest``; the same content gets the same name.

    Args:
        place: The study's folder or address, from ``Store.blobs``.
        name_stem: What it is; characters other than letters, digits and ``._-`` are replaced.
        data: The content.
        flush: Whether it is to survive a power cut, not only the death of this process; takes several milliseconds. At an
            address it always does.

    Raises:
        StoreUnavailable: If it cannot be written; nothing is left behind.
    """
    name = f"{_stem(name_stem)}.{hashlib.sha256(data).hexdigest()[:_DIGITS]}"
    folder = local(place)
    if folder is None:
        address = os.fspath(place)
        _sent(address, lambda: depot(address).put(name, data))
        return name
    temporary = folder / f".{secrets.token_hex(8)}.part"
    try:
        with temporary.open("xb") as file:
            file.write(data)
            _flush(file, flush)
        _settle(temporary, folder / name, flush)
    except OSError as error:
        _discard(temporary)
        raise _unwritable(folder, error) from error
    return name


def put_file(place: Place, name_stem: str, source: Place, *, flush: bool = True) -> str:
    """Copies a file in as a blob; see ``put``. Takes no room and no time on file systems that copy on write.

    For an address the copy goes through this machine's cache and stays there, where a resumed trial finds it.

    Raises:
        CheckpointError: If there is no such file.
        StoreUnavailable: If it cannot be written.
    """
    if not Path(source).is_file():
        raise CheckpointError(
            f"A checkpoint must be a file; {source} is none. Save it before you hand it over."
        )
    folder = local(place)
    if folder is not None:
        return _take(folder, name_stem, source, flush=flush)
    address = os.fspath(place)
    name = _take(scratch.cache(), name_stem, source, flush=False)
    copy = scratch.cache() / name
    _sent(address, lambda: depot(address).put(name, copy))
    scratch.trim(keep=copy)
    return name


def _take(folder: Path, name_stem: str, source: Place, *, flush: bool) -> str:
    temporary = folder / f".{secrets.token_hex(8)}.part"
    try:
        with Path(source).open("rb") as read, temporary.open("xb") as written:
            _copy(read, written)
            _flush(written, flush)
        name = f"{_stem(name_stem)}.{_digest(temporary)}"
        _settle(temporary, folder / name, flush)
    except OSError as error:
        _discard(temporary)
        raise _unwritable(folder, error) from error
    return name


def get(place: Place, name: str) -> bytes:
    """Reads a blob and checks it against its name.

    Raises:
        CheckpointError: If it is missing or damaged, or the name is none that ``put`` gave.
        StoreUnavailable: If the address cannot be reached.
    """
    folder = local(place)
    if folder is None:
        address = _checked(name, place)
        data = _reached(name, address, lambda: depot(address).get(name))
    else:
        try:
            data = where(folder, name).read_bytes()
        except OSError as error:
            raise _missing(name, error) from error
    if hashlib.sha256(data).hexdigest()[:_DIGITS] != name[-_DIGITS:]:
        raise _damaged(name)
    return data


def get_file(place: Place, name: str) -> Path:
    """Path of a blob whose content was checked against its name; do not write to it.

    From an address it is a copy in this machine's cache, which may be removed once others were fetched.

    Raises:
        CheckpointError: If it is missing or damaged, or the name is none that ``put`` gave.
        StoreUnavailable: If the address cannot be reached.
    """
    folder = local(place)
    if folder is None:
        return _fetched(_checked(name, place), name)
    path = where(folder, name)
    try:
        digest = _digest(path)
    except OSError as error:
        raise _missing(name, error) from error
    if digest != name[-_DIGITS:]:
        raise _damaged(name)
    return path


def _fetched(address: str, name: str) -> Path:
    """The copy in the cache, from the address unless it is there already."""
    path = scratch.cache() / name
    with contextlib.suppress(OSError):
        if _digest(path) == name[-_DIGITS:]:
            scratch.used(path)
            return path
    temporary = scratch.cache() / f".{secrets.token_hex(8)}.part"
    try:
        _reached(name, address, lambda: depot(address).fetch(name, temporary))
        if _digest(temporary) != name[-_DIGITS:]:
            raise _damaged(name)
        temporary.replace(path)
    except OSError as error:
        raise _unwritable(scratch.cache(), error) from error
    finally:
        _discard(temporary)
    scratch.trim(keep=path)
    return path


def exists(place: Place, name: str) -> bool:
    """Whether a blob is there; its content is not looked at.

    Raises:
        CheckpointError: If the name is none that ``put`` gave.
        StoreUnavailable: If the address cannot be reached.
    """
    folder = local(place)
    if folder is not None:
        return where(folder, name).is_file()
    address = _checked(name, place)
    return _reached(name, address, lambda: depot(address).exists(name))


def listing(place: Place) -> list[Entry]:
    """All files of a place with size and age, those that a crashed writer left included; links are left out.

    Raises:
        StoreUnavailable: If the address cannot be reached.
    """
    folder = local(place)
    if folder is None:
        address = os.fspath(place)
        return patiently(address, lambda: depot(address).entries())
    found = []
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            with contextlib.suppress(OSError):
                if entry.is_file(follow_symlinks=False):
                    state = entry.stat()
                    found.append(Entry(entry.name, state.st_size, state.st_mtime))
    return found


def where(folder: Place, name: str) -> Path:
    """Path of a blob in a folder, which may not exist; never outside the folder.

    Raises:
        CheckpointError: If the name is none that ``put`` gave.
    """
    path = Path(_checked(name, folder)) / name
    if path.is_symlink():
        raise CheckpointError(f"A checkpoint must be a plain file; {name} is a link. Remove it.", blob=name)
    return path


def remove(place: Place, name: str) -> None:
    """Removes a blob, or what a crashed writer left; a missing one is no error.

    Raises:
        CheckpointError: If the name is none that ``put`` gave or ``listing`` returned.
        StoreUnavailable: If the address cannot be reached.
    """
    folder = local(place)
    if folder is not None:
        path = folder / name if _PART.fullmatch(name) else where(folder, name)
        path.unlink(missing_ok=True)
        return
    address = os.fspath(place) if _PART.fullmatch(name) else _checked(name, place)
    # Somebody may be waiting, and what stays is found by the next tidying.
    patiently(address, lambda: depot(address).remove(name), patience=0.0)


def clear(place: Place) -> None:
    """Removes all files of a place and, where it is a folder, the folder with its logs.

    Raises:
        StoreUnavailable: If the address cannot be reached.
    """
    folder = local(place)
    if folder is not None:
        shutil.rmtree(folder, ignore_errors=True)
        return
    for entry in listing(place):
        if _PART.fullmatch(entry.name) or _NAME.fullmatch(entry.name):
            remove(place, entry.name)


def _checked(name: str, place: Place) -> str:
    """The place as text, once the name is known to lead nowhere else."""
    if not _NAME.fullmatch(name) or ".." in name:
        raise CheckpointError(
            f"A checkpoint's name must be one that this store gave; got {name!r:.120}. Take it from the log."
        )
    return os.fspath(place)


def _sent(address: str, work: Callable[[], None]) -> None:
    try:
        patiently(address, work)
    except FileNotFoundError as error:
        raise _unwritable(redacted(address), error) from error


def _reached(name: str, address: str, work: Callable[[], T]) -> T:
    try:
        return patiently(address, work)
    except FileNotFoundError as error:
        raise _missing(name, error) from error


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
        f"A checkpoint needs room in {folder}; writing gave '{error}'. Free space or check permissions.",
        passing=error.errno in (errno.ENOSPC, errno.EDQUOT),
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
