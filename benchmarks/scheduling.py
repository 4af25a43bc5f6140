"""What deciding who trains on costs: ``python -m benchmarks.scheduling [--quick]``.

CPU milliseconds per report of every scheduler after a thousand, ten thousand and a hundred thousand reports (eight
simulated workers, the simulation included: its share is the row ``random``), the CPU time and peak memory of a thousand
simulated workers that run a hundred thousand trials, and how long it takes to pause one trial and resume another, their
checkpoints saved and loaded. Every figure is that of a fresh interpreter.
"""

from __future__ import annotations

import argparse
import importlib
import itertools
import json
import math
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
SIZES = (1_000, 10_000, 100_000)
METHODS = (
    "random",
    "asha(random)",
    "halting(random)",
    "hyperband(random)",
    "median(random)",
    "pasha(random)",
    "topk(random)",
    "dehb",
    "pbt(random)",
    "asha(tpe)",
    "hyperband(tpe)",
    "mobster",
    "asha(joint)",
    "hypertune",
    "dyhpo",
    "ifbo",
)
STEPS = 81
WORKERS, TRIALS = 1_000, 100_000
PLACES = {"same process": 0, "kept worker process": 1, "new process every time": 2}


def training() -> Any:
    """A training of 81 steps whose loss falls to that of six numbers."""
    import tunewright as tw
    from tunewright.bench.simulate import Floats, Task
    from tunewright.core.problem import Fidelity, Problem

    steps = np.arange(1, STEPS + 1)

    def curve(config: Mapping[str, Any]) -> tuple[Floats, Floats]:
        loss = math.fsum((x - 0.3) ** 2 for x in config.values())
        return loss + (1.0 - loss / 6.0) / steps, np.full(STEPS, 1.0 + config["x0"])

    space = tw.Space({f"x{i}": tw.Float(0, 1) for i in range(6)})
    return Task("falling", Problem(space, fidelity=Fidelity(STEPS)), curve, 0.0, 1.0)


def per_report(method: str, reports: int) -> float:
    """CPU milliseconds per report of a study of so many."""
    from tunewright import catalog
    from tunewright.bench.simulate import simulate

    task = training()
    simulate(catalog.build(method), task, workers=8, steps=100)
    began = time.process_time()
    simulate(catalog.build(method), task, seed=1, workers=8, steps=reports)
    return 1000.0 * (time.process_time() - began) / reports


def at_scale(workers: int, trials: int) -> dict[str, float]:
    """CPU seconds, peak MiB, reports and simulated hours of many workers under ``asha(random)``."""
    from tunewright import catalog
    from tunewright.bench.simulate import simulate

    began = time.process_time()
    trace = simulate(catalog.build("asha(random)"), training(), workers=workers, trials=trials)
    return {
        "workers": workers,
        "trials": len(trace.ledger.trials),
        "reports": len(trace.losses),
        "hours": round(trace.busy / 3600.0, 1),
        "cpu_seconds": round(time.process_time() - began, 2),
        "peak_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024.0, 1),
    }


def train(trial: Any) -> None:
    """Training that does nothing but write down when its segments begin and end."""
    weights = trial.checkpoint.load({"weights": np.zeros(1000)})["weights"]
    resumed = trial.step > 0
    began = time.monotonic(), time.process_time()
    for step in trial.steps():
        if not trial.report(step, loss=trial["x"] + 1.0 / step):
            break
    ended = time.monotonic(), time.process_time()
    trial.checkpoint.save(weights=weights)
    with Path(os.environ["TUNEWRIGHT_SEGMENTS"]).open("a", encoding="utf-8") as file:
        file.write(json.dumps([*began, *ended, resumed]) + "\n")


