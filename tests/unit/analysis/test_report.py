from html.parser import HTMLParser

import pytest
import studies

import tunewright as tw
from tunewright.analysis.report import Section, html

VOID = {"meta", "br"}


class Page(HTMLParser):
    """Checks that tags close in order and collects what a page would load."""

    def __init__(self, text):
        super().__init__()
        self.open, self.loads, self.scripts, self.headings = [], [], 0, []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.loads += [given[k] for k in ("src", "href", "data") if k in given]
        self.scripts += tag == "script" or any(k.startswith("on") for k in given)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.loads += [v for k, v in attrs if k in ("src", "href", "data")]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "h2":
            self.headings.append(data)


def test_a_page_is_whole_loads_nothing_and_runs_nothing():
    page = Page(html(studies.nested()))
    assert page.open == []
    assert page.loads == []
    assert page.scripts == 0
    assert page.headings == [
        "Progress", "What matters", "Timeline", "Whole configurations", "Each parameter on its own", "Best trials",
    ]  # fmt: skip


def test_curves_and_the_front_are_shown_where_there_are_any():
    assert "Learning curves" in Page(html(studies.stepped())).headings
    space = tw.Space(x=tw.Float(0, 1))
    both = studies.asked(space, lambda c: [c["x"], 1 - c["x"]], 20, space, minimize=["a", "b"])
    assert "Trade-off" in Page(html(both)).headings


@pytest.mark.parametrize("n", [0, 1, 7])
def test_a_study_with_few_results_says_what_is_missing(n):
    text = html(studies.nested(n))
    assert Page(text).open == []
    assert "needs at least" in text


def test_everything_users_name_is_escaped():
    study = studies.asked(studies.NESTED, lambda c: None if c["model"] == "tree" else c["C"], 30)
    text = html(study, [Section("<u>t</u>", ("<p>x",), ("<th>",), (("<td>",),))])
    assert Page(text).scripts == 0
    for raw in ("<b>study", "<script>", "<u>", "<p>x", "<th><", "<td><"):
        assert raw not in text
    assert "&lt;b&gt;study&lt;/b&gt; &amp; co" in text


def test_both_colour_schemes_and_a_narrow_drawing_are_in_it():
    text = html(studies.nested())
    assert "prefers-color-scheme:dark" in text
    assert text.count('class="wide"') == text.count('class="narrow"') == 5


def test_a_large_study_makes_a_page_that_still_opens():
    assert len(html(studies.nested(3000))) < 6_000_000
