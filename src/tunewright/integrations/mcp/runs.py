"""Runs that an agent started: ``tunewright run`` in processes of their own, bounded, and paused when the server ends."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO, Any

from tunewright.errors import ConfigError

_MOST = 4
_TAIL = 4_000


@dataclass(slots=True)
class Run:
    """A run in the background.

    Attributes:
        study: What it runs.
        process: The process.
        said: Where its output goes.
        failed: Where its errors go.
        began: Seconds on the clock that does not step.
    """

    study: str
    process: subprocess.Popen[bytes]
    said: IO[bytes]
    failed: IO[bytes]
    began: float


class Runs:
    """The runs of one server.

    Args:
        storage: The store, as the command line has it; None for the default.
    """

    def __init__(self, storage: str | None) -> None:
        self._storage = storage
        self._runs: dict[str, Run] = {}

    def start(self, study: str, arguments: Sequence[str], command: Sequence[str]) -> None:
        """Begins a run of a study.

        Args:
            study: Its name.
            arguments: Options of ``tunewright run``, each in one piece.
            command: What to run, with placeholders.

        Raises:
            ConfigError: If the study runs already, or too much does.
        """
        if self._live(study) is not None:
            raise ConfigError(
                f"A study is run once at a time; '{study}' is running. Ask for its status, or stop it."
            )
        if sum(self._live(name) is not None for name in self._runs) >= _MOST:
            raise ConfigError(f"At most {_MOST} runs go at a time; all of them are going. Wait, or stop one.")
        where = [] if self._storage is None else [f"--storage={self._storage}"]
        words = [sys.executable, "-m", "tunewright", "run", f"--name={study}", *arguments, *where]
        said, failed = tempfile.TemporaryFile(), tempfile.TemporaryFile()  # noqa: SIM115 - live as long as the run
        process = subprocess.Popen(  # noqa: S603 - no shell; running commands is what --allow-run allows
            [*words, "--progress=none", "--json", "--", *command],
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=failed,
            start_new_session=True,
        )
        old = self._runs.get(study)
        if old is not None:
            old.said.close()
            old.failed.close()
        self._runs[study] = Run(study, process, said, failed, time.monotonic())

    def wait(self, study: str, seconds: float) -> None:
        """Waits until a run ends, at most so long."""
        run = self._runs.get(study)
        if run is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                run.process.wait(seconds)

    def state(self, study: str) -> dict[str, Any] | None:
        """How the run of a study stands; None where this server started none."""
        run = self._runs.get(study)
        if run is None:
            return None
        code = run.process.poll()
        if code is None:
            return {"state": "running", "seconds": round(time.monotonic() - run.began, 1)}
        out: dict[str, Any] = {"state": "ended", "exit_code": code}
        with contextlib.suppress(ValueError, AttributeError):
            outcome = json.loads(_tail(run.said))
            out["why"] = outcome.get("why")
        messages = _tail(run.failed).strip()
        if messages:
            out["messages"] = messages
        return out

    def stop(self, study: str) -> bool:
        """Interrupts a run, which saves what it has and can be continued; whether there was one."""
        run = self._live(study)
        if run is None:
            return False
        with contextlib.suppress(ProcessLookupError):
            os.kill(run.process.pid, signal.SIGINT)
        return True

    def close(self) -> None:
        """Interrupts every run and waits a moment for it."""
        for name in self._runs:
            self.stop(name)
        for name, run in self._runs.items():
            self.wait(name, 15.0)
            run.said.close()
            run.failed.close()
        self._runs.clear()

    def _live(self, study: str) -> Run | None:
        run = self._runs.get(study)
        return run if run is not None and run.process.poll() is None else None


def _tail(stream: IO[bytes]) -> str:
    size = stream.seek(0, os.SEEK_END)
    stream.seek(max(0, size - _TAIL))
    return stream.read().decode("utf-8", "replace")
