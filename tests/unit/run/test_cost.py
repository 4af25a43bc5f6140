"""What a trial costs: what its training says, or the wall time when it says nothing."""

import pytest

import tunewright as tw

SPACE = tw.Space(x=tw.Float(0, 1))


def reports_its_cost(trial):
    for step in trial.steps():
        trial.report(step, loss=trial["x"], cost=7.0)


def says_nothing(trial):
    for step in trial.steps():
        trial.report(step, loss=trial["x"])


def ran(train, method="random", trials=4):
    study = tw.Study.open("costs", SPACE, minimize="loss", steps=9, method=method, storage="memory")
    study.run(train, trials=trials, progress="none")
    return [t for t in study.trials if t.status == "completed"]


def test_reported_costs_are_the_cost_without_the_wall_time():
    assert [t.cost for t in ran(reports_its_cost)] == [63.0] * 4


def test_a_trial_that_paused_on_the_way_costs_all_its_segments():
    done = ran(reports_its_cost, "asha(random)", 12)
    assert done
    assert all(t.cost == pytest.approx(63.0) for t in done)


def test_without_reports_of_cost_wall_time_counts():
    assert all(0 < t.cost < 5 for t in ran(says_nothing))
