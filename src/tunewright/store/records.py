"""Events as bytes and back, for stores that keep them as JSON."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

import msgspec

from tunewright.core.events import Event, Noted, decode_event, encode_event
from tunewright.errors import ConfigError, SchemaError

_events = msgspec.json.Decoder(list[Event])
_parts = msgspec.json.Decoder(list[msgspec.Raw])
_KINDS = {kind.__struct_config__.tag for kind in Event.__args__}


def as_json(value: Any, what: str) -> bytes:
    """The JSON form of plain data.

    Args:
        value: What to encode.
        what: Names it in the message.

    Raises:
        ConfigError: If it is not plain data.
    """
    try:
        return msgspec.json.encode(value)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise ConfigError(
            f"{what} must be plain JSON data; got {error}. Use numbers, text, lists and dicts."
        ) from error


def encode(event: Event) -> bytes:
    """The JSON form of an event, read back once: one that cannot be read would hide the whole log.

    Raises:
        ConfigError: If it holds what JSON does not.
    """
    data = as_json(event, "An event")
    try:
        decode_event(data)
    except msgspec.DecodeError as error:
        raise ConfigError(
            f"An event must be readable from its JSON form; {encode_event(event)[:200]!r} gave '{error}'. "
            "Report values that are not finite under 'bad'."
        ) from error
    return data


def decode_all(data: bytes, first: int, place: str) -> Sequence[Event]:
    """Events that lie one after the other, with commas between them.

    Args:
        data: Their JSON forms.
        first: Position of the first one.
        place: Names the log in messages.

    Raises:
        SchemaError: If one of them cannot be read.
    """
    whole = b"[" + data + b"]"
    try:
        return _events.decode(whole)
    except msgspec.DecodeError:
        pass
    try:
        parts = _parts.decode(whole)
    except msgspec.DecodeError as error:
        raise _damaged(f"one after number {first - 1}", place, error) from error
    return [_decode_one(bytes(part), first + i, place) for i, part in enumerate(parts)]


def _decode_one(data: bytes, seq: int, place: str) -> Event:
    try:
        return tolerant(data)
    except msgspec.DecodeError as error:
        raise _damaged(f"number {seq}", place, error) from error


def tolerant(data: bytes) -> Event:
    """Decodes one event; a kind that a newer version has added is passed over, damage is not.

    Raises:
        msgspec.DecodeError: If it is damaged.
    """
    try:
        return decode_event(data)
    except msgspec.DecodeError:
        with contextlib.suppress(msgspec.DecodeError):
            found = msgspec.json.decode(data)
            if isinstance(found, dict) and found.get("kind") not in _KINDS and "kind" in found:
                return Noted("unknown", found)
        raise


def _damaged(which: str, place: str, error: Exception) -> SchemaError:
    return SchemaError(
        f"Every event of a log must be readable; {which} of {place} is damaged ({error}). Restore it from a copy."
    )