def pause_and_resume(place: int, trials: int) -> dict[str, float]:
    """Milliseconds from the last report of a segment to the first step of a resumed one.

    Wall time, of which most is waiting until the checkpoint is safely on the disk; and in the same process CPU time.
    """
    import tunewright as tw
    from tunewright.run.processes import Limits, Processes

    # By its name, so that a worker process can import it.
    function = importlib.import_module("benchmarks.scheduling").train
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "segments"
        os.environ["TUNEWRIGHT_SEGMENTS"] = str(path)
        storage = "memory" if place == 0 else str(Path(scratch) / "study.db")
        study = tw.Study.open(
            "latency", {"x": tw.Float(0, 1)}, steps=9, storage=storage, method="asha(random)"
        )
        made = None if place == 0 else Processes(function, 1, Limits(fresh=place == 2))
        study.run(function, trials=trials, progress="none", executor=made)
        segments = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    pairs = [(before, after) for before, after in itertools.pairwise(segments) if after[4]]
    wall = [1000.0 * (after[0] - before[2]) for before, after in pairs]
    out = {
        "median_ms": round(statistics.median(wall), 3),
        "least_ms": round(min(wall), 3),
        "resumed": len(pairs),
    }
    if place == 0:
        cpu = statistics.median(1000.0 * (after[1] - before[3]) for before, after in pairs)
        out["cpu_ms"] = round(cpu, 3)
    return out


def in_child(what: list[str]) -> Any:
    """A figure from a fresh interpreter, or None when the method cannot run."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.scheduling", "--one", *what]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        print(f"{' '.join(what)}: {''.join(done.stderr.strip().splitlines()[-1:])}", file=sys.stderr)
        return None
    return json.loads(done.stdout.strip().splitlines()[-1])


def one(what: list[str]) -> Any:
    """The figure that a child was asked for."""
    if what[0] == "report":
        return per_report(what[1], int(what[2]))
    if what[0] == "scale":
        return at_scale(int(what[1]), int(what[2]))
    return pause_and_resume(int(what[1]), int(what[2]))


def costs(methods: list[str], sizes: tuple[int, ...], patience: float) -> dict[str, dict[str, float]]:
    """Milliseconds per report by method and number of reports; sizes that would take too long are left out."""
    from benchmarks.multifidelity import known

    out: dict[str, dict[str, float]] = {}
    for method in [m.partition(":")[2] for m in known(methods)]:
        row: dict[str, float] = {}
        for size in sizes:
            last = max(row.values(), default=0.0)
            if last * size / 1000.0 > patience:
                break
            found = in_child(["report", method, str(size)])
            if found is None:
                break
            row[str(size)] = round(float(found), 4)
        if row:
            out[method] = row
            print(f"{method:<22}" + "".join(f"{row.get(str(s), math.nan):>12.4f}" for s in sizes), flush=True)
    return out


def main(argv: list[str] | None = None) -> int:
    """Measures and prints; the full run is kept under ``benchmarks/results`` with ``--save``."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.scheduling", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--quick", action="store_true", help="smaller studies, a few methods")
    parser.add_argument("--methods", help="names, separated by commas")
    parser.add_argument("--patience", type=float, default=120.0, help="CPU seconds that one figure may take")
    parser.add_argument("--save", action="store_true", help="keep the figures under benchmarks/results")
    parser.add_argument("--one", nargs="+", help=argparse.SUPPRESS)
    given = parser.parse_args(argv)
    if given.one:
        print(json.dumps(one(given.one)))
        return 0
    quick = ["random", "asha(random)", "hyperband(random)", "asha(tpe)"]
    methods = given.methods.split(",") if given.methods else quick if given.quick else list(METHODS)
    sizes = SIZES[:1] if given.quick else SIZES
    print("CPU ms per report    " + "".join(f"{s:>12}" for s in sizes))
    found: dict[str, Any] = {"per_report": costs(methods, sizes, given.patience)}
    found["scale"] = in_child(["scale", str(WORKERS), str(TRIALS // 10 if given.quick else TRIALS)])
    print("scale:", found["scale"])
    found["pause_and_resume"] = {
        name: in_child(["pause", str(place), "20" if given.quick else "60"]) for name, place in PLACES.items()
    }
    for name, row in found["pause_and_resume"].items():
        print(f"pause and resume, {name}: {row}")
    if given.save:
        body = found | {"python": platform.python_version(), "numpy": np.__version__}
        RESULTS.mkdir(parents=True, exist_ok=True)
        (RESULTS / "scheduling.json").write_text(json.dumps(body, indent=1) + "\n", encoding="utf-8")
    return 0 if found["scale"] is not None else 1


if __name__ == "__main__":
    raise SystemExit(main())
