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


def test_a_study_with_a_scale_says_sizes_and_what_they_say_of_the_target(visit: Open) -> None:
    page = visit(driving.of("small to large"))
    assert "at width 256 · step 2,000" in page.get_by_role("region", name="Best loss").inner_text()
    answer = page.get_by_role("region", name="For width 1,024")
    assert "mup was chosen" in answer.inner_text()
    answer.get_by_role("link", name="How that was found").click()
    driving.settled(page)
    assert page.get_by_role("link", name="Transfer").get_attribute("aria-current") == "page"
    table = page.get_by_role("group", name="What the proxies say under sp").inner_text()
    assert "width 1,024 (target)" in table
    assert "moved by −0.99 doublings" in page.get_by_role("region", name="sp", exact=True).inner_text()
    page.get_by_label("Longer trainings").select_option("shares")
    page.get_by_text("needs a scale with shares").first.wait_for()
    assert "horizon=shares" in page.url


def test_a_trial_and_the_table_say_sizes(visit: Open) -> None:
    page = visit(driving.of("small to large", "trial/0"))
    facts = page.get_by_role("region", name="Facts").inner_text()
    assert "width 256 · step 2,000" in facts
    course = page.get_by_role("region", name="Course of loss", exact=True)
    course.get_by_role("button", name="Table").click()
    assert "width 64 · step 200" in course.inner_text()
    table = visit(driving.of("small to large", "trials")).get_by_role("region", name="Trials:")
    assert "width 256 · step 2,000" in table.inner_text()


def test_a_refusal_and_a_study_without_a_scale_are_said(visit: Open) -> None:
    text = visit(driving.of("digits", "transfer")).locator("main").inner_text()
    assert "needs a study with a scale" in text
