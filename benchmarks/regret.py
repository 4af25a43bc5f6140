"""Regret beside other tools: ``python -m benchmarks.regret --suite hpo|bbob|bbob10|mixint|biobj|real|highdim|functions|parallel``.

Regret is the best loss so far above the best known, in units of the median random configuration's, within [0, 1]. Every
tool runs in a process of its own (``benchmarks.duel``), by default in this interpreter; ``TUNEWRIGHT_PEERS`` names a
folder of virtual environments, one per tool (``smac``, ``hyperopt``, ...), for those that cannot share one. Tools that
are not installed are left out and named. ``--suite parallel`` runs ``hpo`` with one and with eight trials pending, on a
simulated clock. ``--raw`` keeps every study, and what lies there already is not run again.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import re
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tunewright.bench.comparison import critical_difference, friedman, standings
from tunewright.bench.page import page

Floats = NDArray[np.float64]

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"
NOTHING = (3, 4, 5)
WORKERS, LEAST = 8, 5
SUITES = {
    "hpo": 200,
    "bbob": 200,
    "bbob10": 200,
    "mixint": 200,
    "biobj": 200,
    "real": 100,
    "highdim": 200,
    "functions": 100,
    "parallel": 100,
}
OURS = "tw_auto,tw_bayes,tw_tpe,tw_random"
PEERS = (
    "optuna_tpe,optuna_gp,optuna_cma,hyperopt_tpe,nevergrad_ngopt,smac_hpo,ax_default,flaml_blend,flaml_cfo"
)
DEFAULTS = {
    "biobj": "tw_auto,tw_ehvi,tw_nsga2,tw_moead,tw_bayes,tw_random,optuna_tpe,optuna_nsga2,optuna_gp,ax_default",
    "highdim": f"tw_auto,tw_turbo,tw_saas,tw_bayes,tw_tpe,tw_cmaes,tw_random,{PEERS}",
    "parallel": f"{OURS},optuna_tpe,optuna_gp,hyperopt_tpe,ax_default",
}
QUICK = "tw_auto,tw_bayes,tw_tpe,tw_random,optuna_tpe,hyperopt_tpe,nevergrad_ngopt"
QUICK_BIOBJ = "tw_auto,tw_ehvi,tw_nsga2,tw_moead,tw_bayes,tw_random,optuna_tpe,optuna_nsga2"


def interpreter(adapter: str) -> str:
    """The Python that has a tool: its own environment where there is one, else this one."""
    folder = os.environ.get("TUNEWRIGHT_PEERS")
    own = Path(folder or ".") / adapter.partition("_")[0] / "bin" / "python"
    return str(own) if folder and own.exists() else sys.executable


def duel(adapter: str, suite: str, workers: int, given: argparse.Namespace, out: Path) -> str:
    """Runs one tool; returns what to print about it."""
    path = out / f"{suite}_{adapter}.json"
    if path.exists():
        return f"{adapter}: taken from {path.name}"
    command = [interpreter(adapter), "-m", "benchmarks.duel", "--adapter", adapter, "--suite", suite]
    command += ["--seeds", f"0:{given.seeds}", "--trials", str(given.budget), "--cap", str(given.cap)]
    command += ["--workers", str(workers), "--out", str(path), *(["--quick"] if given.quick else [])]
    paths = os.pathsep.join([str(HERE.parent / "src"), str(HERE.parent)])
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": paths}
    ended = subprocess.run(
        command, env=environment, cwd=HERE.parent, capture_output=True, text=True, check=False
    )
    if ended.returncode in NOTHING:
        return f"{adapter}: left out: {''.join(ended.stdout.strip().splitlines()[-1:])}"
    if ended.returncode:
        return f"{adapter}: failed: {''.join(ended.stderr.strip().splitlines()[-1:])}"
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
            "error": next(
                (row["error"] for row in record["rows"] if row["error"] not in ("", "exhausted")), ""
            ),
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
    for name, tool in found["tools"].items():
        if tool["errors"]:
            print(f"{name}: {tool['errors']} of {tool['studies']} studies ended early: {tool['error']}")
    for k in shown:
        entry = found["at"][k]
        print(
            f"n={k}: critical difference of ranks {entry['critical_difference']}, Friedman p = {entry['p']}"
        )


def worth_of_workers(serial: dict[str, dict[str, Any]], many: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Regret of each tool with ``WORKERS`` pending trials, beside one trial at a time.

    By tool and number of evaluations: ``serial`` after as many evaluations, ``same_time`` of the serial study after the
    time that the parallel one took (the next listed number at or above an eighth), ``parallel``, and ``ratio`` of
    parallel to serial. Tasks and seeds are those that both ran.
    """
    out: dict[str, Any] = {}
    for name in serial.keys() & many.keys():
        one = {(r["task"], r["seed"]): r["regret"] for r in serial[name]["rows"]}
        eight = {(r["task"], r["seed"]): r["regret"] for r in many[name]["rows"]}
        both, at = sorted(one.keys() & eight.keys()), serial[name]["at"]
        shown = [k for k in many[name]["at"] if k in at and k >= 25]
        if not both or not shown:
            continue
        first, second = (
            np.array([of[key] for key in both], dtype=np.float64).mean(axis=0) for of in (one, eight)
        )
        out[name] = {}
        for k in shown:
            alone, together = float(first[at.index(k)]), float(second[many[name]["at"].index(k)])
            early = float(first[next(i for i, n in enumerate(at) if n >= k / WORKERS)])
            out[name][str(k)] = {
                "studies": len(both),
                "serial": round(alone, 5),
                "same_time": round(early, 5),
                "parallel": round(together, 5),
                "ratio": round(together / alone, 4) if alone > 0.0 else None,
            }
    return out


