"""``serve`` and ``token``: studies over HTTP, and who may use them."""

from __future__ import annotations

import logging
import os
import platform
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tunewright.cli.common import debug_option, emit, json_option, storage_option, table, when

if TYPE_CHECKING:
    from tunewright.store.base import Store
    from tunewright.web.tokens import TokenFile

tokens_option = click.option(
    "--tokens",
    "tokens_path",
    metavar="FILE",
    help="The file of tokens; else tokens.json beside the store, or in .tunewright.",
)


def file_of(tokens_path: str | None, storage: str | None) -> Path:
    """Where the tokens of a store are kept: beside its file, else in the project's folder."""
    from tunewright.store.urls import VARIABLE, default_path
    from tunewright.web.tokens import FILE

    if tokens_path is not None:
        return Path(tokens_path)
    spec = storage or os.environ.get(VARIABLE)
    if spec is None:
        return default_path().parent / FILE
    from urllib.parse import unquote

    path = unquote(spec.removeprefix("sqlite:///").partition("?")[0])
    if "://" in path or path.startswith("memory"):
        return default_path().parent / FILE
    return Path(path).parent / FILE


@click.command()
@click.option(
    "--host",
    default="127.0.0.1",
    help="Address to listen on; others than this machine's need a token and TLS.",
)
@click.option("--port", default=8787, type=click.IntRange(0, 65_535), help="Port; 0 for any that is free.")
@click.option(
    "--socket", "socket_path", metavar="PATH", help="Listen on a unix socket instead, for this user only."
)
@click.option("--cert", metavar="FILE", help="TLS certificate, with those that it hangs on.")
@click.option("--key", metavar="FILE", help="Key of the certificate.")
@click.option("--behind-proxy", is_flag=True, help="A proxy on this machine speaks TLS with the clients.")
@click.option(
    "--allow-host", multiple=True, metavar="NAME", help="A name that clients use for this server; repeatable."
)
@click.option(
    "--allow-origin", multiple=True, metavar="ORIGIN", help="Another site whose pages may use it; repeatable."
)
@click.option(
    "--logs", type=click.Choice(["text", "json", "none"]), default="text", help="How requests are logged."
)
@click.option(
    "--rate", default=5000.0, type=click.FloatRange(1.0), help="Requests a second that one token may make."
)
@click.option(
    "--grace", default="10s", metavar="TIME", help="Time that requests get to end when the server is ended."
)
@tokens_option
@storage_option
@json_option
@debug_option
def serve(
    host: str,
    port: int,
    socket_path: str | None,
    cert: str | None,
    key: str | None,
    behind_proxy: bool,
    allow_host: tuple[str, ...],
    allow_origin: tuple[str, ...],
    logs: str,
    rate: float,
    grace: str,
    tokens_path: str | None,
    storage: str | None,
    as_json: bool,
) -> int:
    """Serve the studies of a store over HTTP, for workers and programs elsewhere.

    Without a token it serves this machine only. Ctrl-C or SIGTERM lets requests end; the same command goes on.
    """
    from tunewright.core.units import seconds
    from tunewright.store.urls import open_store
    from tunewright.web.app import build
    from tunewright.web.doors import LOCAL
    from tunewright.web.serving import Place, check, run
    from tunewright.web.state import Settings
    from tunewright.web.tokens import TokenFile

    place = Place(host, port, socket_path, cert, key, behind_proxy, seconds(grace) or 0.0)
    path = file_of(tokens_path, storage)
    check(place, bool(TokenFile(path).read()))
    store = served(open_store(storage))
    everywhere = host in ("0.0.0.0", "::", "")  # noqa: S104 - compared, not bound
    hosts = (*LOCAL, host, *allow_host, *((platform.node(),) if not place.private else ()))
    settings = Settings(hosts, everywhere, allow_origin, path, rate, 2 * rate, logs=logs)
    logging.basicConfig(
        level=logging.INFO, format="%(message)s" if logs == "json" else "%(asctime)s %(message)s"
    )
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    app = build(store, settings)
    try:
        code = run(app, place, lambda address: _ready(address, as_json))
    finally:
        store.close()
    if not app.state.pools.ended(within=place.grace):
        # A method that still thinks would keep the process, and its decision would be taken by nobody.
        os._exit(code)
    return code


