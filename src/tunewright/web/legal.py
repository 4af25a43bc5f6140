"""Which events a stranger may append: those that fold, so that nobody can make a log that nobody can read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tunewright.core.events import (
    Controlled,
    Edited,
    Ended,
    Enqueued,
    Event,
    Extended,
    Interrupted,
    Noted,
    Paused,
    Reported,
    Resumed,
    Saved,
    Signalled,
    Started,
    Tagged,
)
from tunewright.core.limits import check_event, checked_space
from tunewright.core.space import Space
from tunewright.core.trial import Ledger
from tunewright.errors import ConfigError
from tunewright.web.tokens import LEVEL

FREE = frozenset({Reported, Paused, Saved, Interrupted, Ended, Noted, Controlled, Tagged})
"""What the store's own fence is enough for."""
_ADMIN = frozenset({Edited, Extended, Controlled})
_OF_STUDY = frozenset({Noted, Enqueued, Controlled, Tagged})
_MOST = 2**53


def needed(events: Sequence[Event]) -> int:
    """The scope, as a level, that appending these needs."""
    return LEVEL["admin"] if any(type(e) in _ADMIN for e in events) else LEVEL["worker"]


def fact(event: Event) -> None:
    """Refuses a fact or a note that no store could keep; whether it is true, the store's fence decides.

    Raises:
        ConfigError: Saying what is wrong with it.
    """
    check_event(event)
    for name in ("trial", "token", "step"):
        value = getattr(event, name, None)
        if value is not None and not 0 <= value <= _MOST:
            raise ConfigError(
                f"'{name}' must be a whole number from 0 to 2**53; got {value:.4g}. Correct it."
            )


def check(ledger: Ledger, events: Sequence[Event], *, verbatim: bool = False) -> None:
    """Refuses events that would not fold after what the ledger holds.

    Args:
        ledger: The study as it stands where they are to follow.
        events: What is to be appended, in order.
        verbatim: Whether they are copied from another log, whose facts are taken as they are.

    Raises:
        ConfigError: Saying what is wrong with the first one that is.
        SpaceError: If a configuration does not fit the space.
    """
    born = len(ledger.trials)
    for event in events:
        fact(event)
        kind = type(event)
        if isinstance(event, Started):
            _started(ledger, event, born, verbatim)
            born += 1
        elif isinstance(event, Edited):
            space = Space.from_dict(event.space)
            checked_space(space)
            ledger.problem.revised(event.space)
        elif isinstance(event, Extended):
            ledger.problem.extended(event.high)
        elif isinstance(event, Enqueued) and not verbatim:
            ledger.problem.space.check(event.config, partial=True)
        elif kind not in _OF_STUDY:
            _known(event, born)


def _known(event: Any, born: int) -> None:
    """Refuses an event about a trial that is not there, or about impossible steps."""
    if not 0 <= event.trial < born:
        raise ConfigError(
            f"A '{event.__struct_config__.tag}' must be about a trial of the study; got number {event.trial} of {born}. "
            "Read the newest log first."
        )
    _whole(getattr(event, "until", None), 0, _MOST, "until")


def _started(ledger: Ledger, event: Started, born: int, verbatim: bool) -> None:
    if event.trial != born:
        raise ConfigError(
            f"The next trial must have the number {born}; got {event.trial}. Read the newest log and decide again."
        )
    _whole(event.until, 1, _MOST, "until")
    _whole(event.queue, 0, _MOST, "queue")
    if event.parent is not None:
        _whole(event.parent[0], 0, born - 1, "parent")
        _whole(event.parent[1], 0, _MOST, "the parent's step")
    # An item of the queue may be for an earlier version of the space; it is over at once, by rule.
    if not verbatim and event.by != "queue":
        ledger.problem.space.check(event.config)


def _whole(value: int | None, low: int, high: int, what: str) -> None:
    if value is not None and not low <= value <= high:
        raise ConfigError(f"'{what}' must be a whole number from {low} to {high}; got {value}. Correct it.")


def follows(ledger: Ledger, event: Event) -> None:
    """Refuses a copied event that the fold cannot take: an ending of what does not run, or out of order.

    Raises:
        ConfigError: Saying so.
    """
    if isinstance(event, Paused | Interrupted | Ended | Resumed | Signalled | Reported | Saved):
        trial = ledger.trials[event.trial]
        if trial.finished:
            raise ConfigError(
                f"A copied log must make sense; trial {event.trial} was over before '{event.__struct_config__.tag}'. "
                "Copy it from a store that passes 'tunewright doctor'."
            )
