"""What a notebook shows of a study: small, static, and harmless whatever the names and values are."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest

import tunewright as tw
from tunewright.analysis import notebook


class Tags(HTMLParser):
    """Opens and closes every tag, and collects the text."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        assert not [name for name, _ in attrs if name.startswith("on")]
        if not (self.get_starttag_text() or "").endswith("/>"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


def shown(study: tw.Study) -> Tags:
    tags = Tags()
    tags.feed(study._repr_html_())
    tags.close()
    assert not tags.open, "every tag is closed"
    return tags


def tried(**how: object) -> tw.Study:
    study = tw.Study.open("first", {"x": tw.Float(0, 1)}, storage="memory", method="random", seed=0, **how)  # type: ignore[arg-type]
    study.run(lambda x: (x - 0.3) ** 2, trials=12, progress="none")
    return study


def test_shows_counts_and_the_best_trials_first() -> None:
    study = tried(minimize="loss")
    tags = shown(study)
    assert "12 completed" in tags.text and "minimize loss" in tags.text and "random" in tags.text
    rows = re.findall(r"<tr><td[^>]*>(\d+)</td><td[^>]*>([^<]+)</td>", study._repr_html_())
    values = [float(v) for _, v in rows]
    assert len(rows) == 5 and values == sorted(values) and int(rows[0][0]) == study.best.number
    assert {"svg", "polyline", "table"} <= tags.seen


def test_larger_is_better_where_it_is() -> None:
    rows = re.findall(r"<tr><td[^>]*>\d+</td><td[^>]*>([^<]+)</td>", tried(maximize="score")._repr_html_())
    values = [float(v) for v in rows]
    assert values == sorted(values, reverse=True)


def test_a_study_without_results() -> None:
    study = tw.Study.open("empty", {"x": tw.Float(0, 1)}, storage="memory")
    tags = shown(study)
    assert "no trials yet" in tags.text and "table" not in tags.seen


def test_names_and_values_are_text() -> None:
    evil = "<script>alert(1)</script>"
    space = {'a"><img src=x onerror=alert(1)>': tw.Choice([evil, '"onload="x'])}
    study = tw.Study.open("<b>bold", space, minimize="<i>loss", storage="memory", method="random", seed=0)
    study.run(lambda trial: float(trial.number), trials=4, progress="none")
    tags = shown(study)
    assert not tags.seen & {"script", "img", "i"}
    assert "<b>bold" in tags.text and "<i>loss" in tags.text and evil in tags.text


def test_it_is_small_and_static() -> None:
    html = tried()._repr_html_()
    assert len(html) < 6_000
    assert "http" not in html and "<style" not in html and "color:" not in html.replace("currentColor", "")


def test_of_many_trials_only_the_best_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notebook, "_MOST", 5)
    study = tried()
    assert "polyline" not in shown(study).seen
    assert study._repr_html_().count("<tr>") == 2


def test_several_objectives() -> None:
    study = tw.Study.open(
        "two", {"x": tw.Float(0, 1)}, minimize=["a", "b"], storage="memory", method="random"
    )
    study.run(lambda x: {"a": x, "b": 1 - x}, trials=3, progress="none")
    assert "study.pareto" in shown(study).text