def _ready(address: str, as_json: bool) -> None:
    """Says where the server is, once it takes requests."""
    if as_json:
        emit({"url": address, "pid": os.getpid()})
        sys.stdout.flush()
    else:
        click.echo(f"serving {address}", err=True)


def served(store: Store) -> Store:
    """The store to serve: one in memory gets leases that end, and another server's is refused."""
    from tunewright.errors import ConfigError
    from tunewright.store.memory import MemoryStore

    if store.url.startswith(("http:", "https:")):
        store.close()
        raise ConfigError(
            "A server needs a store of its own; got the address of another server. Give a path."
        )
    return MemoryStore(expiring=True) if isinstance(store, MemoryStore) else store


@click.group()
def token() -> None:
    """Make, list, replace and revoke the tokens of a server."""


@token.command("new")
@click.option(
    "--scope", type=click.Choice(["read", "worker", "admin"]), default="worker", help="What it may do."
)
@click.option(
    "--studies", multiple=True, metavar="PATTERN", help="Names of studies that it may see, such as team-a-*."
)
@click.option("--expires", metavar="TIME", help="When it is over, such as 30d; never when not given.")
@click.option("--note", default="", help="What it is for.")
@tokens_option
@storage_option
@json_option
@debug_option
def new(
    scope: Any,
    studies: tuple[str, ...],
    expires: str | None,
    note: str,
    tokens_path: str | None,
    storage: str | None,
    as_json: bool,
) -> None:
    """Make a token and print it; it is shown this once and kept nowhere."""
    from tunewright.core.units import seconds

    file = _tokens(tokens_path, storage)
    text, kept = file.new(scope, studies=studies or ("*",), life=seconds(expires), note=note)
    _tell(text, kept.id, file.path, as_json)


@token.command("list")
@tokens_option
@storage_option
@json_option
@debug_option
def list_tokens(tokens_path: str | None, storage: str | None, as_json: bool) -> None:
    """List the tokens; the secrets themselves are known to nobody but their holders."""
    found = _tokens(tokens_path, storage).read()
    if as_json:
        emit([{"id": t.id, "scope": t.scope, "studies": t.studies, "created": t.created, "expires": t.expires,
               "note": t.note} for t in found])  # fmt: skip
        return
    table(
        ["id", "scope", "studies", "created", "expires", "note"],
        [
            [t.id, t.scope, " ".join(t.studies), when(t.created), when(t.expires) or "never", t.note]
            for t in found
        ],
    )


@token.command("rotate")
@click.argument("id")
@click.option("--grace", default="1h", metavar="TIME", help="How long the old one is still accepted.")
@click.option("--expires", metavar="TIME", help="When the new one is over; never when not given.")
@tokens_option
@storage_option
@json_option
@debug_option
def rotate(
    id: str, grace: str, expires: str | None, tokens_path: str | None, storage: str | None, as_json: bool
) -> None:
    """Replace a token by a new one of the same scope."""
    from tunewright.core.units import seconds

    file = _tokens(tokens_path, storage)
    text, kept = file.rotate(id, grace=seconds(grace) or 0.0, life=seconds(expires))
    _tell(text, kept.id, file.path, as_json)


@token.command("revoke")
@click.argument("id")
@tokens_option
@storage_option
@json_option
@debug_option
def revoke(id: str, tokens_path: str | None, storage: str | None, as_json: bool) -> None:
    """Refuse a token from now on, also in a server that is running."""
    found = _tokens(tokens_path, storage).revoke(id)
    if as_json:
        emit({"id": found.id, "revoked": True})
    else:
        click.echo(f"revoked {found.id}")


def _tokens(tokens_path: str | None, storage: str | None) -> TokenFile:
    from tunewright.web.tokens import TokenFile

    return TokenFile(file_of(tokens_path, storage))


def _tell(text: str, id: str, path: Path, as_json: bool) -> None:
    from tunewright.cli.exits import say

    if as_json:
        emit({"id": id, "token": text})
        return
    click.echo(text)
    say(f"token {id}; it is not shown again. Only its digest is kept, in {path}.")
