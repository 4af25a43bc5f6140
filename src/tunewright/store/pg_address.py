"""The address of a PostgreSQL store: what is ours, what is libpq's, and what may be shown."""

from __future__ import annotations

import os
from dataclasses import dataclass
from urllib.parse import parse_qsl, quote, urlencode

from tunewright.errors import ConfigError
from tunewright.store.pg_line import libpq, pq_errors
from tunewright.store.redact import redacted

BLOBS = "TUNEWRIGHT_BLOBS"
SCHEMA = "tunewright"
_OURS = ("blobs", "deadline", "patience", "schema")
_SECRET = (
    "password",
    "sslpassword",
    "oauth_client_secret",
    "scram_client_key",
    "scram_server_key",
)
# Given up on a silent peer after about 25 s, and on data that nobody acknowledges after 20.
_DEFAULTS = {
    "fallback_application_name": "tunewright",
    "client_encoding": "UTF8",
    "connect_timeout": "10",
    "keepalives": "1",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "20000",
}


# Addresses by what is shown of them: where this process knows the secret, or its forked children, a study that is
# handed on opens its store again. A secret is handed to no other process.
_complete: dict[str, str] = {}


@dataclass(frozen=True, slots=True, repr=False)
class Address:
    """An address taken apart.

    Attributes:
        target: For libpq, keywords and values; may hold a password.
        shown: The address without what may be secret; it opens the same place where nothing was secret.
        secrets: Texts that no message may hold.
        schema: Schema of the tables.
        blobs: Where checkpoints are kept, a folder or an address.
        deadline: Longest wait for one answer in seconds, or None.
        patience: Longest time of trying again in seconds, or None.
    """

    target: bytes
    shown: str
    secrets: tuple[str, ...]
    schema: str
    blobs: str
    deadline: float | None
    patience: float | None

    def clean(self, text: str) -> str:
        """A message without secrets."""
        for secret in self.secrets:
            text = text.replace(secret, "***")
        return text


def parse(url: str) -> Address:
    """Takes an address apart.

    Args:
        url: ``postgresql://user@host:port/database``, with options of ours and of libpq after a question mark.

    Raises:
        ConfigError: If libpq cannot read it, or an option is unknown or has no sensible value.
    """
    url = _complete.get(url, url)
    base, _, query = url.partition("?")
    given = dict(parse_qsl(query, keep_blank_values=True))
    ours = {key: given.pop(key) for key in _OURS if key in given}
    known = {option.keyword.decode() for option in libpq.Conninfo.get_defaults()} | {"ssl"}
    for key in given:
        if key not in known:
            raise ConfigError(
                f"A PostgreSQL store's address knows {', '.join(_OURS)} and the options of libpq; got {key!r}. "
                "Remove it or correct it."
            )
    text = base + ("?" + urlencode(given, quote_via=quote) if given else "")
    try:
        values = {
            o.keyword.decode(): o.val.decode()
            for o in libpq.Conninfo.parse(text.encode())
            if o.val is not None
        }
    except (*pq_errors, UnicodeError):
        values = {"port": "unreadable"}
    # A password with a slash in it makes libpq take the first half of it for a port.
    if not values.get("port", "").replace(",", "0").isdigit() and values.get("port"):
        raise ConfigError(
            f"A PostgreSQL store needs an address like 'postgresql://user@host:5432/database'; got {redacted(base)!r}. "
            "Write @, : and / inside a name or a password as %40, %3A and %2F."
        )
    secrets = tuple(v for k in _SECRET if len(v := values.get(k, "")) > 0)
    target = {**_DEFAULTS, **values}
    blobs = ours.get("blobs") or os.environ.get(BLOBS) or os.path.join(".tunewright", "blobs")  # noqa: PTH118
    schema = ours.get("schema", SCHEMA)
    if not schema or len(schema.encode()) > 63 or "\0" in schema or schema.startswith("pg_"):
        raise ConfigError(
            f"A schema needs a name of 1 to 63 bytes that does not begin with 'pg_'; got {schema[:80]!r}. Choose another."
        )
    shown = _shown(url, values, ours, given) if secrets or redacted(blobs) != blobs else url
    if shown != url:
        _complete[shown] = url
    return Address(
        " ".join(f"{k}={_quoted(v)}" for k, v in target.items()).encode(),
        shown,
        secrets,
        schema,
        blobs,
        _seconds(ours, "deadline"),
        _seconds(ours, "patience"),
    )


def _quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def _shown(url: str, values: dict[str, str], ours: dict[str, str], given: dict[str, str]) -> str:
    scheme, _, rest = url.partition("?")[0].partition("://")
    place = rest.rpartition("@")[2]
    user = quote(values["user"], safe="") + "@" if "user" in values and "user" not in given else ""
    ours = {k: redacted(v) if k == "blobs" else v for k, v in ours.items()}
    kept = {**ours, **{k: v for k, v in given.items() if k not in _SECRET}}
    return f"{scheme}://{user}{place}" + ("?" + urlencode(kept, quote_via=quote) if kept else "")


def _seconds(ours: dict[str, str], key: str) -> float | None:
    if key not in ours:
        return None
    try:
        seconds = float(ours[key])
    except ValueError:
        seconds = -1.0
    if not 0 < seconds < 1e6:
        raise ConfigError(
            f"The {key} of a store must be a number of seconds above 0; got {ours[key]!r}. Try {key}=30."
        )
    return seconds
