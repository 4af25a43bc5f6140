"""Bodies of answers to pages: told apart by a mark of what they say, and compressed once."""

from __future__ import annotations

import gzip
import hashlib

import msgspec

_SMALL = 1024
_LARGE = 4 << 20
encode = msgspec.json.Encoder().encode


class Packed:
    """The body of an answer, as it is and compressed.

    Args:
        body: The body.
        mark: What tells it from any other body of its address, for ``ETag``.
        kind: Its content type.
        level: How much work is spent on compressing it, 1 to 9; None for what suits its size.
    """

    __slots__ = ("body", "kind", "mark", "small")

    def __init__(
        self, body: bytes, mark: str, kind: bytes = b"application/json", level: int | None = None
    ) -> None:
        self.body = body
        self.mark = f'"{mark}"'.encode()
        self.kind = kind
        self.small: bytes | None = None
        if len(body) > _SMALL:
            small = gzip.compress(body, level or (1 if len(body) > _LARGE else 5), mtime=0)
            self.small = small if len(small) < len(body) else None


def digest(body: bytes) -> str:
    """A mark that tells a body from any other."""
    return hashlib.sha256(body).hexdigest()[:16]


def known(header: bytes | None, mark: bytes) -> bool:
    """Whether an ``If-None-Match`` names a mark."""
    if header is None:
        return False
    return any(part.strip().removeprefix(b"W/") in (mark, b"*") for part in header.split(b","))


def takes_gzip(header: bytes | None) -> bool:
    """Whether an ``Accept-Encoding`` allows gzip."""
    for part in (header or b"").lower().split(b","):
        name, _, quality = part.strip().partition(b";")
        if name.strip() == b"gzip":
            return quality.replace(b" ", b"") not in (b"q=0", b"q=0.0", b"q=0.00", b"q=0.000")
    return False
