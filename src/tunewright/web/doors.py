"""What is checked before anything else: where a request was sent to, whether a web page sent it, and how often.

A browser on this machine can reach a server on its loopback address. Two checks keep pages of other sites out: the
``Host`` must be one that we answer to, so that a name made to point here leads nowhere, and a request that could change
something must not come from another origin. No answer allows another origin to read it, and there are no cookies.
"""

from __future__ import annotations

import ipaddress
import time
from collections import OrderedDict
from collections.abc import Iterable
from typing import Any

from tunewright.web.refusals import Headers, Refused

SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
LOCAL = ("localhost", "127.0.0.1", "::1")
SECURITY: Headers = [
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
]  # fmt: skip
"""Headers of every answer of the interface; pages for people add to the policy what they need."""
_SIMPLE = (b"text/plain", b"application/x-www-form-urlencoded", b"multipart/form-data")
_WANTED = frozenset({b"host", b"authorization", b"cookie", b"origin", b"sec-fetch-site", b"content-type"})
_FRAMES = (b"content-length", b"transfer-encoding")
_MOST_ADDRESSES = 10_000


class Doors:
    """Decides by the headers whether a request may come in.

    Args:
        hosts: Names and addresses that the server answers to.
        anywhere: Whether any address in digits is answered too, for a server that listens on all of a machine's.
        origins: Other origins whose pages may use the server, such as ``https://tune.example.org``.
    """

    def __init__(self, hosts: Iterable[str], *, anywhere: bool = False, origins: Iterable[str] = ()) -> None:
        self._hosts = {h.lower().strip("[]") for h in hosts}
        self._anywhere = anywhere
        self._origins = {o.lower().rstrip("/") for o in origins}
        self._fine: set[bytes] = set()

    def check(self, scope: dict[str, Any]) -> bytes | None:
        """Lets a request in, and returns its ``Authorization``, which may be in a cookie.

        Raises:
            Refused: If it was sent to somebody else, or by another site's page.
        """
        found: dict[bytes, bytes] = {}
        framed = 0
        for name, value in scope["headers"]:
            if name in _WANTED:
                found[name] = b"?" if name == b"host" and name in found else value
            elif name in _FRAMES:
                framed += 1
        host = found.get(b"host")
        if host is None or (host not in self._fine and not self._ours(host)):
            raise Refused(
                421,
                "HTTP",
                "The Host must be one that this server answers to. Start it with --allow-host NAME.",
            )
        if framed > 1:
            # What two servers in a row read differently smuggles a request past the first one.
            raise Refused(400, "HTTP", "A body must have one length.", headers=[(b"connection", b"close")])
        authorization = found.get(b"authorization")
        carries = authorization is None and b"cookie" in found
        if carries:
            authorization = carried(found[b"cookie"], host)
        if scope["method"] not in SAFE:
            self._check_write(scope["scheme"], host, found, carries and authorization is not None)
        return authorization

    def _check_write(self, scheme: str, host: bytes, found: dict[bytes, bytes], carries: bool) -> None:
        """Refuses a request that a page of another site may have sent."""
        origin, site = found.get(b"origin"), found.get(b"sec-fetch-site")
        if carries and origin is None and site is None:
            raise Refused(
                403,
                "HTTP",
                "A request with a cookie must say which page sent it. Send 'Origin', or the token itself.",
            )
        self._same(scheme, host, origin, site)
        kind = found.get(b"content-type", b"").partition(b";")[0].strip().lower()
        if kind in _SIMPLE:
            raise Refused(
                415, "HTTP", "A body must be JSON. Send the header 'content-type: application/json'."
            )

    def _ours(self, host: bytes) -> bool:
        name = _bare(host.decode("latin-1").lower())
        if name not in self._hosts and not (self._anywhere and _digits(name)):
            return False
        if len(self._fine) < 100:
            self._fine.add(host)
        return True

    def _same(self, scheme: str, host: bytes, origin: bytes | None, site: bytes | None) -> None:
        """Refuses what a page of another site sends."""
        if origin is not None:
            text = origin.decode("latin-1").lower()
            if text == f"{scheme}://{host.decode('latin-1').lower()}" or text in self._origins:
                return
        elif site in (None, b"same-origin", b"none"):
            return
        raise Refused(
            403, "HTTP", "A request from a web page must come from this server's own. Allow others with --allow-origin."
        )  # fmt: skip


def cookie(host: bytes) -> bytes:
    """Name of the cookie with a token; browsers keep those of all ports of a host together."""
    port = host.rpartition(b":")[2]
    return b"tunewright-" + (port if port.isdigit() else b"0")


def carried(cookies: bytes, host: bytes) -> bytes | None:
    """The ``Authorization`` that is in a ``Cookie`` header; None when there is none for this host."""
    wanted = cookie(host)
    for part in cookies.split(b";"):
        name, _, value = part.strip().partition(b"=")
        if name == wanted and value:
            return b"Bearer " + value
    return None


def _bare(host: str) -> str:
    """A host without its port."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0] if host.count(":") == 1 else host


def _digits(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    name = host.strip("[]").lower()
    return name == "localhost" or (_digits(name) and ipaddress.ip_address(name).is_loopback)


class Bucket:
    """So many requests a second, with bursts.

    Args:
        rate: Requests a second in the long run.
        burst: Requests at once.
    """

    __slots__ = ("_at", "_burst", "_left", "_rate")

    def __init__(self, rate: float, burst: float) -> None:
        self._rate = rate
        self._burst = burst
        self._left = burst
        self._at = time.monotonic()

    def take(self) -> bool:
        """Whether one more is allowed; it then counts."""
        moment = time.monotonic()
        self._left = min(self._burst, self._left + (moment - self._at) * self._rate)
        self._at = moment
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True


class Buckets:
    """One bucket per name; the names heard of least lately are forgotten."""

    def __init__(self, rate: float, burst: float) -> None:
        self._rate = rate
        self._burst = burst
        self._buckets: OrderedDict[str, Bucket] = OrderedDict()

    def take(self, name: str) -> bool:
        """Whether one more of this name is allowed."""
        bucket = self._buckets.get(name)
        if bucket is None:
            bucket = self._buckets[name] = Bucket(self._rate, self._burst)
            if len(self._buckets) > _MOST_ADDRESSES:
                self._buckets.popitem(last=False)
        return bucket.take()
