"""What MLflow, TensorBoard and Weights & Biases hold after a run is what the study holds."""

from __future__ import annotations

import logging
import math
import threading
import time
from pathlib import Path
from typing import Any

import pytest

import tunewright as tw
from tunewright.integrations.observing import Observed, TrialFacts, keep

SPACE = {"x": tw.Float(0, 1), "kind": tw.Choice(["a", "b"]), "flag": tw.Bool(), "n": tw.Int(1, 4)}


def _train(trial: Any) -> None:
    for step in trial.steps():
        trial.report(step, loss=trial["x"] / step, other=float(step))
    if trial.number == 2:
        raise ValueError("no luck")


def _study(path: Path | str, name: str = "it's a/study") -> tw.Study:
    return tw.Study.open(name, SPACE, storage=path, steps=3, method="random")


class Slow:
    """An observer that takes its time, and notes in which thread."""

    def __init__(self, pause: float = 0.0) -> None:
        self.calls: list[tuple[str, int]] = []
        self.threads: set[int] = set()
        self.pause = pause

    def _call(self, what: str, number: int) -> None:
        time.sleep(self.pause)
        self.threads.add(threading.get_ident())
        self.calls.append((what, number))

    def began(self, trial: TrialFacts) -> None:
        self._call("began", trial.number)

    def reported(self, trial: TrialFacts, step: int, metrics: Any, at: float) -> None:
        self._call("reported", trial.number)

    def ended(self, trial: TrialFacts) -> None:
        assert trial.status in ("completed", "failed") and trial.ended is not None
        self._call("ended", trial.number)

    def finish(self) -> None:
        self._call("finish", -1)


def test_an_observer_hears_everything_in_order_in_a_thread_of_its_own() -> None:
    slow = Slow(0.002)
    _study("memory").run(_train, trials=3, watch=Observed(slow, "slow"), progress="none", failures=None)
    one = ["began", "reported", "reported", "reported", "ended"]
    assert [what for what, _ in slow.calls] == [*one, *one, *one, "finish"]
    assert threading.get_ident() not in slow.threads and len(slow.threads) == 1


def test_one_that_hangs_does_not_hold_the_run(caplog: pytest.LogCaptureFixture) -> None:
    watch = Observed(Slow(0.5), "the slow one", patience=0.05)
    began = time.monotonic()
    with caplog.at_level(logging.WARNING):
        _study("memory").run(_train, trials=2, watch=watch, progress="none", failures=None)
    assert time.monotonic() - began < 0.5
    assert "the slow one did not take everything within 0.05 seconds" in caplog.text


def test_one_that_raises_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    class Bad(Slow):
        def began(self, trial: TrialFacts) -> None:
            raise OSError("no route")

    with caplog.at_level(logging.WARNING):
        study = _study("memory")
        study.run(_train, trials=4, watch=Observed(Bad(), "bad"), progress="none", failures=None)
    assert len(study.trials) == 4
    assert [r.message for r in caplog.records if "no route" in r.message] == [
        "the run goes on without what bad would have kept: OSError: no route"
    ]


def test_a_study_that_is_there_is_kept_with_its_times() -> None:
    study = _study("memory")
    study.run(_train, trials=3, progress="none", failures=None)
    times: list[float] = []

    class Times(Slow):
        def reported(self, trial: TrialFacts, step: int, metrics: Any, at: float) -> None:
            times.append(at)

    assert keep(study, Observed(Times(), "times", direct=True)) == 3
    assert len(times) == 9 and times == sorted(times)
    assert study.trials[0].at <= times[0] <= study.trials[2].ended_at  # type: ignore[operator]


# ------------------------------------------------------------------ the real libraries


