"""Where a server of ours is, and what shows it who asks.

Tokens do not belong into addresses that are shown, into logs, or into the environment of training code. A worker process
gets those of the process that started it over their private socket.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from tunewright.errors import ConfigError

VARIABLE = "TUNEWRIGHT_TOKEN"
_LOOPBACK = re.compile(r"localhost|::1|127(\.\d{1,3}){3}")
_tokens: dict[str, str] = {}
_seen: dict[str, str] = {}


class Address(NamedTuple):
    """Where a server is.

    Attributes:
        scheme: ``http`` or ``https``.
        host: Name or number.
        port: Port.
        path: What stands before ``/api``, without a slash at the end.
        ca: File of the certificates to trust, or empty for those of the system.
        secret: What stood before the host, never shown.
    """

    scheme: str
    host: str
    port: int
    path: str
    ca: str
    secret: str

    @property
    def origin(self) -> str:
        """Scheme, host and port: what a token belongs to."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        usual = {"http": 80, "https": 443}[self.scheme]
        return f"{self.scheme}://{host}" + (f":{self.port}" if self.port != usual else "")

    @property
    def near(self) -> bool:
        """Whether only this machine listens there."""
        return _LOOPBACK.fullmatch(self.host) is not None

    @property
    def query(self) -> str:
        """The options as they stand at the end of an address."""
        return f"?ca={quote(self.ca)}" if self.ca else ""


def read_address(text: str) -> Address:
    """Takes an address apart.

    Raises:
        ConfigError: If it is none, or has a secret where it would be seen.
    """
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(
            f"A server's address must be like http://host:8000; got {_hidden(text)!r}. Correct the address."
        )
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    if any("token" in name.lower() for name in options):
        raise ConfigError(
            f"A token must not stand in an address, where logs show it. Set {VARIABLE} instead, or pass token=."
        )
    unknown = set(options) - {"ca"}
    if unknown or (options and parts.scheme == "http"):
        raise ConfigError(
            f"A server's address knows ca=FILE, with https; got {', '.join(sorted(options))}. Remove it or correct it."
        )
    secret = unquote(parts.password or parts.username or "")
    return Address(
        parts.scheme,
        parts.hostname,
        port or (443 if parts.scheme == "https" else 80),
        parts.path.rstrip("/"),
        options.get("ca", ""),
        secret,
    )


def _hidden(text: str) -> str:
    return text.partition("?")[0].rpartition("@")[2][:200]


def split_study(text: str) -> tuple[str, str] | None:
    """Address and study of ``http://host:8000/name``; None for what names no study.

    A server behind a path is named as ``http://host/path/api/v1/studies/name``.

    Raises:
        ConfigError: If the address cannot be used.
    """
    if not text.startswith(("http://", "https://")):
        return None
    address = read_address(text)
    front, separator, name = address.path.partition("/api/v1/studies/")
    if not separator:
        front, name = "", address.path[1:]
    where, query = text.partition("?")[0], address.query
    return where.removesuffix("/").removesuffix(address.path) + front + query, unquote(name)


def token_for(address: Address, token: str | None = None) -> str:
    """The token for a server: the one given, in its address, in the environment, or in the user's file; else none.

    It is remembered for its server, so that checkpoints find it here and in processes that this one starts.

    Raises:
        ConfigError: If others can read the file, or the token cannot be sent.
    """
    given = token or address.secret
    if given:
        _tokens[address.origin] = given
    found = (
        _tokens.get(address.origin)
        or os.environ.get(VARIABLE, "").strip()
        or _seen.get(address.origin)
        or _kept()
    )
    if not found.isascii() or not found.isprintable() or " " in found:
        raise ConfigError("A token must be plain text without spaces; got something else. Copy it again.")
    if found:
        _seen[address.origin] = found
    return found


def newer_token(address: Address, refused: str) -> str:
    """Another token for a server that refuses this one, where the user's file has been given one since; else none.

    Raises:
        ConfigError: If others can read the file.
    """
    if address.origin in _tokens or os.environ.get(VARIABLE, "").strip():
        return ""
    found = _kept()
    if found == refused:
        return ""
    _seen.pop(address.origin, None)
    return token_for(address)


def tokens_for(place: str) -> dict[str, str]:
    """The token, by server, that a worker process needs for checkpoints at a place: its environment has none."""
    if not place.startswith(("http://", "https://")):
        return {}
    address = read_address(place)
    found = token_for(address)
    return {address.origin: found} if found else {}


def take_tokens(tokens: Mapping[str, str]) -> None:
    """Remembers the tokens that the process which started this one uses."""
    _seen.update(tokens)


def token_file() -> Path:
    """Where a user may keep a token: ``tunewright/token`` in the folder of settings."""
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "tunewright" / "token"


def _kept() -> str:
    path = token_file()
    try:
        with path.open("r", encoding="utf-8") as file:
            mode = os.fstat(file.fileno()).st_mode
            text = file.read(10_000).strip()
    except OSError:
        return ""
    if os.name == "posix" and stat.S_IMODE(mode) & 0o077:
        raise ConfigError(
            f"A token must be readable by its owner alone; {path} has mode {stat.S_IMODE(mode):03o}. Run chmod 600 on it."
        )
    return text
