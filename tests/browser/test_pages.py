"""Every page: it loads without a word of complaint, passes axe light and dark, and fits a telephone."""

from __future__ import annotations

import pytest
from benchmarks import browser as driving
from page_watch import Open

PAGES = driving.pages()
_WIDE = """() => [...document.querySelectorAll('body *')]
  .filter(e => e.getBoundingClientRect().right > innerWidth + 1 && !e.closest('.scroll, .table-box, [role=grid], [role=table], pre, nav'))
  .map(e => e.outerHTML.slice(0, 120)).slice(0, 5)"""


@pytest.mark.parametrize("name", PAGES)
def test_it_loads_and_passes_axe_light_and_dark(name: str, visit: Open) -> None:
    page = visit(PAGES[name])
    assert "token=" not in page.url
    assert page.locator("h1").count() == 1
    assert page.locator("html").get_attribute("data-mode") == "light"
    assert driving.violations(page) == []
    page.emulate_media(color_scheme="dark")
    page.wait_for_function("() => document.documentElement.dataset.mode === 'dark'")
    page.wait_for_timeout(200)
    assert driving.violations(page) == []


@pytest.mark.parametrize("name", PAGES)
def test_it_fits_a_telephone(name: str, visit: Open) -> None:
    page = visit("/methods")
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto(page.url.partition("/methods")[0] + PAGES[name], wait_until="commit")
    driving.settled(page)
    assert page.evaluate("() => document.documentElement.scrollWidth") <= 390
    assert page.evaluate(_WIDE) == []


@pytest.mark.parametrize(
    "name", ["explore", "trials", "parameters", "curves", "pareto", "surrogate", "stopping"]
)
def test_a_study_without_trials_says_so(name: str, visit: Open) -> None:
    page = visit(driving.of("empty", name))
    text = page.locator("main").inner_text()
    assert "undefined" not in text
    assert "NaN" not in text
    assert len(text) > 40
