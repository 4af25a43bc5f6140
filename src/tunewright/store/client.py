"""Requests to a server of ours: kept connections, a deadline for each try, and patience while the server is away.

A request is repeated until it is answered, so every one that this package sends can be: the caller is told whether an
earlier try may have been carried out. Redirects are not followed, and proxies of the environment are not used.
"""

from __future__ import annotations

import contextlib
import email.utils
import logging
import os
import random
import select
import socket
import ssl
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, NamedTuple

import msgspec

from tunewright import errors
from tunewright.errors import ConfigError, StoreUnavailable, TunewrightError
from tunewright.store.access import VARIABLE, Address, newer_token, token_for
from tunewright.store.wire import ErrorAnswer, Problem

_DICE = random.SystemRandom()  # pauses must not advance the generator that trainings draw from

log = logging.getLogger(__name__)
FIRST = 30.0
LARGEST_ANSWER = 1 << 30
_MOST = 16
_CHUNK = 1 << 18
_HEAD = 1 << 16
_PAUSE = 0.1
_LONGEST_PAUSE = 5.0
_LONGEST_ASKED = 60.0
_AWAY = frozenset({408, 429, 502, 503, 504})
Body = bytes | Path | Callable[[bool], bytes] | None


class Reply(NamedTuple):
    """An answer that came: its status, headers in small letters, and content."""

    status: int
    headers: Mapping[str, str]
    data: bytes


class Unsent(OSError):
    """The server was not reached, so it cannot have done anything."""


class _Wire:
    """A connection with one deadline for all that is sent and received in an exchange, however slowly it comes."""

    def __init__(self, sock: socket.socket, end: float) -> None:
        self.sock = sock
        self.end = end
        self._read = bytearray()

    def close(self) -> None:
        self.sock.close()

    def stale(self) -> bool:
        """Whether the other side has hung up, or says something unasked."""
        if self._read:
            return True
        if not hasattr(select, "poll"):
            return bool(select.select([self.sock], [], [], 0)[0])
        poll = select.poll()
        poll.register(self.sock, select.POLLIN)
        return bool(poll.poll(0))

    def _limit(self) -> None:
        left = self.end - time.monotonic()
        if left <= 0:
            raise TimeoutError("no answer in time")
        self.sock.settimeout(left)

    def send(self, data: bytes) -> None:
        """Sends all of it."""
        self._limit()
        self.sock.sendall(data)

    def _more(self) -> None:
        self._limit()
        data = self.sock.recv(_CHUNK)
        if not data:
            raise ConnectionResetError("the server hung up")
        self._read += data

    def head(self) -> tuple[int, dict[str, str]]:
        """Status and headers of an answer; later ones of the same name win."""
        while (end := self._read.find(b"\r\n\r\n")) < 0:
            if len(self._read) > _HEAD:
                raise OSError(f"the answer's headers are longer than {_HEAD} bytes")
            self._more()
        lines = self._read[:end].decode("latin-1").split("\r\n")
        del self._read[: end + 4]
        words = lines[0].split(" ", 2)
        if len(words) < 2 or not words[0].startswith("HTTP/1.") or not words[1].isdigit():
            raise OSError("the answer is not HTTP")
        headers: dict[str, str] = {}
        for line in lines[1:]:
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        return int(words[1]), headers

    def pieces(self, size: int) -> Iterator[bytes]:
        """The next bytes, as they come."""
        while size:
            if not self._read:
                self._more()
            piece = bytes(self._read[:size])
            del self._read[:size]
            size -= len(piece)
            yield piece

    def chunks(self) -> Iterator[bytes]:
        """The content of an answer whose length is told piece by piece."""
        while size := int(self._line().partition(b";")[0], 16):
            yield from self.pieces(size)
            self._line()
        while self._line():
            pass

    def _line(self) -> bytes:
        while (end := self._read.find(b"\r\n")) < 0:
            if len(self._read) > _HEAD:
                raise OSError("a line of the answer is too long")
            self._more()
        line = bytes(self._read[:end])
        del self._read[: end + 2]
        return line

    def rest(self) -> Iterator[bytes]:
        """The content of an answer that ends with the connection."""
        with contextlib.suppress(ConnectionResetError):
            while True:
                if not self._read:
                    self._more()
                yield bytes(self._read)
                self._read.clear()


