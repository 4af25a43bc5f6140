"""Studies of other tools become studies of ours: the same facts, at their times, ready to go on."""

from __future__ import annotations

import csv
import json
import math
import sqlite3
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import tunewright as tw
from tunewright.cli import main
from tunewright.errors import ConfigError, SchemaError, StudyExists, StudyMissing
from tunewright.integrations.importing import attributes, import_study, origin, studies_in
from tunewright.integrations.importing.foreign import seconds_of

optuna = pytest.importorskip("optuna")
optuna.logging.set_verbosity(optuna.logging.ERROR)
pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")


def _objective(trial: Any) -> float:
    kind = trial.suggest_categorical("opt", ["sgd", "adam", None, True, 3])
    rate = trial.suggest_float("lr", 1e-5, 1e-1, log=True)
    trial.suggest_int("n", 1, 9, step=2)
    if kind == "sgd":
        trial.suggest_float("mom", 0.0, 1.0, step=0.1)
    for step in range(4):
        trial.report(math.nan if step == 2 else rate * step, step)
        if trial.number in (2, 3) and step == 1:
            raise optuna.TrialPruned
    trial.set_user_attr("note", {"a": [1]})
    if trial.number == 4:
        raise ValueError("no luck")
    trial.set_constraint("c", rate - 0.05)
    return math.inf if trial.number == 5 else rate


def _fill(storage: Any) -> Any:
    """A study with every state that there is."""
    study = optuna.create_study(
        study_name="a b", storage=storage, direction="maximize", sampler=optuna.samplers.RandomSampler(seed=1)
    )
    study.enqueue_trial({"lr": 0.01})
    study.optimize(_objective, n_trials=9, catch=(ValueError,))
    study.set_user_attr("who", "me")
    study.ask()
    study.enqueue_trial({"lr": 0.02, "opt": "adam"})
    return study


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("optuna")
    sqlite, journal = folder / "optuna.db", folder / "journal.log"
    _fill(f"sqlite:///{sqlite}")
    backend = optuna.storages.journal.JournalFileBackend(str(journal))
    _fill(optuna.storages.JournalStorage(backend))
    two = optuna.create_study(
        study_name="two", storage=f"sqlite:///{sqlite}", directions=["maximize", "minimize"]
    )
    two.optimize(lambda t: (t.suggest_float("x", 0, 1), t.suggest_float("y", -1, 1)), n_trials=4)
    two.set_metric_names(["acc", "loss"])
    return {"sqlite": sqlite, "journal": journal}


def _theirs(path: Path, kind: str) -> Any:
    if kind == "sqlite":
        return optuna.load_study(study_name="a b", storage=f"sqlite:///{path}")
    backend = optuna.storages.journal.JournalFileBackend(str(path))
    return optuna.load_study(study_name="a b", storage=optuna.storages.JournalStorage(backend))


