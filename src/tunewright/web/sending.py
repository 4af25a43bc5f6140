"""Sends bodies that have a mark: compressed where that is understood, and not again to who has them."""

from __future__ import annotations

from tunewright.web.packing import Packed, known, takes_gzip
from tunewright.web.refusals import Headers
from tunewright.web.replies import Call, Reply

KEPT = (b"cache-control", b"private, no-cache")


def sent(call: Call, packed: Packed, headers: Headers | None = None, status: int = 200) -> Reply:
    """The answer to a request: nothing new, compressed, or as it is.

    Args:
        call: The request.
        packed: What it asks for.
        headers: More headers; the first of each name counts.
        status: Status of an answer with a body.
    """
    given: Headers = [*(headers or []), (b"etag", packed.mark), (b"vary", b"accept-encoding, cookie")]
    if not any(name == b"cache-control" for name, _ in given):
        given.append(KEPT)
    if status == 200 and known(call.header(b"if-none-match"), packed.mark):
        return Reply(304, b"", given)
    given.append((b"content-type", packed.kind))
    if packed.small is not None and takes_gzip(call.header(b"accept-encoding")):
        return Reply(status, packed.small, [*given, (b"content-encoding", b"gzip")])
    return Reply(status, packed.body, given)
