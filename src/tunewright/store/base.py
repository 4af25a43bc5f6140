"""What a store promises: an append-only log per study, leases with fencing tokens, checkpoint blobs.

Promises, held by the store laws in the tests:

- Contents equal the appended sequence; positions are dense from 1; a crash leaves all of an append or none.
- ``decide`` reads the newest log and appends under one exclusive transaction, so decisions never collide.
- Starting or resuming a trial creates its lease in the same transaction. The attempt's **token** is the position of
  that event. A fact about a trial is refused unless it carries the token of its latest attempt; a repeated identical
  ending is accepted again and writes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol, runtime_checkable

import msgspec

from tunewright.core.events import (
    Ended,
    Event,
    Interrupted,
    Paused,
    Record,
    Reported,
    Resumed,
    Saved,
    Started,
)
from tunewright.errors import ConflictError, LeaseLost

LIVE, IDLE, OVER = 0, 1, 2
FOREVER = 1e18
OVERDUE = -1e18


class StudyInfo(msgspec.Struct, frozen=True):
    """A study as the store lists it.

    Attributes:
        id: Key inside the store.
        name: Unique name.
        spec: The problem, the method and settings, as JSON data.
        created: Wall-clock time, seconds since 1970.
    """

    id: int
    name: str
    spec: dict[str, Any]
    created: float


class Lease(msgspec.Struct, frozen=True, gc=False):
    """Who may speak for a running trial.

    Attributes:
        trial: Number of the trial.
        token: Position of the event that began the attempt.
        worker: Who holds it.
        expired: Whether its time is over or its holder is known to be dead.
    """

    trial: int
    token: int
    worker: str
    expired: bool


class Head(msgspec.Struct, gc=False):
    """The latest attempt of a trial, as the store keeps it for fencing."""

    token: int
    state: int
    worker: str
    expires: float
    end: Ended | None = None


Choose = Callable[[list[Record], list[Lease]], Sequence[Event]]


class Store(Protocol):
    """Where logs live. Methods raise ``StoreUnavailable`` when the place cannot be reached or written.

    Attributes:
        url: Names the place; ``open_store(url)`` opens it again from another process if it is durable.
        durable: Whether the log outlives the process.
        flushes: Whether what was appended survives a power cut, too.
    """

    url: str
    durable: bool
    flushes: bool

    def create(
        self, name: str, spec: dict[str, Any], *, exist_ok: bool = False, created: float | None = None
    ) -> StudyInfo:
        """Makes a study, or with ``exist_ok`` returns the one that is there.

        Args:
            name: Its name, unique in the store.
            spec: What it is, as JSON data.
            exist_ok: Whether a study of that name may be there already.
            created: When it was made, seconds since 1970, for a copy of another store's study; None for now.

        Raises:
            StudyExists: If the name is taken and ``exist_ok`` is false.
        """
        ...

    def find(self, name: str) -> StudyInfo | None:
        """The study of that name, or None."""
        ...

    def studies(self) -> list[StudyInfo]:
        """All studies, oldest first."""
        ...

    def last(self, study: int) -> int:
        """Position of the last record; 0 when the log is empty."""
        ...

    def read(self, study: int, after: int = 0, limit: int | None = None) -> list[Record]:
        """Records after a position, in order."""
        ...

    def append(
        self,
        study: int,
        events: Sequence[Event],
        *,
        worker: str,
        expected: int | None = None,
        lease: float = 30.0,
        again: bool = False,
    ) -> list[Record]:
        """Appends events, all or none.

        Args:
            study: Key of the study.
            events: What happened.
            worker: Who says so.
            expected: For decisions: the position the log must end at; None appends whatever came in between.
            lease: Seconds that attempts begun here may stay silent.
            again: Whether an earlier call with these very events got no answer, so that they may be in the log already;
                then they are looked for first, and what is found is returned instead of written twice.

        Returns:
            The new records; empty when the events repeat an ending that is already there.

        Raises:
            ConflictError: If the log does not end at ``expected``; nothing is written.
            LeaseLost: If a fact carries a token that is no longer the latest; only a note is written.
        """
        ...

    def decide(
        self, study: int, after: int, choose: Choose, *, worker: str, lease: float = 30.0
    ) -> list[Record]:
        """Reads what is new, lets ``choose`` pick events, and appends them, in one exclusive transaction.

        Args:
            study: Key of the study.
            after: Position up to which the caller knows the log.
            choose: Gets the records after ``after`` and the expired leases; returns events to append. Where the log
                went on meanwhile it may be called again, with what is new since it was called before.
            worker: Who decides.
            lease: Seconds that attempts begun here may stay silent.

        Returns:
            The records appended for the events that ``choose`` returned.
        """
        ...

    def graft(self, study: int, records: Sequence[Record]) -> None:
        """Appends records of another store as they are, with their positions, times and workers.

        Attempts that were running there arrive with a lease that is over, so that they are taken back at once.

        Raises:
            ConflictError: If the first record is not the next one; nothing is written.
        """
        ...

    def wait(self, study: int, after: int, timeout: float) -> int:
        """Returns the position of the last record, once that is beyond ``after`` or ``timeout`` seconds are over."""
        ...

    def renew(
        self, study: int, held: Sequence[tuple[int, int]], *, lease: float = 30.0
    ) -> list[tuple[int, int]]:
        """Extends the leases of ``(trial, token)`` pairs; returns those that are no longer held."""
        ...

    def leases(self, study: int) -> list[Lease]:
        """Leases of all running trials."""
        ...

    def deciding(self, study: int) -> AbstractContextManager[None]:
        """Keeps deliberate deciders of one study from thinking about the same decision twice; advisory."""
        ...

    def save_snapshot(self, study: int, seq: int, data: bytes) -> None:
        """Keeps a cache of the state folded up to ``seq``; the log stays the truth."""
        ...

    def load_snapshot(self, study: int) -> tuple[int, bytes] | None:
        """The newest cache and its position, or None."""
        ...

    def blobs(self, study: int) -> str:
        """Folder that holds the study's checkpoint files; created when missing."""
        ...

    def delete(self, study: int) -> None:
        """Removes a study with its log and blobs."""
        ...

    def close(self) -> None:
        """Releases files and connections; safe to call twice."""
        ...


