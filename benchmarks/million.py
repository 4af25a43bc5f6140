"""What a very long study costs: ``python -m benchmarks.million [--trials N] [--reports R] [--quick]``.

Builds the log of a study of a million finished trials with ten parameters, saves what a process saves on the way, and
adds the longest tail that is read on top of it. Then fresh processes open the study, ask, tell, and look at it from the
shell. Every figure beyond the first table is CPU time, which a busy machine disturbs little; memory is the peak of the
resident set. The second table shows what an ask, a report and a tell cost beside histories of a thousand trials and more.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.overhead import RESULTS, ROOT, loss, space

GOALS = {"seconds": 2.0, "mib": 1024.0, "growth": 1.1}
TAIL = 20_000
_STEP, _BATCH = 5_000, 100
_SHELL = ("status", "best", "ls")


def peak() -> float:
    """Most MiB that this process held at once."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        return next(int(x.split()[1]) for x in lines if x.startswith("VmHWM")) / 1024
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def opened(folder: str, **options: Any) -> Any:
    """The study, as a user opens it."""
    import tunewright as tw

    return tw.Study.open("long", storage=f"sqlite:///{folder}/studies.db", **options)


def fill(folder: str, trials: int, reports: int) -> None:
    """Appends finished trials in large pieces, as if they had run long ago."""
    import numpy as np

    from tunewright.core.events import Ended, Event, Record, Reported, Started

    study = opened(folder, space=space(), method="random", seed=1, steps=reports or None)
    session, drawn = study.session, study.space
    store, key = session.store, session.info.id
    seq, number = store.last(key), len(session.ledger.trials)
    rng = np.random.default_rng(number)
    while number < trials:
        records: list[Record] = []
        for _ in range(min(_STEP, trials - number)):
            config = drawn.draw(rng)
            token, value = seq + len(records) + 1, loss(config)
            events: list[Event] = [Started(number, config, reports or None, basis=token - 1, by="random")]
            events += [Reported(number, token, s + 1, {"loss": value + reports - s}) for s in range(reports)]
            events.append(Ended(number, token, "completed", {"loss": value}, reports, cost=1.0))
            records += [Record(token + i, 1.6e9 + number, "worker-1", e) for i, e in enumerate(events)]
            number += 1
        store.graft(key, records)
        seq += len(records)


def saved(folder: str) -> dict[str, float]:
    """Opens a study that has no snapshot, from the log alone, which saves some on the way, and saves the last."""
    wall, cpu = time.perf_counter(), time.process_time()
    session = opened(folder, exist="must").session
    session.keep()
    return {"fold": time.perf_counter() - wall, "fold_cpu": time.process_time() - cpu, "mib": peak()}


