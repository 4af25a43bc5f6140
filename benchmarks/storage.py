"""What a durable trial costs, beside Optuna in the same run: ``python -m benchmarks.storage [--quick]``.

One trial is an ask and a tell through the public API, each in a transaction of its own, with the random sampler and
ten parameters. Processes start together and share one study. Besides trials per second of wall time the table has the
CPU time per trial, which a busy machine disturbs less, and the longest time that any process waited for a call; the CPU
time is that of the clients, without the database's or the server's.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.faults.places import File, Place, Postgres, Server
from benchmarks.overhead import RESULTS, ROOT, loss, space
from benchmarks.postgres import available

# Kinds of store, and how many processes use one study at a time. ``batches`` asks and tells a hundred trials at once.
STORES = {
    "optuna": {"sqlite": (1, 8), "journal": (1, 8), "postgres": (1, 8)},
    "tunewright": {"process": (1, 8, 16), "full": (1, 8, 16), "postgres": (1, 4, 8, 16), "http": (1, 8)},
    "tunewright-batches": {"process": (1,), "postgres": (1, 4), "http": (1,)},
    "tunewright-log": {"process": (1, 8), "full": (1, 8)},
}
# Trials per second of wall time to reach, by (system, kind, processes).
GOALS = {
    ("tunewright", "process", 1): 3000,
    ("tunewright", "process", 8): 2500,
    ("tunewright", "full", 1): 1500,
    ("tunewright", "full", 8): 1500,
    ("tunewright", "postgres", 1): 800,
    ("tunewright", "postgres", 8): 1500,
    ("tunewright", "http", 8): 800,
    ("tunewright-batches", "postgres", 1): 10_000,
}
BATCH = 100
PATIENCE = 0.5
OPEN_GOAL = 0.3
TRIALS, REPORTS = 10_000, 20


def study_of(address: str, **options: Any) -> Any:
    """Our study at an address."""
    import tunewright as tw

    return tw.Study.open("bench", space(), method="random", storage=address, seed=1, **options)


def ours(address: str, kind: str) -> Callable[[], int]:
    """One ask and tell of ours, through the public API."""
    study = study_of(address)

    def step() -> int:
        asked = study.ask()
        asked.tell(loss(asked.params))
        return 1

    return step


def batches(address: str, kind: str) -> Callable[[], int]:
    """A hundred trials asked and told at once."""
    study = study_of(address)

    def step() -> int:
        many = study.ask_many(BATCH)
        study.tell_many([(asked, loss(asked.params)) for asked in many])
        return len(many)

    return step


def raw(address: str, kind: str) -> Callable[[], int]:
    """The same two transactions on the bare log: what the store alone costs."""
    from tunewright.core.events import Ended, Event, Record, Started
    from tunewright.store.clock import worker_id
    from tunewright.store.urls import open_store

    store = open_store(address)
    key, worker = store.create("raw", {}, exist_ok=True).id, worker_id("raw")
    config = {f"parameter_{i}": 0.123456789 * i for i in range(10)}
    seen = {"trials": 0, "cursor": 0}

    def choose(tail: list[Record], expired: object) -> list[Event]:
        seen["trials"] += sum(isinstance(r.event, Started) for r in tail)
        seen["cursor"] = tail[-1].seq if tail else seen["cursor"]
        return [Started(seen["trials"], config)]

    def step() -> int:
        (record,) = store.decide(key, seen["cursor"], choose, worker=worker)
        store.append(key, [Ended(seen["trials"], record.seq, metrics={"loss": 0.5})], worker=worker)
        return 1

    return step


def optunas(address: str, kind: str) -> Callable[[], int]:
    """One ask and tell of Optuna on its SQLite, journal or PostgreSQL storage."""
    study = optuna_study(address, kind)

    def step() -> int:
        trial = study.ask()
        study.tell(trial, loss(suggest(trial)))
        return 1

    return step


def optuna_study(address: str, kind: str) -> Any:
    """Optuna's study; opened one process after the other, because its first starts collide."""
    import warnings

    import optuna
    from optuna.storages.journal import JournalFileBackend

    warnings.simplefilter("ignore")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    storage: Any = address
    if kind == "journal":
        backend = JournalFileBackend(address.removeprefix("journal://"))
        storage = optuna.storages.JournalStorage(backend)
    return optuna.create_study(
        study_name="bench", storage=storage, load_if_exists=True, sampler=optuna.samplers.RandomSampler()
    )


def suggest(trial: Any) -> dict[str, Any]:
    """Ten parameters like those of ``space``."""
    floats = {"f1": (0, 1), "f2": (-5, 5), "f3": (0, 10)}
    config = {k: trial.suggest_float(k, *v) for k, v in floats.items()}
    config |= {"l1": trial.suggest_float("l1", 1e-5, 1, log=True)}
    config |= {"l2": trial.suggest_float("l2", 1e-3, 1e3, log=True)}
    config |= {"i1": trial.suggest_int("i1", 1, 10), "i2": trial.suggest_int("i2", 0, 100)}
    config |= {"i3": trial.suggest_int("i3", 16, 512, log=True)}
    config |= {"c1": trial.suggest_categorical("c1", ["a", "b", "c"])}
    return config | {"c2": trial.suggest_categorical("c2", ["u", "v", "w", "x", "y"])}


