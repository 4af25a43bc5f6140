"""A process's connections to one SQLite file: patient, fair, safe between threads and across a fork."""

from __future__ import annotations

import contextlib
import os
import random
import sqlite3
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from typing import TypeVar

from tunewright.errors import SchemaError, StoreUnavailable
from tunewright.store.locks import FileLocks
from tunewright.store.schema import Durability, connect, explain, full, pause, prepare, settle, transient

_DICE = random.SystemRandom()  # pauses must not advance the generator that trainings draw from

T = TypeVar("T")
_links: weakref.WeakSet[Link] = weakref.WeakSet()
# Connections that a fork found in the middle of a transaction; closing them in the child would harm the parent.
_abandoned: list[sqlite3.Connection] = []


class Link:
    """One connection for writing and one for reading, opened when needed.

    Args:
        path: The file; its folder must exist.
        durability: What a committed write survives.
        deadline: Longest wait for anything, in seconds.

    Attributes:
        turnstile: The locks beside the file.
    """

    def __init__(self, path: str, durability: Durability, deadline: float) -> None:
        self.turnstile = FileLocks(path + "-lock")
        self._path = path
        self._durability: Durability = durability
        self._deadline = deadline
        self._inode = (0, 0)
        self._prepared = False
        self._wal: int | None = None
        self._flushing = False
        self._start()
        _links.add(self)

    def _start(self) -> None:
        self._write_lock = threading.RLock()
        self._read_lock = threading.RLock()
        self._flush_lock = threading.Lock()
        self._connections: dict[str, sqlite3.Connection] = {}

    def reading(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Runs ``work`` on a connection that does not wait for writers.

        Raises:
            StoreUnavailable: If the file cannot be read before the deadline.
            SchemaError: If it is damaged, or no store.
        """
        if not self._read_lock.acquire(timeout=self._deadline):
            raise self._too_slow()
        try:
            return self._patiently(lambda: work(self._connections.get("read") or self._open("read")))
        finally:
            self._read_lock.release()

    @contextlib.contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """One exclusive transaction, committed at the end and rolled back by any exception.

        Raises:
            StoreUnavailable: If the file cannot be written before the deadline.
            SchemaError: If it is damaged, or no store.
        """
        end = time.monotonic() + self._deadline
        if not self._write_lock.acquire(timeout=self._deadline):
            raise self._too_slow()
        try:
            with self.turnstile.turn(end) as granted:
                if not granted:
                    raise self._too_slow()
                connection = self._patiently(self._begin)
                try:
                    yield connection
                    connection.execute("COMMIT")
                except BaseException as error:
                    self._roll_back(connection)
                    if isinstance(error, sqlite3.Error):
                        if full(error):
                            self._make_room()
                        raise explain(error, self._path) from error
                    raise
        finally:
            self._write_lock.release()
        if self._flushing:
            self._flush()

    def _flush(self) -> None:
        """Brings what was committed to the disk; the next writer goes on meanwhile, and one flush serves several."""
        failure: OSError | None = None
        with self._flush_lock:
            try:
                if self._wal is None:
                    self._wal = os.open(self._path + "-wal", os.O_RDWR | os.O_CLOEXEC)
                os.fdatasync(self._wal)
            except FileNotFoundError:
                # The file was closed meanwhile, which moved everything into the main file and flushed that.
                return
            except OSError as error:
                failure = error
        if failure is not None and not self._written_anew():
            raise StoreUnavailable(
                f"The store needs a working disk; flushing {self._path} gave '{failure}'. "
                "Check the disk, then try again."
            ) from failure

    def _written_anew(self) -> bool:
        """Whether all that was committed could be written and flushed elsewhere, into the main file.

        The system forgets what it could not flush, so flushing the same file once more would prove nothing.
        """
        if not self._write_lock.acquire(timeout=self._deadline):
            return False
        try:
            with self.turnstile.turn(time.monotonic() + self._deadline) as granted:
                if not granted:
                    return False
                connection = self._connections.get("write") or self._open("write")
                busy, _, _ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
                return not busy
        except sqlite3.Error:
            return False
        finally:
            self._write_lock.release()

    def close(self) -> None:
        """Closes the file; a later call opens it again."""
        with self._write_lock, self._read_lock:
            self._hang_up()
            self.turnstile.close()

    def __del__(self) -> None:
        with contextlib.suppress(Exception):
            self._hang_up()
            self.turnstile.close()

    def _hang_up(self) -> None:
        for connection in self._connections.values():
            with contextlib.suppress(sqlite3.Error):
                connection.close()
        self._connections.clear()
        with self._flush_lock:
            if self._wal is not None:
                os.close(self._wal)
                self._wal = None

    def _open(self, role: str) -> sqlite3.Connection:
        connection = connect(self._path)
        try:
            if not self._prepared:
                with self.turnstile.turn(time.monotonic() + self._deadline):
                    prepare(connection, self._path)
                self._prepared = True
            self._flushing = settle(connection, self._durability)
            if role == "read":
                connection.execute("PRAGMA query_only=ON")
            self._inode = self._identity()
        except BaseException:
            connection.close()
            raise
        self._connections[role] = connection
        return connection

    def _identity(self) -> tuple[int, int]:
        try:
            found = os.stat(self._path)  # noqa: PTH116 - on the path of every write
        except OSError:
            return (0, 0)
        return (found.st_dev, found.st_ino)

    def _begin(self) -> sqlite3.Connection:
        connection = self._connections.get("write")
        if connection is not None and self._identity() != self._inode:
            raise StoreUnavailable(
                f"A store must stay where it is while it is open; {self._path} was moved, deleted or replaced. "
                "Put it back, or open the study again."
            )
        connection = connection or self._open("write")
        connection.execute("BEGIN IMMEDIATE")
        return connection

    def _roll_back(self, connection: sqlite3.Connection) -> None:
        try:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        except sqlite3.Error:
            self._connections.pop("write", None)
            with contextlib.suppress(sqlite3.Error):
                connection.close()

    def _make_room(self) -> None:
        """Moves the write-ahead log into the file, where the same pages take less space; the next call may succeed."""
        connection = self._connections.get("write")
        if connection is not None:
            with contextlib.suppress(sqlite3.Error):
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def _patiently(self, work: Callable[[], T]) -> T:
        """Tries again while the file is busy, until the deadline."""
        end, attempt = time.monotonic() + self._deadline, 0
        while True:
            try:
                return work()
            except sqlite3.Error as error:
                if not transient(error) or time.monotonic() > end:
                    raise explain(error, self._path) from error
            except UnicodeDecodeError as error:
                raise SchemaError(
                    f"A store must be an undamaged SQLite file; {self._path} holds text that is none ({error}). "
                    "Restore it from a copy, or run: tunewright doctor --salvage NEW.db"
                ) from error
            pause(attempt, _DICE.random())
            attempt += 1

    def _too_slow(self) -> StoreUnavailable:
        return StoreUnavailable(
            f"The store needs its turn within {self._deadline:g} s; {self._path} was kept locked for longer. "
            "Look for a process that is stopped or hangs in a write, and end it."
        )

    def before_fork(self) -> None:
        """Closes the file: SQLite's locks belong to one process, and its memory would say otherwise in the child."""
        quiet = self._write_lock.acquire(timeout=5.0) & self._read_lock.acquire(timeout=5.0)
        if quiet and not any(connection.in_transaction for connection in self._connections.values()):
            self._hang_up()

    def after_fork_in_parent(self) -> None:
        """Lets this process's threads go on."""
        for lock in (self._read_lock, self._write_lock):
            with contextlib.suppress(RuntimeError):
                lock.release()

    def after_fork_in_child(self) -> None:
        """Starts anew; nothing of the parent's is used or given back."""
        _abandoned.extend(self._connections.values())
        self._start()
        self.turnstile.forget()


def _before_fork() -> None:
    for link in list(_links):
        link.before_fork()


def _after_fork_in_parent() -> None:
    for link in list(_links):
        link.after_fork_in_parent()


def _after_fork_in_child() -> None:
    for link in list(_links):
        link.after_fork_in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child
    )
