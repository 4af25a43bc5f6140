"""Texts that come from anywhere, made fit for every store, every screen and every page."""

from __future__ import annotations

import re

_BROKEN = re.compile("[\x00\ud800-\udfff]")
_OBEYED = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufeff]"
)


def broken(text: str) -> bool:
    """Whether a text holds NUL or halves of characters, which not every store can keep."""
    return not (text.isascii() and "\0" not in text) and _BROKEN.search(text) is not None


def cleaned(text: str) -> str:
    """A text that every store can keep: NUL and halves of characters become U+FFFD."""
    return _BROKEN.sub("\ufffd", text) if broken(text) else text


def visible(text: str) -> str:
    """A text for screens and pages, which shows what it holds instead of doing it.

    What would move the cursor, change colours or turn the direction of writing becomes an escape like ``\\u001b``, which
    means the same inside a JSON document. Ends of lines and tabs stay.
    """
    return _OBEYED.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
