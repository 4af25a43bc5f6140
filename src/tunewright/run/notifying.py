"""Says what happens in a run to somebody who is not looking: a command, a web address, or the desktop.

Messages are sent by a thread of their own with short limits, so a run never waits for them and never fails because of one.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import queue
import shlex
import shutil
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from tunewright.core.events import Ended, Event
from tunewright.errors import ConfigError
from tunewright.run.hygiene import for_training
from tunewright.run.session import Session

log = logging.getLogger(__name__)
VARIABLE = "TUNEWRIGHT_NOTIFY"
_LIMIT = 10.0
_LAST = 3.0
_PAUSE = 30.0
_ROW = 3
_WAITING = 100


def checked(where: str) -> str:
    """A place for messages.

    Args:
        where: ``cmd:COMMAND``, ``webhook:URL`` or ``desktop``.

    Raises:
        ConfigError: If it is none of these. A secret in it is not shown.
    """
    kind, _, rest = where.partition(":")
    if where == "desktop" or (kind == "cmd" and rest.strip()):
        return where
    if kind == "webhook" and urlsplit(rest).scheme in ("http", "https") and urlsplit(rest).hostname:
        return where
    raise ConfigError(
        f"notify must be cmd:COMMAND, webhook:https://... or desktop; got one that begins with {kind[:20]!r}. Correct it."
    )


class Notifier:
    """Watches a run; use it as ``watch`` of ``Study.run``, and call ``finished`` and ``close`` at its end.

    It tells ``best-improved``, at most once in half a minute; ``failing``, when three trials in a row have failed or the run
    gives up; ``finished``.

    Args:
        places: Where to say it; see ``checked``.
        study: Name of the study.
        pause: Seconds between two messages about the best.

    Raises:
        ConfigError: If a place cannot be used.
    """

    def __init__(self, places: Sequence[str], study: str, pause: float = _PAUSE) -> None:
        self._places = [checked(where) for where in places]
        self._study = study
        self._pause = pause
        self._told_at = -pause
        self._best: Any = None
        self._began = False
        self._row = 0
        self._queue: queue.Queue[dict[str, Any] | None] = queue.Queue(_WAITING)
        self._thread = threading.Thread(target=self._send_all, daemon=True, name="tunewright-notify")
        self._thread.start()

    def __call__(self, event: Event, session: Session) -> None:
        """Takes notice of an event; returns at once."""
        if not isinstance(event, Ended):
            return
        ledger = session.ledger
        best, now = ledger.best, time.monotonic()
        first, self._began = not self._began, True
        if best is not None and best is not self._best and (now - self._told_at >= self._pause or first):
            self._best, self._told_at = best, now
            name = ledger.problem.objectives[0].name
            value = best.metrics[name]
            text = f"{self._study}: {name}={value:.4g} in trial {best.number} is the best so far"
            self._say("best-improved", text, trial=best.number, metric=name, value=value, params=best.config)
        failed = event.outcome not in ("completed", "stopped")
        self._row = self._row + 1 if failed else 0
        if self._row == _ROW:
            last = " ".join(event.error.strip().rpartition("\n")[2].split())[:200]
            self._say(
                "failing",
                f"{self._study}: {_ROW} trials in a row have failed; the last: {last}",
                trial=event.trial,
            )

    def finished(self, why: str, trial: int | None = None, metrics: dict[str, float] | None = None) -> None:
        """The run is over.

        Args:
            why: What ended it, in words.
            trial: The best trial, if any.
            metrics: What it measured.
        """
        known = " ".join(f"{k}={v:.4g}" for k, v in (metrics or {}).items())
        best = f"; best trial {trial}: {known}" if trial is not None else ""
        self._say("finished", f"{self._study}: {why}{best}", trial=trial, metrics=metrics)

    def failing(self, why: str) -> None:
        """The run gives up."""
        self._say("failing", f"{self._study}: {' '.join(why.split())[:300]}")

    def close(self) -> None:
        """Waits a moment for what is still to be said."""
        if self._queue.full():
            with contextlib.suppress(queue.Empty):
                self._queue.get_nowait()
        with contextlib.suppress(queue.Full):
            self._queue.put_nowait(None)
        self._thread.join(_LAST)

    def _say(self, event: str, text: str, **data: Any) -> None:
        message = {"v": 1, "t": round(time.time(), 3), "event": event, "study": self._study, "text": text}
        with contextlib.suppress(queue.Full):
            self._queue.put_nowait({**message, **{k: v for k, v in data.items() if v is not None}})

    # ------------------------------------------------------------------ the thread

    def _send_all(self) -> None:
        while (message := self._queue.get()) is not None:
            for where in self._places:
                try:
                    _send(where, message)
                except (OSError, ValueError, subprocess.SubprocessError) as error:
                    # The address of a webhook is a secret, and some errors repeat it.
                    log.warning("a message could not be sent by %s: %s", _shown(where), type(error).__name__)


def _shown(where: str) -> str:
    """A place without what may be secret in it."""
    kind, _, rest = where.partition(":")
    return f"webhook at {urlsplit(rest).hostname}" if kind == "webhook" else kind


def _opener() -> urllib.request.OpenerDirector:
    """Speaks HTTP and nothing else, and follows nobody elsewhere."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
    ):
        opener.add_handler(handler)
    return opener


def _send(where: str, message: dict[str, Any]) -> None:
    kind, _, rest = where.partition(":")
    body = json.dumps(message, default=str).encode()
    if kind == "webhook":
        head = {"Content-Type": "application/json", "User-Agent": "tunewright"}
        request = urllib.request.Request(rest, body, head)  # noqa: S310 - http and https only, see checked
        with _opener().open(request, timeout=_LIMIT):
            return
    if kind == "cmd":
        values = {
            "TUNEWRIGHT_EVENT": message["event"],
            "TUNEWRIGHT_STUDY": message["study"],
            "TUNEWRIGHT_TEXT": message["text"],
        }
        environment = {k: v for k, v in for_training(os.environ).items() if k != VARIABLE}
        _run(shlex.split(rest), {**environment, **values}, body)
        return
    words = _desktop(message["study"], message["text"])
    if words is not None:
        _run(words, dict(os.environ), b"")


def _run(words: list[str], environment: dict[str, str], body: bytes) -> None:
    subprocess.run(  # noqa: S603 - the user's own command, without a shell
        words, env=environment, input=body, capture_output=True, timeout=_LIMIT, check=True
    )


def _desktop(title: str, text: str) -> list[str] | None:
    """The command that shows a message; None where there is none."""
    if sys.platform == "darwin":
        script = f"display notification {json.dumps(text)} with title {json.dumps(title)}"
        return ["osascript", "-e", script]
    program = shutil.which("notify-send")
    return [program, "--app-name=tunewright", "--", title, text] if program else None
