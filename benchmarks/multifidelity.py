"""Trainings by step beside other tools: ``python -m benchmarks.multifidelity [--quick] [--suite curves|lcbench|...]``.

Regret after 1, 4, 16 and 50 times the steps of one full training (where run times were recorded also after as many
times the seconds of a median one), mean ranks, and how many times less compute a tool needs to the mean regret that
random search with full trainings has in the end. Regret is 0 at the best known value and 1 at that of a median random
configuration. Every tool runs in a process of its own (``benchmarks.race``), by default in this interpreter;
``TUNEWRIGHT_PEERS`` names a folder of virtual environments, one per tool (``dehb``, ``syne``, ...). Tools that are not
installed are left out and named. Records are kept in ``--raw``, by default in ``raw_mf`` of that folder; what lies there
is not run again, so delete a tool's records after changing it.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.race import OURS, PEERS
from benchmarks.regret import NOTHING, finite, interpreter
from tunewright import catalog
from tunewright.bench import curves
from tunewright.bench.comparison import critical_difference, standings
from tunewright.errors import TunewrightError

Floats = NDArray[np.float64]

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"
AT = (1, 4, 16, 50)
RANDOM = f"{OURS}random"
METHODS = (
    "random",
    "tpe",
    "median(tpe)",
    "halting(random)",
    "halting(tpe)",
    "asha(random)",
    "asha(tpe)",
    "asha(joint)",
    "hyperband(random)",
    "hyperband(tpe)",
    "deepening(tpe)",
    "bohb",
    "dehb",
    "pasha",
    "topk",
    "mobster",
    "hypertune",
    "dyhpo",
    "ifbo",
    "auto",
)
QUICK = ("random", "asha(random)", "asha(tpe)", "hyperband(tpe)", "auto")
_FINE = 200


def known(methods: Iterable[str]) -> list[str]:
    """Those of our methods that are in the catalogue."""
    out = []
    for method in methods:
        try:
            if method != "auto":
                catalog.build(method)
        except TunewrightError:
            continue
        out.append(f"{OURS}{method}")
    return out


def race(tool: str, suite: str, given: argparse.Namespace, raw: Path) -> str:
    """Runs one tool on one suite; returns what to print about it."""
    path = raw / f"{suite}_{tool}.json"
    command = [interpreter(tool), "-m", "benchmarks.race", "--tool", tool, "--suite", suite]
    command += ["--seeds", str(given.seeds), "--budget", str(given.budget), "--cap", str(given.cap)]
    command += ["--limit", str(given.limit), "--out", str(path)]
    paths = os.pathsep.join([str(HERE.parent / "src"), str(HERE.parent)])
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": paths}
    ended = subprocess.run(
        command, env=environment, cwd=HERE.parent, capture_output=True, text=True, check=False
    )
    if ended.returncode in NOTHING:
        return f"{suite} {tool}: left out: {''.join(ended.stdout.strip().splitlines()[-1:])}"
    if ended.returncode:
        return f"{suite} {tool}: failed: {''.join(ended.stderr.strip().splitlines()[-1:])}"
    return f"{suite} {tool}: done"


def gathered(raw: Path, suite: str, tools: Iterable[str]) -> dict[str, dict[str, Any]]:
    """The records of the tools that ran."""
    found = {}
    for tool in tools:
        path = raw / f"{suite}_{tool}.json"
        if path.exists():
            record = json.loads(path.read_text(encoding="utf-8"))
            if any(row["steps"] for row in record["rows"]):
                found[tool] = record
    return found


def regret_at(row: dict[str, Any], moments: Floats, clock: int) -> Floats:
    """Regret of a study at each moment; ``clock`` is 0 for steps, 1 for seconds. 1 before the first result."""
    when = np.array([point[clock] for point in row["trace"]], dtype=np.float64)
    regrets = np.array([1.0, *(point[2] for point in row["trace"])])
    out: Floats = regrets[np.searchsorted(when, moments + 1e-9, side="right")]
    return out


def reached(row: dict[str, Any], moment: float, clock: int) -> bool:
    """Whether a study ran so long, or was finished before."""
    went = row["steps"] if clock == 0 else row.get("seconds", 0.0)
    return bool(row["error"] == "exhausted" or went >= moment * (1.0 - 1e-9))


def table(
    record: dict[str, Any], tasks: list[str], units: dict[str, float], times: Floats, clock: int
) -> Floats | None:
    """Regrets, shape ``(tasks, seeds, times)``, of the seeds that ran long enough on every task; None if none did."""
    rows = {(row["task"], row["seed"]): row for row in record["rows"]}
    seeds = sorted({seed for _, seed in rows})
    whole = [
        s
        for s in seeds
        if all((t, s) in rows and reached(rows[t, s], float(times[-1]) * units[t], clock) for t in tasks)
    ]
    if not whole:
        return None
    return np.array(
        [[regret_at(rows[task, seed], times * units[task], clock) for seed in whole] for task in tasks]
    )


def compare(
    records: dict[str, dict[str, Any]], tasks: list[str], units: dict[str, float], at: int, clock: int
) -> dict[str, Any]:
    """Standings after ``at`` full trainings' worth."""
    regrets = {}
    for name, record in records.items():
        found = table(record, tasks, units, np.array([float(at)]), clock)
        if found is not None:
            regrets[name] = found[:, :, 0]
    theirs = {n: float(v.mean()) for n, v in regrets.items() if not n.startswith(OURS)}
    return {
        "best_peer": min(theirs, key=theirs.__getitem__) if theirs else "",
        "critical_difference": round(critical_difference(len(regrets), len(tasks)), 3),
        "standings": [
            {
                "name": s.name,
                "regret": round(s.regret, 5),
                "low": round(s.low, 5),
                "high": round(s.high, 5),
                "rank": round(s.rank, 3),
                "seeds": regrets[s.name].shape[1],
                "per_task": [round(float(x), 5) for x in regrets[s.name].mean(axis=1)],
            }
            for s in standings(regrets)
        ],
    }