STEPS = {"tunewright": ours, "tunewright-batches": batches, "tunewright-log": raw, "optuna": optunas}


def work(system: str, kind: str, address: str, seconds: float) -> None:
    """One worker process: opens the study, waits for the signal, asks and tells until the time is over."""
    step = STEPS[system](address, kind)
    step()
    print("ready", flush=True)
    start = float(sys.stdin.readline())
    while time.time() < start:
        time.sleep(0.001)
    count, longest, cpu = 0, 0.0, time.process_time()
    begun = last = time.perf_counter()
    while last - begun < seconds:
        done = step()
        now = time.perf_counter()
        longest, last, count = max(longest, now - last), now, count + done
    print(
        json.dumps(
            {"count": count, "longest": longest, "cpu": time.process_time() - cpu, "wall": last - begun}
        )
    )


@contextlib.contextmanager
def home(kind: str) -> Iterator[Place]:
    """A fresh store of a kind, with its server where it has one."""
    with tempfile.TemporaryDirectory(prefix="tunewright-bench-") as folder:
        place: Place = File(Path(folder), kind)
        if kind == "postgres":
            place = Postgres()
        elif kind == "http":
            place = Server(Path(folder))
        place.start()
        try:
            yield place
        finally:
            place.close()


def race(system: str, kind: str, processes: int, seconds: float) -> dict[str, float]:
    """Several workers on one fresh study."""
    with home(kind) as place:
        workers = []
        for _ in range(processes):
            worker = child("--work", system, kind, place.url(system.partition("-")[0]), str(seconds))
            assert worker.stdout is not None
            if worker.stdout.readline().strip() != "ready":
                raise SystemExit(f"a worker of {system} {kind} did not start")
            workers.append(worker)
        start = time.time() + 0.5
        for worker in workers:
            assert worker.stdin is not None
            worker.stdin.write(f"{start}\n")
            worker.stdin.flush()
        results = [json.loads(worker.communicate()[0]) for worker in workers]
    count = sum(r["count"] for r in results)
    return {
        "rate": count / max(r["wall"] for r in results),
        "cpu_us": 1e6 * sum(r["cpu"] for r in results) / max(1, count),
        "longest": max(r["longest"] for r in results),
        "fairness": max(r["count"] for r in results) / max(1, min(r["count"] for r in results)),
    }


def child(*arguments: str) -> subprocess.Popen[str]:
    """This module in a fresh interpreter with one thread."""
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "PYTHONWARNINGS": "ignore",
    }
    return subprocess.Popen(
        [sys.executable, "-m", "benchmarks.storage", *arguments],
        cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip


def fill(system: str, folder: str, trials: int) -> None:
    """Makes a study of finished trials with twenty reports each, as fast as the system allows."""
    if system == "optuna":
        import optuna

        study = optuna_study(f"sqlite:///{folder}/optuna.db", "sqlite")
        source = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
        for _ in range(trials):
            trial = source.ask()
            value = loss(suggest(trial))
            for step in range(REPORTS):
                trial.report(value + step, step)
            source.tell(trial, value)
        study.add_trials(source.trials)
        return
    import numpy as np

    from tunewright.core.events import Ended, Event, Reported, Started

    study = study_of(f"sqlite:///{folder}/studies.db", steps=REPORTS)
    rng, session = np.random.default_rng(0), study.session
    for block in range(0, trials, 200):
        events: list[Event] = []
        seq = session.ledger.cursor
        for number in range(block, min(trials, block + 200)):
            config = study.space.draw(rng)
            token, value = seq + len(events) + 1, loss(config)
            events.append(Started(number, config, until=REPORTS))
            events += [Reported(number, token, s + 1, {"loss": value + s}) for s in range(REPORTS)]
            events.append(Ended(number, token, metrics={"loss": value}, step=REPORTS))
        session.record_all(events)
    study.close()


def opened(system: str, folder: str) -> dict[str, float]:
    """Seconds until a fresh process has a study open and knows its best trial; imports do not count."""
    if system == "optuna":
        import optuna  # noqa: F401 - so that the import is not counted
        import sqlalchemy  # noqa: F401
    else:
        study_of(f"sqlite:///{tempfile.mkdtemp(prefix='tunewright-bench-')}/studies.db").close()
    wall, cpu = time.perf_counter(), time.process_time()
    if system == "optuna":
        study = optuna_study(f"sqlite:///{folder}/optuna.db", "sqlite")
        count = len(study.get_trials(deepcopy=False))
    else:
        import tunewright as tw

        study = tw.Study.open("bench", exist="must", storage=f"sqlite:///{folder}/studies.db")
        count = len(study.trials)
    found = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu, "count": count}
    assert study.best_trial.value if system == "optuna" else study.best
    return found


