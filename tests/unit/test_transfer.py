"""From one study to the next: sources from a store, methods by name, students and teachers in a run."""

from __future__ import annotations

import numpy as np
import pytest

import tunewright as tw
from tunewright import catalog
from tunewright.errors import ConfigError, StudyMissing
from tunewright.models.sources import Source
from tunewright.samplers.portfolio import Portfolio
from tunewright.samplers.rgpe import Rgpe
from tunewright.schedulers.asha import Asha

SPACE = tw.Space(x=tw.Float(0, 1), n=tw.Int(1, 9))


def finish(storage, name, trials=12, goal="minimize", **more):
    with tw.Study.open(name, SPACE, storage=storage, method="random", **{goal: "score"}, **more) as study:
        sign = 1.0 if goal == "minimize" else -1.0
        study.run(lambda x, n: sign * ((x - 0.3) ** 2 + abs(n - 5) / 10), trials=trials, progress="none")


def test_sources_hold_completed_trials_with_lower_as_better(tmp_path):
    storage = tmp_path / "s.db"
    finish(storage, "a")
    finish(storage, "b", goal="maximize", seed=1)
    found = tw.transfer.sources(storage, ["a", "b"])
    assert [s.name for s in found] == ["a", "b"]
    for source in found:
        assert len(source.configs) == 12
        best = source.configs[int(np.argmin(source.losses))]
        assert min(source.losses) == pytest.approx((best["x"] - 0.3) ** 2 + abs(best["n"] - 5) / 10)
    assert len(tw.transfer.sources(storage, ["a"], most=5)[0].losses) == 5


def test_all_studies_with_results_are_taken_when_none_is_named(tmp_path):
    storage = tmp_path / "s.db"
    finish(storage, "a")
    tw.Study.open("empty", SPACE, storage=storage).close()
    assert [s.name for s in tw.transfer.sources(storage)] == ["a"]
    with pytest.raises(ConfigError, match="at least two results"):
        tw.transfer.sources(storage, ["empty"])
    with pytest.raises(StudyMissing, match="did you mean 'empty'"):
        tw.transfer.sources(storage, ["emty"])
    with pytest.raises(ConfigError, match="most=1"):
        tw.transfer.sources(storage, most=1)


@pytest.mark.parametrize("method", ["transfer", "copula", "rgpe", "bounding_box(random)", "portfolio(tpe)"])
def test_a_study_learns_from_earlier_ones_and_remembers_them(tmp_path, method):
    storage = tmp_path / "s.db"
    finish(storage, "a", trials=30)
    earlier = tw.transfer.sources(storage, ["a"])

    def loss(x, n):
        return (x - 0.3) ** 2 + abs(n - 5) / 10

    with tw.Study.open("new", SPACE, storage=storage, method=method, options={"sources": earlier}) as study:
        study.run(loss, trials=3, progress="none")
        configs = [t.config for t in study.trials]
    with tw.Study.open("new", storage=storage) as again:
        again.run(loss, trials=5, progress="none")
        assert [t.config for t in again.trials[:3]] == configs
        assert again.replay().decisions >= 5
        if method != "bounding_box(random)":
            assert again.best.metrics["loss"] < 0.15


def test_names_nest_and_options_go_to_whoever_knows_them():
    source = Source("s", ({"x": 0.1}, {"x": 0.2}), (1.0, 2.0))
    made = catalog.build("asha(portfolio(rgpe))", {"sources": [source], "eta": 4, "size": 3, "initial": 5})
    assert made == Asha(Portfolio(Rgpe((source,), initial=5), (source,), 3), 4)
    assert catalog.build("transfer") == Portfolio(Rgpe())
    with pytest.raises(ConfigError, match="Did you mean 'sources'"):
        catalog.build("transfer", {"source": []})
    for wrong in ("tpe(random)", "asha(tpe", "asha(portfolio(tpe)"):
        with pytest.raises(ConfigError, match="written name or name"):
            catalog.build(wrong)


def test_a_sampler_passed_as_an_option_stands_alone():
    assert catalog.build("portfolio", {"sampler": Rgpe(), "size": 2}) == Portfolio(Rgpe(), size=2)


@pytest.mark.parametrize("steps", [None, 2])
def test_students_and_teachers_reach_the_training(tmp_path, steps):
    space = tw.Space(x=tw.Float(0, 1))
    met = {}

    def train(trial):
        met[trial.number] = (trial.checkpoint.load(), trial.checkpoint.load_teacher(), trial.step)
        for step in trial.steps(2):
            trial.checkpoint.save({"from": trial.number})
            trial.report(step, loss=trial.params["x"])

    options = {"warmup": 3, "top": 3}
    with tw.Study.open(
        "boss", space, steps=steps, method="boss(random)", options=options, storage=tmp_path / "s.db"
    ) as study:
        study.run(train, trials=8, progress="none")
        assert all(t.status == "completed" for t in study.trials)
        for trial in study.trials:
            student, teacher, step = met[trial.number]
            assert step == 0
            if trial.number < 3:
                assert student is None
                assert teacher is None
                assert trial.parent is None
            else:
                assert student == {"from": trial.parent[0]}
                assert teacher == {"from": trial.why["teacher"]}
                assert trial.parent[0] != trial.why["teacher"]


def test_the_command_line_learns_from_earlier_studies(tmp_path, monkeypatch):
    from tunewright.cli import main

    monkeypatch.chdir(tmp_path)
    finish("s.db", "a", trials=20)
    (tmp_path / "f.py").write_text("def train(x, n):\n    return (x - 0.3) ** 2 + abs(n - 5) / 10\n")
    words = [
        "run",
        "f.py:train",
        "--name",
        "b",
        "--transfer-from",
        "a",
        "--storage",
        "s.db",
        "--minimize",
        "score",
    ]
    words += ["--progress", "none", "--space", "x=0..1; n=1..9", "--trials"]
    for trials in ("2", "4"):
        with pytest.raises(SystemExit) as stop:
            main([*words, trials])
        assert not stop.value.code
    with tw.Study.open("b", storage="s.db", exist="must") as study:
        assert study.method == "transfer"
        assert len(study.trials) == 4
        assert study.trials[0].why == {"portfolio": 0.0}
        assert study.best.metrics["score"] < 0.3