def savings(
    records: dict[str, dict[str, Any]], tasks: list[str], units: dict[str, float], budget: int
) -> dict[str, dict[str, Any]]:
    """How many times less compute each tool needs to the mean regret of random search after ``budget`` full trainings.

    ``suite`` of the mean over all tasks; ``tasks`` for each task; None where it is not reached within the budget.
    """
    times = np.geomspace(0.05, budget, _FINE)
    base = table(records[RANDOM], tasks, units, times, 0) if RANDOM in records else None
    if base is None:
        return {}
    out = {}
    for name, record in records.items():
        found = table(record, tasks, units, times, 0)
        if found is None:
            continue
        mean, goal = found.mean(axis=1), base.mean(axis=1)[:, -1]
        out[name] = {
            "suite": _factor(times, mean.mean(axis=0), float(goal.mean())),
            "tasks": [_factor(times, row, float(g)) for row, g in zip(mean, goal, strict=True)],
        }
    return out


def _factor(times: Floats, regrets: Floats, goal: float) -> float | None:
    hits = np.flatnonzero(regrets <= goal + 1e-12)
    return round(float(times[-1] / times[hits[0]]), 2) if len(hits) else None


def summary(suite: str, records: dict[str, dict[str, Any]], budget: int) -> dict[str, Any]:
    """What is stored and printed; tools that lack tasks which another one ran are left out, and named."""
    ran = {name: {row["task"] for row in record["rows"]} for name, record in records.items()}
    tasks = [t for t in curves.SUITES[suite] if any(t in own for own in ran.values())]
    lacking = sorted(name for name, own in ran.items() if not own.issuperset(tasks))
    records = {name: record for name, record in records.items() if name not in lacking}
    highs = {row["task"]: float(row["high"]) for record in records.values() for row in record["rows"]}
    at = [k for k in AT if k <= budget]
    out: dict[str, Any] = {"suite": suite, "tasks": tasks, "budget": budget, "tools": {}, "lacking": lacking}
    for name, record in records.items():
        rows = record["rows"]
        steps, spent = sum(r["steps"] for r in rows), sum(r["cpu"] for r in rows)
        early = [r["error"] for r in rows if r["error"] not in ("", "exhausted")]
        out["tools"][name] = {
            "version": record["version"],
            "studies": len(rows),
            "seeds": len({r["seed"] for r in rows}),
            "cpu_seconds": round(spent / len(rows), 3),
            "ms_per_report": round(1000.0 * spent / max(1, steps), 4),
            "errors": len(early),
            "error": early[0] if early else "",
        }
    out["at"] = {str(k): compare(records, tasks, highs, k, 0) for k in at}
    if curves.recorded_times(suite):
        full = {name: full_seconds(suite, name) for name in tasks}
        out["seconds"] = {str(k): compare(records, tasks, full, k, 1) for k in at}
    out["savings"] = savings(records, tasks, highs, budget)
    return out


def full_seconds(suite: str, name: str) -> float:
    """Seconds of a full training of a median random configuration."""
    task = curves.suite_task(suite, name)
    rng = np.random.default_rng(0)
    return float(np.median([task.curve(task.problem.space.draw(rng))[1].sum() for _ in range(100)]))


