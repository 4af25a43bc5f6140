"""The charts that answer one question each, and drawing them with other libraries."""

import inspect
import sys

import numpy as np
import pytest
import studies

import tunewright as tw
from tunewright.analysis import plots
from tunewright.analysis.accessor import Plots
from tunewright.analysis.marks import Bars, Contour, Dots, Heat, Line
from tunewright.analysis.plots import KINDS, figure, options
from tunewright.errors import ConfigError, MissingExtra

NUMBERS = tw.Space(x=tw.Float(0, 1), y=tw.Float(1e-4, 1, log=True), c=tw.Choice(["a", "b"]))
SINGLE = studies.asked(NUMBERS, lambda c: (c["x"] - 0.3) ** 2 + c["y"] + (c["c"] == "a"), 60, NUMBERS)
UP = studies.asked(NUMBERS, lambda c: -((c["x"] - 0.3) ** 2) - c["y"], 60, NUMBERS, maximize="score")


def pair(seed=0, n=30):
    return studies.asked(
        NUMBERS, lambda c: [c["x"], (1 - c["x"]) ** 2 + c["y"]], n, NUMBERS, seed=seed, minimize=["a", "b"]
    )


def forked():
    def train(trial):
        for step in trial.steps():
            trial.report(step, loss=abs(trial["x"] - 0.4) + 1 / step)

    study = tw.Study.open("pop", {"x": tw.Float(0, 1)}, steps=20, method="pbt", storage="memory", seed=0)
    study.run(train, trials=12, progress="none")
    return study


def marks_of(drawn, kind, panel=0):
    return [m for m in drawn.panels[panel].marks if isinstance(m, kind)]


def test_contours_are_drawn_for_numbers_and_colours_alone_for_options():
    drawn = figure(SINGLE, "contour", x="x", y="y")
    assert len(marks_of(drawn, Contour)) == 7
    (heat,) = marks_of(drawn, Heat)
    assert np.all(np.diff(heat.x) > 0)
    levels = [m.level for m in marks_of(drawn, Contour)]
    assert heat.low < min(levels) < max(levels) < heat.high
    other = figure(SINGLE, "contour", x="c", y="x")
    assert not marks_of(other, Contour)
    assert other.panels[0].x.names == ("a", "b")


def test_a_contour_finds_the_best_region_in_the_users_sign():
    (heat,) = marks_of(figure(UP, "contour", x="x", y="y"), Heat)
    row, column = np.unravel_index(int(np.nanargmax(heat.z)), heat.z.shape)
    assert abs(heat.x[column] - 0.3) < 0.25
    assert heat.y[row] < 0.1


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"x": "z"}, "out of .*; got 'z'"),
        ({"x": "x", "y": "x"}, "'x' twice"),
        ({"colour": "red"}, "takes x, y; got 'colour'"),
    ],
)
def test_wrong_options_are_refused(given, message):
    with pytest.raises(ConfigError, match=message):
        figure(SINGLE, "contour", **given)


def test_parameters_that_never_meet_have_no_contour():
    with pytest.raises(ConfigError, match="C and depth never are"):
        figure(studies.nested(60), "contour", x="C", y="depth")


def test_importance_by_another_measure_is_one_option():
    drawn = figure(SINGLE, "importance", method="fanova")
    assert "fANOVA" in drawn.how
    (bars,) = marks_of(drawn, Bars)
    assert drawn.panels[0].y.names[int(bars.at[0])] == drawn.table[0][0] == "c"
    assert np.all(bars.low <= bars.value)


def test_slopes_have_the_users_sign():
    low, high = figure(SINGLE, "sensitivity"), figure(UP, "sensitivity", trial=UP.best.number)
    assert low.insight.startswith(f"Around trial {SINGLE.best.number}, moving c")
    assert "score" in high.how
    rows = {name: float(change) for name, change, _, _ in low.table}
    assert rows["c"] > 0.5


