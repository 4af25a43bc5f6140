"""Where checkpoint files live when that is no folder: object stores and other file systems, or our own server.

``Store.blobs(study)`` names the place: a folder, or an address such as ``s3://bucket/path``, ``gs://``, ``sftp://``
(any that fsspec has a driver for) or ``http://host/api/v1/studies/NAME/checkpoints``. ``store.blobs`` reads and writes
both alike; it names files by their content, checks what it reads, and repeats what fails for a moment.
"""

from __future__ import annotations

import contextlib
import datetime
import importlib
import logging
import os
import random
import secrets
import threading
import time
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar
from urllib.parse import unquote, urlsplit

from tunewright.errors import MissingExtra, StoreUnavailable, missing_extra
from tunewright.store.redact import redacted
from tunewright.store.scratch import scratch

_DICE = random.SystemRandom()  # pauses must not advance the generator that trainings draw from

log = logging.getLogger(__name__)
T = TypeVar("T")
PATIENCE = 60.0
_TRIES = 3
_PAUSE = 0.25
_LONGEST_PAUSE = 5.0
_CALL = 60.0
_SLOWEST = 1 << 20  # bytes per second below which a transfer counts as stuck
_ATOMIC = frozenset({"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "oci", "oss", "tos", "memory"})
_TIMES = ("mtime", "LastModified", "last_modified", "updated", "modified", "created")


class Entry(NamedTuple):
    """One file of a depot.

    Attributes:
        name: Its name.
        size: Bytes.
        mtime: When it was written, seconds since 1970.
    """

    name: str
    size: int
    mtime: float


class Depot(Protocol):
    """A place of files by name. Each method makes one try and ends within a deadline of its own.

    Methods raise ``FileNotFoundError`` for a file that is not there, ``PermissionError`` where trying again is no use,
    and any other ``OSError`` where it may be; errors of this package pass as they are.
    """

    def put(self, name: str, source: bytes | Path) -> None:
        """Writes a file, all of it or nothing; replaces one of the same name."""
        ...

    def get(self, name: str) -> bytes:
        """Reads a file."""
        ...

    def fetch(self, name: str, into: Path) -> None:
        """Copies a file to a local path, which may be left half written by an error."""
        ...

    def exists(self, name: str) -> bool:
        """Whether there is such a file."""
        ...

    def remove(self, name: str) -> None:
        """Removes a file; a missing one is no error."""
        ...

    def entries(self) -> list[Entry]:
        """All files, those of crashed writers included; empty when the place does not exist yet."""
        ...


def local(place: str | os.PathLike[str]) -> Path | None:
    """The folder that a place names by path or as ``file://``; None when it is elsewhere."""
    text = os.fspath(place)
    if "://" not in text:
        return Path(text)
    return Path(unquote(urlsplit(text).path)) if text.startswith("file://") else None


def shown(place: str | os.PathLike[str]) -> str:
    """A place for people to read, without what may be a password."""
    folder = local(place)
    return str(folder) if folder is not None else redacted(os.fspath(place))


def inside(address: str, study: int | str) -> str:
    """The place of one study's files, or of one store's, inside a place that holds those of several."""
    return f"{address.rstrip('/')}/{study}"


def beside(place: str | os.PathLike[str]) -> Path:
    """The local folder for logs and other files that belong to a place.

    It is the folder itself; for a place elsewhere a folder on this machine, which other machines do not see.
    """
    folder = local(place)
    return folder if folder is not None else scratch(os.fspath(place))


def depot(address: str) -> Depot:
    """Opens the place that an address names; one per process and address.

    Raises:
        MissingExtra: If the package for that kind of address is not installed.
    """
    return _depot(address, os.getpid())


_CLASSES = {"http": ("tunewright.store.http", "HttpDepot"), "https": ("tunewright.store.http", "HttpDepot")}


@lru_cache(maxsize=32)
def _depot(address: str, pid: int) -> Depot:
    scheme = address.partition("://")[0]
    module, name = _CLASSES.get(scheme, (__name__, "FsspecDepot"))
    opened: Depot = getattr(importlib.import_module(module), name)(address)
    return opened


class FsspecDepot:
    """A place that fsspec has a driver for.

    On object stores a write is atomic by itself; elsewhere a file is written under another name and moved.

    Args:
        address: For instance ``s3://bucket/path``.

    Raises:
        MissingExtra: If fsspec or its driver for that kind of address is not installed.
        StoreUnavailable: If the address is none.
    """

    def __init__(self, address: str) -> None:
        try:
            from fsspec.core import url_to_fs
        except ImportError:
            raise missing_extra("fsspec", "remote") from None
        self.address = address
        scheme = address.partition("://")[0]
        self._atomic = scheme in _ATOMIC
        try:
            self._files, self._root = url_to_fs(address)
        except ImportError as error:
            raise MissingExtra(
                f"Checkpoints at {scheme}:// need the driver that fsspec has for it; got '{error}'. Install it."
            ) from None
        except ValueError as error:
            raise StoreUnavailable(
                f"Checkpoints need an address that fsspec knows; {redacted(address)} gave '{self._safe(error)}'. Correct it."
            ) from None

    def put(self, name: str, source: bytes | Path) -> None:
        """Writes a file."""
        size = len(source) if isinstance(source, bytes) else source.stat().st_size
        self._call(lambda: self._put(name, source), size)

    def _put(self, name: str, source: bytes | Path) -> None:
        path = self._path(name)
        target = path if self._atomic else self._path(f".{secrets.token_hex(8)}.part")
        if not self._atomic:
            self._files.makedirs(self._root, exist_ok=True)
        try:
            if isinstance(source, bytes):
                self._files.pipe_file(target, source)
            else:
                self._files.put_file(os.fspath(source), target)
            if target != path:
                self._files.mv(target, path)
        except BaseException:
            if target != path:
                with contextlib.suppress(Exception):
                    self._files.rm_file(target)
            raise

    def get(self, name: str) -> bytes:
        """Reads a file."""
        data: bytes = self._call(lambda: self._files.cat_file(self._path(name)), self._size(name))
        return data

    def fetch(self, name: str, into: Path) -> None:
        """Copies a file to a local path."""
        self._call(lambda: self._files.get_file(self._path(name), os.fspath(into)), self._size(name))

    def exists(self, name: str) -> bool:
        """Whether there is such a file."""
        try:
            self._size(name)
        except FileNotFoundError:
            return False
        return True

    def remove(self, name: str) -> None:
        """Removes a file."""
        with contextlib.suppress(FileNotFoundError):
            self._call(lambda: self._files.rm_file(self._path(name)))

    def entries(self) -> list[Entry]:
        """All files."""
        try:
            found = self._call(self._look)
        except FileNotFoundError:
            return []
        return [
            Entry(e["name"].rstrip("/").rpartition("/")[2], int(e["size"] or 0), _time(e))
            for e in found
            if e["type"] == "file"
        ]

    def _look(self) -> Any:
        self._files.invalidate_cache(self._root)
        return self._files.ls(self._root, detail=True)

    def _size(self, name: str) -> int:
        def look() -> Any:
            # Drivers remember listings; what another machine wrote since would not be seen.
            self._files.invalidate_cache(self._root)
            return self._files.info(self._path(name))

        return int(self._call(look).get("size") or 0)

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"

    def _call(self, work: Callable[[], T], size: int = 0) -> T:
        """Runs one call of the driver within a deadline; whatever it raises becomes an ``OSError``."""
        try:
            return within(_CALL + size / _SLOWEST, work)
        except (FileNotFoundError, PermissionError):
            raise
        except Exception as error:  # noqa: BLE001 - drivers raise what their libraries raise
            raise OSError(f"{type(error).__name__}: {self._safe(error)}") from None

    def _safe(self, error: BaseException) -> str:
        """What an error says, without what may be a password in the address."""
        account = urlsplit(self.address).netloc.rpartition("@")[0]
        text = str(error)[:500]
        for secret in (account, account.partition(":")[2]):
            text = text.replace(secret, "***") if secret else text
        return text

    def __repr__(self) -> str:
        return f"FsspecDepot({redacted(self.address)!r})"


def _time(entry: dict[str, Any]) -> float:
    """When a file was written; now where the place does not say, so that nothing counts as old."""
    found = next((entry[key] for key in _TIMES if entry.get(key) is not None), None)
    if isinstance(found, str):
        with contextlib.suppress(ValueError):
            found = datetime.datetime.fromisoformat(found)
    if isinstance(found, datetime.datetime):
        # A time without a zone is in UTC at every place whose driver leaves it out.
        return (found if found.tzinfo else found.replace(tzinfo=datetime.UTC)).timestamp()
    return float(found) if isinstance(found, int | float) else time.time()


def within(seconds: float, work: Callable[[], T]) -> T:
    """Runs ``work`` in a thread and waits for it; a late one goes on by itself and its result is dropped.

    What is written under the name of its content may arrive late: it is what it would have been.

    Raises:
        TimeoutError: If it takes longer than ``seconds``.
    """
    result: list[T] = []
    failed: list[BaseException] = []

    def body() -> None:
        try:
            result.append(work())
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that waits
            failed.append(error)

    thread = threading.Thread(target=body, daemon=True, name="tunewright-depot")
    thread.start()
    thread.join(seconds)
    if failed:
        raise failed[0]
    if not result:
        raise TimeoutError(f"no answer within {seconds:.0f} seconds")
    return result[0]


def patiently(address: str, work: Callable[[], T], patience: float | None = None) -> T:
    """Repeats a call that a place elsewhere may refuse for a moment, with growing random pauses.

    Args:
        address: The place, for the error.
        work: The call.
        patience: Seconds to go on for, and three tries at least; ``PATIENCE`` by default.

    Raises:
        FileNotFoundError: If the file is not there; that is an answer and not repeated.
        StoreUnavailable: If the place does not serve it for that long, or refuses it for good.
    """
    end = time.monotonic() + (PATIENCE if patience is None else patience)
    tries = 0
    while True:
        try:
            return work()
        except FileNotFoundError:
            raise
        except OSError as error:
            tries += 1
            pause = _DICE.uniform(0, min(_LONGEST_PAUSE, _PAUSE * 2**tries))
            late = tries >= _TRIES and time.monotonic() + pause > end
            if late or isinstance(error, PermissionError):
                raise StoreUnavailable(
                    f"Checkpoints must be reachable at {redacted(address)}; got '{error}' {tries} times. "
                    "Check the address, the network and the permissions."
                ) from None
            log.info("the place of the checkpoints failed with %s; trying again", error)
            time.sleep(pause)