@pytest.mark.parametrize("kind", ["sqlite", "journal", "object", "url"])
def test_every_fact_of_an_optuna_study_arrives(sources: dict[str, Path], kind: str, tmp_path: Path) -> None:
    place = "journal" if kind == "journal" else "sqlite"
    theirs = _theirs(sources[place], place)
    source: Any = {"object": theirs, "url": f"optuna://sqlite:///{sources['sqlite']}"}.get(
        kind, sources[place]
    )
    done = import_study(source, study="a b", storage=tmp_path / "ours.db")
    assert (done.trials, done.queued) == ({"completed": 5, "stopped": 2, "failed": 2, "lost": 1}, 1)
    with tw.Study.open("a b", storage=tmp_path / "ours.db", exist="must") as study:
        outcomes = {"COMPLETE": "completed", "PRUNED": "stopped", "FAIL": "failed", "RUNNING": "lost"}
        for ours, frozen in zip(study.trials, theirs.trials[:10], strict=True):
            assert ours.params == frozen.params
            assert ours.at == pytest.approx(frozen.datetime_start.timestamp(), abs=1e-5)
            wanted = "failed" if frozen.number == 5 else outcomes[frozen.state.name]
            assert ours.status == wanted
            if wanted != "lost":
                assert ours.ended_at == pytest.approx(frozen.datetime_complete.timestamp(), abs=1e-5)
                assert ours.cost == pytest.approx(frozen.duration.total_seconds(), abs=1e-5)
            if wanted == "completed":
                assert ours.metrics == {"value": frozen.value, "c": pytest.approx(frozen.params["lr"] - 0.05)}
            kept = {r.step - 1: float((r.bad or r.metrics)["value"]) for r in ours.reports}
            assert kept == pytest.approx(dict(frozen.intermediate_values), nan_ok=True)
            assert attributes(study, ours.number) == frozen.user_attrs
        assert attributes(study) == {"who": "me"}
        assert origin(study)["name"] == "a b"  # type: ignore[index]
        waiting = [item.config for item in study.session.ledger.queue.values()]
        assert waiting == [{"lr": 0.02, "opt": "adam"}]
        assert [(li.name, li.upper) for li in study.problem.limits] == [("c", 0.0)]
        assert study.space.domains["lr"] == tw.Float(1e-5, 1e-1, log=True)
        assert study.space.domains["n"] == tw.Int(1, 9, step=2)
        assert study.space.domains["opt"] == tw.Choice(["sgd", "adam", None, True, 3])


def test_an_imported_study_goes_on(sources: dict[str, Path], tmp_path: Path) -> None:
    import_study(sources["sqlite"], study="a b", storage=tmp_path / "ours.db", method="tpe")
    with tw.Study.open("a b", storage=tmp_path / "ours.db", exist="must") as study:
        study.run(lambda lr: {"value": lr, "c": lr - 0.05}, trials=14, progress="none")
        assert study.trials[10].params["lr"] == 0.02, "what waited there is tried first here"
        assert study.trials[10].status == "completed"
        assert len(study.trials) == 14
        assert study.replay().decisions > 0


def test_the_shim_reads_an_imported_study(sources: dict[str, Path], tmp_path: Path) -> None:
    from tunewright.integrations import optuna as here

    import_study(sources["sqlite"], study="a b", storage=tmp_path / "ours.db")
    ours = here.load_study(study_name="a b", storage=f"sqlite:///{tmp_path / 'ours.db'}")
    theirs = _theirs(sources["sqlite"], "sqlite")
    assert ours.trials[0].user_attrs == theirs.trials[0].user_attrs
    assert ours.trials[2].state.name == "PRUNED"
    assert ours.trials[2].intermediate_values == theirs.trials[2].intermediate_values
    ours.core.close()


def test_several_objectives_keep_their_names_and_goals(sources: dict[str, Path]) -> None:
    store = tw.Study.open("x", {"a": tw.Float(0, 1)}, storage="memory").session.store
    done = import_study(sources["sqlite"], study="two", storage=store, name="moved")
    assert done.objectives == {"loss": "minimize", "acc": "maximize"}
    study = tw.Study.open("moved", storage=store, exist="must")
    theirs = optuna.load_study(study_name="two", storage=f"sqlite:///{sources['sqlite']}")
    assert [t.metrics for t in study.trials] == [
        {"acc": t.values[0], "loss": t.values[1]} for t in theirs.trials
    ]
    assert {t.number for t in study.pareto} == {t.number for t in theirs.best_trials}
    with pytest.raises(ConfigError, match="minimize loss"):
        import_study(sources["sqlite"], study="two", minimize="error", dry_run=True)
    renamed = import_study(sources["sqlite"], study="two", minimize="error", maximize="top1", dry_run=True)
    assert renamed.objectives == {"error": "minimize", "top1": "maximize"}