def test_tensorboard_reads_what_we_write(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams import metadata

    from tunewright.integrations.tensorboard import tensorboard_logger

    study = _study(tmp_path / "s.db")
    study.run(_train, trials=3, watch=tensorboard_logger(tmp_path / "runs"), progress="none", failures=None)
    (place,) = (tmp_path / "runs").iterdir()
    assert place.name == "it_s a_study", "a name never leads out of the folder"
    whole = EventAccumulator(str(place)).Reload()
    content = whole.SummaryMetadata(metadata.EXPERIMENT_TAG).plugin_data.content
    experiment = metadata.parse_experiment_plugin_data(content)
    assert {h.name for h in experiment.hparam_infos} == set(SPACE)
    assert [m.name.tag for m in experiment.metric_infos] == ["loss"]
    for trial in study.trials:
        one = EventAccumulator(str(place / f"trial-{trial.number:05d}")).Reload()
        points = [(s.step, s.value) for s in one.Scalars("loss")]
        assert points[:3] == [(r.step, pytest.approx(r.metrics["loss"])) for r in trial.reports]
        content = one.SummaryMetadata(metadata.SESSION_START_INFO_TAG).plugin_data.content
        start = metadata.parse_session_start_info_plugin_data(content)
        assert start.hparams["x"].number_value == trial.params["x"]
        assert start.hparams["kind"].string_value == trial.params["kind"]
        assert start.hparams["flag"].bool_value == trial.params["flag"]
        content = one.SummaryMetadata(metadata.SESSION_END_INFO_TAG).plugin_data.content
        assert metadata.parse_session_end_info_plugin_data(content).status == (2 if trial.number == 2 else 1)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["sqlite", "folder"])
def test_mlflow_holds_a_parent_and_a_run_per_trial(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("mlflow")
    from mlflow import MlflowClient

    from tunewright.integrations.mlflow import mlflow_logger, runs_of

    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}" if kind == "sqlite" else (tmp_path / "mlruns").as_uri()
    study = _study(tmp_path / "s.db")
    study.run(_train, trials=2, watch=mlflow_logger(uri, tags={"team": "a"}), progress="none", failures=None)
    study.run(_train, trials=3, watch=mlflow_logger(uri), progress="none", failures=None)
    client = MlflowClient(uri)
    runs = runs_of(client, study.name)
    assert [r.data.tags["tunewright.trial"] for r in runs] == ["0", "1", "2"]
    assert len({r.data.tags["mlflow.parentRunId"] for r in runs}) == 1, (
        "a study that goes on keeps its parent"
    )
    for run, trial in zip(runs, study.trials, strict=True):
        assert run.data.params == {k: str(v) for k, v in trial.params.items()}
        assert run.info.status == ("FAILED" if trial.status == "failed" else "FINISHED")
        history = client.get_metric_history(run.info.run_id, "loss")
        assert [h.step for h in history][:3] == [1, 2, 3]
        assert run.data.tags.get("team") == ("a" if trial.number < 2 else None)
    assert "no luck" in runs[2].data.tags["tunewright.error"]
    parent = client.get_run(runs[0].data.tags["mlflow.parentRunId"])
    assert parent.info.status == "FINISHED"
    assert parent.data.metrics["best_loss"] == study.best.metrics["loss"]
    again = keep(study, mlflow_logger(uri))
    assert again == 3 and len(runs_of(client, study.name)) == 3, "telling twice makes no second run"


@pytest.mark.slow
def test_wandb_offline_runs_hold_the_trials(tmp_path: Path) -> None:
    pytest.importorskip("wandb")
    from tunewright.integrations.importing import import_study
    from tunewright.integrations.wandb import wandb_logger

    study = _study(tmp_path / "s.db")
    watch = wandb_logger(project="p", folder=tmp_path)
    study.run(_train, trials=3, watch=watch, progress="none", failures=None)
    assert len(list((tmp_path / "wandb").glob("offline-run-*"))) == 3
    # Read back with our own reader of their files.
    done = import_study(tmp_path / "wandb", name="back", minimize="loss", storage=tmp_path / "s.db")
    assert done.trials == {"completed": 2, "failed": 1}
    back = tw.Study.open("back", storage=tmp_path / "s.db", exist="must")
    for ours, theirs in zip(study.trials, back.trials, strict=True):
        assert {k: theirs.params[k] for k in SPACE} == ours.params
        assert math.isclose(theirs.reports[-1].metrics["loss"], ours.reports[-1].metrics["loss"])
