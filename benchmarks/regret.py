"""Regret beside other tools: ``python -m benchmarks.regret --suite hpo|bbob|bbob10|mixint|biobj|real|highdim|functions|parallel``.

Regret is the best loss so far above the best known, in units of the median random configuration's, within [0, 1]. Every
tool runs in a process of its own (``benchmarks.duel``), by default in this interpreter; ``TUNEWRIGHT_PEERS`` names a
folder of virtual environments, one per tool (``smac``, ``hyperopt``, ...), for those that cannot share one. Tools that
are not installed are left out and named. ``--raw`` keeps every study, and what lies there already is not run again.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tunewright.bench.comparison import critical_difference, friedman, standings
from tunewright.bench.page import page

Floats = NDArray[np.float64]

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"
OURS = "tw_auto,tw_bayes,tw_tpe,tw_random"
PEERS = "optuna_tpe,optuna_gp,optuna_cma,hyperopt_tpe,nevergrad_ngopt,smac_hpo"
SUITES = {
    "hpo": 200,
    "bbob": 200,
    "bbob10": 200,
    "mixint": 200,
    "biobj": 200,
    "real": 100,
    "highdim": 200,
    "functions": 100,
}
QUICK = "tw_auto,tw_bayes,tw_tpe,tw_random,optuna_tpe"


def interpreter(adapter: str) -> str:
    """The Python that has a tool: its own environment where there is one, else this one."""
    folder = os.environ.get("TUNEWRIGHT_PEERS")
    own = Path(folder or ".") / adapter.partition("_")[0] / "bin" / "python"
    return str(own) if folder and own.exists() else sys.executable


def duel(adapter: str, given: argparse.Namespace, out: Path) -> str:
    """Runs one tool; returns what to print about it."""
    path = out / f"{given.suite}_{adapter}.json"
    if path.exists():
        return f"{adapter}: taken from {path.name}"
    command = [interpreter(adapter), "-m", "benchmarks.duel", "--adapter", adapter, "--suite", given.suite]
    command += ["--seeds", f"0:{given.seeds}", "--trials", str(given.budget), "--cap", str(given.cap)]
    command += ["--out", str(path), *(["--quick"] if given.quick else [])]
    paths = os.pathsep.join([str(HERE.parent / "src"), str(HERE.parent)])
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": paths}
    ended = subprocess.run(
        command, env=environment, cwd=HERE.parent, capture_output=True, text=True, check=False
    )
    if ended.returncode == 3:
        return f"{adapter}: left out, not installed"
    if ended.returncode == 4:
        return f"{adapter}: left out, takes one loss"
    if ended.returncode:
        return f"{adapter}: failed: {ended.stderr.strip().splitlines()[-1:]}"
    return f"{adapter}: done"


def gathered(raw: Path, suite: str, adapters: list[str]) -> dict[str, dict[str, Any]]:
    """The records of the tools that ran."""
    found = {}
    for adapter in adapters:
        path = raw / f"{suite}_{adapter}.json"
        if path.exists():
            record = json.loads(path.read_text(encoding="utf-8"))
            if record["rows"]:
                found[adapter] = record
    return found


def matrix(record: dict[str, Any], tasks: list[str], at: int) -> Floats:
    """Regrets of one tool, shape (tasks, seeds)."""
    k = record["at"].index(at)
    by_task: dict[str, list[float]] = {t: [] for t in tasks}
    for row in record["rows"]:
        if row["task"] in by_task:
            by_task[row["task"]].append(row["regret"][k])
    return np.array([by_task[t] for t in tasks], dtype=np.float64)


def summary(records: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """What is stored and printed: per tool and number of evaluations regret, interval, rank and ratio."""
    ran = [dict.fromkeys(row["task"] for row in record["rows"]) for record in records.values()]
    tasks = [t for t in ran[0] if all(t in others for others in ran)]
    if not tasks:
        raise SystemExit("Tools are compared on tasks that all of them ran; got none. Leave a tool out.")
    every = sorted({k for record in records.values() for k in record["at"]})
    out: dict[str, Any] = {"tasks": tasks, "tools": {}, "at": {}}
    for name, record in records.items():
        out["tools"][name] = {
            "version": record["version"],
            "studies": len(record["rows"]),
            "seeds": len({row["seed"] for row in record["rows"]}),
            "ms_per_evaluation": float(np.median([row["ms"] for row in record["rows"]])),
            "errors": sum(row["error"] not in ("", "exhausted") for row in record["rows"]),
        }
    for at in every:
        regrets = {n: matrix(r, tasks, at) for n, r in records.items() if at in r["at"]}
        theirs = {n: float(v.mean()) for n, v in regrets.items() if not n.startswith("tw_")}
        best = min(theirs.values(), default=float("nan"))
        f, p = friedman(regrets) if len(regrets) > 1 and len(tasks) > 1 else (float("nan"), float("nan"))
        out["at"][str(at)] = {
            "best_peer": min(theirs, key=theirs.__getitem__) if theirs else "",
            "friedman": round(f, 3),
            "p": float(f"{p:.3g}"),
            "critical_difference": round(critical_difference(len(regrets), len(tasks)), 3),
            "standings": [
                {
                    "name": s.name,
                    "regret": round(s.regret, 5),
                    "low": round(s.low, 5),
                    "high": round(s.high, 5),
                    "rank": round(s.rank, 3),
                    "ratio": round(s.regret / best, 4) if theirs else None,
                    "per_task": [round(float(x), 5) for x in regrets[s.name].mean(axis=1)],
                }
                for s in standings(regrets)
            ],
        }
    return out


def show(suite: str, found: dict[str, Any]) -> None:
    """Prints a table: regret, mean rank and ratio to the best other tool, by number of evaluations."""
    shown = [k for k in ("25", "50", "100", "200") if k in found["at"]] or list(found["at"])[-1:]
    print(f"\n{suite}: {len(found['tasks'])} tasks; regret / mean rank / ratio to the best peer")
    print(f"{'tool':<18}" + "".join(f"{'n=' + k:>24}" for k in shown) + f"{'CPU ms':>9}{'seeds':>6}  version")
    rows = {k: {s["name"]: s for s in found["at"][k]["standings"]} for k in shown}
    last = [s["name"] for s in found["at"][shown[0]]["standings"]]
    for name in last:
        cells = ""
        for k in shown:
            s = rows[k].get(name)
            ratio = "" if s is None or s["ratio"] is None else f" / {s['ratio']:.2f}x"
            cells += f"{'-' if s is None else format(s['regret'], '.4f') + ' / ' + format(s['rank'], '.2f') + ratio:>24}"
        tool = found["tools"][name]
        print(f"{name:<18}{cells}{tool['ms_per_evaluation']:>9.1f}{tool['seeds']:>6}  {tool['version']}")
    for k in shown:
        entry = found["at"][k]
        print(
            f"n={k}: critical difference of ranks {entry['critical_difference']}, Friedman p = {entry['p']}"
        )


def worth_of_workers(given: argparse.Namespace) -> int:
    """Eight trials at a time on a simulated clock: regret after as many trials, and after as much time, as one by one."""
    from tunewright import catalog
    from tunewright.bench.simulate import simulate
    from tunewright.bench.tables import POINTS, point_task

    names = POINTS[::3] if given.quick else POINTS
    for method in (given.adapters or "bayes,tpe,random").replace("tw_", "").split(","):
        found: dict[str, list[float]] = {"serial": [], "eight": []}
        for task in map(point_task, names):
            for seed in range(given.seeds):
                for label, workers in (("serial", 1), ("eight", 8)):
                    trace = simulate(
                        catalog.build(method), task, seed=seed, workers=workers, trials=given.budget
                    )
                    found[label].append(float(task.regret(trace.incumbent[-1])))
        serial, eight = (float(np.mean(v)) for v in found.values())
        print(
            f"{method:<8} {given.budget} trials: one by one {serial:.4f}, eight at a time {eight:.4f} ({eight / serial:.2f}x) "
            f"in {-(-given.budget // 8)} instead of {given.budget} seconds"
        )
    return 0


def main(argv: list[str] | None = None) -> int:
    """Runs a suite and prints its table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.regret", description=__doc__.splitlines()[0])
    parser.add_argument("--suite", default="hpo", choices=[*SUITES, "parallel"])
    parser.add_argument("--adapters", help="names, separated by commas")
    parser.add_argument("--seeds", type=int, help="studies per task; 10, or 2 when quick")
    parser.add_argument("--budget", type=int, help="evaluations per study")
    parser.add_argument(
        "--quick", action="store_true", help="two seeds, a third of the tasks, 50 evaluations"
    )
    parser.add_argument("--jobs", type=int, default=2, help="processes at a time")
    parser.add_argument(
        "--cap", type=float, default=1e9, help="CPU seconds per tool after which no seed is begun"
    )
    parser.add_argument("--raw", type=Path, help="folder of the studies' records")
    parser.add_argument(
        "--save", action="store_true", help="store the summary and the page in benchmarks/results"
    )
    given = parser.parse_args(argv)
    given.seeds = given.seeds or (2 if given.quick else 10)
    given.budget = given.budget or (50 if given.quick else SUITES.get(given.suite, 100))
    if given.suite == "parallel":
        return worth_of_workers(given)
    adapters = (given.adapters or (QUICK if given.quick else f"{OURS},{PEERS}")).split(",")
    with tempfile.TemporaryDirectory() as scratch:
        raw = given.raw or Path(scratch)
        raw.mkdir(parents=True, exist_ok=True)
        with ThreadPoolExecutor(given.jobs) as pool:
            for line in pool.map(lambda a: duel(a, given, raw), adapters):
                print(line, flush=True)
        records = gathered(raw, given.suite, adapters)
    if not records:
        print("No tool ran.")
        return 1
    found = summary(records)
    show(given.suite, found)
    if given.save:
        found |= {"suite": given.suite, "budget": given.budget, "python": platform.python_version()}
        path = RESULTS / f"regret_{given.suite}.json"
        path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        path.with_suffix(".html").write_text(page(given.suite, found), encoding="utf-8")
        print(f"stored {path.name} and its page")
    return 0


if __name__ == "__main__":
    sys.exit(main())
