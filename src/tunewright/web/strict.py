"""JSON from strangers, read strictly: limits come before parsing, and what is doubtful is refused."""

from __future__ import annotations

import json
import re
from typing import Any, TypeVar

import msgspec

from tunewright.core.limits import DEPTH

T = TypeVar("T")
_TEXT = re.compile(rb'"(?:[^"\\]|\\.)*"?', re.DOTALL)


class Malformed(Exception):
    """The body is not the JSON that is wanted."""


def deep(body: bytes) -> bool:
    """Whether lists and objects may lie more than ``DEPTH`` levels within each other; costs no recursion."""
    if body.count(b"{") + body.count(b"[") <= DEPTH:
        return False
    level = 0
    for sign in _TEXT.sub(b"", body):
        if sign in b"{[":
            level += 1
            if level > DEPTH:
                return True
        elif sign in b"}]":
            level -= 1
    return False


def _once(pairs: list[tuple[str, Any]]) -> None:
    if len({name for name, _ in pairs}) != len(pairs):
        raise Malformed("Names in an object must differ; one is given twice. Remove one of them.")


def _number(text: str) -> None:
    raise Malformed(f'JSON knows no {text}. Write it as a text, such as "nan" or "inf".')


_scan = json.JSONDecoder(
    object_pairs_hook=_once, parse_constant=_number, parse_int=len, parse_float=len
).decode


def parse(body: bytes, decoder: msgspec.json.Decoder[T]) -> T:
    """Reads a body.

    Args:
        body: UTF-8 text.
        decoder: For the type that is wanted.

    Raises:
        Malformed: If it is too deep, says something twice, is no JSON, or has other fields or types than those wanted.
    """
    if deep(body):
        raise Malformed(f"Lists and objects may lie {DEPTH} levels within each other; got more. Flatten it.")
    try:
        found = decoder.decode(body)
        _scan(body.decode())
    except msgspec.DecodeError as error:
        raise Malformed(f"The body must be JSON as the description says; {error}. Correct it.") from None
    except (ValueError, RecursionError) as error:
        raise Malformed(f"The body must be JSON in UTF-8; {error}. Correct it."[:300]) from None
    return found
