"""From what a user writes to a store: ``memory``, a path, an address, or nothing at all."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote

from tunewright.errors import ConfigError, StoreUnavailable
from tunewright.store.redact import redacted

if TYPE_CHECKING:
    from tunewright.store.base import Store

VARIABLE = "TUNEWRIGHT_STORE"
SERVER = "TUNEWRIGHT_SERVER"
FOLDER, FILE = ".tunewright", "studies.db"
_YES = {"1", "true", "yes", "on"}


def open_store(spec: str | os.PathLike[str] | Store | None = None) -> Store:
    """Opens a store.

    Args:
        spec: ``"memory"``; ``"sqlite:///relative.db"`` or ``"sqlite:////absolute.db"``, with ``?durability=full`` to
            survive power cuts, ``?deadline=10`` for another longest wait in seconds, ``?force=1`` to accept a network
            disk, ``?blobs=s3://bucket/place`` for another place of the checkpoints; ``"postgresql://user@host/database"``, see ``store.postgres``; ``"http://host:port"`` of
            ``tunewright serve``, see ``store.http``; a plain path; a store, which is returned as it is. None takes the environment variable
            ``TUNEWRIGHT_STORE``, or ``TUNEWRIGHT_SERVER``, else ``.tunewright/studies.db`` in this folder or the nearest one above that has it,
            else makes it here.

    Raises:
        ConfigError: If the text is none of these.
        StoreUnavailable: If the place cannot be opened.
        SchemaError: If it holds something else.
    """
    if spec is None:
        spec = named() or default_path()
    if isinstance(spec, os.PathLike):
        return _sqlite(os.fspath(spec), {})
    if not isinstance(spec, str):
        return spec
    if spec in ("memory", "memory:", "memory://", ":memory:"):
        from tunewright.store.memory import MemoryStore

        return MemoryStore()
    scheme, separator, rest = spec.partition("://")
    if not separator:
        if not spec:
            raise ConfigError(
                "A store needs a path or a URL; got an empty text. Try 'memory' or 'studies.db'."
            )
        return _sqlite(spec, {})
    if scheme in ("postgresql", "postgres"):
        from tunewright.store.postgres import PostgresStore

        return PostgresStore(spec)
    if scheme in ("http", "https"):
        from tunewright.store.http import HttpStore

        return HttpStore(spec)
    if scheme != "sqlite" or not rest.startswith("/") or rest in ("/", ""):
        raise ConfigError(
            f"A store must be 'memory', a path, 'sqlite:///path', 'postgresql://host/database' or 'http://host:port'; "
            f"got {redacted(spec)!r}. Correct the address."
        )
    path, _, query = rest[1:].partition("?")
    return _sqlite(unquote(path), dict(parse_qsl(query, keep_blank_values=True)))


def named() -> str | None:
    """The store that the environment names: ``TUNEWRIGHT_STORE``, else the address in ``TUNEWRIGHT_SERVER``."""
    return os.environ.get(VARIABLE) or os.environ.get(SERVER) or None


def default_path() -> Path:
    """``.tunewright/studies.db`` in this folder or the nearest one above; made here when there is none.

    Raises:
        StoreUnavailable: If the folder cannot be made.
    """
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / FOLDER / FILE).is_file():
            return folder / FOLDER / FILE
    home = here / FOLDER
    try:
        home.mkdir(exist_ok=True)
        ignore = home / ".gitignore"
        if not ignore.exists():
            ignore.write_text("*\n", encoding="utf-8")
    except OSError as error:
        raise StoreUnavailable(
            f"Studies are kept in {home} unless you say otherwise; making it gave '{error}'. "
            f"Pass storage= or set {VARIABLE}."
        ) from error
    return home / FILE


def _sqlite(path: str, options: dict[str, str]) -> Store:
    from tunewright.store.sqlite import SqliteStore

    known: dict[str, Any] = {}
    for key, value in options.items():
        if key == "durability":
            known[key] = value
        elif key == "force":
            known[key] = value.lower() in _YES
        elif key == "deadline":
            known[key] = _seconds(value)
        elif key == "blobs" and value:
            known[key] = value
        else:
            raise ConfigError(
                f"A store's address knows durability, deadline, force and blobs; got {key!r}. Remove it or correct it."
            )
    return SqliteStore(path, **known)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 < seconds < 1e6:
        raise ConfigError(f"A deadline must be a number of seconds above 0; got {text!r}. Try deadline=30.")
    return seconds
