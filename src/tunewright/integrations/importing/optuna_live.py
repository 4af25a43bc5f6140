"""Reads a study through Optuna itself: from a database server, or from a study object that is at hand."""

from __future__ import annotations

import importlib
import json
from typing import Any

from tunewright.errors import StoreUnavailable, StudyMissing, missing_extra
from tunewright.integrations.importing.foreign import ForeignStudy, ForeignTrial
from tunewright.integrations.importing.optuna_words import STATES, Distributions, constrain, goals, settle


def names(url: str) -> list[str]:
    """Names of the studies in a storage.

    Raises:
        MissingExtra: If Optuna is not installed.
        StoreUnavailable: If the storage cannot be opened.
    """
    optuna = _library()
    try:
        return [str(n) for n in optuna.get_all_study_names(storage=url)]
    except Exception as error:  # noqa: BLE001 - each database driver has errors of its own
        raise _unreachable(error) from None


def read(url: str, name: str) -> ForeignStudy:
    """Reads a study from a storage.

    Raises:
        MissingExtra: If Optuna is not installed.
        StoreUnavailable: If the storage cannot be opened.
        StudyMissing: If it has no study of that name.
    """
    optuna = _library()
    try:
        study = optuna.load_study(study_name=name, storage=url)
    except KeyError:
        raise StudyMissing(
            f"No study '{name}' in the storage; see which ones it has with --dry-run."
        ) from None
    except Exception as error:  # noqa: BLE001 - each database driver has errors of its own
        raise _unreachable(error) from None
    return from_object(study)


def from_object(study: Any) -> ForeignStudy:
    """What a study object of Optuna holds."""
    to_json = _library().distributions.distribution_to_json
    out = ForeignStudy(str(study.study_name), "optuna", attrs=dict(study.user_attrs))
    names = {"study:metric_names": study.metric_names} if study.metric_names else {}
    metrics = goals(out, [d.name for d in study.directions], names)
    known = Distributions()
    for frozen in study.get_trials(deepcopy=False):
        trial = ForeignTrial(frozen.number, STATES[frozen.state.name], attrs=dict(frozen.user_attrs))
        for name, distribution in frozen.distributions.items():
            text = to_json(distribution)
            out.meet(name, known.read(text))
            trial.params[name] = known.value(text, distribution.to_internal_repr(frozen.params[name]))
        trial.values = dict(zip(metrics, frozen.values or (), strict=False))
        trial.reports = [(s, {metrics[0]: v}) for s, v in sorted(frozen.intermediate_values.items())]
        trial.began = None if frozen.datetime_start is None else frozen.datetime_start.timestamp()
        trial.ended = None if frozen.datetime_complete is None else frozen.datetime_complete.timestamp()
        for key, value in frozen.system_attrs.items():
            if key == "fixed_params" and trial.state == "waiting":
                trial.params = json.loads(json.dumps(value))
            else:
                constrain(out, trial, key, value)
        out.trials.append(trial)
    settle(out)
    return out


def _library() -> Any:
    try:
        return importlib.import_module("optuna")
    except ImportError:
        raise missing_extra("optuna", "optuna") from None


def _unreachable(error: Exception) -> StoreUnavailable:
    # The text of a driver's error may hold the address with its password.
    return StoreUnavailable(
        f"The Optuna storage must be reachable; opening it gave {type(error).__name__}. Check the address and the driver."
    )
