"""Keeps a study as event files that TensorBoard shows under HPARAMS and SCALARS.

*Use when* you look at your trainings in TensorBoard: the table, parallel coordinates and scatter plots of its HParams page
work on these files, and the reports of each trial are curves.

*Do not use when* trials write event files of their own into the same folder under other names: HParams takes each folder
for one session.

Example:
    ::

        from tunewright.integrations.tensorboard import tensorboard_logger

        study.run(train, trials=50, watch=tensorboard_logger("runs"))

    Then ``tensorboard --logdir runs``.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tunewright.errors import missing_extra
from tunewright.integrations.observing import Observed, StudyFacts, TrialFacts, label

_GOOD = ("completed", "stopped")
_SIGNS = "_-. "


def tensorboard_logger(folder: str | os.PathLike[str]) -> Observed:
    """A watcher that writes event files: one folder per trial, below one per study.

    Args:
        folder: What ``tensorboard --logdir`` is given.

    Returns:
        What ``study.run(..., watch=)`` and ``observing.keep`` take.

    Raises:
        MissingExtra: If TensorBoard is not installed; TensorFlow is not needed.
    """
    return Observed(Sessions(Path(folder)), "TensorBoard", direct=True)


class Sessions:
    """An observer that writes one session of the HParams plugin per trial.

    Args:
        folder: Where.

    Raises:
        MissingExtra: If TensorBoard is not installed.
    """

    def __init__(self, folder: Path) -> None:
        try:
            from tensorboard.compat.proto import event_pb2, summary_pb2
            from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2
            from tensorboard.summary.writer.record_writer import RecordWriter
        except ImportError:
            raise missing_extra("tensorboard", "tensorboard") from None
        self._folder = folder
        self._event, self._summary, self._api = event_pb2.Event, summary_pb2.Summary, api_pb2
        self._metadata, self._data, self._writer = metadata, plugin_data_pb2.HParamsPluginData, RecordWriter
        self._files: dict[int, Any] = {}
        self._written: set[str] = set()

    def began(self, trial: TrialFacts) -> None:
        """Opens the session of a trial, and that of the study with the first one."""
        self._experiment(trial.study)
        self._files[trial.number] = self._open(self._place(trial.study) / label(trial), trial.began)

    def reported(self, trial: TrialFacts, step: int, metrics: Mapping[str, float], at: float) -> None:
        """Writes one point of each curve."""
        self._scalars(self._files[trial.number], metrics, step, at)

    def ended(self, trial: TrialFacts) -> None:
        """Writes the parameters, now that all are known, the result, and how the session ended."""
        file = self._files.pop(trial.number)
        at = trial.ended or trial.began
        start = self._data()
        start.session_start_info.start_time_secs = trial.began
        start.session_start_info.group_name = label(trial)
        start.session_start_info.hparams  # noqa: B018 - touching the map makes the field present
        for name, value in trial.params.items():
            field = start.session_start_info.hparams[name]
            if isinstance(value, bool):
                field.bool_value = value
            elif isinstance(value, int | float):
                field.number_value = float(value)
            else:
                field.string_value = str(value)
        self._plugin(file, self._metadata.SESSION_START_INFO_TAG, start, trial.began)
        self._scalars(file, trial.metrics, trial.step, at)
        end = self._data()
        end.session_end_info.end_time_secs = at
        good = trial.status in _GOOD
        end.session_end_info.status = self._api.STATUS_SUCCESS if good else self._api.STATUS_FAILURE
        self._plugin(file, self._metadata.SESSION_END_INFO_TAG, end, at)
        file.close()

    def finish(self) -> None:
        """Closes what is open: sessions of trials that paused with the run."""
        while self._files:
            self._files.popitem()[1].close()

    def _place(self, study: StudyFacts) -> Path:
        return self._folder / "".join(c if c.isalnum() or c in _SIGNS else "_" for c in study.name).strip(
            ". "
        )

    def _experiment(self, study: StudyFacts) -> None:
        """What the columns of the HParams page are."""
        if study.name in self._written:
            return
        self._written.add(study.name)
        data = self._data()
        data.experiment.time_created_secs = study.created
        data.experiment.description = f"{study.name}, by {study.method}"
        for name, domain in study.parameters.items():
            info = data.experiment.hparam_infos.add(name=name)
            self._describe(info, domain)
        for name, goal in study.goals.items():
            metric = data.experiment.metric_infos.add(display_name=f"{name} ({goal})")
            metric.name.tag = name
        file = self._open(self._place(study), study.created)
        self._plugin(file, self._metadata.EXPERIMENT_TAG, data, study.created)
        file.close()

    def _describe(self, info: Any, domain: Mapping[str, Any]) -> None:
        if "low" in domain:
            info.type = self._api.DATA_TYPE_FLOAT64
            info.domain_interval.min_value = float(domain["low"])
            info.domain_interval.max_value = float(domain["high"])
        elif domain.get("type") == "bool":
            info.type = self._api.DATA_TYPE_BOOL
        else:
            options = domain.get("options", [])
            numbers = bool(options) and all(
                isinstance(o, int | float) and not isinstance(o, bool) for o in options
            )
            info.type = self._api.DATA_TYPE_FLOAT64 if numbers else self._api.DATA_TYPE_STRING
            info.domain_discrete.extend([float(o) for o in options] if numbers else [str(o) for o in options])

    def _open(self, folder: Path, at: float) -> Any:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"events.out.tfevents.{int(at)}.{time.time_ns()}.tunewright"
        file = self._writer(path.open("wb"))
        self._write(file, self._event(wall_time=at, file_version="brain.Event:2"))
        return file

    def _write(self, file: Any, event: Any) -> None:
        file.write(event.SerializeToString())
        file.flush()

    def _scalars(self, file: Any, metrics: Mapping[str, float], step: int, at: float) -> None:
        if metrics:
            values = [self._summary.Value(tag=name, simple_value=value) for name, value in metrics.items()]
            self._write(file, self._event(wall_time=at, step=step, summary=self._summary(value=values)))

    def _plugin(self, file: Any, tag: str, data: Any, at: float) -> None:
        value = self._summary.Value(
            tag=tag, metadata=self._metadata.create_summary_metadata(data), tensor=self._metadata.NULL_TENSOR
        )
        self._write(file, self._event(wall_time=at, summary=self._summary(value=[value])))