def show(found: dict[str, Any]) -> None:
    """Prints a table: regret and mean rank by budget, compute saved, CPU time."""
    at = list(found["at"])
    rows = {k: {s["name"]: s for s in found["at"][k]["standings"]} for k in at}
    print(
        f"\n{found['suite']}: {len(found['tasks'])} tasks; regret / mean rank after full trainings' worth of steps"
    )
    head = "".join(f"{k + 'x':>15}" for k in at)
    print(f"{'tool':<24}{head}{'less compute':>14}{'CPU s':>9}{'ms/report':>11}{'studies':>9}")
    for name in sorted(
        found["tools"], key=lambda n: [rows[k].get(n, {"regret": 9.0})["regret"] for k in at[::-1]]
    ):
        cells = [f"{s['regret']:.3f} / {s['rank']:4.1f}" if (s := rows[k].get(name)) else "-" for k in at]
        tool, saved = found["tools"][name], found["savings"].get(name, {}).get("suite")
        times = "-" if saved is None else f"{saved:.1f}x"
        print(
            f"{name:<24}{''.join(f'{c:>15}' for c in cells)}{times:>14}{tool['cpu_seconds']:>9.2f}"
            f"{tool['ms_per_report']:>11.4f}{tool['studies']:>9}"
        )
    for name in found["lacking"]:
        print(f"{name}: left out, it did not run every task")
    for name, tool in found["tools"].items():
        if tool["errors"]:
            print(f"{name}: {tool['errors']} of {tool['studies']} studies ended early: {tool['error']}")


def save(found: dict[str, Any], given: argparse.Namespace) -> None:
    """Stores a summary."""
    found = found | {
        "quick": given.quick,
        "date": datetime.now(UTC).date().isoformat(),
        "python": platform.python_version(),
        "numpy": np.__version__,
    }
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = RESULTS / f"multifidelity_{found['suite']}.json"
    text = json.dumps(finite(found), indent=1, allow_nan=False)
    # Lists of numbers on one line: a quarter of the size, and differences can still be read.
    text = re.sub(r"\[[^\[\]{}\"]*\]", lambda m: " ".join(m[0].split()), text)
    path.write_text(text + "\n", encoding="utf-8")
    print(f"stored {path.name}")


def arguments(argv: list[str] | None) -> argparse.Namespace:
    """What was asked for, with its defaults."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.multifidelity", description=__doc__.splitlines()[0]
    )
    parser.add_argument(
        "--suite", help=f"{', '.join(curves.SUITES)}, separated by commas; all, or curves when quick"
    )
    parser.add_argument("--tools", help="names, separated by commas; ours are tw:METHOD")
    parser.add_argument("--seeds", type=int, help="studies per task; 10, or 2 when quick")
    parser.add_argument("--budget", type=int, help="full trainings' worth of steps; 50, or 16 when quick")
    parser.add_argument("--quick", action="store_true", help="a few tools on one suite, two minutes")
    parser.add_argument("--cap", type=float, default=1200.0, help="CPU seconds per tool and suite")
    parser.add_argument("--limit", type=float, default=300.0, help="CPU seconds of one study of another tool")
    parser.add_argument("--jobs", type=int, default=1, help="tools at a time")
    parser.add_argument("--raw", type=Path, help="keep every study here; what is there is not run again")
    parser.add_argument("--save", action="store_true", help="keep the summary under benchmarks/results")
    parser.add_argument("--only-show", action="store_true", help="run nothing, read the records")
    given = parser.parse_args(argv)
    given.seeds = given.seeds or (2 if given.quick else 10)
    given.budget = given.budget or (16 if given.quick else 50)
    given.suites = (given.suite or ("curves" if given.quick else ",".join(curves.SUITES))).split(",")
    for suite in set(given.suites) - set(curves.SUITES):
        parser.error(f"A suite must be one of {', '.join(curves.SUITES)}; got {suite}.")
    default = [*known(QUICK), "optuna_tpe_hyperband"] if given.quick else [*known(METHODS), *PEERS]
    given.tools = given.tools.split(",") if given.tools else default
    peers = os.environ.get("TUNEWRIGHT_PEERS")
    given.raw = given.raw or (Path(peers) / "raw_mf" if peers and not given.quick else None)
    return given


def main(argv: list[str] | None = None) -> int:
    """Runs the suites and prints their tables; 0 also if there was nothing to run, which is said."""
    given = arguments(argv)
    failed = False
    with tempfile.TemporaryDirectory() as scratch:
        raw = given.raw or Path(scratch)
        raw.mkdir(parents=True, exist_ok=True)
        for suite in given.suites:
            if not given.only_show:
                with ThreadPoolExecutor(given.jobs) as pool:
                    for said in pool.map(lambda tool, s=suite: race(tool, s, given, raw), given.tools):
                        failed |= "failed" in said
                        print(said, flush=True)
            ran = gathered(raw, suite, given.tools)
            if not ran:
                print(f"{suite}: no tool ran.")
                continue
            found = summary(suite, ran, given.budget)
            show(found)
            if given.save:
                save(found, given)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
