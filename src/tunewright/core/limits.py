"""How large anything that a user gives may be: one place, whatever the store, the worker and the way in.

Doors (``Study``, ``Session``, the command line, the server) check here before anything is written, so that memory,
SQLite, PostgreSQL and HTTP refuse the same things in the same words. Names are refused when they cannot be shown and
stored everywhere; texts that only describe, such as tracebacks, are cleaned instead, for losing them would be worse.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from tunewright.core.events import (
    Amended,
    Edited,
    Ended,
    Enqueued,
    Event,
    Interrupted,
    Noted,
    Reported,
    Started,
    Tagged,
    encode_event,
)
from tunewright.core.texts import broken, cleaned
from tunewright.errors import ConfigError

NAME = 256
"""Characters of the name of a study, a parameter or a metric, and of the key of an enqueued configuration."""
ERROR = 8_000
"""Characters of an error text; of a longer one the end is kept."""
NOTE = 64 * 1024
"""Bytes of a note in UTF-8."""
CONFIG = 1024 * 1024
"""Bytes of a configuration as JSON."""
EVENT = 1024 * 1024
"""Bytes of an event as JSON; a new version of a space is measured by ``SPEC``."""
SPEC = 8 * 1024 * 1024
"""Bytes of what a study is, as JSON: its space, objectives, method and options."""
METRICS = 1_000
"""Metrics in a report or a result."""
OPTIONS = 10_000
"""Options of a choice or an order."""
PARAMETERS = 10_000
"""Parameters of a space, nested ones included."""
DEPTH = 64
"""Levels of lists and dicts within each other in JSON data."""
TAG = 60
"""Characters of a tag."""
TAGS = 50
"""Tags that are put on or taken off at a time."""
STEP = 2**53
"""Largest number of steps."""
WEIGHED = frozenset({Noted, Enqueued, Edited, Amended, Tagged})
"""Events whose contents no door has bounded by itself; ``Session`` has them checked."""
WHOLE = 2**63
"""Whole numbers reach from ``-WHOLE`` to below ``WHOLE``."""
_FEW = 200
_NESTED = (dict, list, tuple)
_NONE = object()
_encode = msgspec.json.Encoder().encode


def checked_name(what: str, given: Any, error: type[Exception] = ConfigError) -> str:
    """A name that every store can keep and every screen can show.

    Args:
        what: What it names, for the message, such as ``"A metric name"``.
        given: The name.
        error: What is raised.

    Raises:
        ConfigError: If it is not a text of 1 to 256 printable characters; or ``error``.
    """
    if isinstance(given, str) and 0 < len(given) <= NAME and given.isprintable():
        return given
    if isinstance(given, str) and 0 < len(given) <= NAME:
        raise error(f"{what} must be printable text; got {given!r:.80}. Rename it.")
    raise error(f"{what} must be a string of 1 to {NAME} characters; got {given!r:.80}. Rename it.")


def error_kept(text: str) -> str:
    """The end of an error text, where the reason is, as every store can keep it."""
    return cleaned(str(text)[-ERROR:])


def checked_json(what: str, data: Any, most: int) -> int:
    """Bytes of data as JSON, after a look at all of it: what JSON would change without a word is refused.

    Args:
        what: What it is, for the message.
        data: The data.
        most: Largest number of bytes.

    Raises:
        ConfigError: If it is not plain JSON data, too deep or too large.
    """
    level, rest = 0, [data]
    while rest:
        nested = [x for x in rest if isinstance(x, _NESTED)]
        if nested and level == DEPTH:
            raise ConfigError(
                f"{what} may hold lists and dicts {DEPTH} levels deep; got more. Flatten it, or keep it in a file."
            )
        odd = next((x for x in rest if not isinstance(x, _NESTED) and not _scalar(x)), _NONE)
        if odd is not _NONE:
            raise ConfigError(
                f"{what} must be plain JSON data; got {short(odd)} of type {type(odd).__name__}. "
                f"Use finite numbers, whole ones of 64 bits, text, lists and dicts."
            )
        level += 1
        rest = [y for x in nested for y in ((*x.keys(), *x.values()) if isinstance(x, dict) else x)]
        for keys in nested:
            if isinstance(keys, dict) and not all(type(k) is str for k in keys):
                raise ConfigError(
                    f"{what} must have text for its keys; got {list(keys)!r:.80}. Turn them into text."
                )
    size = len(_encode(data))
    if size > most:
        raise ConfigError(
            f"{what} may take {most:,} bytes as JSON; got {size:,}. Keep the data in a file, and its name here."
        )
    return size


def _scalar(value: Any) -> bool:
    """Whether a value comes back from JSON as it went."""
    kind = type(value)
    if kind is str:
        return not broken(value)
    if kind is float:
        return math.isfinite(value)
    if kind is int:
        return bool(-WHOLE <= value < WHOLE)
    return value is None or kind is bool


def short(value: Any) -> str:
    """A value in a message: whole numbers of a thousand digits and the like are cut."""
    if isinstance(value, int) and not -WHOLE <= value < WHOLE:
        return f"a number of {value.bit_length()} bits"
    return f"{value!r:.120}"


def checked_note(text: Any) -> str:
    """A note's text.

    Raises:
        ConfigError: If it is no text, too long, or holds NUL or halves of characters.
    """
    if not isinstance(text, str) or broken(text):
        raise ConfigError(
            f"A note must be text without NUL and broken characters; got {text!r:.80}. Correct it."
        )
    if len(text) > NOTE or len(text.encode()) > NOTE:
        raise ConfigError(
            f"A note may take {NOTE:,} bytes; got a text of {len(text):,} characters. Keep it in a file, and its name here."
        )
    return text


def checked_tags(tags: Sequence[Any]) -> tuple[str, ...]:
    """Tags, each short printable text without spaces around it.

    Raises:
        ConfigError: Saying which one is not, or that there are too many.
    """
    if len(tags) > TAGS:
        raise ConfigError(f"At most {TAGS} tags go on or off at a time; got {len(tags)}. Split them.")
    for tag in tags:
        if not (isinstance(tag, str) and 0 < len(tag) <= TAG and tag.isprintable() and tag == tag.strip()):
            raise ConfigError(
                f"A tag must be printable text of 1 to {TAG} characters without spaces around it; got {tag!r:.80}. "
                "Correct it."
            )
    return tuple(tags)


def noted(topic: str, data: dict[str, Any], trial: int | None = None) -> Noted:
    """A note that holds a copy of its data as every store will give them back.

    Raises:
        ConfigError: If the data are too large, too deep or no plain JSON data.
    """
    checked_json("A note", data, EVENT)
    return Noted(topic, msgspec.json.decode(_encode(data)), trial)


def checked_space(space: Any) -> None:
    """Refuses a ``Space`` whose configurations could get too large.

    Raises:
        ConfigError: If the longest configuration takes more than ``CONFIG`` bytes.
    """
    total = sum(4 * len(entry.name) + 8 + _longest(entry.domain) for entry in space.entries)
    if total > CONFIG:
        raise ConfigError(
            f"A configuration may take {CONFIG:,} bytes as JSON; with the longest options it would take about {total:,}. "
            f"Give options short names and look them up in your code."
        )


def _longest(domain: Any) -> int:
    """Bytes that a value of a domain can take."""
    items = getattr(domain, "options", None) or getattr(domain, "items", None) or (0.0,)
    sizes = [len(x.encode()) + 3 if type(x) is str else 24 for x in items]
    return sum(sizes) if hasattr(domain, "width") else max(sizes)


def check_event(event: Event) -> None:
    """Refuses an event that is too large, too deep, or badly named; for doors that get events or parts of them whole.

    Raises:
        ConfigError: Saying what is wrong with it.
    """
    if isinstance(event, Reported | Ended):
        for names in (event.metrics, event.variance, event.bad if isinstance(event, Reported) else None):
            if names is not None:
                check_metrics(names)
        if not 0 <= event.step <= STEP:
            raise ConfigError(f"A step must be a whole number up to 2**53; got {event.step}. Count steps.")
    most = EVENT
    if isinstance(event, Noted | Tagged):
        _check_remark(event)
    elif isinstance(event, Enqueued):
        if event.key:
            checked_name("The key of a configuration", event.key)
        checked_json("A configuration", event.config, CONFIG)
    elif isinstance(event, Started | Amended):
        checked_json("A configuration", event.config, CONFIG)
    elif isinstance(event, Edited):
        checked_json("A space", event.space, SPEC)
        most = SPEC
    elif isinstance(event, Ended | Interrupted):
        _check_error(event.error if isinstance(event, Ended) else event.detail)
    size = len(encode_event(event))
    if size > most:
        raise ConfigError(f"An event may take {most:,} bytes as JSON; got {size:,}. Keep the data in a file.")


def _check_remark(event: Noted | Tagged) -> None:
    if isinstance(event, Noted):
        checked_name("A note's topic", event.topic)
        checked_json("A note", event.data, EVENT)
    else:
        checked_tags(event.add)
        checked_tags(event.remove)


def _check_error(text: str) -> None:
    if len(text) > ERROR or broken(text):
        raise ConfigError(
            f"An error text must have at most {ERROR:,} characters and none of them broken; got {len(text):,}. Keep its end."
        )


def check_metrics(metrics: Mapping[str, Any]) -> None:
    """Refuses metrics of which there are too many, or whose names cannot be kept.

    Raises:
        ConfigError: Saying which.
    """
    if len(metrics) > METRICS:
        raise ConfigError(f"A report takes at most {METRICS} metrics; got {len(metrics)}. Report a summary.")
    for name in metrics:
        if not (type(name) is str and 0 < len(name) <= NAME and name.isprintable()):
            checked_name("A metric name", name)
    if len(metrics) > _FEW:
        checked_json("A report", dict.fromkeys(metrics, 1.7976931348623157e308), EVENT - 1024)
