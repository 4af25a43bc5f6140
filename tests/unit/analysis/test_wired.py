"""Figures as plain data, in the units of the data."""

import json

import numpy as np
import pytest
import studies

import tunewright as tw
from tunewright.analysis import wired
from tunewright.analysis.drawing import Figure, svg
from tunewright.analysis.marks import (
    Bars,
    Contour,
    Dots,
    Heat,
    Line,
    Panel,
    domain_axis,
    linear,
    names_axis,
)
from tunewright.analysis.plots import figure

ONE = ("history", "importance", "slice", "timeline", "parallel")


@pytest.mark.parametrize("kind", ONE)
def test_a_figure_survives_json_without_nan(kind):
    data = wired.as_dict(figure(studies.nested(), kind))
    assert json.loads(json.dumps(data, allow_nan=False)) == data
    assert {"kind", "title", "how", "insight", "columns", "legend", "head", "table"} < set(data)


def test_points_are_the_data_and_carry_their_trials():
    study = studies.nested(20)
    marks = wired.as_dict(figure(study, "history"))["panels"][0]["marks"]
    dots = next(m for m in marks if m["type"] == "dots")
    for (x, y), trial in zip(dots["points"], dots["trials"], strict=True):
        assert x == trial
        assert y == pytest.approx(study.trials[trial].metrics["loss"], rel=1e-5)


def test_a_parameter_is_shown_in_its_own_values():
    study = studies.nested(30)
    panels = {p["title"]: p for p in wired.as_dict(figure(study, "slice"))["panels"]}
    dots = panels["C"]["marks"][-1]
    for (x, _), trial in zip(dots["points"], dots["trials"], strict=True):
        assert x == pytest.approx(study.trials[trial].config["C"], rel=1e-5)
    assert panels["C"]["x"]["kind"] == "log"
    assert (panels["C"]["x"]["low"], panels["C"]["x"]["high"]) == (1e-3, 1e3)
    assert panels["model"]["x"]["names"] == ["svm", "tree"]
    shown = panels["model"]["marks"][-1]
    for (x, _), trial in zip(shown["points"], shown["trials"], strict=True):
        assert panels["model"]["x"]["names"][int(x)] == study.trials[trial].config["model"]


def test_lines_across_parameters_have_none_where_one_is_not_used():
    study = studies.nested(20)
    rows = wired.as_dict(figure(study, "parallel"))["rows"]
    place = [a["label"] for a in rows["axes"]].index("depth")
    for line, trial in zip(rows["lines"], rows["trials"], strict=True):
        assert line[place] == study.trials[trial].config.get("depth")


def test_values_outside_are_counted():
    space = tw.Space(x=tw.Float(0, 1))
    study = studies.asked(space, lambda c: -1e6 if c["x"] > 0.93 else c["x"] - 0.5, 60, space)
    axis = wired.as_dict(figure(study, "history"))["panels"][0]["y"]
    values = [t.metrics["loss"] for t in study.trials]
    assert axis["clipped"] == sum(not axis["low"] <= v <= axis["high"] for v in values) > 0


@pytest.mark.parametrize(
    "domain",
    [
        tw.Float(1e-4, 10, log=True),
        tw.Float(0, 1, step=0.25),
        tw.Int(3, 9),
        tw.Int(2, 20, step=4),
        tw.Int(1, 99, log=True),
        tw.Bool(),
        tw.Order([1, 2, 4]),
    ],
)
def test_codes_lie_along_the_axis_of_their_parameter(domain):
    axis = domain_axis("x", domain)
    encode, decode = domain.coder()
    for code in np.linspace(0.01, 0.99, 37):
        value = decode(code)
        shown = value if axis.kind != "names" else axis.names.index(str(value))
        assert axis.values(encode(value)) == pytest.approx(shown, rel=1e-9)
        assert axis.at(shown) == pytest.approx(encode(value), abs=1e-9)


def test_every_kind_of_mark_is_written_and_drawn():
    x, y = linear("a", 0, 1), names_axis("b", ["u", "v"])
    bars = Bars(
        np.array([0.0, 1.0]),
        np.array([0.5, 0.2]),
        np.array([0.4, np.nan]),
        np.array([0.6, np.nan]),
        "s0",
        ["t", ""],
    )
    heat = Heat(
        np.array([0.2, 0.8]), np.array([0.0, 1.0]), np.array([[1.0, 2.0], [np.nan, 3.0]]), 1.0, 3.0, "z"
    )
    level = Contour(0.5, [np.array([[0.0, 0.0], [1.0, 1.0]])])
    line = Line(np.array([[0, 0], [np.nan, 0], [1, 1]], dtype=float), "ink", "n", 3)
    dots = Dots(np.array([[0.5, 1.0]]), "s1 hollow", ["<t>"], trials=[7])
    drawn = Figure("k", "t", "h", "i", (Panel(x, y, (bars, heat, level, line, dots)),))
    marks = wired.as_dict(drawn)["panels"][0]["marks"]
    assert [m["type"] for m in marks] == ["bars", "heat", "contour", "line", "dots"]
    assert marks[0]["low"] == [0.4, None]
    assert marks[1]["z"] == [[1.0, 2.0], [None, 3.0]]
    assert marks[2]["lines"] == [[[0.0, 0.0], [1.0, 1.0]]]
    assert marks[3]["points"] == [[0.0, 0.0], None, [1.0, 1.0]]
    assert (marks[3]["trial"], marks[4]["trials"]) == (3, [7])
    text = svg(drawn)
    assert text.count('class="h s0"') == 3
    assert text.count('class="w"') == 1
    assert "nan" not in text
    assert "&lt;t&gt;" in drawn._repr_html_()
