import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest
import studies

import tunewright as tw
from tunewright.analysis import marks
from tunewright.analysis.marks import Rows
from tunewright.analysis.plots import KINDS, figure, save, svg
from tunewright.core.domains import Float, Int, Order
from tunewright.errors import ConfigError

ELSEWHERE = ("pareto", "curves", "inside", "chosen", "hypervolume", "attainment", "lineage", "transfer")
ONE = [k for k in KINDS if k not in ELSEWHERE]
NESTED = studies.nested()


def two_goals(n=30):
    space = tw.Space(x=tw.Float(0, 1))
    return studies.asked(space, lambda c: [c["x"], 1 - c["x"]], n, space, minimize=["a", "b"])


@pytest.mark.parametrize("kind", ONE)
@pytest.mark.parametrize("width", [1060, 330])
def test_a_chart_is_well_formed_and_stays_within_its_width(kind, width):
    text = svg(figure(NESTED, kind), width=width)
    tree = ET.fromstring(text)
    _, _, across, down = (float(v) for v in tree.attrib["viewBox"].split())
    assert across == width
    for node in tree.iter():
        for name, most in (("x", across), ("cx", across), ("y", down), ("cy", down)):
            if name in node.attrib:
                assert -1 <= float(node.attrib[name]) <= most + 1, node.attrib
        numbers = re.findall(r"nan|inf", node.attrib.get("d", ""))
        assert not numbers


@pytest.mark.parametrize("kind", ONE)
def test_a_chart_says_what_it_is_how_to_read_it_and_what_it_shows(kind):
    drawn = figure(NESTED, kind)
    assert drawn.title
    assert drawn.how.endswith(".")
    assert drawn.insight.endswith(".")
    assert len(drawn.head) == len(drawn.table[0])
    assert ET.fromstring(svg(drawn)).attrib["aria-label"].startswith(drawn.title)


@pytest.mark.parametrize("kind", list(KINDS))
def test_a_study_without_results_is_refused_in_a_sentence(kind):
    empty = tw.Study.open("empty", studies.NESTED, storage="memory", method="random")
    with pytest.raises(ConfigError, match="needs"):
        figure(empty, kind)


def test_an_unknown_kind_names_the_known_ones():
    with pytest.raises(ConfigError, match="history, importance"):
        figure(studies.nested(), "pie")


def test_history_follows_the_best_in_the_users_sign():
    study = studies.asked(studies.NESTED, lambda c: -studies.nested_loss(c), 40, maximize="score")
    drawn = figure(study, "history")
    assert f"trial {study.best.number};" in drawn.insight
    panel = drawn.panels[0]
    best = panel.marks[0].points[:, 1]
    assert np.all(np.diff(best) >= 0)
    assert best[-1] == study.best.metrics["score"]


def test_history_counts_failures_and_leaves_them_out():
    study = studies.asked(studies.NESTED, lambda c: None if c["model"] == "tree" else c["C"], 30)
    failed = study.counts["failed"]
    drawn = figure(study, "history")
    assert f"{failed} trials failed" in drawn.insight
    assert len(drawn.panels[0].marks[1].points) == 30 - failed


def test_parallel_lines_break_out_where_a_parameter_is_not_used():
    study = studies.nested()
    rows = figure(study, "parallel").panels
    assert isinstance(rows, Rows)
    assert rows.lines.shape[1] == study.space.d + 1
    names = [a.label for a in rows.axes]
    unused = np.isnan(rows.lines)
    assert np.all(unused[:, names.index("C")] != unused[:, names.index("depth")])
    assert "model = svm" in figure(study, "parallel").insight


def test_curves_tell_how_far_trials_got():
    drawn = figure(studies.stepped("asha(random)"), "curves")
    whole = sum(t.step == 9 for t in studies.stepped("asha(random)").trials)
    assert drawn.insight.startswith(f"{whole} of 12 trials were trained to the end")
    ET.fromstring(svg(drawn))


def test_timeline_never_puts_two_segments_of_a_slot_on_top_of_each_other():
    boxes = figure(studies.stepped("asha(random)"), "timeline").panels[0].marks
    assert len(boxes) > 12
    for one in boxes:
        for other in boxes:
            if one is not other and one.y0 == other.y0:
                assert one.x1 <= other.x0 + 0.02 or other.x1 <= one.x0 + 0.02


def test_pareto_shows_the_front_and_needs_two_objectives():
    drawn = figure(two_goals(), "pareto")
    assert drawn.insight.startswith("30 of 30 trials are on the front")
    ET.fromstring(svg(drawn))
    with pytest.raises(ConfigError, match="two objectives"):
        figure(studies.nested(), "pareto")


def test_saving_writes_a_drawing_that_needs_nothing_else(tmp_path):
    place = save(studies.nested(), "history", tmp_path / "h.svg")
    text = place.read_text(encoding="utf-8")
    assert "<style>" in text
    assert "href" not in text
    assert "url(" not in text
    with pytest.raises(ConfigError, match=r"\.svg, \.png, \.pdf, \.html; got 'h\.txt'"):
        save(studies.nested(), "history", tmp_path / "h.txt")


def test_names_of_users_cannot_become_markup():
    space = tw.Space({"<i>x</i>": tw.Choice(["</svg><script>", "b"]), "y": tw.Float(0, 1)})
    study = studies.asked(space, lambda c: c["y"], 20, space, minimize='a"b<c>')
    for kind in ONE:
        text = svg(figure(study, kind))
        assert "<i>" not in text
        assert "<script" not in text
        ET.fromstring(text)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (0.01234, "0.0123"),
        (123456.0, "1.23e5"),
        (1e-5, "1e-5"),
        (float("nan"), "-"),
        (1234.4, "1234"),
    ],
)
def test_numbers_are_short(value, text):
    assert marks.number(value) == text


@pytest.mark.parametrize("values", [[], [1.0], [0.0, 0.0], [1e-9, 1e9], [-3.0, 5.0], [1e300, -1e300]])
def test_an_axis_of_values_takes_anything_finite(values):
    axis = marks.values_axis("y", values)
    assert np.all((axis.at(values) >= 0) & (axis.at(values) <= 1))
    assert all(0 <= p <= 1 for p, _ in axis.ticks)


def test_a_far_outlier_does_not_flatten_the_rest():
    axis = marks.values_axis("y", [*np.linspace(-1, 1, 50), 1e6])
    assert axis.clipped
    assert np.ptp(axis.at(np.linspace(-1, 1, 50))) > 0.3


@pytest.mark.parametrize(
    "domain",
    [
        Float(0, 1),
        Float(1e-5, 1e-1, log=True),
        Float(1, 2, log=True),
        Int(1, 3),
        Int(8, 256, log=True),
        Order([1, 4, 9]),
    ],
)
def test_ticks_of_a_parameter_stand_where_its_values_are(domain):
    encode, _ = domain.coder()
    ticks = marks.domain_axis("x", domain).ticks
    assert len(ticks) >= 2
    assert len({t for _, t in ticks}) == len(ticks)
    for position, text in ticks:
        if domain.contains(float(text)):
            assert position == pytest.approx(encode(float(text)), abs=0.02)