def test_ablation_names_the_change_that_brought_most():
    drawn = figure(SINGLE, "ablation")
    assert drawn.table[0][:3] == ("c", "a", "b")
    assert "c" in drawn.insight


@pytest.mark.parametrize("against", ["cost", "time", "trials", None])
def test_the_best_can_be_read_against_what_was_spent(against):
    study = studies.stepped()
    drawn = figure(study, "cost", against=against)
    (line,) = marks_of(drawn, Line)
    assert np.all(np.diff(line.points[:, 1]) <= 0)
    assert np.all(np.diff(line.points[:, 0]) >= 0)
    if against in (None, "cost"):
        assert line.points[-1, 0] == pytest.approx(12 * 9 * 0.5)
    with pytest.raises(ConfigError, match="one of cost, time, trials"):
        figure(study, "cost", against="money")


def test_regret_needs_no_known_optimum_and_takes_one():
    assert figure(SINGLE, "regret").insight.endswith(f"the best was found at trial {SINGLE.best.number}.")
    drawn = figure(UP, "regret", known=0.0)
    (line,) = marks_of(drawn, Line)
    assert line.points[-1, 1] == pytest.approx(-UP.best.metrics["score"])


def test_the_distribution_counts_trials_at_least_as_good():
    drawn = figure(UP, "edf")
    (line,) = marks_of(drawn, Line)
    values = np.array([t.metrics["score"] for t in UP.trials])
    for value, share in line.points[::7]:
        assert share == pytest.approx(np.mean(values >= value))
    two = figure(SINGLE, "edf", others=[studies.asked(NUMBERS, lambda c: c["x"] - 1, 40, NUMBERS)])
    assert len(marks_of(two, Line)) == 2
    assert "is better" in two.insight


def test_the_outlook_says_what_more_trials_bring():
    drawn = figure(UP, "stopping", more=30)
    assert drawn.insight.startswith("30 more trials are expected to improve score by")
    band = drawn.panels[0].marks[1]
    assert band.x[0] == 60
    assert np.all(band.low <= band.high)
    assert np.all(np.diff(band.high) >= 0)
    with pytest.raises(ConfigError, match="one objective; got 2"):
        figure(pair(), "stopping")


def test_the_front_is_a_staircase_with_the_trials_on_it():
    study = pair()
    drawn = figure(study, "pareto")
    (dots,) = marks_of(drawn, Dots)
    front = {t.number for t in study.pareto}
    assert {n for n, s in zip(dots.trials, dots.styles, strict=True) if s == "best"} == front
    (line,) = marks_of(drawn, Line)
    steps = np.diff(line.points, axis=0)
    assert np.all((steps[:, 0] == 0) | (steps[:, 1] == 0))


def test_the_hypervolume_grows_to_the_whole():
    (line,) = marks_of(figure(pair(), "hypervolume"), Line)
    assert line.points[-1, 1] == 1
    assert np.all(np.diff(line.points[:, 1]) >= 0)


def test_attainment_of_one_study_and_of_several():
    assert len(marks_of(figure(pair(), "attainment"), Line)) == 3
    drawn = figure(pair(), "attainment", others=[pair(1), pair(2)])
    assert [m.name for m in marks_of(drawn, Line)] == [
        "at least one study",
        "half of the studies",
        "every study",
    ]
    with pytest.raises(ConfigError, match="same objectives"):
        figure(
            pair(),
            "attainment",
            others=[studies.asked(NUMBERS, lambda c: [c["x"], 1], 5, NUMBERS, minimize=["a", "c"])],
        )


def test_forks_lead_from_the_trial_whose_weights_were_taken():
    study = forked()
    drawn = figure(study, "lineage")
    assert drawn.insight.startswith("Trial ")
    stretches = {m.trial: m for m in marks_of(drawn, Line) if m.trial is not None}
    child = next(t for t in study.trials if t.parent is not None)
    assert stretches[child.number].points[0].tolist() == [child.parent[1], child.number]
    with pytest.raises(ConfigError, match="went on with the weights"):
        figure(SINGLE, "lineage")


