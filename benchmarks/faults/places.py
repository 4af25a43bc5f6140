"""Where a study under test lives: a file, a PostgreSQL of its own, a server of its own; and how these are hurt."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from benchmarks.postgres import Cluster, available, free_port

QUIET = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}


class Place(Protocol):
    """A store's home. ``url`` is for both systems, each with its own scheme."""

    @property
    def server(self) -> bool:
        """Whether there is a server that can be killed."""
        ...

    def url(self, system: str) -> str:
        """Address for ``tunewright`` or ``optuna``."""
        ...

    def kill(self) -> None:
        """Kills the server."""
        ...

    def freeze(self) -> None:
        """Stops every process of the server."""
        ...

    def thaw(self) -> None:
        """Lets it go on."""
        ...

    def start(self) -> None:
        """Starts it, again after ``kill``."""
        ...

    def close(self) -> None:
        """Ends it and removes what it left."""
        ...


class File:
    """A database file; there is no server to hurt."""

    server = False

    def __init__(self, folder: Path, kind: str) -> None:
        self._folder, self._kind = folder, kind

    def url(self, system: str) -> str:
        """``sqlite`` and ``wal`` are one file for Optuna; ``journal`` is its own format."""
        if system == "tunewright":
            more = "?durability=full" if self._kind == "full" else ""
            return f"sqlite:///{self._folder}/studies.db{more}"
        if self._kind == "journal":
            return f"journal://{self._folder}/journal.log"
        return f"sqlite:///{self._folder}/optuna.db"

    def start(self) -> None:
        """Nothing to start, except that Optuna's file is told to use a write-ahead log."""
        if self._kind == "wal":
            import sqlite3

            with contextlib.closing(sqlite3.connect(f"{self._folder}/optuna.db")) as connection:
                connection.execute("PRAGMA journal_mode=WAL")

    def kill(self) -> None:
        """There is none."""

    freeze = thaw = close = kill


class Postgres:
    """A PostgreSQL of its own, with a schema per study."""

    server = True

    def __init__(self) -> None:
        self.cluster = Cluster(settings={"shared_buffers": "'32MB'"})

    def url(self, system: str) -> str:
        """Optuna reaches it through SQLAlchemy."""
        return self.cluster.url if system == "tunewright" else through_sqlalchemy(self.cluster.url)

    def start(self) -> None:
        """Starts it."""
        self.cluster.start()

    def kill(self) -> None:
        """All of its processes end at once, without a checkpoint."""
        self.cluster.stop("immediate")

    def freeze(self) -> None:
        """Stops all of its processes."""
        self.cluster.freeze()

    def thaw(self) -> None:
        """Lets them go on."""
        self.cluster.thaw()

    def close(self) -> None:
        """Removes it."""
        self.cluster.close()


class Server:
    """``tunewright serve`` in front of a file, or of another store."""

    server = True

    def __init__(self, folder: Path, behind: str = "") -> None:
        self.port = free_port()
        self._folder = folder
        self._behind = behind or f"sqlite:///{folder}/studies.db"
        self.process: subprocess.Popen[bytes] | None = None

    def url(self, system: str) -> str:
        """Its address; only our client speaks its language."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """Its process number; 0 when it does not run."""
        return self.process.pid if self.process is not None and self.process.poll() is None else 0

    def start(self) -> None:
        """Starts it on the same port and returns once it accepts connections.

        Raises:
            RuntimeError: If it does not within 30 s.
        """
        with (self._folder / "server.err").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tunewright", "serve", "--storage", self._behind, "--port", str(self.port)],
                cwd=self._folder, env={**os.environ, **QUIET}, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
        end = time.monotonic() + 30
        while time.monotonic() < end and self.process.poll() is None:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1.0):
                return
            time.sleep(0.05)
        text = (self._folder / "server.err").read_text(errors="replace")
        raise RuntimeError(f"The server must start; its log ends with: {text[-500:]}")

    def kill(self) -> None:
        """Kills it."""
        if self.process is not None:
            self.thaw()
            self.process.kill()
            self.process.wait()

    close = kill

    def freeze(self) -> None:
        """Stops it, so that it neither answers nor hangs up."""
        self._send(signal.SIGSTOP)

    def thaw(self) -> None:
        """Lets it go on."""
        self._send(signal.SIGCONT)

    def _send(self, number: signal.Signals) -> None:
        if self.pid:
            os.kill(self.pid, number)


def through_sqlalchemy(url: str) -> str:
    """The address in the words of SQLAlchemy, with whichever driver is installed."""
    import importlib.util

    driver = "psycopg2" if importlib.util.find_spec("psycopg2") else "psycopg"
    return url.replace("postgresql://", f"postgresql+{driver}://").partition("?")[0]


@contextlib.contextmanager
def place(kind: str, folder: Path) -> Iterator[Place]:
    """A place of that kind, started, and removed at the end."""
    found: Place
    if kind == "pg":
        found = Postgres()
    elif kind == "http":
        found = Server(folder)
    else:
        found = File(folder, kind)
    try:
        found.start()
        yield found
    finally:
        found.close()


def missing(system: str, kind: str) -> str:
    """Why a system cannot be tested in a place here; empty when it can."""
    import importlib.util

    if system == "optuna" and importlib.util.find_spec("optuna") is None:
        return "optuna is not installed"
    if kind in ("pg", "pg_hb") and not available():
        return "PostgreSQL is not installed"
    if kind == "grpc" and importlib.util.find_spec("grpc") is None:
        return "grpcio is not installed"
    if kind == "http" and importlib.util.find_spec("tunewright.web") is None:
        return "this version has no server"
    return ""


def proxied(url: str, port: int) -> str:
    """The same address at another port of this machine."""
    before, _, after = url.rpartition("127.0.0.1:")
    rest = after.lstrip("0123456789")
    return f"{before}127.0.0.1:{port}{rest}"
