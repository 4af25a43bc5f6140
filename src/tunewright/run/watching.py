"""Those who watch a run: displays, loggers, notifiers. None of them can harm it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

from tunewright.core.events import Event
from tunewright.run.desk import Watch
from tunewright.run.session import Session

log = logging.getLogger(__name__)
Watching = Watch | Sequence[Watch | None] | None
_PATIENCE = 3


class Guard:
    """Calls what must not harm a run: the first exception is said, after the third in a row it is not called again.

    Args:
        name: Names it in the log.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._failures = 0
        self._said = False

    def __call__(self, function: Callable[..., object], *args: Any) -> None:
        """Calls a function, whatever it raises."""
        if self._failures >= _PATIENCE:
            return
        try:
            function(*args)
        except Exception as error:  # noqa: BLE001 - whatever it raises, the run goes on
            self._failures += 1
            if not self._said:
                self._said = True
                log.warning(
                    "the run goes on without what %s would have kept: %s: %s",
                    self.name,
                    type(error).__name__,
                    error,
                )
        else:
            self._failures = 0


class Watchers:
    """Several watchers as one, each behind a ``Guard``.

    A watcher is called with every event that the run records, after it was recorded. One that has a method ``finish``
    gets the session there when the run ends, whatever ended it.

    Args:
        watching: One watcher, several, or None.
        display: What shows the run to the user; when it cannot write any more, nobody is there, and the run ends.
    """

    def __init__(self, watching: Watching = None, display: Watch | None = None) -> None:
        given = [watching] if watching is None or callable(watching) else list(watching)
        self._watchers = [(Guard(type(w).__name__), w) for w in given if w is not None]
        self._display = display

    def __call__(self, event: Event, session: Session) -> None:
        """Passes an event on."""
        if self._display is not None:
            self._display(event, session)
        for guard, watcher in self._watchers:
            guard(watcher, event, session)

    def finish(self, session: Session) -> None:
        """Tells those who want to know that the run ends."""
        for guard, watcher in self._watchers:
            finish = getattr(watcher, "finish", None)
            if finish is not None:
                guard(finish, session)
