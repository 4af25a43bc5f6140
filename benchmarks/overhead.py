"""What asking and telling cost, beside Optuna in the same run: ``python -m benchmarks.overhead [--quick]``.

Every figure is CPU time of a fresh interpreter, the median of several runs, so that a busy machine disturbs it
little. Optuna's rows are left out where it is not installed (``pip install "tunewright[bench]"``).
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
GOALS = {
    "import": 0.15,
    "import with Study": 0.15,
    "random ask+tell": 0.05,
    "random ask+tell at 100000": 0.05,
    "tpe at 100": 0.7,
    "tpe at 1000": 1.5,
    "tpe at 10000": 2.0,
    "gp ask at 50": 15.0,
    "gp ask at 100": 30.0,
    "gp ask at 300": 120.0,
    "memory per trial": 1.0,
}
UNITS = {"import": "s", "import with Study": "s", "memory per trial": "KiB"}


def space() -> Any:
    """The 10-dimensional mixed space of the tables: five floats, three whole numbers, two choices."""
    import tunewright as tw

    return tw.Space(
        f1=tw.Float(0, 1),
        f2=tw.Float(-5, 5),
        f3=tw.Float(0, 10),
        l1=tw.Float(1e-5, 1, log=True),
        l2=tw.Float(1e-3, 1e3, log=True),
        i1=tw.Int(1, 10),
        i2=tw.Int(0, 100),
        i3=tw.Int(16, 512, log=True),
        c1=tw.Choice(["a", "b", "c"]),
        c2=tw.Choice(["u", "v", "w", "x", "y"]),
    )


def loss(c: dict[str, Any]) -> float:
    """A cheap objective with an optimum inside the space."""
    from math import log2, log10

    return (
        (c["f1"] - 0.3) ** 2
        + abs(c["f2"]) / 5
        + c["f3"] / 10
        + (log10(c["l1"]) + 3) ** 2 / 9
        + abs(log10(c["l2"])) / 3
        + abs(c["i1"] - 4) / 10
        + c["i2"] / 100
        + abs(log2(c["i3"]) - 7) / 5
        + (c["c1"] != "b")
        + (c["c2"] != "w") * 0.5
    )


def ours(method: str, prefill: int, count: int) -> float:
    """CPU milliseconds per ask and tell of one of our methods, after ``prefill`` trials."""
    import numpy as np

    import tunewright as tw
    from tunewright.core.events import Ended, Event, Started

    study = tw.Study.open("bench", space(), method=method, storage="memory", seed=1)
    session = study.session
    rng = np.random.default_rng(0)
    for block in range(0, prefill, 1000):
        events: list[Event] = []
        seq = session.ledger.cursor
        for number in range(block, min(prefill, block + 1000)):
            config = study.space.draw(rng)
            events += [Started(number, config), Ended(number, seq + 1, metrics={"loss": loss(config)})]
            seq += 2
        session.record_all(events)
    for _ in range(2):
        asked = study.ask()
        asked.tell(loss(asked.params))
    spent = 0.0
    for _ in range(count):
        start = time.process_time()
        asked = study.ask()
        spent += time.process_time() - start
        value = loss(asked.params)
        start = time.process_time()
        asked.tell(value)
        spent += time.process_time() - start
    return 1e3 * spent / count


def optunas(sampler: str, prefill: int, count: int) -> float:
    """The same for Optuna."""
    import warnings

    import optuna

    warnings.simplefilter("ignore")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    make = {
        "random": lambda: optuna.samplers.RandomSampler(seed=1),
        "tpe": lambda: optuna.samplers.TPESampler(seed=1),
        "gp": lambda: optuna.samplers.GPSampler(seed=1, deterministic_objective=True),
    }[sampler]

    def suggest(trial: Any) -> dict[str, Any]:
        return {
            "f1": trial.suggest_float("f1", 0, 1),
            "f2": trial.suggest_float("f2", -5, 5),
            "f3": trial.suggest_float("f3", 0, 10),
            "l1": trial.suggest_float("l1", 1e-5, 1, log=True),
            "l2": trial.suggest_float("l2", 1e-3, 1e3, log=True),
            "i1": trial.suggest_int("i1", 1, 10),
            "i2": trial.suggest_int("i2", 0, 100),
            "i3": trial.suggest_int("i3", 16, 512, log=True),
            "c1": trial.suggest_categorical("c1", ["a", "b", "c"]),
            "c2": trial.suggest_categorical("c2", ["u", "v", "w", "x", "y"]),
        }

    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(prefill):
        trial = study.ask()
        study.tell(trial, loss(suggest(trial)))
    study.sampler = make()
    for _ in range(2):
        trial = study.ask()
        study.tell(trial, loss(suggest(trial)))
    spent = 0.0
    for _ in range(count):
        start = time.process_time()
        trial = study.ask()
        config = suggest(trial)
        spent += time.process_time() - start
        value = loss(config)
        start = time.process_time()
        study.tell(trial, value)
        spent += time.process_time() - start
    return 1e3 * spent / count


def memory(system: str, count: int) -> float:
    """KiB held per trial of a random search in memory, by the growth of the resident set."""
    run = ours if system == "tunewright" else optunas
    run("random", 0, 200)
    before = _resident()
    run("random", 0, count)
    return (_resident() - before) / count


def _resident() -> float:
    fields = Path("/proc/self/statm").read_text().split()
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE") / 1024


def held(count: int) -> float:
    """KiB per trial that stay allocated in a random search of ours, counted by the allocator."""
    import gc
    import tracemalloc

    import tunewright as tw

    study = tw.Study.open("bench", space(), method="random", storage="memory")

    def more(n: int) -> None:
        for _ in range(n):
            asked = study.ask()
            asked.tell(loss(asked.params))

    more(100)
    gc.collect()
    tracemalloc.start()
    more(count)
    gc.collect()
    return tracemalloc.get_traced_memory()[0] / 1024 / count


def measure(what: str, system: str, quick: bool) -> float:
    """One figure, in this process."""
    if what == "memory per trial":
        return held(5_000) if system == "tunewright" else memory(system, 2_000)
    run = ours if system == "tunewright" else optunas
    name, _, place = what.partition(" at ")
    prefill = int(place) if place else 0
    method = {"random ask+tell": "random", "tpe": "tpe", "gp ask": "gp"}[name]
    if system == "tunewright" and method == "gp":
        method = "bayes"
    counts = {"random": 2000, "tpe": 30 if quick else 60, "gp": 5, "bayes": 10 if quick else 20}
    count = counts[method]
    if system == "optuna" and method == "tpe" and prefill >= 10_000:
        count = 5
    return run(method, prefill, count)


def in_child(what: str, system: str, quick: bool, repeats: int) -> float | None:
    """Median over fresh interpreters, or None when the system is not installed or gives up."""
    if system == "optuna" and importlib.util.find_spec("optuna") is None:
        return None
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "PYTHONWARNINGS": "ignore",
    }
    values = []
    for _ in range(repeats):
        if what.startswith("import"):
            values.append(import_time(what, system, environment))
            continue
        command = [sys.executable, "-m", "benchmarks.overhead", "--one", what, "--system", system]
        done = subprocess.run(
            command + (["--quick"] if quick else []),
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            print(done.stderr[-500:], file=sys.stderr)
            return None
        values.append(float(done.stdout))
    return statistics.median(values)


def import_time(what: str, system: str, environment: dict[str, str]) -> float:
    """CPU seconds of a fresh interpreter that imports a package, or also makes its study class available."""
    import resource

    def spent(code: str) -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-c", code], env=environment, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    use = {"tunewright": "; tunewright.Study", "optuna": "; optuna.create_study"}[system]
    use = f"import {system}" + (use if what == "import with Study" else "")
    return max(0.0, spent(use))


def closure() -> list[str]:
    """Distributions that a default install brings, by the installed metadata."""
    from packaging.requirements import Requirement

    seen: set[str] = set()
    queue = ["tunewright"]
    while queue:
        name = queue.pop()
        key = name.lower().replace("_", "-")
        if key in seen:
            continue
        seen.add(key)
        for text in importlib.metadata.requires(name) or []:
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                queue.append(requirement.name)
    return sorted(seen)


def rows(quick: bool) -> list[str]:
    """The rows to measure."""
    skipped = {"tpe at 10000", "random ask+tell at 100000"} if quick else set()
    return [r for r in GOALS if r not in skipped]


def main() -> int:
    """Measures and prints the table; the full run is kept under ``benchmarks/results``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--one", choices=list(GOALS))
    parser.add_argument("--system", choices=["tunewright", "optuna"], default="tunewright")
    parser.add_argument("--save", action="store_true", help="keep the table under benchmarks/results")
    args = parser.parse_args()
    if args.one:
        print(measure(args.one, args.system, args.quick))
        return 0
    repeats = 1 if args.quick else 3
    table = []
    version = importlib.metadata.version("optuna") if importlib.util.find_spec("optuna") else "not installed"
    print(
        f"CPU time, median of {repeats}; tunewright beside optuna {version}; Python {platform.python_version()}"
    )
    print(f"{'what':<28}{'tunewright':>12}{'optuna':>12}{'ratio':>9}{'to reach':>10}")
    for what in rows(args.quick):
        mine = in_child(what, "tunewright", args.quick, repeats)
        theirs = in_child(what, "optuna", args.quick, 1 if "gp" in what or "10000" in what else repeats)
        unit = UNITS.get(what, "ms")
        ratio = f"{theirs / mine:8.1f}x" if mine and theirs else "        -"
        print(
            f"{what + ' (' + unit + ')':<28}{_show(mine):>12}{_show(theirs):>12}{ratio:>9}{GOALS[what]:>10g}",
            flush=True,
        )
        table.append({"what": what, "unit": unit, "tunewright": mine, "optuna": theirs, "goal": GOALS[what]})
    names = closure()
    print(f"default install: {len(names)} distributions, this one included: {', '.join(names)}")
    if args.save:
        RESULTS.mkdir(parents=True, exist_ok=True)
        body = {
            "optuna": version,
            "python": platform.python_version(),
            "distributions": names,
            "table": table,
        }
        (RESULTS / "overhead.json").write_text(json.dumps(body, indent=1) + "\n")
    return 0 if all(r["tunewright"] is not None for r in table) else 1


def _show(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


if __name__ == "__main__":
    raise SystemExit(main())
