"""Everything that one server shares between its requests."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunewright.store.base import Store
from tunewright.web.board import Board
from tunewright.web.charting import Charts
from tunewright.web.doors import LOCAL, Buckets, Doors
from tunewright.web.lanes import Pools
from tunewright.web.metrics import Metrics
from tunewright.web.news import News
from tunewright.web.shelf import Shelf
from tunewright.web.tokens import Guestbook, TokenFile


@dataclass(frozen=True, slots=True)
class Settings:
    """How a server is run.

    Args:
        hosts: Names and addresses that it answers to.
        anywhere: Whether any address in digits is answered too.
        origins: Origins of other pages that may use it.
        tokens: The file of tokens; None for a server without.
        rate: Requests a second that one token may make in the long run.
        burst: Requests that one token may make at once.
        guesses: Wrong tokens that one address may present at once; one more every five seconds.
        concurrent: Requests in the making at a time.
        streams: Streams of events at a time.
        largest_file: Bytes of a checkpoint.
        logs: How requests are written down: as text, as JSON, or not at all.
        readonly: Whether nothing may be changed, whatever the token.
    """

    hosts: Sequence[str] = LOCAL
    anywhere: bool = False
    origins: Sequence[str] = ()
    tokens: Path | None = None
    rate: float = 5000.0
    burst: float = 10_000.0
    guesses: float = 10.0
    concurrent: int = 1000
    streams: int = 100
    largest_file: int = 16 * 2**30
    logs: str = "text"
    readonly: bool = False


class State:
    """What a server knows and holds.

    Args:
        store: Where the studies are.
        settings: How it is run.
        describe: Gives the description of the interface.
    """

    def __init__(self, store: Store, settings: Settings, describe: Callable[[], dict[str, Any]]) -> None:
        self.store = store
        self.settings = settings
        self.describe = describe
        self.pools = Pools()
        self.shelf = Shelf(store, self.pools)
        self.board = Board(store)
        self.charts = Charts(self.pools.drawing)
        self.news = News(store, self.pools, most=2 * settings.streams + settings.concurrent)
        self.metrics = Metrics()
        self.guests = Guestbook(None if settings.tokens is None else TokenFile(settings.tokens))
        self.doors = Doors(settings.hosts, anywhere=settings.anywhere, origins=settings.origins)
        self.rates = Buckets(settings.rate, settings.burst)
        self.failures = Buckets(0.2, settings.guesses)
        self.closing = asyncio.Event()
        self.streams = 0
        self.running = 0

    def end(self) -> None:
        """Lets those go who wait for news, so that the server can end."""
        self.closing.set()
        self.news.release()

    def close(self) -> None:
        """Keeps what is worth keeping and ends the threads."""
        self.end()
        self.shelf.close()
        self.pools.close()
