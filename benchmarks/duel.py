"""One tool on one suite in one process: ``python -m benchmarks.duel --adapter NAME --suite S --seeds 0:10 ...``.

Started by ``benchmarks.regret``, in the interpreter that has the tool. Writes, per task and seed, the regret after a
few numbers of evaluations and the CPU time of asking and telling. With ``--workers`` several trials are pending at a
time, on a simulated clock. Ends with 3, 4 or 5, and the reason as last line, if there is nothing to run: the tool is
not installed, takes one loss only or refuses every task, or the suite's data are absent.
"""

from __future__ import annotations

import argparse
import functools
import heapq
import importlib
import json
import pkgutil
import sys
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

import benchmarks.peers as peers
from tunewright.bench import coco, functions, real, tables
from tunewright.bench.simulate import Task
from tunewright.errors import TunewrightError

AT = (5, 10, 15, 25, 35, 50, 75, 100, 150, 200)
_FUNCTIONS = ("ackley", "levy", "rastrigin", "rosenbrock", "styblinski_tang")
_HIGH = 5, 95
_MIXED = ("ackley", "levy", "styblinski_tang")


def tasks(suite: str, quick: bool) -> list[Callable[[], Task | coco.Biobjective]]:
    """The tasks of a suite, made when called; a third of them when quick."""
    found: list[Callable[[], Task | coco.Biobjective]]
    if suite in ("hpo", "parallel"):
        found = [functools.partial(tables.point_task, n) for n in tables.POINTS]
    elif suite in ("bbob", "bbob10"):
        found = [functools.partial(coco.bbob_task, f, 10 if suite == "bbob10" else 5) for f in coco.BBOB]
    elif suite == "mixint":
        found = [functools.partial(coco.mixint_task, f, 10) for f in coco.MIXINT]
    elif suite == "biobj":
        found = [functools.partial(coco.biobj_task, f, 5) for f in coco.BIOBJ]
    elif suite == "real":
        found = [functools.partial(real.real_task, n) for n in real.REAL]
    elif suite == "highdim":
        d, idle = _HIGH
        found = [functools.partial(functions.function_task, n, d, idle=idle) for n in _FUNCTIONS]
        found += [functools.partial(functions.mixed_task, n) for n in _MIXED]
    elif suite == "functions":
        every = functions.FUNCTIONS
        found = [functools.partial(functions.function_task, n, every[n].d or 5) for n in every]
    else:
        raise SystemExit(
            f"A suite must be hpo, bbob, bbob10, mixint, biobj, real, highdim, functions or parallel; got {suite}."
        )
    return found[::3] if quick and len(found) > 3 else found


@functools.cache
def adapters() -> dict[str, tuple[Any, dict[str, Any], str]]:
    """Every adapter whose tool can be imported here: its class, its settings, and the package with its version."""
    found = {}
    for module in pkgutil.iter_modules(peers.__path__):
        if not module.name.endswith("_"):
            continue
        try:
            loaded = importlib.import_module(f"benchmarks.peers.{module.name}")
        except Exception:
            continue
        version = f"{loaded.VERSION} {_version(loaded.VERSION)}"
        found.update({name: (made, settings, version) for name, (made, settings) in loaded.ADAPTERS.items()})
    return found


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "(source tree)"


def takes_many(adapter: str) -> bool:
    """Whether an installed adapter takes several losses."""
    made = adapters()[adapter][0]
    return adapter in getattr(sys.modules[made.__module__], "MANY", ())


def _losses(task: Task | coco.Biobjective, config: dict[str, Any]) -> list[float]:
    if isinstance(task, coco.Biobjective):
        return [float(x) for x in task.losses(config)]
    return [float(task.curve(config)[0][-1])]


def _regret(task: Task | coco.Biobjective, seen: list[list[float]]) -> float:
    if not seen:
        return 1.0
    if isinstance(task, coco.Biobjective):
        return task.regret(np.array(seen))
    return float(task.regret(min(loss for (loss,) in seen)))


def run(
    adapter: str, task: Task | coco.Biobjective, seed: int, trials: int, workers: int = 1
) -> dict[str, Any]:
    """One study: regrets at ``AT``, CPU milliseconds per evaluation, and why it ended early if it did.

    With several workers a trial takes 0.5 to 1.5 seconds of a simulated clock, drawn by seed and number; a tool is
    asked whenever fewer than ``workers`` trials are pending. Regrets are then by the number of trials that have ended,
    and ``clock`` is when the last one did.
    """
    made, settings, _ = adapters()[adapter]
    lengths = np.random.default_rng(seed).uniform(0.5, 1.5, trials)
    began = time.process_time()
    own = clock = 0.0
    seen: list[list[float]] = []
    pending: list[tuple[float, int, Any, list[float]]] = []
    error = ""
    try:
        tool = made(task.problem.space, seed, trials, len(task.problem.objectives), **settings)
        asked = 0
        while asked < trials or pending:
            if asked < trials and len(pending) < workers:
                handle, config = tool.ask()
                before = time.process_time()
                losses = _losses(task, config)
                own += time.process_time() - before
                heapq.heappush(pending, (clock + float(lengths[asked]), asked, handle, losses))
                asked += 1
                continue
            clock, _, handle, losses = heapq.heappop(pending)
            seen.append(losses)
            tool.tell(handle, losses)
    except StopIteration:
        error = "exhausted"
        seen += [losses for *_, losses in sorted(pending, key=lambda p: p[:2])]
    except Exception as failure:
        error = f"{type(failure).__name__}: {failure}"[:300]
    spent = time.process_time() - began - own
    points = [round(_regret(task, seen[:k]), 6) for k in AT if k <= trials]
    row = {"task": task.name, "seed": seed, "regret": points}
    row |= {"ms": round(1000.0 * spent / max(1, len(seen)), 3), "evaluations": len(seen), "error": error}
    return row if workers == 1 else row | {"clock": round(clock, 3)}


def main(argv: list[str] | None = None) -> int:
    """Runs and writes."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.duel")
    parser.add_argument("--adapter", required=True)
    parser.add_argument("--suite", required=True)
    parser.add_argument("--seeds", default="0:10", help="first:last, last left out")
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--cap", type=float, default=1e9, help="CPU seconds after which no study is begun")
    parser.add_argument("--workers", type=int, default=1, help="trials pending at a time")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args(argv)
    known = adapters()
    if given.adapter not in known:
        print(f"{given.adapter} is not installed here")
        return 3
    if given.suite == "biobj" and not takes_many(given.adapter):
        print(f"{given.adapter} takes one loss")
        return 4
    try:
        made = [t() for t in tasks(given.suite, given.quick)]
    except TunewrightError as missing:
        print(str(missing).replace("\n", " "))
        return 5
    first, _, last = given.seeds.partition(":")
    rows: list[dict[str, Any]] = []
    began = time.process_time()
    # Seeds outside, tasks inside: what a time cap cuts off are whole repetitions.
    for seed in range(int(first), int(last)):
        if time.process_time() - began > given.cap:
            break
        rows += [run(given.adapter, task, seed, given.trials, given.workers) for task in made]
    if rows and not any(row["evaluations"] for row in rows):
        print(f"{given.adapter} refuses every task: {rows[0]['error']}")
        return 4
    record = {
        "adapter": given.adapter,
        "suite": given.suite,
        "trials": given.trials,
        "workers": given.workers,
        "at": [k for k in AT if k <= given.trials],
        "version": known[given.adapter][2],
        "python": sys.version.split()[0],
        "rows": rows,
    }
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(json.dumps(record) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
