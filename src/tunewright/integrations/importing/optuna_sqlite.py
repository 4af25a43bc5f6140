"""Reads a SQLite file that Optuna wrote, with the standard library alone: no Optuna, no SQLAlchemy.

The tables are those of Optuna 2.0 to 5.0 (schema version 12), as a file of 5.0.0 has them.
"""

from __future__ import annotations

import contextlib
import json
import math
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tunewright.errors import SchemaError, StudyMissing
from tunewright.integrations.importing.foreign import ForeignStudy, ForeignTrial, seconds_of
from tunewright.integrations.importing.optuna_words import STATES, Distributions, constrain, goals, settle

_VALUES = {"INF_POS": math.inf, "INF_NEG": -math.inf, "NAN": math.nan}


def is_optuna(path: Path) -> bool:
    """Whether a file is a SQLite file with Optuna's tables."""
    try:
        with _opened(path) as connection:
            return {"studies", "trials", "trial_params"} <= _tables(connection)
    except SchemaError:
        return False


def names(path: Path) -> list[str]:
    """Names of the studies in a file, oldest first.

    Raises:
        SchemaError: If the file is not one of Optuna, or is damaged.
    """
    with _opened(path) as connection:
        return [
            str(name) for (name,) in connection.execute("SELECT study_name FROM studies ORDER BY study_id")
        ]


def read(path: Path, name: str) -> ForeignStudy:
    """Reads a study.

    Raises:
        StudyMissing: If the file has no study of that name.
        SchemaError: If the file is not one of Optuna, or is damaged.
    """
    with _opened(path) as connection:
        found = connection.execute("SELECT study_id FROM studies WHERE study_name = ?", (name,)).fetchone()
        if found is None:
            raise StudyMissing(f"No study '{name}' in {path}; see which ones it has with --dry-run.")
        return _study(connection, int(found[0]), name)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    try:
        connection = sqlite3.connect(f"file:{quote(str(path.absolute()))}?mode=ro", uri=True)
    except sqlite3.Error as error:
        raise _damaged(path, error) from None
    try:
        connection.execute("PRAGMA trusted_schema=OFF")
        yield connection
    except sqlite3.Error as error:
        raise _damaged(path, error) from None
    finally:
        connection.close()


def _damaged(path: Path, error: Exception) -> SchemaError:
    return SchemaError(
        f"An Optuna storage must be a whole SQLite file; {path} gave '{error}'. Correct the path."
    )


def _tables(connection: sqlite3.Connection) -> set[str]:
    return {
        str(name) for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")
    }


def _columns(connection: sqlite3.Connection, table: str) -> set[str]:
    return {str(row[0]) for row in connection.execute("SELECT name FROM pragma_table_info(?)", (table,))}


def _study(connection: sqlite3.Connection, key: int, name: str) -> ForeignStudy:
    study = ForeignStudy(name, "optuna")
    directions = connection.execute(
        "SELECT direction FROM study_directions WHERE study_id = ? ORDER BY objective", (key,)
    )
    system = _attributes(connection, "study_system_attributes", key)
    metrics = goals(study, [str(d) for (d,) in directions] or ["MINIMIZE"], system)
    study.attrs = _attributes(connection, "study_user_attributes", key)
    trials: dict[int, ForeignTrial] = {}
    rows = connection.execute(
        "SELECT trial_id, number, state, datetime_start, datetime_complete FROM trials WHERE study_id = ? ORDER BY trial_id",
        (key,),
    )
    for i, (trial, number, state, began, ended) in enumerate(rows):
        if state not in STATES:
            raise SchemaError(
                f"A trial must have a state of Optuna; trial {number} has {state!r}. Check the file."
            )
        trials[trial] = ForeignTrial(
            i if number is None else int(number),
            STATES[state],
            began=seconds_of(began),
            ended=seconds_of(ended),
        )
    _params(connection, key, study, trials)
    _results(connection, key, metrics, trials)
    _reports(connection, key, metrics[0], trials)
    for trial, attribute, value in _of_trials(connection, "trial_user_attributes", '"key", value_json', key):
        trials[trial].attrs[str(attribute)] = _json(value)
    for trial, attribute, value in _of_trials(
        connection, "trial_system_attributes", '"key", value_json', key
    ):
        _system(study, trials[trial], str(attribute), _json(value))
    study.trials = list(trials.values())
    settle(study)
    return study


def _of_trials(
    connection: sqlite3.Connection, table: str, wanted: str, key: int
) -> Sequence[tuple[Any, ...]]:
    """Rows of a table about the trials of a study, in the order in which they were written."""
    if table not in _tables(connection):
        return []
    return connection.execute(
        f"SELECT a.trial_id, {wanted} FROM {table} AS a JOIN trials AS t ON t.trial_id = a.trial_id "  # noqa: S608 - names from here
        f"WHERE t.study_id = ? ORDER BY a.rowid",
        (key,),
    ).fetchall()


def _params(
    connection: sqlite3.Connection, key: int, study: ForeignStudy, trials: dict[int, ForeignTrial]
) -> None:
    known = Distributions()
    for trial, name, number, text in _of_trials(
        connection, "trial_params", "param_name, param_value, distribution_json", key
    ):
        study.meet(name, known.read(text))
        try:
            trials[trial].params[name] = known.value(text, number)
        except (IndexError, TypeError, ValueError):
            raise SchemaError(
                f"A parameter must have a value of its distribution; trial {trials[trial].number} has {name}={number!r}. "
                f"Check the file."
            ) from None


def _results(
    connection: sqlite3.Connection, key: int, metrics: Sequence[str], trials: dict[int, ForeignTrial]
) -> None:
    # Before version 3 of Optuna there was no column for values that are not finite.
    typed = "value_type" in _columns(connection, "trial_values")
    for trial, objective, value, kind in _of_trials(
        connection, "trial_values", f"objective, value, {'value_type' if typed else 'NULL'}", key
    ):
        if 0 <= objective < len(metrics):
            trials[trial].values[metrics[objective]] = _number(value, kind)


def _reports(connection: sqlite3.Connection, key: int, metric: str, trials: dict[int, ForeignTrial]) -> None:
    typed = "intermediate_value_type" in _columns(connection, "trial_intermediate_values")
    for trial, step, value, kind in _of_trials(
        connection,
        "trial_intermediate_values",
        f"step, intermediate_value, {'intermediate_value_type' if typed else 'NULL'}",
        key,
    ):
        trials[trial].reports.append((int(step), {metric: _number(value, kind)}))
    for one in trials.values():
        one.reports.sort(key=lambda r: r[0])


def _number(value: Any, kind: Any) -> float:
    found = _VALUES.get(kind)
    if found is not None:
        return found
    return math.nan if value is None else float(value)


def _system(study: ForeignStudy, trial: ForeignTrial, key: str, value: Any) -> None:
    if key == "fixed_params" and trial.state == "waiting" and isinstance(value, dict):
        trial.params = value
    else:
        constrain(study, trial, key, value)


def _attributes(connection: sqlite3.Connection, table: str, key: int) -> dict[str, Any]:
    if table not in _tables(connection):
        return {}
    rows = connection.execute(f'SELECT "key", value_json FROM {table} WHERE study_id = ?', (key,))  # noqa: S608 - names from here
    return {str(k): _json(v) for k, v in rows}


def _json(text: Any) -> Any:
    try:
        return json.loads(text)
    except (TypeError, ValueError, RecursionError):
        return text if isinstance(text, str) else repr(text)
