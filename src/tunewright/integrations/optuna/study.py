"""The names of ``optuna.study``: making, finding and removing studies."""

from __future__ import annotations

import uuid
from collections.abc import Container, Sequence
from dataclasses import dataclass
from typing import Any

from tunewright.errors import ConfigError
from tunewright.integrations.optuna.setup import Storage, StudyDirection, directions_of, opened
from tunewright.integrations.optuna.studies import Study
from tunewright.integrations.optuna.trial import FrozenTrial, TrialState
from tunewright.opening import missing
from tunewright.store.urls import open_store

__all__ = [
    "MaxTrialsCallback",
    "Study",
    "StudyDirection",
    "StudySummary",
    "create_study",
    "delete_study",
    "get_all_study_names",
    "get_all_study_summaries",
    "load_study",
]


@dataclass(frozen=True, slots=True)
class MaxTrialsCallback:
    """Stops the study once so many of its trials are in one of some states, those of earlier runs included.

    Args:
        n_trials: How many.
        states: Which states count; None for all.
    """

    n_trials: int
    states: Container[TrialState] | None = (TrialState.COMPLETE,)

    def __call__(self, study: Study, trial: FrozenTrial) -> None:
        """Looks after every trial."""
        if len(study.get_trials(states=self.states)) >= self.n_trials:
            study.stop()


@dataclass(frozen=True, slots=True)
class StudySummary:
    """A study in a store.

    Attributes:
        study_name: Its name.
        directions: Direction of each objective.
        best_trial: The best trial; None where there is none, or several objectives.
        n_trials: Number of trials.
        user_attrs: What the program attached to it.
    """

    study_name: str
    directions: list[StudyDirection]
    best_trial: FrozenTrial | None
    n_trials: int
    user_attrs: dict[str, Any]

    @property
    def direction(self) -> StudyDirection:
        """The direction of the first objective."""
        return self.directions[0]


def create_study(
    *,
    storage: Storage = None,
    sampler: Any = None,
    pruner: Any = None,
    study_name: str | None = None,
    direction: str | StudyDirection | None = None,
    load_if_exists: bool = False,
    directions: Sequence[str | StudyDirection] | None = None,
) -> Study:
    """Makes a study.

    Args:
        storage: An address such as ``"sqlite:///studies.db"``, a path or a store; None keeps it in memory.
        sampler: One of ``samplers`` of this package, or a method of ours by name; None for our default.
        pruner: One of ``pruners`` of this package; None for the median rule.
        study_name: Its name; None makes one up.
        direction: ``"minimize"`` or ``"maximize"``.
        load_if_exists: Whether to continue a study of that name.
        directions: One for each of several objectives.

    Raises:
        ConfigError: If something has no counterpart, or contradicts the study that is there.
        StudyExists: If there is one of that name and ``load_if_exists`` is false.
        StoreUnavailable: If the store cannot be opened.
    """
    given = directions_of(direction, directions)
    name = study_name or f"no-name-{uuid.uuid4()}"
    core, chosen = opened(name, storage, given, sampler, pruner, "resume" if load_if_exists else "error")
    return Study(core, chosen)


def load_study(*, study_name: str | None, storage: Storage, sampler: Any = None, pruner: Any = None) -> Study:
    """Opens a study that is there; without a name, the only one in the store.

    Raises:
        ConfigError: If no name is given and there is not just one study.
        StudyMissing: If there is none of that name.
    """
    store = open_store(storage)
    names = [s.name for s in store.studies()]
    if study_name is None:
        if len(names) != 1:
            raise ConfigError(f"A store with {len(names)} studies needs a name; got none. Pass study_name=.")
        study_name = names[0]
    return Study(*opened(study_name, store, None, sampler, pruner, "must"))


def delete_study(*, study_name: str, storage: Storage) -> None:
    """Removes a study with everything in it.

    Raises:
        StudyMissing: If there is none of that name.
    """
    store = open_store(storage)
    info = store.find(study_name)
    if info is None:
        raise missing(study_name, store)
    store.delete(info.id)


def get_all_study_names(storage: Storage) -> list[str]:
    """Names of the studies in a store, oldest first."""
    return [s.name for s in open_store(storage).studies()]


def get_all_study_summaries(storage: Storage, include_best_trial: bool = True) -> list[StudySummary]:
    """What the studies in a store are and came to, oldest first."""
    store = open_store(storage)
    out = []
    for name in get_all_study_names(store):
        study = load_study(study_name=name, storage=store)
        best = None
        if include_best_trial and len(study.directions) == 1 and study.core.session.ledger.best is not None:
            best = study.best_trial
        out.append(StudySummary(name, study.directions, best, len(study.trials), study.user_attrs))
    return out
