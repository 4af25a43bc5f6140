from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest

from tunewright.analysis.drawing import svg
from tunewright.analysis.marks import Dots, Line
from tunewright.bench.page import curves, page, ranks

EMPTY = {"meta", "br", "hr", "img", "input", "link"}


def standing(name: str, regret: float, rank: float) -> dict[str, object]:
    return {
        "name": name,
        "regret": regret,
        "low": regret / 2,
        "high": regret * 2,
        "rank": rank,
        "ratio": 1.0,
        "per_task": [regret, regret],
    }


def found(width: float = 0.4) -> dict[str, object]:
    tool = {"version": "1.0", "seeds": 3, "studies": 6, "ms_per_evaluation": 2.5, "errors": 0}
    entry = {"standings": [standing("good", 0.01, 1.2), standing("<b>&bad", 0.1, 1.8)], "p": 0.02}
    return {
        "tasks": ["one", "<two>"],
        "tools": {"good": tool, "<b>&bad": tool},
        "at": {k: {**entry, "critical_difference": width} for k in ("25", "100")},
    }


class Balanced(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.cells: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.links += [v for k, v in attrs if k in ("src", "href") and v]
        if tag not in EMPTY:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "td":
            self.cells.append(data)


def test_the_page_is_well_formed_and_loads_nothing() -> None:
    text = page("hpo", found())
    reader = Balanced()
    reader.feed(text)
    assert reader.open == []
    assert reader.links == []
    assert "<script" not in text
    assert "url(" not in text
    assert "0.0100 [0.0050, 0.0200] / 1.20 / 1.00x" in reader.cells
    assert "<b>&bad" in reader.cells


def test_a_curve_goes_down_where_regret_is_lower() -> None:
    figure = curves(found())
    lines = [m for m in figure.panels[0].marks if isinstance(m, Line)]
    assert (lines[0].points[:, 1] < lines[1].points[:, 1]).all()
    ElementTree.fromstring(svg(figure))


@pytest.mark.parametrize("width", [0.4, float("inf")])
def test_the_best_rank_is_on_top_and_leftmost(width: float) -> None:
    figure = ranks(found(width), "25")
    dots = [m.points[0] for m in figure.panels[0].marks if isinstance(m, Dots)]
    assert dots[0][0] < dots[1][0]
    assert dots[0][1] > dots[1][1]
    assert ("No critical difference" in figure.how) == (width == float("inf"))
    ElementTree.fromstring(svg(figure))