@runtime_checkable
class Asks(Protocol):
    """A store on whose other side decisions are taken, such as a server's."""

    def ask(
        self,
        study: int,
        after: int,
        slots: int,
        limit: int | None,
        *,
        worker: str,
        lease: float = 30.0,
        attempts: int = 3,
    ) -> tuple[list[Record], list[int], bool]:
        """Has the study's method take the next decisions.

        Args:
            study: Key of the study.
            after: Position up to which the caller knows the log.
            slots: Trials wanted; 0 to let the method only pause and stop.
            limit: Trials that may be begun in all; None for no limit.
            worker: Who asks.
            lease: Seconds that attempts begun here may stay silent.
            attempts: How often a trial is begun, without its checkpoints getting any further, before it counts as lost.

        Returns:
            The records after ``after``, numbers of the trials begun for the caller, and whether the method is finished.
        """
        ...


def fence(event: Reported | Paused | Saved | Interrupted | Ended, head: Head | None) -> bool:
    """Decides whether a fact about an attempt may be recorded.

    Returns:
        True if it is to be written, False if it repeats an ending that is already there.

    Raises:
        LeaseLost: If the attempt is no longer the latest one, or is over.
    """
    if head is None:
        raise LeaseLost(f"A result must belong to a started trial; trial {event.trial} was never started.")
    if head.token == event.token:
        if head.state == LIVE or (head.state == IDLE and isinstance(event, Ended)):
            return True
        if (
            head.state == OVER
            and isinstance(event, Ended)
            and head.end is not None
            and same_end(event, head.end)
        ):
            return False
        raise LeaseLost(
            f"A result must come from a running attempt; trial {event.trial} is "
            f"{'over' if head.state == OVER else 'not running'} already. The result was kept as a note."
        )
    raise LeaseLost(
        f"A result must come from the latest attempt; trial {event.trial} was taken over by attempt {head.token} "
        f"after attempt {event.token} had been silent for too long. The result was kept as a note."
    )


def same_end(a: Ended, b: Ended) -> bool:
    """Whether two endings say the same, so that the second is a repetition of the first."""
    return a.token == b.token and a.outcome == b.outcome and (a.metrics or {}) == (b.metrics or {})


def already(
    events: Sequence[Event], tail: Sequence[Record], worker: str, *, first: bool = False
) -> list[Record] | None:
    """Looks for events that an earlier call may have appended before its answer was lost.

    Args:
        events: What is to be appended.
        tail: Records since ``since(events, ...)``.
        worker: Who appends.
        first: Whether they can only be the first ones of ``tail``, as a decision is.

    Returns:
        Their records, or None when they are not there.
    """
    if not events:
        return None
    stop = 1 if first else len(tail) - len(events) + 1
    for i in range(stop):
        found = tail[i : i + len(events)]
        if [r.event for r in found] == list(events) and all(r.worker == worker for r in found):
            return list(found)
    return None


def since(events: Sequence[Event], expected: int | None, last: int) -> int:
    """Position after which events of an unanswered call can be: a decision's basis, or the attempt that speaks."""
    if expected is not None:
        return expected
    tokens = [e.token for e in events if isinstance(e, FACTS)]
    return min(tokens) if tokens else max(0, last - 1000)


def misplaced(seq: int, last: int) -> ConflictError:
    """The error for a copy that does not begin where the log ends."""
    return ConflictError(
        f"A copy must go on where the log ends, at {last + 1}; got {seq}. Copy into an empty study."
    )


def late(event: Reported | Paused | Saved | Interrupted | Ended, reason: str) -> Event:
    """The note that keeps a refused fact."""
    from tunewright.core.events import Noted

    return Noted(
        topic="late", data={"reason": reason, "event": msgspec.to_builtins(event)}, trial=event.trial
    )


FACTS = (Reported, Paused, Saved, Interrupted, Ended)
OPENERS = (Started, Resumed)
