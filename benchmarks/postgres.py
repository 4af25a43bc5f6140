"""A throw-away PostgreSQL on 127.0.0.1, for tests and benchmarks; it ends when its maker does, however that ends.

The server refuses to run as root, so root runs it as the user ``postgres``. A small guard process holds the other end
of a pipe: once this process is gone, it ends the server and removes the folder, also after ``kill -9``.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import IO, Any, Literal, Self

USER = "postgres"
_WAIT, _TRIES = 60.0, 20
_SETTINGS = {
    "listen_addresses": "'127.0.0.1'",
    "unix_socket_directories": "''",
    "max_connections": 200,
    "shared_buffers": "'128MB'",
    "wal_level": "minimal",
    "max_wal_senders": 0,
    "max_wal_size": "'2GB'",
    "logging_collector": "off",
}


def available() -> bool:
    """Whether the programs of a PostgreSQL server are installed here."""
    return _programs() is not None


def _programs() -> Path | None:
    """Folder of ``initdb`` and ``postgres``, of the newest version where there are several."""

    def version(path: Path) -> int:
        return int(found[0]) if (found := re.findall(r"\d+", path.parent.name)) else 0

    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=version, reverse=True)
    on_path = shutil.which("postgres")
    if on_path is not None:
        folders.append(Path(on_path).resolve().parent)
    return next((f for f in folders if (f / "initdb").exists() and (f / "postgres").exists()), None)


class Cluster:
    """One server with a data folder of its own; ``with Cluster() as cluster:`` starts and removes it.

    Args:
        folder: Where it lives; made when missing, removed by ``close``. None for a new one below the system's
            temporary folder.
        port: Its port; None for a free one.
        fsync: Whether commits reach the disk; false is quicker and good enough for tests.
        settings: More lines of ``postgresql.conf``, such as ``{"max_connections": 500}``.

    Raises:
        RuntimeError: If no server is installed, or the server's user cannot reach the folder.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str] | None = None,
        port: int | None = None,
        *,
        fsync: bool = True,
        settings: dict[str, Any] | None = None,
    ) -> None:
        programs = _programs()
        if programs is None:
            raise RuntimeError("A throw-away database needs PostgreSQL; install the package 'postgresql'.")
        self._programs = programs
        self.folder = Path(folder if folder is not None else tempfile.mkdtemp(prefix="tunewright-postgres-"))
        self.port = free_port() if port is None else port
        self._data = self.folder / "data"
        self._settings = {**_SETTINGS, "fsync": "on" if fsync else "off", **(settings or {})}
        if not fsync:
            self._settings |= {"synchronous_commit": "off", "full_page_writes": "off"}
        self._server: subprocess.Popen[bytes] | None = None
        self._guard: subprocess.Popen[bytes] | None = None
        self._line: IO[bytes] | None = None
        self._owner = os.getpid()

    @property
    def url(self) -> str:
        """Address of the database that is always there."""
        return self._address("postgres")

    @property
    def pid(self) -> int:
        """Process number of the postmaster; 0 when it does not run."""
        return self._server.pid if self._server is not None and self._server.poll() is None else 0

    def start(self) -> None:
        """Starts the server, and makes its data folder the first time; returns once it accepts connections.

        Raises:
            RuntimeError: If it does not come up within a minute; the message has the end of its log.
        """
        self._prepare()
        for _ in range(_TRIES):
            if self.pid or self._launch():
                return
            # After a kill the old server's children need a moment to notice and to let go of its memory.
            time.sleep(0.25)
        raise RuntimeError(f"The server on port {self.port} must start; its log ends with: {self._tail()}")

    def stop(self, mode: Literal["fast", "immediate"] = "fast") -> None:
        """Ends the server; ``"immediate"`` without a checkpoint, so that the next start recovers from the log."""
        self.thaw()
        self._end(signal.SIGINT if mode == "fast" else signal.SIGQUIT)

    def kill(self) -> None:
        """Kills the postmaster; its children end by themselves soon after."""
        self.thaw()
        self._end(signal.SIGKILL)

    def freeze(self) -> None:
        """Stops every process of the server, so that it neither answers nor closes its connections."""
        for pid in self._family():
            _send(pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Lets a frozen server go on."""
        for pid in self._family():
            _send(pid, signal.SIGCONT)

    def cpu(self) -> float:
        """Seconds of processor time that the server and its present and past children have used."""
        total = 0
        for pid in self._family():
            with contextlib.suppress(OSError):
                fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
                # Fields 14 to 17: own user and system time, and that of children that have ended.
                total += sum(int(x) for x in fields[11 : 15 if pid == self.pid else 13])
        return total / os.sysconf("SC_CLK_TCK")

    def database(self, name: str) -> str:
        """Makes an empty database and returns its address.

        Args:
            name: Lower-case letters, digits and underscores.
        """
        import psycopg
        from psycopg import sql

        with psycopg.connect(self.url, autocommit=True, connect_timeout=30) as connection:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        return self._address(name)

    def drop(self, name: str) -> None:
        """Removes a database, whoever is connected to it."""
        import psycopg
        from psycopg import sql

        with psycopg.connect(self.url, autocommit=True, connect_timeout=30) as connection:
            connection.execute(
                sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name))
            )

    def close(self) -> None:
        """Ends the server and removes its folder; safe to call twice. A forked child leaves both alone."""
        if self._owner != os.getpid():
            return
        self.stop("immediate")
        if self._guard is not None and self._line is not None:
            self._line.close()
            self._guard.wait(_WAIT)
            self._guard = self._line = None
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ------------------------------------------------------------------ how it is done

    def _address(self, database: str) -> str:
        return f"postgresql://{USER}@127.0.0.1:{self.port}/{database}"

    def _identity(self) -> dict[str, Any]:
        """How a program is started as the server's user; as ourselves unless we are root."""
        if os.geteuid() != 0:
            return {}
        return {"user": USER, "group": USER, "extra_groups": []}

    def _prepare(self) -> None:
        if (self._data / "PG_VERSION").exists():
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        if os.geteuid() == 0:
            shutil.chown(self.folder, USER, USER)
            for parent in self.folder.resolve().parents:
                if not parent.stat().st_mode & stat.S_IXOTH:
                    raise RuntimeError(
                        f"The user {USER} must be able to reach {self.folder}; {parent} is closed to others. "
                        "Choose a folder below an open one, such as the system's temporary folder."
                    )
        options = ["-A", "trust", "-U", USER, "-E", "UTF8", "--no-locale", "--no-sync"]
        command = [str(self._programs / "initdb"), "-D", str(self._data), *options]
        done = subprocess.run(
            command, check=False, capture_output=True, cwd="/", timeout=_WAIT, **self._identity()
        )
        if done.returncode:
            raise RuntimeError(f"A data folder could not be made: {done.stderr.decode(errors='replace')}")
        with (self._data / "postgresql.conf").open("a", encoding="utf-8") as file:
            file.writelines(f"{key} = {value}\n" for key, value in self._settings.items())

    def _launch(self) -> bool:
        """Starts the postmaster; whether it became ready."""
        with (self.folder / "log").open("ab") as log:
            self._server = subprocess.Popen(
                [self._programs / "postgres", "-D", self._data, "-p", str(self.port)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                start_new_session=True,
                env={**os.environ, "LC_ALL": "C"},
                **self._identity(),
            )
        if self._guard is None:
            self._guard = subprocess.Popen(
                [sys.executable, "-I", "-S", __file__, str(self.folder)],
                stdin=subprocess.PIPE,
                start_new_session=True,
                cwd="/",
            )
            self._line = self._guard.stdin
        end = time.monotonic() + _WAIT
        while self._server.poll() is None:
            if _postmaster(self._data) == (self._server.pid, "ready"):
                return True
            if time.monotonic() > end:
                self._end(signal.SIGQUIT)
                break
            time.sleep(0.01)
        return False

    def _end(self, how: signal.Signals) -> None:
        if self._server is None:
            return
        if self._server.poll() is None:
            self._server.send_signal(how)
        try:
            self._server.wait(_WAIT)
        except subprocess.TimeoutExpired:
            self._server.kill()
            self._server.wait(_WAIT)
        self._server = None

    def _family(self) -> list[int]:
        return [self.pid, *_children(self.pid)] if self.pid else []

    def _tail(self) -> str:
        with contextlib.suppress(OSError):
            return (self.folder / "log").read_text(encoding="utf-8", errors="replace")[-500:]
        return "nothing"


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _postmaster(data: Path) -> tuple[int, str]:
    """Number and state of the postmaster, as its own file tells."""
    try:
        lines = (data / "postmaster.pid").read_text(encoding="utf-8").splitlines()
        return int(lines[0]), lines[7].strip() if len(lines) > 7 else ""
    except (OSError, ValueError, IndexError):
        return 0, ""


def _children(parent: int) -> list[int]:
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, IndexError, ValueError):
            fields = (entry / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
            if int(fields[1]) == parent:
                found.append(int(entry.name))
    return found


def _send(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(OSError):
        os.kill(pid, number)


def _runs_from(pid: int, data: Path) -> bool:
    """Whether that process is a server of this folder, so that no stranger with its number is ended."""
    with contextlib.suppress(OSError):
        return str(data).encode() in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    return False


def guard(folder: Path) -> None:
    """Waits for the maker to close the pipe or to die; then ends what it left and removes the folder."""
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    sys.stdin.buffer.read()
    data = folder / "data"
    pid, _ = _postmaster(data)
    if pid and _runs_from(pid, data):
        family = [pid, *_children(pid)]
        for number in (signal.SIGCONT, signal.SIGQUIT):
            for member in family if number == signal.SIGCONT else [pid]:
                _send(member, number)
        end = time.monotonic() + 10.0
        while _runs_from(pid, data) and time.monotonic() < end:
            time.sleep(0.05)
        if _runs_from(pid, data):
            _send(pid, signal.SIGKILL)
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    guard(Path(sys.argv[1]))
