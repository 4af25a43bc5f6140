"""Reads a journal file that Optuna's ``JournalStorage`` wrote: one operation per line, replayed in order."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tunewright.errors import SchemaError, StudyMissing
from tunewright.integrations.importing.foreign import ForeignStudy, ForeignTrial, seconds_of
from tunewright.integrations.importing.optuna_words import (
    GOALS,
    NAMES,
    STATES,
    Distributions,
    constrain,
    goals,
    settle,
)

_STATES = ("RUNNING", "COMPLETE", "PRUNED", "FAIL", "WAITING")
_DIRECTIONS = ("NOT_SET", *GOALS)
_OVER = ("completed", "stopped", "failed")


def is_journal(path: Path) -> bool:
    """Whether a file begins like a journal."""
    try:
        with path.open("rb") as stream:
            first = json.loads(stream.readline(1 << 20))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(first, dict) and "op_code" in first


def names(path: Path) -> list[str]:
    """Names of the studies in a journal, oldest first.

    Raises:
        SchemaError: If a line in the middle is damaged.
    """
    return [study.name for study in _replayed(path)]


def read(path: Path, name: str) -> ForeignStudy:
    """Reads a study.

    Raises:
        StudyMissing: If the journal has no study of that name.
        SchemaError: If a line in the middle is damaged.
    """
    for study in _replayed(path):
        if study.name == name:
            settle(study)
            return study
    raise StudyMissing(f"No study '{name}' in {path}; see which ones it has with --dry-run.")


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    """The operations; a last line that was never finished is left out, as Optuna leaves it out."""
    with path.open("rb") as stream:
        for number, line in enumerate(stream, start=1):
            try:
                entry = json.loads(line)
                if not isinstance(entry, dict):
                    raise ValueError("no object")
            except (ValueError, RecursionError) as error:
                if not line.endswith(b"\n"):
                    return
                raise SchemaError(
                    f"Every line of a journal must be JSON; line {number} of {path} gave '{error}'. Restore it."
                ) from None
            yield entry


def _replayed(path: Path) -> list[ForeignStudy]:
    replay = _Replay()
    for entry in _lines(path):
        try:
            replay.apply(entry)
        except (KeyError, IndexError, TypeError, AttributeError, ValueError) as error:
            raise SchemaError(
                f"A journal must hold operations of Optuna; {str(entry)[:200]} gave {type(error).__name__} '{error}'. "
                f"Check the file."
            ) from None
    return [study for study in replay.studies if study is not None]


class _Replay:
    """The studies as they stand after the operations so far."""

    def __init__(self) -> None:
        self.studies: list[ForeignStudy | None] = []
        self._directions: list[list[str]] = []
        self._metrics: list[list[str]] = []
        self._trials: list[tuple[int, ForeignTrial]] = []
        self._known = Distributions()
        self._rules = (
            self._create_study, self._delete_study, self._study_attr, self._study_system, self._create_trial,
            self._param, self._state, self._report, self._attr, self._system, self._discard,
        )  # fmt: skip

    def apply(self, entry: dict[str, Any]) -> None:
        """Takes in one operation."""
        self._rules[entry["op_code"]](entry)

    def _study(self, entry: dict[str, Any]) -> ForeignStudy | None:
        key = entry["study_id"]
        return self.studies[key] if 0 <= key < len(self.studies) else None

    def _open(self, entry: dict[str, Any]) -> tuple[int, ForeignStudy, ForeignTrial] | None:
        """The trial that an operation may still change: a finished one stays as it is."""
        key = entry["trial_id"]
        if not 0 <= key < len(self._trials):
            return None
        place, trial = self._trials[key]
        study = self.studies[place]
        return None if study is None or trial.state in _OVER else (place, study, trial)

    def _create_study(self, entry: dict[str, Any]) -> None:
        if any(s is not None and s.name == entry["study_name"] for s in self.studies):
            return
        study = ForeignStudy(str(entry["study_name"]), "optuna")
        directions = [_DIRECTIONS[d] for d in entry["directions"]]
        self._directions.append(directions)
        self._metrics.append(goals(study, directions, {}))
        self.studies.append(study)

    def _delete_study(self, entry: dict[str, Any]) -> None:
        if self._study(entry) is not None:
            self.studies[entry["study_id"]] = None

    def _study_attr(self, entry: dict[str, Any]) -> None:
        study = self._study(entry)
        if study is not None:
            study.attrs.update(entry["user_attr"])

    def _study_system(self, entry: dict[str, Any]) -> None:
        study = self._study(entry)
        if study is None:
            return
        if NAMES not in entry["system_attr"]:
            return
        place = entry["study_id"]
        old, new = self._metrics[place], goals(study, self._directions[place], entry["system_attr"])
        renamed = dict(zip(old, new, strict=True))
        for trial in study.trials:
            trial.values = {renamed.get(n, n): v for n, v in trial.values.items()}
            trial.reports = [(s, {renamed.get(n, n): v for n, v in m.items()}) for s, m in trial.reports]
        self._metrics[place] = new

    def _create_trial(self, entry: dict[str, Any]) -> None:
        study = self._study(entry)
        if study is None:
            return
        state = _STATES[entry.get("state", 0)]
        trial = ForeignTrial(len(study.trials), STATES[state], began=seconds_of(entry.get("datetime_start")))
        place = entry["study_id"]
        self._trials.append((place, trial))
        study.trials.append(trial)
        for name, text in (entry.get("distributions") or {}).items():
            study.meet(name, self._known.read(text))
            trial.params[name] = self._known.value(text, entry["params"][name])
        trial.attrs.update(entry.get("user_attrs") or {})
        for step, value in (entry.get("intermediate_values") or {}).items():
            trial.reports.append((int(step), {self._metrics[place][0]: value}))
        self._values(place, trial, entry)
        for key, value in (entry.get("system_attrs") or {}).items():
            self._kept(study, trial, key, value)

    def _values(self, place: int, trial: ForeignTrial, entry: dict[str, Any]) -> None:
        trial.ended = seconds_of(entry.get("datetime_complete")) or trial.ended
        values = entry.get("values") or ([entry["value"]] if entry.get("value") is not None else [])
        trial.values.update(zip(self._metrics[place], map(float, values), strict=False))

    def _param(self, entry: dict[str, Any]) -> None:
        found = self._open(entry)
        if found is not None:
            _, study, trial = found
            text = entry["distribution"]
            study.meet(entry["param_name"], self._known.read(text))
            trial.params[entry["param_name"]] = self._known.value(text, entry["param_value_internal"])

    def _state(self, entry: dict[str, Any]) -> None:
        found = self._open(entry)
        if found is None:
            return
        place, _, trial = found
        state = STATES[_STATES[entry["state"]]]
        if state == trial.state == "running":
            return
        trial.state = state
        if state == "running":
            # Values that were fixed when it waited come again, each with its range.
            trial.params = {}
            trial.began = seconds_of(entry.get("datetime_start")) or trial.began
        self._values(place, trial, entry)

    def _report(self, entry: dict[str, Any]) -> None:
        found = self._open(entry)
        if found is not None:
            place, _, trial = found
            trial.reports = [r for r in trial.reports if r[0] != entry["step"]]
            trial.reports.append(
                (int(entry["step"]), {self._metrics[place][0]: float(entry["intermediate_value"])})
            )
            trial.reports.sort(key=lambda r: r[0])

    def _attr(self, entry: dict[str, Any]) -> None:
        found = self._open(entry)
        if found is not None:
            found[2].attrs.update(entry["user_attr"])

    def _system(self, entry: dict[str, Any]) -> None:
        found = self._open(entry)
        if found is not None:
            for key, value in entry["system_attr"].items():
                self._kept(found[1], found[2], key, value)

    @staticmethod
    def _kept(study: ForeignStudy, trial: ForeignTrial, key: str, value: Any) -> None:
        if key == "fixed_params" and trial.state == "waiting" and isinstance(value, dict):
            trial.params = dict(value)
        else:
            constrain(study, trial, key, value)

    def _discard(self, entry: dict[str, Any]) -> None:
        """Optuna's own housekeeping, of trials that were never begun."""