def test_importing_twice_changes_nothing_and_a_study_that_went_on_is_left_alone(
    sources: dict[str, Path], tmp_path: Path
) -> None:
    where = tmp_path / "ours.db"
    first = import_study(sources["sqlite"], study="two", storage=where)
    assert import_study(sources["sqlite"], study="two", storage=where) == first
    with tw.Study.open("two", storage=where, exist="must") as study:
        assert study.session.ledger.cursor == first.records
        study.note("mine now")
    with pytest.raises(StudyExists, match="--as"):
        import_study(sources["sqlite"], study="two", storage=where)


def test_what_is_missing_or_ambiguous_is_said(sources: dict[str, Path], tmp_path: Path) -> None:
    assert studies_in(sources["sqlite"]) == ["a b", "two"]
    with pytest.raises(ConfigError, match=r"a b, two.*--study"):
        import_study(sources["sqlite"], storage="memory")
    with pytest.raises(StudyMissing, match="No study 'tow'"):
        import_study(sources["sqlite"], study="tow", storage="memory")
    with pytest.raises(ConfigError, match="file or folder that is there"):
        import_study(tmp_path / "nothing.db", storage="memory")
    odd = tmp_path / "odd.bin"
    odd.write_bytes(b"\x00" * 4000)
    with pytest.raises(ConfigError, match="Export it as a table"):
        import_study(odd, storage="memory")
    with pytest.raises(ConfigError, match="has none"):
        import_study(tmp_path, minimize="loss", storage="memory")


@pytest.mark.parametrize(
    ("statement", "error"),
    [
        ('UPDATE trial_params SET distribution_json = \'{"name": "os.system"}\'', SchemaError),
        ("UPDATE trial_params SET distribution_json = '[[['", SchemaError),
        ("UPDATE trial_params SET param_value = 99 WHERE param_name = 'opt'", SchemaError),
        ("UPDATE trials SET state = 'DANCING'", SchemaError),
        ("UPDATE trial_params SET param_name = 'a' || char(0) || 'b' WHERE param_name = 'lr'", ValueError),
        ("UPDATE study_system_attributes SET value_json = '{'", None),
        ("UPDATE trial_user_attributes SET value_json = '{\"x\": NaN}'", None),
        ("UPDATE trials SET datetime_start = 'yesterday'", None),
        ("UPDATE trial_intermediate_values SET step = step - 7", None),
        ("DELETE FROM trial_values", None),
        ("DROP TABLE trial_system_attributes", None),
    ],
)
def test_a_damaged_or_hostile_storage_is_an_error_or_harmless(
    sources: dict[str, Path], tmp_path: Path, statement: str, error: type[Exception] | None
) -> None:
    copy = tmp_path / "bad.db"
    copy.write_bytes(sources["sqlite"].read_bytes())
    with sqlite3.connect(copy) as connection:
        connection.execute(statement)
    connection.close()
    store = tmp_path / "ours.db"
    if error is not None:
        with pytest.raises(error):
            import_study(copy, study="a b", storage=store)
        assert not store.exists() or not tw.Study.exists("a b", store)
        return
    import_study(copy, study="a b", storage=store)
    with tw.Study.open("a b", storage=store, exist="must") as study:
        assert len(study.trials) == 10


