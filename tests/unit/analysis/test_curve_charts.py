"""Learning curves: options, rungs, and seconds of training without pauses."""

from __future__ import annotations

import numpy as np
import pytest
import studies
from test_plots import two_goals

from tunewright.analysis.charts import _lanes
from tunewright.analysis.curve_charts import curves
from tunewright.analysis.front_charts import pareto
from tunewright.analysis.marks import Line
from tunewright.errors import ConfigError


def _drawn(figure):
    return [m for m in figure.panels[0].marks if isinstance(m, Line) and m.trial is not None]


def test_as_many_of_the_best_are_bright_as_asked_for():
    study = studies.stepped("asha(random)")
    for top in (1, 3, "4"):
        bright = [m for m in _drawn(curves(study, top=top)) if m.style.startswith("s")]
        assert len(bright) == int(top)
        others = [m for m in _drawn(curves(study, top=top)) if m.style.startswith("muted")]
        assert min(m.points[-1, 0] for m in bright) >= max(m.points[-1, 0] for m in others)


def test_rungs_are_steps_at_which_several_were_left():
    study = studies.stepped("asha(random)")
    rungs = [m for m in curves(study).panels[0].marks if isinstance(m, Line) and m.name == "rung"]
    assert rungs
    for rung in rungs:
        assert sum(t.step == rung.points[0, 0] for t in study.trials) >= 3


def test_time_grows_along_every_curve_and_keeps_the_values():
    study = studies.stepped("asha(random)")
    by_step = {m.trial: m.points for m in _drawn(curves(study))}
    for mark in _drawn(curves(study, x="time")):
        assert np.all(np.diff(mark.points[:, 0]) >= 0)
        assert np.array_equal(mark.points[:, 1], by_step[mark.trial][:, 1])


@pytest.mark.parametrize("given", [{"x": "trial"}, {"top": 0}, {"top": "many"}])
def test_options_that_cannot_be_used_are_named(given):
    with pytest.raises(ConfigError, match=r"got"):
        curves(studies.stepped("asha(random)"), **given)


def test_a_metric_that_nobody_reported_is_said():
    with pytest.raises(ConfigError, match="learning curves"):
        curves(studies.stepped("asha(random)"), metric="nothing")


def test_a_lane_belongs_to_one_worker_and_holds_one_trial_at_a_time():
    spans = [(0, 0.0, 2.0, "a"), (1, 1.0, 3.0, "b"), (2, 1.5, 4.0, "a"), (3, 2.5, 5.0, "a")]
    names, placed = _lanes(spans)
    assert names == ["a", "a (2)", "b"]
    assert placed == [(0, 0, 0.0, 2.0), (2, 1, 1.0, 3.0), (1, 2, 1.5, 4.0), (0, 3, 2.5, 5.0)]
    assert _lanes(spans[:1])[0] == ["slot 1"]


def test_a_front_shows_the_objectives_that_were_named():
    study = two_goals()
    first, second = (o.name for o in study.problem.objectives)
    plain, turned = pareto(study), pareto(study, x=second)
    assert turned.panels[0].x.label == plain.panels[0].y.label
    assert np.array_equal(turned.panels[0].marks[1].points, plain.panels[0].marks[1].points[:, ::-1])
    with pytest.raises(ConfigError, match="two different"):
        pareto(study, x=first, y=first)
    with pytest.raises(ConfigError, match="shows two of"):
        pareto(study, y="nothing")