def show_workers(found: dict[str, Any]) -> None:
    """Prints, per tool and number of evaluations, the regret of parallel and of serial studies."""
    print(
        f"\nregret of one trial at a time, {WORKERS} at a time (ratio), and one at a time in the time that {WORKERS} took"
    )
    for name, rows in sorted(found.items()):
        for k, row in rows.items():
            ratio = "-" if row["ratio"] is None else f"{row['ratio']:.2f}x"
            print(
                f"{name:<18}n={k:<5}{row['serial']:>9.4f}{row['parallel']:>9.4f} ({ratio}){row['same_time']:>9.4f}"
                f"{row['studies']:>6} studies"
            )


def finite(value: Any) -> Any:
    """The same with None for numbers that JSON lacks."""
    if isinstance(value, dict):
        return {k: finite(v) for k, v in value.items()}
    if isinstance(value, list):
        return [finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def save(found: dict[str, Any], given: argparse.Namespace) -> None:
    """Stores a summary and its page."""
    found |= {
        "suite": given.suite,
        "budget": given.budget,
        "quick": given.quick,
        "date": datetime.now(UTC).date().isoformat(),
        "python": platform.python_version(),
        "numpy": np.__version__,
    }
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = RESULTS / f"regret_{given.suite}.json"
    text = json.dumps(finite(found), indent=1, allow_nan=False)
    # Lists of numbers on one line: a quarter of the size, and differences can still be read.
    text = re.sub(r"\[[^\[\]{}\"]*\]", lambda m: " ".join(m[0].split()), text)
    path.write_text(text + "\n", encoding="utf-8")
    path.with_suffix(".html").write_text(page(given.suite, found), encoding="utf-8")
    print(f"stored {path.name} and its page")


def arguments(argv: list[str] | None) -> argparse.Namespace:
    """What was asked for, with the defaults of the suite."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.regret", description=__doc__.splitlines()[0])
    parser.add_argument("--suite", default="hpo", choices=list(SUITES))
    parser.add_argument("--adapters", help="names, separated by commas")
    parser.add_argument("--seeds", type=int, help="studies per task; 10, or 2 when quick")
    parser.add_argument("--budget", type=int, help="evaluations per study")
    parser.add_argument(
        "--quick", action="store_true", help="two seeds, a third of the tasks, 50 evaluations, fast tools"
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
    given.budget = given.budget or (50 if given.quick else SUITES[given.suite])
    if given.budget < LEAST:
        parser.error(f"--budget must be {LEAST} or more, where regret is first measured; got {given.budget}.")
    default = QUICK if given.quick else DEFAULTS.get(given.suite, f"{OURS},{PEERS}")
    if given.quick and given.suite == "biobj":
        default = QUICK_BIOBJ
    given.adapters = (given.adapters or default).split(",")
    return given


def main(argv: list[str] | None = None) -> int:
    """Runs a suite and prints its table; 0 also if there was nothing to run, which is said."""
    given = arguments(argv)
    suites = {given.suite: 1} if given.suite != "parallel" else {"hpo": 1, "parallel": WORKERS}
    with tempfile.TemporaryDirectory() as scratch:
        raw = given.raw or Path(scratch)
        raw.mkdir(parents=True, exist_ok=True)
        records, failed = {}, False
        for suite, workers in suites.items():
            with ThreadPoolExecutor(given.jobs) as pool:
                for said in pool.map(lambda a, s=suite, w=workers: duel(a, s, w, given, raw), given.adapters):
                    failed |= "failed" in said
                    print(said, flush=True)
            records[suite] = gathered(raw, suite, given.adapters)
    ran = records[given.suite]
    if not ran:
        print(f"{given.suite}: no tool ran.")
        return int(failed)
    found = summary(ran)
    show(given.suite, found)
    if given.suite == "parallel":
        found["workers"] = worth_of_workers(records["hpo"], ran)
        show_workers(found["workers"])
    if given.save:
        save(found, given)
    return 0


if __name__ == "__main__":
    sys.exit(main())