def use(folder: str, method: str | None) -> dict[str, float]:
    """Opens the study and takes the first steps."""
    import tunewright as tw

    with tempfile.TemporaryDirectory(prefix="tunewright-bench-") as other:
        # What is imported on first use does not count.
        small = tw.Study.open("s", space(), method=method or "random", storage=f"sqlite:///{other}/s.db")
        asked: Any = small.ask()
        asked.tell(1.0)
        small.close()
    out = {"before_mib": peak()}
    wall, cpu = time.perf_counter(), time.process_time()

    def lap(name: str) -> None:
        nonlocal wall, cpu
        out[name], out[f"{name}_cpu"] = time.perf_counter() - wall, time.process_time() - cpu
        out[f"{name}_mib"] = peak()
        wall, cpu = time.perf_counter(), time.process_time()

    study = opened(folder, exist="must", method=method)
    out["trials"], best, counts = len(study.trials), study.best, study.counts
    lap("open")
    assert best.metrics
    assert sum(counts.values()) == out["trials"]
    asked = study.ask()
    lap("ask")
    asked.tell(loss(asked.params))
    lap("tell")
    assert study.trials[int(out["trials"]) // 2].params
    lap("look")
    study.close()
    return out


def walk(folder: str) -> dict[str, float]:
    """Looks at every trial once."""
    study = opened(folder, exist="must")
    before, wall, cpu = peak(), time.perf_counter(), time.process_time()
    done = sum(t.metrics["loss"] > 0 for t in study.trials)
    return {
        "seconds": time.perf_counter() - wall,
        "cpu": time.process_time() - cpu,
        "bytes": 2**20 * (peak() - before) / max(1, done),
        "mib": peak(),
    }


def rates(reports: int, rounds: int, folders: list[str]) -> dict[str, list[float]]:
    """CPU microseconds of an ask, a report and a tell beside each history; the studies take turns, so that a busy
    machine disturbs all alike."""
    studies = [opened(folder, exist="must") for folder in folders]
    spent: list[dict[str, list[float]]] = [{"ask": [], "report": [], "tell": []} for _ in studies]
    for i in range(rounds + 1):
        for study, own in zip(studies, spent, strict=True):
            block = _block(study, reports)
            for name, figure in block.items() if i else ():
                own[name].append(figure)
    for study in studies:
        study.close()
    return {
        name: [statistics.median(own[name]) if own[name] else 0.0 for own in spent]
        for name in ("ask", "report", "tell")
    }


def _block(study: Any, reports: int) -> dict[str, float]:
    ask = report = tell = 0.0
    for _ in range(_BATCH):
        start = time.process_time()
        asked = study.ask()
        asked_at = time.process_time()
        value = loss(asked.params)
        began = time.process_time()
        for step in range(reports):
            asked.report(step + 1, loss=value + reports - step)
        reported_at = time.process_time()
        asked.tell(value)
        tell += time.process_time() - reported_at
        ask, report = ask + asked_at - start, report + reported_at - began
    each = 1e6 / _BATCH
    return {
        "ask": each * ask,
        "tell": each * tell,
        **({"report": each * report / reports} if reports else {}),
    }


def child(*arguments: str) -> dict[str, float]:
    """One of the measurements in a fresh interpreter with one thread."""
    command = [sys.executable, "-m", "benchmarks.million", "--one", *arguments]
    done = subprocess.run(
        command, cwd=ROOT, env=_environment(), stdout=subprocess.PIPE, text=True, check=True
    )
    result: dict[str, float] = json.loads(done.stdout)
    return result


def _environment() -> dict[str, str]:
    threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    return {**os.environ, **threads, "PYTHONWARNINGS": "ignore"}


_WRAP = (
    "import sys; from benchmarks.million import peak; from tunewright.cli import main\n"
    "try: main()\nfinally: print(peak(), file=sys.stderr)"
)


def shell(folder: str, command: str) -> dict[str, float]:
    """A command of ``tunewright``, from the start of the interpreter to its end."""
    target = [] if command == "ls" else ["long"]
    arguments = [command, *target, "--storage", f"sqlite:///{folder}/studies.db"]
    before, wall = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", _WRAP, *arguments], cwd=ROOT, env=_environment(), capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    seconds, after = time.perf_counter() - wall, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"seconds": seconds, "cpu": cpu, "mib": float(done.stderr.split()[-1])}


def sizes(folder: str) -> dict[str, int]:
    """Bytes of the file, and of what can be made again from the log."""
    with sqlite3.connect(f"{folder}/studies.db") as file:
        tables = {row[0] for row in file.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
        out = {"file": Path(f"{folder}/studies.db").stat().st_size}
        for table in ("snapshot", "part"):
            if table in tables:
                found = file.execute(f"SELECT coalesce(sum(length(data)), 0) FROM {table}").fetchone()
                out[table] = int(found[0])
    return out


def prepared(folder: str, trials: int, reports: int) -> dict[str, Any]:
    """Makes the study, with a snapshot and the longest tail."""
    late = min(trials // 2, TAIL // (2 + reports))
    child("fill", folder, str(trials - late), str(reports))
    out = child("saved", folder)
    child("fill", folder, str(trials), str(reports))
    return out


def study_of(folder: str, trials: int, reports: int) -> dict[str, Any]:
    """Everything that is measured on the longest study."""
    body: dict[str, Any] = {"built": prepared(folder, trials, reports)}
    body["use"] = child("use", folder)
    body["shell"] = {command: shell(folder, command) for command in _SHELL}
    body["sizes"] = sizes(folder)
    body["walk"] = child("walk", folder)
    body["tpe"] = child("use", folder, "tpe")
    return body


def show(body: dict[str, Any], trials: int, reports: int) -> None:
    """Prints the first table."""
    print(f"a study of {trials} trials, {reports} reports each, ten parameters, SQLite")
    print(f"{'what':<34}{'wall s':>9}{'CPU s':>9}{'peak MiB':>10}")
    for name in ("open", "ask", "tell", "look"):
        row = body["use"]
        print(f"{name:<34}{row[name]:>9.3f}{row[name + '_cpu']:>9.3f}{row[name + '_mib']:>10.0f}")
    print(
        f"{'ask, first, TPE':<34}{body['tpe']['ask']:>9.3f}{body['tpe']['ask_cpu']:>9.3f}{body['tpe']['ask_mib']:>10.0f}"
    )
    for name, row in body["shell"].items():
        print(f"{'tunewright ' + name:<34}{row['seconds']:>9.3f}{row['cpu']:>9.3f}{row['mib']:>10.0f}")
    row = body["walk"]
    print(
        f"{'every trial':<34}{row['seconds']:>9.3f}{row['cpu']:>9.3f}{row['mib']:>10.0f}  {row['bytes']:.0f} bytes each"
    )
    row = body["built"]
    print(f"{'open without a snapshot':<34}{row['fold']:>9.3f}{row['fold_cpu']:>9.3f}{row['mib']:>10.0f}")
    print("  ".join(f"{name} {size / 2**20:.1f} MiB" for name, size in body["sizes"].items()))


def growth(most: int, reports: int, rounds: int, folder: str) -> list[dict[str, float]]:
    """The second table: cost beside longer and longer histories; the longest is the study that is there already."""
    sizes_ = [n for n in (1_000, 10_000, 100_000, 1_000_000) if n < most]
    with tempfile.TemporaryDirectory(prefix="tunewright-bench-") as other:
        for trials in sizes_:
            Path(other, str(trials)).mkdir()
            prepared(f"{other}/{trials}", trials, reports)
        found: Any = child("rates", str(reports), str(rounds), *(f"{other}/{n}" for n in sizes_), folder)
    table: list[dict[str, float]] = [
        {"trials": n, "ask": a, "report": r, "tell": t}
        for n, a, r, t in zip([*sizes_, most], found["ask"], found["report"], found["tell"], strict=True)
    ]
    print(f"\nCPU us\n{'trials':>10}{'ask':>9}{'report':>9}{'tell':>9}")
    for row in table:
        print(f"{row['trials']:>10}{row['ask']:>9.1f}{row['report']:>9.1f}{row['tell']:>9.1f}", flush=True)
    return table


def verdicts(body: dict[str, Any], table: list[dict[str, float]]) -> dict[str, bool]:
    """What was to be reached."""
    use_, first, last = body["use"], table[0], table[-1]
    return {
        f"open within {GOALS['seconds']:g} s": use_["open"] <= GOALS["seconds"],
        f"open within {GOALS['mib']:g} MiB": use_["open_mib"] <= GOALS["mib"],
        f"ask and tell within {GOALS['growth']:g} of a short study's": last["ask"] + last["tell"]
        <= GOALS["growth"] * (first["ask"] + first["tell"]),
    }


def one(name: str, *rest: str) -> Any:
    """One measurement, in this process."""
    if name == "rates":
        return rates(int(rest[0]), int(rest[1]), list(rest[2:]))
    folder = rest[0]
    if name == "fill":
        fill(folder, int(rest[1]), int(rest[2]))
    if name == "use":
        return use(folder, rest[1] if len(rest) > 1 else None)
    return saved(folder) if name == "saved" else walk(folder) if name == "walk" else {}


def main() -> int:
    """Measures and prints; the full run is kept under ``benchmarks/results`` with ``--save``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=1_000_000)
    parser.add_argument("--reports", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="a study of 20,000 trials")
    parser.add_argument("--folder", help="keep the study here, or use the one that is here")
    parser.add_argument("--save", action="store_true", help="keep the tables under benchmarks/results")
    parser.add_argument("--one", nargs="+", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(one(*args.one)))
        return 0
    trials, rounds = (20_000, 5) if args.quick else (args.trials, 21)
    with tempfile.TemporaryDirectory(prefix="tunewright-bench-") as made:
        folder = args.folder or made
        body = study_of(folder, trials, args.reports)
        show(body, trials, args.reports)
        table = growth(trials, args.reports, rounds, folder)
    reached = verdicts(body, table)
    for what, good in reached.items():
        print(f"{'reached' if good else 'MISSED'}: {what}")
    if args.save:
        RESULTS.mkdir(parents=True, exist_ok=True)
        place = RESULTS / "million.json"
        kept = json.loads(place.read_text()) if place.exists() else {}
        kept[f"{trials} trials, {args.reports} reports"] = {
            "python": platform.python_version(), **body, "growth": table, "reached": reached
        }  # fmt: skip
        place.write_text(json.dumps(kept, indent=1) + "\n")
    return 0 if args.quick or all(reached.values()) else 1


if __name__ == "__main__":
    raise SystemExit(main())
