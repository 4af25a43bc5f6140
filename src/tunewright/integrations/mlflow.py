"""Keeps a study in MLflow: one parent run, and a child run per trial.

*Use when* your results live in MLflow: a tracking server, ``sqlite:///mlflow.db`` or a folder.

*Do not use when* you only want to look at the study: ``tunewright dashboard`` needs no second copy.

Example:
    ::

        from tunewright.integrations.mlflow import mlflow_logger

        study.run(train, trials=50, watch=mlflow_logger("sqlite:///mlflow.db"))
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tunewright.errors import missing_extra
from tunewright.integrations.observing import Observed, StudyFacts, TrialFacts, label

if TYPE_CHECKING:
    from mlflow import MlflowClient

_STUDY, _KEY, _TRIAL, _PARENT = "tunewright.study", "tunewright.key", "tunewright.trial", "mlflow.parentRunId"
_LONGEST = 6_000
_STATUS = {"completed": "FINISHED", "stopped": "FINISHED", "killed": "KILLED"}


def mlflow_logger(
    tracking_uri: str | None = None,
    *,
    experiment: str | None = None,
    tags: Mapping[str, str] | None = None,
    patience: float = 30.0,
) -> Observed:
    """A watcher that keeps a study in MLflow; the runs of a study that goes on are continued.

    Args:
        tracking_uri: Where MLflow keeps runs; None for MLflow's own setting, such as ``MLFLOW_TRACKING_URI``.
        experiment: Name of the experiment; None for the name of the study.
        tags: Put on every run.
        patience: Seconds that the end of a run waits for a slow server.

    Returns:
        What ``study.run(..., watch=)`` and ``observing.keep`` take.

    Raises:
        MissingExtra: If MLflow is not installed.
    """
    try:
        from mlflow import MlflowClient
    except ImportError:
        raise missing_extra("mlflow", "mlflow") from None
    return Observed(
        Runs(MlflowClient(tracking_uri), experiment, dict(tags or {})), "MLflow", patience=patience
    )


class Runs:
    """An observer that writes runs through a client of MLflow, without touching MLflow's active run.

    Args:
        client: Where to write.
        experiment: Name of the experiment; None for the name of the study.
        tags: Put on every run.
    """

    def __init__(self, client: MlflowClient, experiment: str | None, tags: dict[str, str]) -> None:
        self._client = client
        self._experiment = experiment
        self._tags = tags
        self._place = ""
        self._parent = ""
        self._children: dict[int, str] = {}
        self._given: dict[int, set[str]] = {}
        self._best: dict[str, float] = {}

    def began(self, trial: TrialFacts) -> None:
        """Makes the child run, or finds the one of an earlier run of the study."""
        self._open(trial.study)
        found = self._find(trial.study.name, str(trial.number))
        if found is not None:
            self._children[trial.number] = found
            self._given[trial.number] = set(self._client.get_run(found).data.params)
        else:
            tags = {
                _STUDY: trial.study.name,
                _KEY: _key(trial.study.name),
                _TRIAL: str(trial.number),
                _PARENT: self._parent,
                "tunewright.by": trial.by,
            }
            run = self._client.create_run(
                self._place,
                start_time=_milli(trial.began),
                tags={**self._tags, **tags},
                run_name=label(trial),
            )
            self._children[trial.number] = run.info.run_id
            self._given[trial.number] = set()
        self._params(trial)

    def reported(self, trial: TrialFacts, step: int, metrics: Mapping[str, float], at: float) -> None:
        """Logs a report."""
        self._log(self._children[trial.number], metrics, at, step)

    def ended(self, trial: TrialFacts) -> None:
        """Logs the result, and how the trial ended."""
        self._params(trial)
        run = self._children.pop(trial.number)
        self._given.pop(trial.number, None)
        at = trial.ended or trial.began
        self._log(run, trial.metrics, at, trial.step)
        self._client.set_tag(run, "tunewright.status", trial.status)
        if trial.error:
            self._client.set_tag(run, "tunewright.error", trial.error[-_LONGEST:])
        self._client.set_terminated(run, _STATUS.get(trial.status, "FAILED"), _milli(at))
        self._improve(trial, at)

    def finish(self) -> None:
        """Ends the parent run."""
        if self._parent:
            self._client.set_terminated(self._parent, "FINISHED")

    def _open(self, study: StudyFacts) -> None:
        if self._parent:
            return
        name = _title(self._experiment or study.name)
        found = self._client.get_experiment_by_name(name)
        self._place = self._client.create_experiment(name) if found is None else found.experiment_id
        parent = self._find(study.name, "study")
        if parent is None:
            tags = {
                _STUDY: study.name,
                _KEY: _key(study.name),
                _TRIAL: "study",
                "tunewright.method": study.method,
            }
            run = self._client.create_run(
                self._place,
                start_time=_milli(study.created),
                tags={**self._tags, **tags},
                run_name=study.name,
            )
            parent = str(run.info.run_id)
            for n, domain in study.parameters.items():
                self._client.log_param(parent, _safe(f"space.{n}"), str(dict(domain))[:_LONGEST])
        else:
            self._client.update_run(parent, "RUNNING")
        self._parent = parent

    def _find(self, study: str, trial: str) -> str | None:
        wanted = f"tags.`{_KEY}` = '{_key(study)}' and tags.`{_TRIAL}` = '{trial}'"
        runs = self._client.search_runs([self._place], wanted, max_results=1)
        return str(runs[0].info.run_id) if runs else None

    def _params(self, trial: TrialFacts) -> None:
        """Parameters cannot change in MLflow, so each is logged once, as soon as it is known."""
        from mlflow.entities import Param

        given = self._given.setdefault(trial.number, set())
        new = {_safe(k): str(v)[:_LONGEST] for k, v in trial.params.items() if _safe(k) not in given}
        if new:
            given.update(new)
            self._client.log_batch(self._children[trial.number], params=[Param(k, v) for k, v in new.items()])

    def _log(self, run: str, metrics: Mapping[str, float], at: float, step: int) -> None:
        from mlflow.entities import Metric

        values = [Metric(_safe(k), v, _milli(at), step) for k, v in metrics.items() if math.isfinite(v)]
        if values:
            self._client.log_batch(run, metrics=values)

    def _improve(self, trial: TrialFacts, at: float) -> None:
        """The parent has the best value so far, over the number of the trial."""
        if trial.status != "completed" or len(trial.study.goals) != 1:
            return
        ((name, goal),) = trial.study.goals.items()
        value = trial.metrics.get(name)
        sign = 1.0 if goal == "minimize" else -1.0
        if value is None or (name in self._best and sign * value >= sign * self._best[name]):
            return
        self._best[name] = value
        self._log(self._parent, {f"best_{name}": value}, at, trial.number)
        self._client.set_tag(self._parent, "tunewright.best_trial", str(trial.number))


def _milli(at: float) -> int:
    return int(at * 1000)


def _key(name: str) -> str:
    """A study's name as filters of MLflow can hold it, whatever signs are in it."""
    return hashlib.sha256(name.encode()).hexdigest()[:24]


def _title(name: str) -> str:
    """A name as an experiment may have it; MLflow's folders look it up in a filter that has no way to quote quotes."""
    return name.replace("'", "_").replace('"', "_")


def _safe(name: str) -> str:
    """A name as MLflow takes it: letters, digits and a few signs."""
    return "".join(c if c.isalnum() or c in "_-. /" else "_" for c in name)[:250]


def runs_of(client: Any, study: str, experiment: str | None = None) -> list[Any]:
    """The child runs of a study by number, as MLflow returns them.

    Args:
        client: An ``MlflowClient``.
        study: Name of the study.
        experiment: Name of the experiment; None for the name of the study.
    """
    place = client.get_experiment_by_name(_title(experiment or study))
    if place is None:
        return []
    runs = client.search_runs([place.experiment_id], f"tags.`{_KEY}` = '{_key(study)}'", max_results=10_000)
    children = [r for r in runs if r.data.tags.get(_TRIAL, "study") != "study"]
    return sorted(children, key=lambda r: int(r.data.tags[_TRIAL]))
