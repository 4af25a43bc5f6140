"""What a reader does: choose, share an address, work by keyboard, watch a study change, tell it to pause."""

from __future__ import annotations

import re
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from benchmarks import browser as driving
from page_watch import Open

if TYPE_CHECKING:
    from playwright.sync_api import Page

# Every canvas by a digest of what is drawn on it.
_DRAWN = """() => [...document.querySelectorAll('main canvas')].filter(c => c.width > 1).map(c => {
  const text = c.toDataURL(); let sum = 0;
  for (let i = 0; i < text.length; i += 7) sum = (sum * 31 + text.charCodeAt(i)) | 0;
  return sum;
})"""
_OTHER = """
import sys, time
import tunewright as tw
with tw.Study.open("live", {"x": tw.Float(0, 1)}, method="random", storage=sys.argv[1]) as study:
    for line in sys.stdin:
        word = line.strip()
        if word == "tell":
            asked = study.ask()
            study.tell(asked, asked.params["x"])
        print(time.time(), study.control, study.notes.study.note, study.notes.study.tags, sep="|", flush=True)
"""


class Other:
    """Another process that works on the study ``live``."""

    def __init__(self, storage: Path) -> None:
        command = [sys.executable, "-c", _OTHER, str(storage)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def say(self, word: str) -> list[str]:
        """Has it do something; returns the time and what it sees."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip().split("|")

    def end(self) -> None:
        """Ends it."""
        self.process.communicate(timeout=20)


@pytest.fixture
def other(samples: Path) -> Iterator[Other]:
    found = Other(samples)
    found.say("tell")
    yield found
    found.end()


def chosen(page: Page) -> str:
    """What the page says is chosen."""
    return str(page.locator(".chip", has_text=re.compile(r"\d+ of \d+ trials")).first.inner_text())


def drawn(page: Page) -> list[int]:
    """Digests of all canvases, once the lines are drawn."""
    page.wait_for_selector(".parallel canvas[data-drawn]")
    page.wait_for_timeout(400)
    found: list[int] = page.evaluate(_DRAWN)
    return found


def test_a_brush_on_an_axis_changes_every_chart_and_the_table(visit: Open) -> None:
    page = visit("/s/digits/explore")
    before = drawn(page)
    table = page.locator(".trials table")
    rows = int(table.get_attribute("aria-rowcount") or 0)
    canvas = page.locator(".parallel canvas").last
    box = canvas.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 34, box["y"] + box["height"] * 0.55)
    page.mouse.down()
    page.mouse.move(box["x"] + 34, box["y"] + box["height"] * 0.75, steps=4)
    page.mouse.move(box["x"] + 34, box["y"] + box["height"] * 0.85, steps=4)
    page.mouse.up()
    page.wait_for_function("() => location.search.includes('sel=')")
    after = drawn(page)
    fewer = int(table.get_attribute("aria-rowcount") or 0)
    assert 1 < fewer < rows
    assert chosen(page).startswith(f"{fewer - 1} of {rows - 1}")
    assert len(before) == len(after) >= 3
    changed = [a != b for a, b in zip(before, after, strict=True)]
    assert sum(changed) >= 2, "the lines and the points"


def test_a_rectangle_on_the_scatter_chooses_too_and_can_be_taken_back(visit: Open) -> None:
    page = visit("/s/digits/explore")
    drawn(page)
    plot = page.get_by_role("region", name="Scatter").locator(".plot")
    plot.scroll_into_view_if_needed()
    box = plot.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] * 0.3, box["y"] + box["height"] * 0.2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.8, box["y"] + box["height"] * 0.8, steps=5)
    page.mouse.up()
    page.wait_for_function(
        "() => (new URLSearchParams(location.search).get('sel') ?? '').split(';').length === 2"
    )
    page.get_by_role("button", name="Choose all trials again").first.click()
    page.wait_for_function("() => !location.search.includes('sel=')")


def test_a_question_and_its_address_choose_the_same(visit: Open) -> None:
    page = visit("/s/digits/explore")
    box = page.get_by_role("searchbox").first
    box.fill("lr<1e-3 state:completed")
    box.press("Enter")
    page.wait_for_function("() => location.search.includes('q=')")
    found = chosen(page)
    again = visit(page.url.partition(page.url.split("/s/")[0])[2])
    assert chosen(again) == found
    assert again.get_by_role("searchbox").first.input_value() == "lr<1e-3 state:completed"
    again.get_by_role("link", name="Trials", exact=True).first.click()
    again.wait_for_function("() => location.pathname.endsWith('/trials')")
    assert chosen(again) == found, "what is chosen stays chosen on other pages"


def test_a_result_of_another_process_is_there_at_once(visit: Open, other: Other) -> None:
    page = visit("/s/live")
    page.wait_for_timeout(1500)
    delays = []
    count = int(re.search(r"(\d+) trials?", page.inner_text("main")).group(1))  # type: ignore[union-attr]
    for i in range(5):
        page.evaluate(
            "n => { window.__at = 0; const look = () => { if (document.body.innerText.includes(`${n} trials`)) "
            "window.__at = Date.now() / 1000; else requestAnimationFrame(look); }; look(); }",
            count + i + 1,
        )
        at = float(other.say("tell")[0])
        page.wait_for_function("() => window.__at", timeout=10_000)
        delays.append(page.evaluate("() => window.__at") - at)
        page.wait_for_timeout(600)
    assert statistics.median(delays) < 0.5


def test_buttons_pause_and_note_for_other_processes(visit: Open, other: Other) -> None:
    page = visit("/s/live")
    page.get_by_role("button", name=re.compile("pause", re.IGNORECASE)).first.click()
    page.wait_for_selector("text=/paused/i")
    assert other.say("look")[1] == "pause"
    page.get_by_role("button", name=re.compile("resume|go on", re.IGNORECASE)).first.click()
    page.wait_for_function("() => !/paused/i.test(document.querySelector('header, main').innerText)")
    assert other.say("look")[1] == "None"


def test_it_can_be_used_without_a_mouse(visit: Open) -> None:
    page = visit("/")
    page.keyboard.press("Tab")
    assert page.evaluate("() => document.activeElement.textContent.toLowerCase().includes('skip')")
    for _ in range(40):
        page.keyboard.press("Tab")
        if page.evaluate("() => document.activeElement.getAttribute('href') === '/s/digits'"):
            break
    assert page.evaluate("() => document.activeElement.matches(':focus-visible')")
    page.keyboard.press("Enter")
    page.wait_for_function("() => location.pathname === '/s/digits'")
    driving.settled(page)
    page.goto(page.url + "/explore")
    driving.settled(page)
    page.locator(".axis-name").first.focus()
    for _ in range(3):
        page.keyboard.press("ArrowUp")
    page.wait_for_function("() => location.search.includes('sel=')")
    page.keyboard.press("Escape")
    page.wait_for_function("() => !location.search.includes('sel=')")


def test_a_chart_can_be_read_as_a_table(visit: Open) -> None:
    page = visit("/s/digits/parameters")
    page.get_by_label("Save as PNG").first.wait_for()
    first = page.locator("section.card", has=page.get_by_label("Save as PNG")).first
    card = page.get_by_role("region", name=str(first.get_attribute("aria-label")), exact=True)
    card.get_by_role("button", name="Table").click()
    card.locator("tbody tr").nth(3).wait_for()
    assert card.locator("canvas").count() == 0
    card.get_by_role("button", name="Chart").click()
    card.locator("canvas").first.wait_for()
    assert card.locator("tbody tr").count() == 0


def test_the_mode_that_was_chosen_stays(visit: Open) -> None:
    page = visit("/")
    toggle = page.get_by_role("button", name=re.compile("Colours:")).first
    modes: list[Any] = []
    for _ in range(3):
        toggle.click()
        modes.append(page.evaluate("() => document.documentElement.dataset.mode"))
        if modes[-1] == "dark":
            break
    assert modes[-1] == "dark"
    page.reload()
    driving.settled(page)
    assert page.evaluate("() => document.documentElement.dataset.mode") == "dark"