def test_a_map_marks_failures_and_needs_ten_trials():
    study = studies.asked(NUMBERS, lambda c: None if c["x"] > 0.8 else c["y"], 40, NUMBERS)
    dots = marks_of(figure(study, "footprint"), Dots)[1]
    failed = [t.number for t in study.trials if t.status == "failed"]
    assert [n for n, s in zip(dots.trials, dots.styles, strict=True) if s.startswith("failed")] == failed
    with pytest.raises(ConfigError, match="at least 10 trials"):
        figure(studies.nested(8), "footprint")


def test_there_is_a_method_for_every_chart_and_an_option_for_each_of_its_options():
    for kind in KINDS:
        taken = list(inspect.signature(getattr(Plots, kind)).parameters)[1:]
        assert taken == [*options(kind), "backend"], kind
    assert dir(SINGLE.plot) == sorted(KINDS)


def test_the_backend_of_our_own_shows_itself_and_unknown_ones_are_refused():
    drawn = SINGLE.plot.history(backend="svg")
    assert drawn.kind == "history"
    assert drawn._repr_html_().count("<svg") == 1
    with pytest.raises(ConfigError, match="matplotlib, plotly or svg; got 'vega'"):
        SINGLE.plot.history(backend="vega")


@pytest.mark.slow
@pytest.mark.parametrize("kind", [k for k in KINDS if k not in ("inside", "chosen")])
def test_every_chart_is_drawn_by_both_libraries(kind):
    matplotlib = pytest.importorskip("matplotlib")
    pytest.importorskip("plotly")
    matplotlib.use("Agg")
    study = {
        "pareto": pair,
        "hypervolume": pair,
        "attainment": pair,
        "lineage": forked,
        "curves": forked,
        "transfer": studies.sized,
    }.get(kind, lambda: SINGLE)()
    made = figure(study, kind)
    canvas = study.plot(kind)
    canvas.draw_without_rendering()
    panels = len(made.panels) if isinstance(made.panels, tuple) else 1
    bars = (
        sum(isinstance(m, Heat) for p in made.panels for m in p.marks)
        if isinstance(made.panels, tuple)
        else 0
    )
    assert len(canvas.axes) == panels + bars
    assert canvas.axes[0].get_title(loc="left") == (
        made.panels[0].title if panels and isinstance(made.panels, tuple) else ""
    )
    plain = study.plot(kind, backend="plotly").to_dict()
    assert made.title in plain["layout"]["title"]["text"]
    assert len(plain["data"]) >= panels
    from matplotlib import pyplot

    pyplot.close(canvas)


@pytest.mark.slow
def test_names_of_users_are_text_for_both_libraries():
    pytest.importorskip("plotly")
    space = tw.Space({"$x_{1}$<b>": tw.Float(0, 1), "y": tw.Choice(["$a", "<script>"])})
    study = studies.asked(space, lambda c: c["$x_{1}$<b>"], 30, space, minimize="a$b^")
    for kind in ("slice", "history", "contour", "parallel"):
        plots.figure(study, kind)
        canvas = plots.figure(study, kind)
        from tunewright.analysis.matplotlib_ import draw

        draw(canvas).draw_without_rendering()
        assert "<script" not in study.plot(kind, backend="plotly").to_json()


@pytest.mark.slow
def test_charts_are_written_as_pictures_and_pages(tmp_path):
    for name, begins in (("a.png", b"\x89PNG"), ("a.pdf", b"%PDF"), ("a.html", b"<!doctype html")):
        assert plots.save(SINGLE, "history", tmp_path / name).read_bytes().startswith(begins)


@pytest.mark.parametrize(
    ("library", "ending"), [("matplotlib.figure", "png"), ("plotly.graph_objects", "html")]
)
def test_a_missing_library_is_named_with_what_brings_it(monkeypatch, tmp_path, library, ending):
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(MissingExtra, match=r"tunewright\[plot\]"):
        plots.save(SINGLE, "history", tmp_path / f"a.{ending}")
