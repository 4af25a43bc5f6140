"""The one exception with which anything in the server refuses a request."""

from __future__ import annotations

Headers = list[tuple[bytes, bytes]]


class Refused(Exception):
    """A request that gets no more than a reason.

    Args:
        status: Status of the answer.
        code: Code of the error, or ``HTTP``.
        message: What must hold, what was got, what to do.
        retry: Seconds after which it makes sense to try again.
        headers: More headers.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        retry: int | None = None,
        headers: Headers | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.headers = list(headers or [])
        if retry is not None:
            self.headers.append((b"retry-after", str(retry).encode()))
