"""What a browser may load, what it is shown without a right to it, and what is not there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from benchmarks import browser as driving
from benchmarks.browser import Dashboard
from page_watch import Open, Watch
from tools.sample_studies import HOSTILE, QUOTES

_HOSTILE = f"hostile {HOSTILE} {QUOTES[:20]}"


@pytest.mark.parametrize(
    "path",
    ["/nothing", "/s/unknown", "/s/digits/nothing", "/s/digits/trial/99999", "/s/digits/trial/x", "/s/"],
)
def test_what_is_not_there_is_a_404_with_a_page(path: str, watch: Watch, served: Dashboard) -> None:
    watch.expected = ["404"]
    page = watch.context.new_page()
    page.goto(served.url())
    answer = page.goto(served.url(path, sign_in=False))
    assert answer is not None
    assert answer.status == 404
    page.wait_for_selector("main h1")
    assert driving.violations(page) == []


def test_the_policy_allows_nothing_from_elsewhere_and_nothing_inline(visit: Open) -> None:
    page = visit("/")
    answer = page.goto(page.url)
    assert answer is not None
    policy = answer.header_value("content-security-policy") or ""
    assert policy.startswith("default-src 'self'")
    assert "unsafe" not in policy
    assert "*" not in policy
    assert not re.search(r"https?:", policy)


def test_a_token_leaves_the_address_and_is_kept_from_programs(visit: Open, served: Dashboard) -> None:
    page = visit("/s/digits?x=time")
    assert page.url == f"{served.address}/s/digits?x=time"
    assert served.token not in page.content()
    assert served.token not in page.evaluate("() => document.cookie")
    (cookie,) = page.context.cookies()
    assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")


def test_a_stranger_sees_no_studies(watch: Watch, served: Dashboard) -> None:
    watch.expected = ["401"]
    page = watch.context.new_page()
    page.goto(served.url("/", sign_in=False))
    page.wait_for_selector("main")
    page.wait_for_timeout(500)
    text = page.inner_text("body")
    assert "digits" not in text
    assert "token" in text.lower()


@pytest.mark.parametrize(
    "page_of", ["", "explore", "trials", "parameters", "curves", "timeline", "trial/1", "report"]
)
def test_hostile_names_and_values_are_only_text(page_of: str, visit: Open) -> None:
    page = visit(driving.of(_HOSTILE, page_of))
    assert page.locator("img[src=x]").count() == 0
    assert page.locator("[onerror]").count() == 0
    assert "<img src=x" in page.inner_text("body")


def test_who_may_only_read_gets_no_controls(visit: Open, samples: Path) -> None:
    buttons = re.compile("pause|stop|resume|enqueue|add note|save note", re.IGNORECASE)
    page = visit("/s/digits")
    assert page.get_by_role("button", name=buttons).count() > 0
    with driving.dashboard(samples, readonly=True) as reading:
        for path in ("/", "/s/digits", "/s/digits/explore", "/s/digits/trials", "/s/digits/trial/12"):
            page = visit(path, of=reading)
            assert page.get_by_role("button", name=buttons).count() == 0, path
            page.close()


def test_a_report_is_one_file_that_needs_no_server(
    watch: Watch, visit: Open, served: Dashboard, tmp_path: Path
) -> None:
    page = visit("/s/digits")
    answer = page.context.request.get(f"{served.address}/api/v1/studies/digits/export?format=html")
    assert answer.ok
    file = tmp_path / "digits.html"
    file.write_bytes(answer.body())
    page.close()
    page = watch.context.new_page()
    requests: list[str] = []
    page.on("request", lambda r: requests.append(r.url))
    page.goto(f"{file.as_uri()}#/s/digits")
    driving.settled(page)
    names = page.eval_on_selector_all(".menu-bar a", "links => links.map(a => a.getAttribute('href'))")
    assert len(names) >= 8
    for name in dict.fromkeys(names):
        page.evaluate("hash => { location.hash = hash; }", name)
        driving.settled(page)
        text = page.inner_text("main")
        assert "cannot be reached" not in text, name
        assert "does not hold that" not in text, name
        assert page.locator("main .card, main table").count() > 0, name
    assert [r for r in requests if not r.startswith(("file:", "data:", "blob:"))] == []
    assert page.get_by_role("button", name=re.compile("pause|stop|enqueue", re.IGNORECASE)).count() == 0
