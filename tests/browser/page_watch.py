"""Watches what the pages of a browser complain about."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, ConsoleMessage, Page, Request

# Kept by each page from its beginning, because a violation leaves no other trace that a test could ask for.
_LISTEN = """
window.__violations = [];
document.addEventListener('securitypolicyviolation',
  e => window.__violations.push(e.violatedDirective + ' ' + e.blockedURI + ' ' + e.sample));
"""
# Refusals that a page is made for: a chart of a study that has too few results, what no trial printed.
_WORDED = re.compile(r"/api/v1/studies/[^/]+/(charts/|transfer|trials/\d+/log)")
_LOCAL = ("127.0.0.1", "localhost", "[::1]", "::1")


class Watch:
    """What a context's pages complained about.

    Attributes:
        errors: Errors on the console, and errors that nobody caught.
        strays: Requests that left this machine.
        expected: Parts of errors that a test wants, such as the status of a page that is not there.
    """

    def __init__(self, context: BrowserContext) -> None:
        self.errors: list[str] = []
        self.strays: list[str] = []
        self.expected: list[str] = []
        self.context = context
        context.add_init_script(_LISTEN)
        context.on("request", self._request)
        context.on("console", self._console)
        context.on("weberror", lambda e: self.errors.append(str(e.error)))

    def _request(self, request: Request) -> None:
        where = urlsplit(request.url)
        if where.scheme not in ("data", "blob", "file", "about") and where.hostname not in _LOCAL:
            self.strays.append(request.url)

    def _console(self, message: ConsoleMessage) -> None:
        refused = "Failed to load resource" in message.text and _WORDED.search(message.location["url"])
        if message.type == "error" and not refused:
            self.errors.append(f"{message.text} {message.location['url']}")

    def check(self) -> None:
        """Fails when a page complained."""
        for page in self.context.pages:
            self.errors += [f"policy: {v}" for v in page.evaluate("() => window.__violations ?? []")]
        left = [e for e in self.errors if not any(part in e for part in self.expected)]
        assert left == [], left
        assert self.strays == [], self.strays


Open = Callable[..., "Page"]