class _Effort:
    """What came of the tries of one request so far.

    Attributes:
        doubtful: Whether one of them may have been carried out.
        silences: How many got no answer in time.
        trouble: What the last one came to.
        refusal: The server's reason, where it gave one.
        asked: Seconds that the server asked to wait for.
    """

    def __init__(self, patience: float) -> None:
        self.patience = patience
        self.begun = time.monotonic()
        self.tries = self.silences = 0
        self.doubtful = self.warned = False
        self.trouble = ""
        self.refusal: TunewrightError | None = None
        self.asked = 0.0

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.begun

    def unanswered(self, error: OSError) -> None:
        self.trouble, self.refusal, self.asked = str(error) or type(error).__name__, None, 0.0
        self.doubtful |= not isinstance(error, Unsent)
        self.silences += isinstance(error, TimeoutError)

    def sent_away(self, reply: Reply, refusal: TunewrightError) -> None:
        self.trouble, self.refusal = f"status {reply.status}", refusal
        self.doubtful |= reply.status != 429
        self.asked = _retry_after(reply.headers.get("retry-after", ""))


class Client:
    """Requests to one server, from several threads at once; a forked child opens connections of its own.

    Args:
        address: Where the server is.
        token: What shows who asks; see ``token_for``.
        deadline: Seconds that a try may take.
        patience: Seconds to go on trying while the server is away; 30 until it has answered once, unless less.
    """

    def __init__(
        self, address: Address, token: str | None = None, *, deadline: float = 10.0, patience: float = 600.0
    ) -> None:
        for name, value in (("deadline", deadline), ("patience", patience)):
            if not 0 <= value < 1e9 or (name == "deadline" and value <= 0):
                raise ConfigError(f"A {name} must be a number of seconds; got {value!r}. Try {name}=60.")
        self.address = address
        self.deadline = deadline
        self.patience = patience
        self.met = False
        self._use(token_for(address, token))
        if self._token and address.scheme == "http" and not address.near:
            log.warning(
                "the token for %s is sent unencrypted; use https where others can listen", address.origin
            )
        self._context = _context(address)
        self._start()

    def _start(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._idle: list[_Wire] = []
        self._slots = threading.BoundedSemaphore(_MOST)
        weakref.finalize(self, _hang_up, self._idle)

    def _use(self, token: str) -> None:
        lines = [f"Host: {self.address.origin.partition('://')[2]}", "User-Agent: tunewright"]
        if token:
            lines.append(f"Authorization: Bearer {token}")
        self._token = token
        self._lines = "".join(f"{line}\r\n" for line in lines).encode("latin-1")

    def another_token(self) -> bool:
        """Whether the token was replaced in the user's file since it was read, as one does when it is about to expire."""
        found = newer_token(self.address, self._token)
        if found:
            self._use(found)
        return bool(found)

    def __repr__(self) -> str:
        return f"Client({self.address.origin!r})"

    def close(self) -> None:
        """Closes the connections that nobody uses; a later request opens them again."""
        with self._lock:
            _hang_up(self._idle)

    # ------------------------------------------------------------------ one try

    def once(
        self,
        method: str,
        path: str,
        body: bytes | Path | None = None,
        *,
        seconds: float | None = None,
        kind: str = "application/json",
        into: IO[bytes] | None = None,
    ) -> Reply:
        """Sends a request once.

        Args:
            method: Such as ``GET``.
            path: Path and query, quoted.
            body: What to send; a file is sent piece by piece.
            seconds: How long all of it may take.
            kind: Media type of the body.
            into: Where the content goes, when it is a success; else it is returned.

        Returns:
            The answer, whatever its status.

        Raises:
            Unsent: If the server was not reached.
            OSError: If no answer came; the request may have been carried out.
        """
        if self._pid != os.getpid():
            _hang_up(self._idle)  # the parent's own ends stay open
            self._start()
        end = time.monotonic() + (self.deadline if seconds is None else seconds)
        if not self._slots.acquire(timeout=max(0.0, end - time.monotonic())):
            raise Unsent(f"all {_MOST} connections are in use")
        slots = self._slots
        try:
            connection = self._connection(end)
            try:
                reply, keep = self._exchange(connection, method, path, body, kind, into)
            except ValueError as error:
                connection.close()
                raise OSError(f"the answer is not HTTP: {str(error)[:200]}") from None
            except BaseException:
                connection.close()
                raise
            self._put_back(connection, keep)
            return reply
        finally:
            slots.release()

    def _connection(self, end: float) -> _Wire:
        """An idle connection that still works, or a new one."""
        while True:
            with self._lock:
                connection = self._idle.pop() if self._idle else None
            if connection is None:
                break
            if not connection.stale():
                connection.end = end
                return connection
            connection.close()
        where = self.address
        try:
            sock = socket.create_connection((where.host, where.port), max(0.001, end - time.monotonic()))
        except OSError as error:
            raise Unsent(str(error) or type(error).__name__) from None
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._context is not None:
                sock.settimeout(max(0.001, end - time.monotonic()))
                sock = self._context.wrap_socket(sock, server_hostname=where.host)
        except ssl.SSLCertVerificationError as error:
            sock.close()
            raise StoreUnavailable(
                f"A server must show a certificate that is trusted; {where.origin} gave "
                f"'{error.verify_message}'. Pass ?ca=FILE, or correct the certificate."
            ) from None
        except OSError as error:
            sock.close()
            raise Unsent(str(error) or type(error).__name__) from None
        return _Wire(sock, end)

    def _put_back(self, connection: _Wire, keep: bool) -> None:
        if keep:
            with self._lock:
                if len(self._idle) < _MOST:
                    self._idle.append(connection)
                    return
        connection.close()

    def _exchange(
        self,
        connection: _Wire,
        method: str,
        path: str,
        body: bytes | Path | None,
        kind: str,
        into: IO[bytes] | None,
    ) -> tuple[Reply, bool]:
        """Sends a request and reads its answer; whether the connection can be used again."""
        head = f"{method} {self.address.path}{path} HTTP/1.1\r\n".encode("ascii") + self._lines
        if body is None:
            connection.send(head + b"\r\n")
        elif isinstance(body, bytes):
            connection.send(
                head + f"Content-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
            )
        else:
            with body.open("rb") as file:
                left = os.fstat(file.fileno()).st_size
                connection.send(head + f"Content-Type: {kind}\r\nContent-Length: {left}\r\n\r\n".encode())
                # What is appended meanwhile is left out: the length was said.
                while left and (chunk := file.read(min(_CHUNK, left))):
                    connection.send(chunk)
                    left -= len(chunk)
        status, headers = connection.head()
        while 100 <= status < 200:
            status, headers = connection.head()
        keep = headers.get("connection", "").lower() != "close"
        pieces: Iterator[bytes] = iter(())
        if method != "HEAD" and status not in (204, 304):
            if headers.get("transfer-encoding", "").lower() == "chunked":
                pieces = connection.chunks()
            elif "content-length" in headers:
                pieces = connection.pieces(int(headers["content-length"]))
            else:
                pieces, keep = connection.rest(), False
        if into is not None and status < 300:
            for piece in pieces:
                into.write(piece)
            return Reply(status, headers, b""), keep
        found: list[bytes] = []
        size = 0
        for piece in pieces:
            found.append(piece)
            size += len(piece)
            if size > LARGEST_ANSWER:
                raise OSError(f"the answer is longer than {LARGEST_ANSWER} bytes")
        return Reply(status, headers, b"".join(found)), keep

    # ------------------------------------------------------------------ patience

    def call(
        self,
        method: str,
        path: str,
        body: Body = None,
        *,
        seconds: float = 0.0,
        thinking: float = 0.0,
        patience: float | None = None,
        kind: str = "application/json",
    ) -> Reply:
        """Sends a request until it is answered.

        Args:
            method: Such as ``GET``.
            path: Path and query, quoted.
            body: What to send; a function is told whether an earlier try may have been carried out.
            seconds: What every try may take beyond the deadline, because the server waits.
            thinking: What the server may take because it thinks. The first try gets nothing of it, and the next ones
                more with each silence, so that a cut line is noticed soon and slowness is borne.
            patience: Seconds to go on trying; else the client's own.
            kind: Media type of the body.

        Returns:
            The answer, a success.

        Raises:
            StoreUnavailable: If the server did not answer for that long, or refused who asks.
            TunewrightError: What the server refused the request with.
        """
        effort = _Effort(self.patience if patience is None else patience)
        while True:
            more = seconds + min(thinking, self.deadline * (2 ** min(effort.silences, 20) - 1))
            sent = body(effort.doubtful) if callable(body) else body
            try:
                reply = self.once(method, path, sent, seconds=self.deadline + more, kind=kind)
            except OSError as error:
                effort.unanswered(error)
            else:
                self.met = True
                if reply.status not in _AWAY:
                    if effort.warned:
                        log.warning("the server at %s answers again", self.address.origin)
                    if reply.status < 300:
                        return reply
                    if reply.status == 401 and self.another_token():
                        continue
                    raise self.refusal(reply, doubtful=effort.doubtful)
                effort.sent_away(reply, self.refusal(reply))
            self._rest(effort)

    def _rest(self, effort: _Effort) -> None:
        """Pauses before the next try.

        Raises:
            TunewrightError: If there is to be none.
        """
        effort.tries += 1
        # An address that never answered is more likely wrong than its server away.
        limit = effort.patience if self.met else min(effort.patience, FIRST)
        pause = effort.asked + _DICE.uniform(0, min(_LONGEST_PAUSE, _PAUSE * 2**effort.tries))
        if effort.seconds + pause > limit:
            raise effort.refusal or self.unreachable(effort.trouble, effort.seconds)
        if not effort.warned and effort.tries > 2:
            effort.warned = True
            log.warning(
                "the server at %s does not answer (%s); trying again for %.0f seconds",
                self.address.origin,
                effort.trouble,
                limit,
            )
        time.sleep(pause)

    def unreachable(self, trouble: str, seconds: float) -> StoreUnavailable:
        """The error for a server that does not answer."""
        return StoreUnavailable(
            f"The server must be reachable at {self.address.origin}; it gave '{trouble}' for {seconds:.0f} seconds. "
            "Check the address and whether 'tunewright serve' runs there."
        )

    def refusal(self, reply: Reply, *, doubtful: bool = False) -> TunewrightError:
        """The error that an answer stands for: the same class as on the other side.

        Its attribute ``doubtful`` tells whether an earlier try may have been carried out, so that the refusal may
        come from that.
        """
        problem = _problem(reply)
        kind = _kinds().get(problem.code)
        if kind is None:
            kind, text = self._plain(reply.status, problem.message)
        else:
            text = problem.message
        error = kind(text)
        error.doubtful = doubtful  # type: ignore[attr-defined]
        return error

    def _plain(self, status: int, message: str) -> tuple[type[TunewrightError], str]:
        """A refusal that has nothing to do with studies."""
        origin = self.address.origin
        if status in (401, 403):
            return StoreUnavailable, (
                f"The server at {origin} must know who asks; it refused with {status}: {message or 'no reason'} "
                f"Set {VARIABLE} to a token that may do this."
            )
        if status in (400, 413, 422):
            return (
                ConfigError,
                f"The server at {origin} must be able to use a request; got {status}: {message}",
            )
        return StoreUnavailable, (
            f"A tunewright server must answer at {origin}{self.address.path}; got {status}: {message or 'no reason'} "
            "Check the address, and that both sides have the same version."
        )


def _hang_up(connections: list[_Wire]) -> None:
    while connections:
        connections.pop().close()


def _context(address: Address) -> ssl.SSLContext | None:
    if address.scheme != "https":
        return None
    try:
        return ssl.create_default_context(cafile=address.ca or None)
    except OSError as error:
        raise ConfigError(
            f"ca= must name a file of certificates; {address.ca} gave '{error}'. Correct the address."
        ) from None


def _problem(reply: Reply) -> Problem:
    with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError):
        return msgspec.json.decode(reply.data, type=ErrorAnswer).error
    text = reply.data[:200].decode("utf-8", "replace")
    return Problem("HTTP", " ".join(text.split()))


def _kinds() -> dict[str, type[TunewrightError]]:
    found: dict[str, type[TunewrightError]] = {}
    for kind in vars(errors).values():
        if isinstance(kind, type) and issubclass(kind, TunewrightError):
            found[kind.code] = kind
    return found


def _retry_after(text: str) -> float:
    """Seconds that a server asks to wait for: a number, or a date by its clock."""
    try:
        seconds = float(text)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(text).timestamp() - time.time()
        except ValueError:
            return 0.0
    return min(max(0.0, seconds), _LONGEST_ASKED) if seconds == seconds else 0.0
