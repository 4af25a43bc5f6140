"""What people tell a study: to pause, to go on, to stop; notes and tags. Facts of its log, so every process learns them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from tunewright.core.events import Control, Controlled, Tagged
from tunewright.core.limits import checked_note, checked_tags
from tunewright.core.trial import Ledger
from tunewright.errors import ConfigError
from tunewright.run.session import Session

NOTE = "note"


class Remark(msgspec.Struct, frozen=True):
    """What people wrote about a study or a trial.

    Attributes:
        note: The newest note; empty when there is none.
        tags: Its tags, in the order in which they were put on.
    """

    note: str = ""
    tags: tuple[str, ...] = ()


class Remarks(msgspec.Struct, frozen=True):
    """What people wrote about a study and its trials.

    Attributes:
        study: About the study.
        trials: About trials, by number; only those that somebody wrote about.
    """

    study: Remark
    trials: dict[int, Remark]


def order(session: Session, action: Control, *, by: str = "user") -> bool:
    """Tells whoever runs the study to pause, to go on or to stop.

    Args:
        session: This process's handle on the study.
        action: ``"pause"`` begins no trial, ``"stop"`` ends every run as Ctrl-C does, ``"resume"`` takes both back.
        by: Who asked.

    Returns:
        Whether it was news; what holds already is not recorded again.

    Raises:
        ConfigError: If there is no such action.
    """
    if action not in ("pause", "resume", "stop"):
        raise ConfigError(f"A study can be told to pause, resume or stop; got {action!r}. Use one of these.")
    with session.lock:
        wanted = None if action == "resume" else action
        if session.sync().control == wanted:
            return False
        session.record(Controlled(action, by))
        return True


def note(session: Session, text: Any, trial: Any = None) -> None:
    """Keeps a note about the study or a trial; the newest one counts, and an empty one takes it back.

    Raises:
        ConfigError: If it is no text, or longer than 64 KiB, or there is no such trial.
    """
    checked = checked_note(text)
    session.note(NOTE, {"text": checked}, _number(session, trial))


def tag(session: Session, add: Sequence[Any] = (), remove: Sequence[Any] = (), trial: Any = None) -> None:
    """Puts tags on the study or a trial, and takes tags off.

    Raises:
        ConfigError: If one is no short printable text, there are too many, or there is no such trial.
    """
    on, off = checked_tags(add), checked_tags(remove)
    number = _number(session, trial)
    with session.lock:
        had = session.sync().tags.get(number, ())
        on = tuple(t for t in dict.fromkeys(on) if t not in had)
        off = tuple(t for t in dict.fromkeys(off) if t in had and t not in add)
        if on or off:
            session.record(Tagged(on, off, number))


def remarks(ledger: Ledger) -> Remarks:
    """What people wrote about the study and its trials, from the log folded so far."""
    texts: dict[int | None, str] = {}
    for _, found in ledger.notes:
        if found.topic == NOTE:
            texts[found.trial] = str(found.data.get("text", ""))
    about = {key: Remark(texts.get(key, ""), ledger.tags.get(key, ())) for key in {**texts, **ledger.tags}}
    of_trials = {n: about[n] for n in sorted(k for k in about if k is not None)}
    return Remarks(about.get(None, Remark()), {n: r for n, r in of_trials.items() if r.note or r.tags})


def _number(session: Session, trial: Any) -> int | None:
    """The number of a trial of the study."""
    if trial is None:
        return None
    count = len(session.sync().trials)
    if type(trial) is int and 0 <= trial < count:
        return trial
    raise ConfigError(
        f"A note or tag must be about a trial of the study; got {trial!r:.80}, and it has {count}. Correct the number."
    )
