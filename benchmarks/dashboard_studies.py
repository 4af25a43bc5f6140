"""One large study for two dashboards: the same numbers as a store of ours, and as a storage of Optuna's.

Run it: ``python -m benchmarks.dashboard_studies ours.db --trials 10000``, and in an environment that has Optuna
``python -m benchmarks.dashboard_studies theirs.db --trials 10000 --optuna``. Rows are written straight into the files,
because asking for and telling each trial would take Optuna an hour; what stands in them is what both would have written.
"""

from __future__ import annotations

import argparse
import datetime
import json
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np

NAME = "large"
START = 1_795_000_000.0
SECONDS = 30.0
WORKERS = 8
OPTIONS = ("adam", "sgd", "lion", "adafactor")


def kinds() -> list[tuple[str, str]]:
    """Names and kinds of the twenty parameters: ``log``, ``float``, ``int`` or ``choice``."""
    wanted = ["log"] * 8 + ["float"] * 6 + ["int"] * 3 + ["choice"] * 3
    return [(f"{kind}_{i:02d}", kind) for i, kind in enumerate(wanted)]


def table(trials: int) -> tuple[list[list[Any]], list[float]]:
    """Values of the parameters by trial, and the losses: later trials keep nearer to what is good.

    Args:
        trials: Number of trials.
    """
    rng = np.random.default_rng(0)
    unit = rng.random((trials, 20))
    near = rng.random(trials) < np.linspace(0.1, 0.9, trials)
    unit[near] = np.clip(0.4 + 0.12 * rng.standard_normal((int(near.sum()), 20)), 0, 1)
    loss = ((unit - 0.4) ** 2 * np.geomspace(3, 0.05, 20)).sum(1) + 0.02 * rng.random(trials)
    columns: list[list[Any]] = []
    for (_, kind), u in zip(kinds(), unit.T, strict=True):
        if kind == "log":
            columns.append([float(x) for x in 10 ** (-6 + 5 * u)])
        elif kind == "float":
            columns.append([float(x) for x in u])
        elif kind == "int":
            columns.append([int(x) for x in 1 + np.floor(u * 127.999)])
        else:
            columns.append([OPTIONS[int(x)] for x in np.floor(u * 3.999)])
    return [list(row) for row in zip(*columns, strict=True)], [float(x) for x in loss]


def ours(path: Path, trials: int) -> None:
    """Writes the study as a store of Tunewright."""
    import tunewright as tw
    from tunewright.core.events import Ended, Event, Record, Started
    from tunewright.store.sqlite import SqliteStore

    domains: dict[str, Any] = {
        "log": lambda: tw.Float(1e-6, 1e-1, log=True),
        "float": lambda: tw.Float(0.0, 1.0),
        "int": lambda: tw.Int(1, 128),
        "choice": lambda: tw.Choice(list(OPTIONS)),
    }
    store = SqliteStore(path)
    space = tw.Space({name: domains[kind]() for name, kind in kinds()})
    with tw.Study.open(NAME, space, minimize="loss", method="random", storage=store) as study:
        key = study.session.info.id
    configs, losses = table(trials)
    names = [name for name, _ in kinds()]
    records: list[Record] = []
    for i, (values, loss) in enumerate(zip(configs, losses, strict=True)):
        seq, at = 2 * i, START + SECONDS * (i // WORKERS)
        config = dict(zip(names, values, strict=True))
        started: Event = Started(i, config, basis=seq, by="random")
        ended: Event = Ended(i, seq + 1, metrics={"loss": loss}, cost=SECONDS)
        worker = f"node/{i % WORKERS}"
        records += [Record(seq + 1, at, worker, started), Record(seq + 2, at + SECONDS, worker, ended)]
        if len(records) >= 10_000:
            store.graft(key, records)
            records = []
    if records:
        store.graft(key, records)
    store.close()


def theirs(path: Path, trials: int) -> None:
    """Writes the study as a storage of Optuna; needs its package."""
    import optuna
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
    from optuna.distributions import distribution_to_json as text

    optuna.create_study(study_name=NAME, storage=f"sqlite:///{path}", direction="minimize")
    distributions = {
        "log": text(FloatDistribution(1e-6, 1e-1, log=True)),
        "float": text(FloatDistribution(0.0, 1.0)),
        "int": text(IntDistribution(1, 128)),
        "choice": text(CategoricalDistribution(OPTIONS)),
    }
    configs, losses = table(trials)
    begin = datetime.datetime.fromtimestamp(START, datetime.UTC).replace(tzinfo=None)
    rows, params, values = [], [], []
    for i, (config, loss) in enumerate(zip(configs, losses, strict=True)):
        at = begin + datetime.timedelta(seconds=SECONDS * (i // WORKERS))
        end = at + datetime.timedelta(seconds=SECONDS)
        rows.append((i + 1, i, 1, "COMPLETE", at.isoformat(" "), end.isoformat(" ")))
        values.append((i + 1, i + 1, 0, loss, "FINITE"))
        for j, ((name, kind), value) in enumerate(zip(kinds(), config, strict=True)):
            number = float(OPTIONS.index(value)) if kind == "choice" else float(value)
            params.append((20 * i + j + 1, i + 1, name, number, distributions[kind]))
    with sqlite3.connect(path) as db:
        db.executemany("INSERT INTO trials VALUES (?, ?, ?, ?, ?, ?)", rows)
        db.executemany("INSERT INTO trial_values VALUES (?, ?, ?, ?, ?)", values)
        db.executemany("INSERT INTO trial_params VALUES (?, ?, ?, ?, ?)", params)
    db.close()


def main() -> None:
    """Writes the file that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("path", type=Path)
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--optuna", action="store_true", help="as a storage of Optuna")
    given = parser.parse_args()
    (theirs if given.optuna else ours)(given.path, given.trials)
    print(json.dumps({"path": str(given.path), "trials": given.trials}))


if __name__ == "__main__":
    main()
