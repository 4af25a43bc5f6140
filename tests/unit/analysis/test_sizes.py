"""Where a study has a scale, charts, tables and pages say sizes, and one chart shows what they say of the target."""

import csv
import io
import math
import xml.etree.ElementTree as ET

import numpy as np
import pytest
import studies

import tunewright as tw
from tunewright.analysis.marks import Dots, Line
from tunewright.analysis.plots import figure, svg
from tunewright.analysis.report import html
from tunewright.analysis.sizes import along, reached, steps_axis, trained
from tunewright.analysis.table import columns, write_csv
from tunewright.errors import ConfigError
from tunewright.scaling import Scale

RANDOM = studies.sized()
ASHA = studies.sized(
    "asha(random)", scale=Scale({"width": (64, 512)}, [{"width": 64}, {"width": 128}], steps=4)
)


def test_a_size_has_a_place_of_its_own_in_which_steps_are_even():
    scale = Scale(
        {"width": (64, 512), "depth": (2, 8)},
        [{}, {"width": 128}, {"width": 128, "depth": 4}],
        steps=(4, 4, 1, 9),
    )
    ends = [s.end for s in scale.stages]
    assert [scale.across(p) for p in ends] == pytest.approx([0.4, 1.4, 2.0])
    first = scale.stages[0]
    at = [scale.across(first.point(step)) for step in range(1, 5)]
    assert np.diff(at) == pytest.approx(0.2)
    assert [scale.words(p) for p in (0, first.point(3), ends[1], ends[2])] == [
        "width 64, depth 2 · step 0",
        "width 64, depth 2 · step 3",
        "width 128, depth 2 · step 4",
        "width 128, depth 4",
    ]


def test_without_a_scale_nothing_changes():
    problem = studies.stepped().problem
    points = np.array([[3.0, 0.5], [9.0, 0.1]])
    assert along(problem, points) is points
    assert reached(problem, 9) == "9"
    assert steps_axis(problem, 9.0, even=False).kind == "log"
    assert trained(problem, [9, 3]) == "67% of all steps"
    assert "size.step" not in columns(studies.stepped().trials)[0]


@pytest.mark.parametrize("study", [RANDOM, ASHA], ids=["random", "asha"])
def test_curves_go_across_sizes(study):
    drawn = figure(study, "curves")
    x = drawn.panels[0].x
    assert (x.kind, x.names, x.label) == ("names", ("width 64", "width 128"), "size")
    for line in (m for m in drawn.panels[0].marks if isinstance(m, Line) and m.trial is not None):
        assert np.all(np.diff(line.points[:, 0]) > 0)
        assert line.points[:, 0].max() < 1.5
    assert {row[1] for row in drawn.table} <= {"width 64 · step 4", "width 128 · step 4"}
    assert "of what all of that costs" in drawn.insight
    ET.fromstring(svg(drawn))


def test_a_scheduler_s_rungs_stand_at_the_ends_of_sizes():
    marks = [m for m in figure(ASHA, "curves").panels[0].marks if isinstance(m, Line) and m.name == "rung"]
    assert [m.points[0, 0] for m in marks] == pytest.approx([0.4])


def test_other_charts_and_the_page_of_a_study_say_sizes_too():
    assert {row[2] for row in figure(ASHA, "history").table} == {"width 64 · step 4", "width 128 · step 4"}
    text = html(RANDOM)
    assert "trainings of the target, width 512, spent" in text
    assert "width 128 · step 4" in text
    assert "From small to large" in text
    assert "From small to large" not in html(studies.stepped())
    forked = studies.sized("pbt(random)", 12, scale=Scale({"width": (64, 512)}, steps=4))
    drawn = figure(forked, "lineage")
    assert drawn.panels[0].x.kind == "names"
    assert drawn.table[-1][2] == "width 128 · step 4"


