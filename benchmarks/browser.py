"""A headless Chromium and a dashboard to look at with it: for browser tests, measurements and pictures.

Needs the package ``playwright`` and the system's ``chromium``; nothing is downloaded.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

ROOT = Path(__file__).parent.parent
AXE = ROOT / "ui" / "node_modules" / "axe-core" / "axe.min.js"
ARGS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking")
_READY = """() => {
  const main = document.querySelector('main');
  const near = e => { const box = e.getBoundingClientRect(); return box.top < innerHeight + 300 && box.bottom > 0; };
  const waiting = e => e.getAttribute('aria-busy') === 'true' || ['…', 'Loading…'].includes(e.textContent.trim());
  return !!main && !!main.querySelector('h1')
    && ![...main.querySelectorAll('[aria-busy=true], .empty, .loading, p')].some(e => near(e) && waiting(e));
}"""
_FRAMES = "() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done(null))))"


def lacking() -> str:
    """What is missing to drive a browser, as a sentence; empty when all is there."""
    if importlib.util.find_spec("playwright") is None:
        return "A browser is driven with playwright; it is not installed. Run: pip install playwright"
    if executable() is None:
        return "A browser must be installed; there is no chromium. Run: apt-get install chromium"
    return ""


def executable() -> str | None:
    """Path of the system's Chromium."""
    return next(
        (p for n in ("chromium", "chromium-browser", "google-chrome") if (p := shutil.which(n))), None
    )


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """A headless Chromium for as long as the block lasts."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as player:
        browser = player.chromium.launch(executable_path=executable(), args=list(ARGS))
        try:
            yield browser
        finally:
            browser.close()


@dataclass(frozen=True)
class Dashboard:
    """A dashboard in a process of its own.

    Attributes:
        address: Where it answers.
        token: What lets a browser in.
    """

    address: str
    token: str

    def url(self, path: str = "/", *, sign_in: bool = True) -> str:
        """Address of a page, with the token that lets a browser in the first time."""
        mark = "&" if "?" in path else "?"
        return f"{self.address}{path}{mark}token={self.token}" if sign_in else f"{self.address}{path}"


@contextlib.contextmanager
def dashboard(storage: Path, *, readonly: bool = False) -> Iterator[Dashboard]:
    """Starts ``tunewright dashboard`` on a free port, and ends it after the block.

    Raises:
        RuntimeError: If it does not start.
    """
    command = [sys.executable, "-m", "tunewright", "dashboard", "--storage", str(storage), "--port", "0"]
    command += ["--no-browser", "--json", *(["--read-only"] if readonly else [])]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line.startswith("{"):
            process.kill()
            raise RuntimeError(f"The dashboard did not start: {line}{process.communicate()[1]}")
        told = json.loads(line)
        yield Dashboard(told["address"].rstrip("/"), told["url"].partition("token=")[2])
    finally:
        process.terminate()
        try:
            process.communicate(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()


def of(study: str, page: str = "") -> str:
    """Path of a page about a study."""
    return f"/s/{quote(study, safe='')}" + (f"/{page}" if page else "")


def settled(page: Page, timeout: float = 20_000) -> None:
    """Waits until a page shows what it was opened for."""
    page.wait_for_function(_READY, timeout=timeout)
    page.evaluate(_FRAMES)


def violations(page: Page) -> list[dict[str, Any]]:
    """What axe finds wrong with a page: rule, how bad, and the elements."""
    if not page.evaluate("() => 'axe' in window"):
        page.evaluate(AXE.read_text(encoding="utf-8"))
    found: list[dict[str, Any]] = page.evaluate(
        "async () => (await axe.run(document, {resultTypes: ['violations']})).violations.map(v => ({rule: v.id, "
        "impact: v.impact, nodes: v.nodes.slice(0, 3).map(n => n.html.slice(0, 160) + ' -- ' + n.failureSummary)}))"
    )
    return found


def pages() -> dict[str, str]:
    """Every page by name, with the sample study that has most to show on it."""
    of_digits = ("explore", "trials", "parameters", "curves", "timeline", "surrogate", "stopping", "report")
    return {
        "studies": "/",
        "overview": of("digits"),
        **{name: of("digits", name) for name in of_digits},
        "pareto": of("error and latency", "pareto"),
        "lineage": of("population", "lineage"),
        "transfer": of("small to large", "transfer"),
        "inside": of("rates tuned inside", "inside"),
        "trial": of("digits", "trial/12"),
        "compare": "/compare?studies=net-tpe-0,net-tpe-1,net-tpe-2,net-random-0,net-random-1,net-random-2",
        "methods": "/methods",
    }
