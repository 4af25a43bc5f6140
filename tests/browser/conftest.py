"""A browser, a store of sample studies, and a dashboard; every page that a test opens is watched."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from benchmarks import browser as driving
from benchmarks.browser import Dashboard
from page_watch import Open, Watch

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All tests here drive a real browser, which is not for the quick run."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.slow)
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    lacking = driving.lacking()
    if not lacking and not driving.AXE.is_file():
        lacking = "Pages are checked with axe-core; it is not there. Run: npm ci --prefix ui"
    if lacking:
        if os.environ.get("CI"):
            pytest.fail(lacking)
        pytest.skip(lacking)
    with driving.chromium() as found:
        yield found


@pytest.fixture(scope="session")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of sample studies."""
    from tools.sample_studies import make

    from tunewright.store.urls import open_store

    path = tmp_path_factory.mktemp("samples") / "samples.db"
    store = open_store(str(path))
    make(store)
    store.close()
    return path


@pytest.fixture(scope="session")
def served(samples: Path, browser: Browser) -> Iterator[Dashboard]:
    with driving.dashboard(samples) as found:
        yield found


@pytest.fixture
def watch(browser: Browser) -> Iterator[Watch]:
    """A fresh context, watched; it must not complain by the end of the test."""
    context = browser.new_context(viewport={"width": 1440, "height": 900}, reduced_motion="reduce")
    found = Watch(context)
    yield found
    found.check()
    context.close()


@pytest.fixture
def visit(watch: Watch, served: Dashboard) -> Open:
    """Opens a page of the dashboard, and waits until it shows what it is for."""

    def go(path: str = "/", *, of: Dashboard = served, scheme: str = "light") -> Page:
        page = watch.context.new_page()
        page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        page.goto(of.url(path), wait_until="commit")
        driving.settled(page)
        return page

    return go
