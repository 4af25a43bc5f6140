"""Brings studies of other tools into a store, where they can be looked at and continued.

*Use when* you have results elsewhere: Optuna (SQLite file, journal, database server or study object), runs of Weights &
Biases on disk, or a table as CSV, JSON lines or Parquet.

*Do not use when* the other program still runs and will go on: a study here and one there do not hear of each other.

Example:
    Go on with a study of Optuna::

        from tunewright.integrations.importing import import_study
        import tunewright as tw

        import_study("optuna.db", storage="studies.db")
        study = tw.Study.open("mine", storage="studies.db", exist="must")
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tunewright.core.problem import Goal
from tunewright.core.space import Space
from tunewright.errors import ConfigError
from tunewright.integrations.importing import optuna_journal, optuna_sqlite, tables, wandb_runs
from tunewright.integrations.importing.building import ATTRIBUTE, IMPORTED, Imported, plan, write
from tunewright.integrations.importing.foreign import ForeignStudy, ForeignTrial
from tunewright.store.base import Store
from tunewright.store.urls import open_store
from tunewright.view import View

__all__ = ["ForeignStudy", "ForeignTrial", "Imported", "attributes", "import_study", "read", "studies_in"]

_TABLES = (".csv", ".jsonl", ".ndjson", ".parquet")
_SCHEME = "optuna://"


def import_study(
    source: Any,
    *,
    study: str | None = None,
    name: str | None = None,
    storage: str | os.PathLike[str] | Store | None = None,
    minimize: str | Sequence[str] = (),
    maximize: str | Sequence[str] = (),
    params: Sequence[str] | None = None,
    space: Space | Mapping[str, Any] | None = None,
    method: str = "auto",
    steps: int | None = None,
    seed: int = 0,
    dry_run: bool = False,
) -> Imported:
    """Brings a study into a store; trials keep their parameters, results, states, times and reports.

    Args:
        source: An Optuna SQLite file or journal, ``optuna://`` with a path or the URL of a database, a study object of
            Optuna, a folder with runs of Weights & Biases, or a ``.csv``, ``.jsonl`` or ``.parquet`` file.
        study: Which study, where the source has several.
        name: What to call it here; the same name when not given, the file's name for tables.
        storage: Where it goes; as for ``Study.open``.
        minimize: Metrics to make small, for sources that do not say it.
        maximize: Metrics to make large.
        params: Columns of a table that are parameters; None to tell by their names.
        space: What the parameters may be, where that is better known than from the trials.
        method: What goes on with the study.
        steps: Steps of a full training, to go on with a method that stops trials early.
        seed: Root of the randomness from here on.
        dry_run: Whether to read everything and write nothing.

    Returns:
        What the import came to.

    Raises:
        ConfigError: If the source is of no known kind, or an argument cannot be used.
        StudyMissing: If the source has no such study.
        StudyExists: If the store has another study of that name.
        SchemaError: If the source is damaged.
        MissingExtra: If a library is needed and absent.
    """
    goals: dict[str, Goal] = dict.fromkeys([minimize] if isinstance(minimize, str) else minimize, "minimize")
    goals |= dict.fromkeys([maximize] if isinstance(maximize, str) else maximize, "maximize")
    found = read(source, study=study, goals=goals, params=params)
    wanted = space if space is None or isinstance(space, Space) else Space(dict(space))
    planned = plan(found, name, space=wanted, method=method, steps=steps, seed=seed, place=_place(source))
    if dry_run:
        return planned.summary
    store = open_store(storage)
    try:
        return write(planned, store)
    finally:
        if storage is None or isinstance(storage, str | os.PathLike):
            store.close()


def read(
    source: Any,
    *,
    study: str | None = None,
    goals: Mapping[str, Goal] | None = None,
    params: Sequence[str] | None = None,
) -> ForeignStudy:
    """Reads a study as plain data; see ``import_study`` for the arguments."""
    wanted = dict(goals or {})
    if hasattr(source, "get_trials"):
        from tunewright.integrations.importing.optuna_live import from_object

        return _renamed(from_object(source), wanted)
    kind, place = kind_of(source)
    path = Path(place)
    if kind == "table":
        return tables.read(path, study or path.stem, wanted, params)
    if kind == "wandb":
        return wandb_runs.read(path, study or _folder_name(path), wanted)
    name = study or _only(place, studies_in(source))
    if kind == "optuna server":
        from tunewright.integrations.importing import optuna_live

        return _renamed(optuna_live.read(place, name), wanted)
    reader = optuna_sqlite if kind == "optuna sqlite" else optuna_journal
    return _renamed(reader.read(path, name), wanted)


def studies_in(source: Any) -> list[str]:
    """Names of the studies in an Optuna storage; none for a source that holds one study without a name.

    Raises:
        ConfigError: If the source is of no known kind.
    """
    kind, place = kind_of(source)
    if kind == "optuna sqlite":
        return optuna_sqlite.names(Path(place))
    if kind == "optuna journal":
        return optuna_journal.names(Path(place))
    if kind == "optuna server":
        from tunewright.integrations.importing import optuna_live

        return optuna_live.names(place)
    return []


def kind_of(source: Any) -> tuple[str, str]:
    """What a source is, and its path or address.

    Returns:
        One of ``optuna sqlite``, ``optuna journal``, ``optuna server``, ``table``, ``wandb``; and where it is.

    Raises:
        ConfigError: If it is none of these.
    """
    text = os.fspath(source) if isinstance(source, str | os.PathLike) else ""
    if text.startswith(_SCHEME):
        text = text.removeprefix(_SCHEME)
        if "://" in text and not text.startswith("sqlite:///"):
            return "optuna server", text
    text = text.removeprefix("sqlite:///")
    path = Path(text)
    if text and path.is_dir():
        return "wandb", text
    if text and path.is_file():
        if path.suffix.lower() in _TABLES:
            return "table", text
        if optuna_journal.is_journal(path):
            return "optuna journal", text
        if optuna_sqlite.is_optuna(path):
            return "optuna sqlite", text
    else:
        raise ConfigError(
            f"A source must be a file or folder that is there; got {text or source!r:.200}. Correct the path."
        )
    raise ConfigError(
        f"A source must be an Optuna storage, a folder with runs of Weights & Biases, or a .csv, .jsonl or .parquet file; "
        f"{text} is none. Export it as a table."
    )


def attributes(study: View, trial: int | None = None) -> dict[str, Any]:
    """What was attached to a trial, or to the study itself, in the tool that it was imported from."""
    notes = [n for _, n in study.session.sync().notes if n.topic == ATTRIBUTE and n.trial == trial]
    return {str(n.data["key"]): n.data["value"] for n in notes}


def origin(study: View) -> dict[str, Any] | None:
    """Where a study was imported from, or None for one that was made here."""
    return next((n.data for _, n in study.session.sync().notes if n.topic == IMPORTED), None)


def _only(place: str, names: Sequence[str]) -> str:
    if len(names) == 1:
        return names[0]
    if not names:
        raise ConfigError(f"A storage must hold a study; {Path(place).name} has none. Correct the path.")
    raise ConfigError(
        f"A storage with several studies needs a choice; got {', '.join(names[:20])}. Pass study= (--study), or --all."
    )


def _renamed(study: ForeignStudy, goals: Mapping[str, Goal]) -> ForeignStudy:
    """The names that the user gives to Optuna's unnamed values; the goals must be those of the storage.

    Raises:
        ConfigError: If there are more or fewer, or a goal differs.
    """
    if not goals:
        return study
    names = _matched(study, goals)
    study.goals = {names[n]: g for n, g in study.goals.items()}
    for trial in study.trials:
        trial.values = {names.get(n, n): v for n, v in trial.values.items()}
        trial.reports = [(s, {names.get(n, n): v for n, v in m.items()}) for s, m in trial.reports]
    return study


def _matched(study: ForeignStudy, goals: Mapping[str, Goal]) -> dict[str, str]:
    out: dict[str, str] = {}
    for goal in ("minimize", "maximize"):
        theirs = [n for n, g in study.goals.items() if g == goal]
        ours = [n for n, g in goals.items() if g == goal]
        if len(theirs) != len(ours):
            said = ", ".join(f"{g} {n}" for n, g in study.goals.items())
            raise ConfigError(
                f"The objectives must have the goals that the study has, {said}; got {', '.join(f'{g} {n}' for n, g in goals.items())}. "
                f"Leave --minimize and --maximize out, or name as many."
            )
        out |= dict(zip(theirs, ours, strict=True))
    return out


def _folder_name(path: Path) -> str:
    resolved = path.resolve()
    return resolved.parent.name if resolved.name == "wandb" else resolved.name


def _place(source: Any) -> str:
    """Name of the file or folder; of an address nothing that could hold a password."""
    if not isinstance(source, str | os.PathLike):
        return ""
    text = os.fspath(source).removeprefix(_SCHEME)
    return (
        text.partition("://")[0] if "://" in text and not text.startswith("sqlite:///") else Path(text).name
    )
