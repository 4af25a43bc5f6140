"""What of a log is news to an algorithm, told without keeping the trials: eight bytes for each."""

from __future__ import annotations

from array import array
from collections.abc import Iterable

from tunewright.core.events import (
    Amended,
    Edited,
    Ended,
    Event,
    Extended,
    Paused,
    Record,
    Reported,
    Resumed,
    Signalled,
    Started,
)

_ALWAYS = (Paused, Signalled, Edited, Extended)
_OVER = 2**62


class News:
    """Goes through a log from its beginning and says what ``Ledger.apply`` says."""

    __slots__ = ("_peaks",)

    def __init__(self) -> None:
        self._peaks = array("q")

    def of(self, records: Iterable[Record]) -> list[Event]:
        """The events among the next records that an algorithm hears."""
        return [r.event for r in records if self._is(r.event)]

    def _is(self, event: Event) -> bool:
        peaks = self._peaks
        if isinstance(event, Reported):
            if event.step <= peaks[event.trial]:
                return False
            peaks[event.trial] = event.step
            return True
        if isinstance(event, Started):
            peaks.append(0 if event.parent is None else event.parent[1])
            return True
        if isinstance(event, Ended):
            peaks[event.trial] = _OVER
            return True
        if isinstance(event, Amended):
            return peaks[event.trial] != _OVER
        return isinstance(event, _ALWAYS) or (isinstance(event, Resumed) and event.by != "retry")