def test_tables_have_sizes_as_numbers():
    stream = io.StringIO()
    write_csv(ASHA.trials, stream, ASHA.problem.scale)
    stream.seek(0)
    rows = list(csv.DictReader(stream))
    assert {(r["size.width"], r["size.step"]) for r in rows if r["status"] != "failed"} == {
        ("64", "4"),
        ("128", "4"),
    }
    assert next(iter(ASHA.rows())).keys() == rows[0].keys()


def test_the_chart_of_transfer_shows_every_optimum_and_the_target():
    found, drawn = RANDOM.transfer(), figure(RANDOM, "transfer")
    assert drawn.columns == 2
    assert [p.title for p in drawn.panels] == [
        "mup: best lr by size", "mup: loss by lr", "sp: best lr by size", "sp: loss by lr",
    ]  # fmt: skip
    assert drawn.legend == (("s0", "width 64"), ("s1", "width 128"), ("ink", "target"))
    for verdict, panel in zip(found.verdicts, drawn.panels[::2], strict=True):
        dots = [m for m in panel.marks if isinstance(m, Dots)]
        shown = {(float(m.points[0, 0]), float(m.points[0, 1])) for m in dots}
        assert shown == {
            (64.0, verdict.optima[0].rate), (128.0, verdict.optima[1].rate), (512.0, verdict.predicted.rate),
        }  # fmt: skip
    whole = [t for v in found.verdicts for t in v.trainings if math.isfinite(t.loss)]
    drawn_trials = [n for p in drawn.panels[1::2] for m in p.marks if isinstance(m, Dots) for n in m.trials]
    assert sorted(drawn_trials) == sorted(t.trial for t in whole)
    assert [len(row) for row in drawn.table] == [len(drawn.head)] * 6
    assert drawn.insight.startswith("The lr of width 512 is")
    ET.fromstring(svg(drawn))


def test_a_refusal_is_drawn_with_its_evidence():
    own = Scale({"width": (64, 512)}, [{"width": 64}, {"width": 128}], steps=4, rule="own")
    study = studies.sized(scale=own, drift=-2.0)
    drawn = figure(study, "transfer")
    assert drawn.insight == "The proxies do not tell the lr of width 512."
    assert not [m for p in drawn.panels for m in p.marks if isinstance(m, Dots) and m.styles == "ink"]


def test_several_sizes_that_grow_stand_by_how_many_times_the_base_they_are():
    scale = Scale({"width": (64, 512), "depth": (2, 8)}, [{}, {"width": 128, "depth": 4}], steps=4)
    panel = figure(studies.sized(scale=scale), "transfer").panels[0]
    assert panel.x.label == "times the base, width and depth together"
    places = {float(m.points[0, 0]) for m in panel.marks if isinstance(m, Dots)}
    assert places == {1.0, 4.0} | ({32.0} if len(places) == 3 else set())


def test_a_maximised_objective_is_drawn_in_its_own_sign():
    study = tw.Study.open(
        "gain", tw.Space(lr=tw.Float(1e-4, 1.0, log=True)), scale=Scale({"width": (64, 512)}), maximize="gain",
        method="random", storage="memory",
    )  # fmt: skip
    study.run(lambda trial: 5 - (math.log2(trial["lr"]) + 7) ** 2, trials=20, progress="none")
    drawn = figure(study, "transfer")
    assert all(m.points[:, 1].max() <= 5 for m in drawn.panels[1].marks if isinstance(m, Dots))
    assert study.transfer().to_dict()["rules"][0]["sizes"][0]["loss"] == pytest.approx(5, abs=0.01)


def test_without_a_scale_or_a_trained_proxy_there_is_no_such_chart():
    with pytest.raises(ConfigError, match="needs a study with a scale"):
        figure(studies.stepped(), "transfer")
    empty = tw.Study.open(
        "empty",
        tw.Space(lr=tw.Float(1e-4, 1.0, log=True)),
        scale=studies.SIZES,
        storage="memory",
        method="random",
    )
    with pytest.raises(ConfigError, match="needs a training of a whole proxy"):
        figure(empty, "transfer")
    with pytest.raises(ConfigError, match="horizon must be"):
        figure(RANDOM, "transfer", horizon="x")