def opening(system: str, trials: int) -> dict[str, float]:
    """Fills a study and opens it in a fresh process."""
    with tempfile.TemporaryDirectory(prefix="tunewright-bench-") as folder:
        fill(system, folder, trials)
        result: dict[str, float] = json.loads(child("--open", system, folder).communicate()[0])
    assert result["count"] == trials
    return result


def median(runs: list[dict[str, float]]) -> dict[str, float]:
    """The medians of every figure; the longest wait is the worst of all runs."""
    out = {key: statistics.median(r[key] for r in runs) for key in runs[0]}
    if "longest" in out:
        out["longest"] = max(r["longest"] for r in runs)
    return out


def races(seconds: float, repeats: int, peer: bool) -> list[dict[str, Any]]:
    """The table of rates."""
    print(
        f"{'store':<24}{'processes':>10}{'trials/s':>10}{'goal':>7}{'CPU us':>8}{'longest s':>11}{'max/min':>9}{'ratio':>8}"
    )
    table: list[dict[str, Any]] = []
    base: dict[int, float] = {}
    for system in [s for s in STORES if peer or s != "optuna"]:
        for kind, counts in STORES[system].items():
            if repeats == 1 and (system, kind) in (("optuna", "journal"), ("optuna", "postgres")):
                continue  # what a quick look is for is ours
            if kind == "postgres" and not available():
                print(f"{system + ' ' + kind:<24} PostgreSQL is not installed")
                continue
            for processes in counts if repeats > 1 else [c for c in counts if c in (1, 8)]:
                runs = [
                    race(system, kind, processes, seconds)
                    for _ in range(repeats if system != "optuna" else 1)
                ]
                row: dict[str, Any] = {"system": system, "kind": kind, "processes": processes, **median(runs)}
                if (system, kind) == ("optuna", "sqlite"):
                    base[processes] = row["rate"]
                goal = GOALS.get((system, kind, processes))
                ratio = f"{row['rate'] / base[processes]:7.1f}x" if processes in base else "-"
                print(
                    f"{system + ' ' + kind:<24}{processes:>10}{row['rate']:>10.0f}{goal or '-':>7}{row['cpu_us']:>8.0f}"
                    f"{row['longest']:>11.3f}{row['fairness']:>9.2f}{ratio:>8}",
                    flush=True,
                )
                table.append({**row, "goal": goal})
    return table


def openings(quick: bool, repeats: int, peer: bool) -> list[dict[str, Any]]:
    """The table of opening times; Optuna's study is smaller in the quick run, because filling it takes minutes."""
    print(f"\nopening a study with {REPORTS} reports per trial in a fresh process")
    print(f"{'store':<24}{'trials':>10}{'wall s':>10}{'CPU s':>10}{'goal':>7}")
    table = []
    for system in ["optuna", "tunewright"] if peer else ["tunewright"]:
        trials = (200 if quick else 2_000) if system == "optuna" else TRIALS
        row = median([opening(system, trials) for _ in range(repeats if system != "optuna" else 1)])
        goal = OPEN_GOAL if system == "tunewright" else None
        print(
            f"{system + ' sqlite':<24}{trials:>10}{row['wall']:>10.3f}{row['cpu']:>10.3f}{goal or '-':>7}",
            flush=True,
        )
        table.append({"system": system, "trials": trials, **row, "goal": goal})
    return table


def main() -> int:
    """Measures and prints the tables; ``--save`` keeps them under ``benchmarks/results``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--save", action="store_true", help="keep the tables under benchmarks/results")
    parser.add_argument("--work", nargs=4, help=argparse.SUPPRESS)
    parser.add_argument("--open", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.work:
        work(args.work[0], args.work[1], args.work[2], float(args.work[3]))
        return 0
    if args.open:
        print(json.dumps(opened(*args.open)))
        return 0
    repeats, seconds = (1, 1.5) if args.quick else (3, 5.0)
    peer = importlib.util.find_spec("optuna") is not None
    version = importlib.metadata.version("optuna") if peer else "not installed"
    print(
        f"random sampler, 10 parameters, median of {repeats}; optuna {version}; Python {platform.python_version()}"
    )
    table = races(seconds, repeats, peer)
    starved = max(
        r["longest"] for r in table if r["system"] == "tunewright" and r["kind"] in ("process", "full")
    )
    print(f"longest wait of any of our processes on SQLite: {starved:.3f} s (to reach: {PATIENCE})")
    opens = openings(args.quick, repeats, peer)
    if args.save:
        RESULTS.mkdir(parents=True, exist_ok=True)
        body = {"optuna": version, "python": platform.python_version(), "rates": table, "opening": opens}
        (RESULTS / "storage.json").write_text(json.dumps(body, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
