"""``dashboard`` and ``share``: the studies of a store in a browser, here and for somebody else."""

from __future__ import annotations

import logging
import os
import sys
from typing import TYPE_CHECKING
from urllib.parse import quote

import click

from tunewright.cli.common import debug_option, emit, existing, json_option, storage_option, when
from tunewright.cli.serving import file_of, served, tokens_option

if TYPE_CHECKING:
    from tunewright.web.serving import Place

PORT = 7777
_TRIES = 20


@click.command()
@click.argument("study", required=False)
@click.option(
    "--port",
    type=click.IntRange(0, 65_535),
    help=f"Port; else {PORT} or the next one that is free; 0 for any.",
)
@click.option("--read-only", "readonly", is_flag=True, help="Only show; nothing can be changed.")
@click.option(
    "--browser/--no-browser", default=None, help="Whether to open a browser; else where there is a screen."
)
@tokens_option
@storage_option
@json_option
@debug_option
def dashboard(
    study: str | None,
    port: int | None,
    readonly: bool,
    browser: bool | None,
    tokens_path: str | None,
    storage: str | None,
    as_json: bool,
) -> int:
    """Show the studies of a store in a browser, live, on this machine only.

    The address that is printed lets a browser in once it is opened; nothing is loaded from anywhere else.
    """
    from tunewright.store.urls import open_store
    from tunewright.web.app import build
    from tunewright.web.doors import LOCAL
    from tunewright.web.serving import run
    from tunewright.web.state import Settings

    where = existing(storage)
    place = _place(port)
    store = served(open_store(where))
    app = build(store, Settings(LOCAL, tokens=file_of(tokens_path, storage), logs="none", readonly=readonly))
    token = app.state.guests.lend("read" if readonly else "admin")
    path = "/" if study is None else f"/s/{quote(study, safe='')}"
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    try:
        code = run(app, place, lambda address: _ready(address, path, token, browser, as_json))
    finally:
        store.close()
    if not app.state.pools.ended(within=place.grace):
        # A method that still thinks would keep the process, and its decision would be taken by nobody.
        os._exit(code)
    return code


def _place(port: int | None) -> Place:
    """Where to listen: at the port asked for, or at the first one that is free."""
    import socket

    from tunewright.web.serving import Place

    if port is not None:
        return Place(port=port, grace=2.0)
    for candidate in range(PORT, PORT + _TRIES):
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            if sys.platform != "win32":
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", candidate))
            except OSError:
                continue
        return Place(port=candidate, grace=2.0)
    return Place(port=0, grace=2.0)


def _ready(address: str, path: str, token: str, browser: bool | None, as_json: bool) -> None:
    """Says where the pages are, once they can be opened, and opens them."""
    from tunewright.cli.exits import say

    url = f"{address}{path}?token={token}"
    if as_json:
        emit({"url": url, "address": address, "pid": os.getpid()})
    else:
        click.echo(url)
        say("Open this address in a browser; Ctrl-C ends it.")
    sys.stdout.flush()
    if browser or (browser is None and not as_json and _screen()):
        import webbrowser

        webbrowser.open(url)


def _screen() -> bool:
    """Whether there is a screen with somebody in front of it."""
    if not sys.stdout.isatty() or os.environ.get("SSH_CONNECTION") or os.environ.get("CI"):
        return False
    return sys.platform in ("win32", "darwin") or bool(
        os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    )


@click.command()
@click.argument("study")
@click.option(
    "--read-only", "readonly", is_flag=True, help="Say it aloud: a shared address only ever lets people look."
)
@click.option(
    "--expires",
    default="7d",
    show_default=True,
    metavar="TIME",
    help="When the address is over; 'never' for never.",
)
@click.option(
    "--url",
    metavar="ADDRESS",
    help="Address of the server as others reach it; else this machine's dashboard.",
)
@click.option("--note", default="", help="Whom it is for; shown in 'tunewright token list'.")
@tokens_option
@storage_option
@json_option
@debug_option
def share(
    study: str,
    readonly: bool,
    expires: str,
    url: str | None,
    note: str,
    tokens_path: str | None,
    storage: str | None,
    as_json: bool,
) -> None:
    """Make an address that lets somebody look at one study, for a while.

    It works with any server of this store, such as `tunewright serve` or `tunewright dashboard`, and shows nothing else;
    nothing can be changed with it. `tunewright token revoke ID` ends it at once.
    """
    import glob

    from tunewright.cli.common import open_study
    from tunewright.cli.exits import say
    from tunewright.core.units import seconds
    from tunewright.web.tokens import TokenFile

    base = _base(url)
    with open_study(study, storage) as opened:
        name = opened.name
    file = TokenFile(file_of(tokens_path, storage))
    first = not file.read()
    life = None if expires == "never" else seconds(expires)
    text, kept = file.new(
        "read", studies=(glob.escape(name),), life=life, note=note or f"shared {name}"[:256]
    )
    address = f"{base}/s/{quote(name, safe='')}?token={text}"
    if as_json:
        emit({"id": kept.id, "url": address, "study": name, "expires": kept.expires})
        return
    click.echo(address)
    until = f"until {when(kept.expires)}" if kept.expires is not None else "for good"
    say(f"It shows {name} {until}, and lets nobody change it. End it with: tunewright token revoke {kept.id}")
    if url is None:
        say(
            "It is an address of this machine; for others, serve the store where they can reach it and pass --url."
        )
    if first:
        say("It is the first token of this store: from now on 'tunewright serve' asks everybody for one.")


def _base(url: str | None) -> str:
    """The address of the server without anything after its host.

    Raises:
        ConfigError: If it is none.
    """
    from urllib.parse import urlsplit

    from tunewright.errors import ConfigError

    if url is None:
        return f"http://127.0.0.1:{PORT}"
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None:
        raise ConfigError(
            f"--url must be the address of a server; got {url!r:.200}. Write it like https://tune.example.org."
        )
    return f"{parts.scheme}://{parts.netloc}"