def test_a_journal_that_breaks_off_is_read_up_to_there(sources: dict[str, Path], tmp_path: Path) -> None:
    whole = sources["journal"].read_bytes()
    torn = tmp_path / "torn.log"
    torn.write_bytes(whole[: len(whole) // 2])
    done = import_study(torn, study="a b", dry_run=True)
    assert 0 < sum(done.trials.values()) < 10
    middle = whole.splitlines(keepends=True)
    middle[3] = b"{oops\n"
    torn.write_bytes(b"".join(middle))
    with pytest.raises(SchemaError, match="line 4"):
        import_study(torn, study="a b", dry_run=True)


# ------------------------------------------------------------------ tables


def test_a_table_of_pandas_from_optuna(sources: dict[str, Path], tmp_path: Path) -> None:
    pytest.importorskip("pandas")
    theirs = _theirs(sources["sqlite"], "sqlite")
    path = tmp_path / "mine.csv"
    theirs.trials_dataframe().to_csv(path, index=False)
    done = import_study(path, maximize="value", storage=tmp_path / "ours.db")
    assert done.trials == {"completed": 5, "stopped": 2, "failed": 2, "lost": 1}
    with tw.Study.open("mine", storage=tmp_path / "ours.db", exist="must") as study:
        assert study.trials[0].params["lr"] == 0.01
        assert set(study.space.domains) == {"opt", "lr", "n", "mom"}
        assert study.trials[0].cost == pytest.approx(theirs.trials[0].duration.total_seconds())


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
def test_what_we_export_comes_back(sources: dict[str, Path], tmp_path: Path, form: str) -> None:
    if form == "parquet":
        pytest.importorskip("pyarrow")
    where = str(tmp_path / "ours.db")
    import_study(sources["sqlite"], study="two", storage=where)
    table = str(tmp_path / f"out.{form}")
    assert CliRunner().invoke(main, ["export", "two", "--storage", where, "-o", table]).exit_code == 0
    import_study(table, name="back", minimize="loss", maximize="acc", storage=where)
    with (
        tw.Study.open("two", storage=where, exist="must") as one,
        tw.Study.open("back", storage=where, exist="must") as two,
    ):
        for a, b in zip(one.trials, two.trials, strict=True):
            assert (a.params, a.metrics, a.status) == (b.params, b.metrics, b.status)
            assert (a.at, a.ended_at) == pytest.approx((b.at, b.ended_at))


def test_what_parameters_may_be_is_guessed_from_the_values(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["rate", "layers", "kind", "bias", "fixed", "loss", "state"])
        writer.writerow([1e-5, 1, "a", "true", 3, 0.5, "FINISHED"])
        writer.writerow([1e-1, 8, "b", "false", 3, 0.25, "FINISHED"])
        writer.writerow([1e-2, 4, "", "false", 3, "", "CRASHED"])
    import_study(path, minimize="loss", storage=tmp_path / "s.db")
    with tw.Study.open("t", storage=tmp_path / "s.db", exist="must") as study:
        assert study.space.domains == {
            "rate": tw.Float(1e-5, 1e-1, log=True),
            "layers": tw.Int(1, 8),
            "kind": tw.Choice(["a", "b"]),
            "bias": tw.Bool(),
            "fixed": tw.Choice([3]),
        }
        assert [t.status for t in study.trials] == ["completed", "completed", "failed"]
        assert study.best.number == 1
    known = import_study(
        path, minimize="loss", space={"rate": tw.Float(1e-7, 1.0, log=True)}, params=["rate"], dry_run=True
    )
    assert known.parameters["rate"]["low"] == 1e-7
    with pytest.raises(ConfigError, match="'los' must be a column"):
        import_study(path, minimize="los", dry_run=True)
    with pytest.raises(ConfigError, match="needs an objective"):
        import_study(path, dry_run=True)


@pytest.mark.parametrize("text", ["[1]\n", "{oops\n", '{"lr": 1}\n{"lr"\n'])
def test_a_damaged_table_is_said(tmp_path: Path, text: str) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text(text)
    with pytest.raises(SchemaError, match="line"):
        import_study(path, minimize="loss", dry_run=True)


def test_times_of_all_kinds() -> None:
    assert seconds_of("2026-01-01T00:00:00+00:00") == 1767225600.0
    assert seconds_of(1767225600) == 1767225600.0
    assert seconds_of(1767225600_000) == 1767225600.0
    assert seconds_of("soon") is None
    assert seconds_of(True) is None


# ------------------------------------------------------------------ Weights & Biases


@pytest.mark.slow
def test_offline_runs_of_weights_and_biases(tmp_path: Path) -> None:
    wandb = pytest.importorskip("wandb")
    settings = wandb.Settings(silent=True, console="off", x_disable_stats=True)
    for i in range(3):
        config = {"lr": [0.1, 0.01, 0.001][i], "model": {"width": 8 + i}}
        run = wandb.init(mode="offline", project="p", dir=tmp_path, config=config, settings=settings)
        for step in range(3):
            run.log({"loss": 1 / (step + 1 + i), "other": step, "text": "x" * 40_000})
        run.finish(exit_code=1 if i == 2 else 0)
    done = import_study(tmp_path / "wandb", name="w", minimize="loss", storage=tmp_path / "s.db")
    assert done.trials == {"completed": 2, "failed": 1}
    with tw.Study.open("w", storage=tmp_path / "s.db", exist="must") as study:
        assert study.trials[1].params == {"lr": 0.01, "model.width": 9}
        assert study.trials[0].metrics == {"loss": pytest.approx(1 / 3), "other": 2.0}
        assert [r.step for r in study.trials[0].reports] == [1, 2, 3]
        assert study.trials[0].at <= study.trials[1].at
    torn = next((tmp_path / "wandb").rglob("run-*.wandb"))
    torn.write_bytes(torn.read_bytes()[:900])
    assert sum(import_study(tmp_path, minimize="loss", dry_run=True).trials.values()) == 3
    torn.write_bytes(b"not a run")
    with pytest.raises(SchemaError, match="begins with"):
        import_study(tmp_path, minimize="loss", dry_run=True)


# ------------------------------------------------------------------ the command and the speed


def test_the_command(sources: dict[str, Path], tmp_path: Path) -> None:
    where, source = str(tmp_path / "s.db"), str(sources["sqlite"])
    run = CliRunner()
    told = run.invoke(main, ["import", source, "--dry-run", "--storage", where])
    assert told.exit_code == 0 and "a b: 10 trials from optuna would be imported" in told.output
    assert not Path(where).exists()
    done = run.invoke(main, ["import", source, "--all", "--storage", where, "--json"])
    assert [s["name"] for s in json.loads(done.output)] == ["a b", "two"]
    shown = run.invoke(main, ["status", "two", "--storage", where])
    assert shown.exit_code == 0 and "minimize loss" in shown.output
    wrong = run.invoke(main, ["import", source, "--storage", where])
    assert wrong.exit_code == 2


@pytest.mark.slow
def test_ten_thousand_trials_take_less_than_five_seconds(tmp_path: Path) -> None:
    path = tmp_path / "big.db"
    optuna.create_study(study_name="big", storage=f"sqlite:///{path}")
    text = optuna.distributions.distribution_to_json(optuna.distributions.FloatDistribution(0, 1))
    n, d = 10_000, 20
    with sqlite3.connect(path) as connection:
        day = "2026-01-01 %02d:%02d:%02d"
        clock = [day % (i // 3600, i // 60 % 60, i % 60) for i in range(n + 1)]
        connection.executemany(
            "INSERT INTO trials VALUES(?, ?, 1, 'COMPLETE', ?, ?)",
            [(i + 1, i, clock[i], clock[i + 1]) for i in range(n)],
        )
        connection.executemany(
            "INSERT INTO trial_params(trial_id, param_name, param_value, distribution_json) VALUES(?, ?, ?, ?)",
            [(i + 1, f"p{j}", (i * 7 + j * 13) % 101 / 101, text) for i in range(n) for j in range(d)],
        )
        connection.executemany(
            "INSERT INTO trial_values(trial_id, objective, value, value_type) VALUES(?, 0, ?, 'FINITE')",
            [(i + 1, i % 977 / 977) for i in range(n)],
        )
    connection.close()
    began = time.process_time()
    done = import_study(path, storage=tmp_path / "ours.db")
    assert time.process_time() - began < 5.0
    assert done.trials == {"completed": n}
