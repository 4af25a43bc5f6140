"""One tool on one suite of trainings by step, in one process: ``python -m benchmarks.race --tool NAME --suite S ...``.

Started by ``benchmarks.multifidelity``, in the interpreter that has the tool. There is one worker; a step is paid once
per configuration, since checkpoints are kept; the result so far is the best validation value at any step, and where
runs were repeated it is judged by their mean. A training whose value is not finite ends there: our methods are told
what their driver would tell them, other tools the worst value of the last steps of a hundred random configurations.

Our methods are ``tw:METHOD`` and run on the simulated clock; other tools run behind the adapters of the folder
``TUNEWRIGHT_PEERBENCH``, whose interface is ask for a segment, report step by step, tell its end. Ends with 3, 4 or 5, and
the reason as last line, if there is nothing to run: the tool is not installed, refuses every task, or data are absent.
"""

from __future__ import annotations

import argparse
import functools
import importlib
import json
import math
import sys
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tunewright import catalog
from tunewright.bench import curves, tables
from tunewright.bench.simulate import Task, simulate
from tunewright.errors import TunewrightError

Floats = NDArray[np.float64]

OURS = "tw:"
_EMPTY_ASKS = 2_000
# Tool: file of the adapter, its name there, and the package whose version is reported.
PEERS = {
    "optuna_tpe": ("optuna_", "mf_optuna_tpe_full", "optuna"),
    "optuna_tpe_hyperband": ("optuna_", "mf_optuna_tpe_hb", "optuna"),
    "optuna_tpe_asha": ("optuna_", "mf_optuna_tpe_asha", "optuna"),
    "optuna_tpe_median": ("optuna_", "mf_optuna_tpe_median", "optuna"),
    "dehb": ("dehb_", "mf_dehb", "dehb"),
    "smac_hyperband": ("smac_", "mf_smac_hb", "smac"),
    "syne_asha": ("syne_", "mf_syne_asha", "syne-tune"),
    "syne_bohb": ("syne_", "mf_syne_bohb", "syne-tune"),
    "syne_asha_bore": ("syne_", "mf_syne_asha_bore", "syne-tune"),
    "syne_asha_cqr": ("syne_", "mf_syne_asha_cqr", "syne-tune"),
    "neps_asha": ("neps_", "mf_neps_asha", "neural-pipeline-search"),
    "neps_hyperband": ("neps_", "mf_neps_hb", "neural-pipeline-search"),
    "neps_ifbo": ("neps_", "mf_neps_ifbo", "neural-pipeline-search"),
    "synelegacy_mobster": ("", "MOBSTER", "syne-tune"),
    "synelegacy_hypertune": ("", "HyperTune", "syne-tune"),
    "synelegacy_dyhpo": ("", "DyHPO", "syne-tune"),
}


class Score:
    """What a study has reached: the regret of its incumbent, by steps and seconds paid.

    Args:
        task: The task.
    """

    def __init__(self, task: Task) -> None:
        self._task = task
        self._sign = task.problem.objectives[0].sign
        self._best = math.inf
        self.trace: list[tuple[int, float, float]] = []

    def add(self, steps: int, seconds: float, config: Mapping[str, Any], at: int, loss: float) -> None:
        """Takes in the loss of a configuration after step ``at``."""
        if not loss < self._best:
            return
        self._best = loss
        judged = loss if self._task.truth is None else self._sign * float(self._task.truth(config)[at - 1])
        regret = float(self._task.regret(judged if math.isfinite(judged) else self._task.usual))
        if not self.trace or regret != self.trace[-1][2]:
            self.trace.append((steps, round(seconds, 4), round(regret, 6)))


@functools.cache
def worst(suite: str, name: str) -> float:
    """What other tools are told when a training diverged: the worst last value of a hundred random configurations."""
    task = curves.suite_task(suite, name)
    rng = np.random.default_rng(0)
    sign = task.problem.objectives[0].sign
    last = [sign * float(task.curve(task.problem.space.draw(rng))[0][-1]) for _ in range(100)]
    return max(v for v in last if math.isfinite(v))


def run_ours(method: str, task: Task, seed: int, budget: int) -> dict[str, Any]:
    """One study of our own, on the simulated clock."""
    own = 0.0

    def curve(config: Mapping[str, Any]) -> tuple[Floats, Floats]:
        nonlocal own
        before = time.process_time()
        found = task.curve(config)
        own += time.process_time() - before
        return found

    began = time.process_time()
    made = catalog.choose(task.problem)[0] if method == "auto" else catalog.build(method)
    trace = simulate(made, replace(task, curve=curve), seed=seed, steps=budget)
    spent = time.process_time() - began - own
    score = Score(task)
    clock = 0.0
    for i, (trial, at, loss) in enumerate(zip(trace.trials, trace.at, trace.losses, strict=True)):
        clock = float(trace.seconds[i])
        score.add(i + 1, clock, trace.ledger.trials[trial].config, int(at), float(loss))
    n = len(trace.losses)
    error = "" if n >= budget else "exhausted"
    return {"trace": score.trace, "steps": n, "seconds": clock, "cpu": spent, "error": error}


def run_peer(
    make: Callable[[int], Any], task: Task, seed: int, budget: int, limit: float, bad: float
) -> dict[str, Any]:
    """One study of another tool; ``limit`` is the CPU seconds after which it is cut off."""
    sign = task.problem.objectives[0].sign
    score = Score(task)
    done: dict[Any, int] = {}
    paid, clock, spent, empty, error = 0, 0.0, 0.0, 0, ""

    def timed(function: Callable[..., Any], *given: Any) -> Any:
        nonlocal spent
        before = time.process_time()
        out = function(*given)
        spent += time.process_time() - before
        return out

    try:
        tool = timed(make, seed)
        while paid < budget and empty < _EMPTY_ASKS:
            if spent > limit:
                error = f"cut off after {limit:.0f} s"
                break
            handle, config, key, stop = timed(tool.ask)
            values, seconds = task.curve(config)
            first = min(done.get(key, 0), stop)
            empty = empty + 1 if first >= stop else 0
            at, last = first, sign * float(values[max(stop, 1) - 1])
            for at in range(first + 1, stop + 1):
                last = sign * float(values[at - 1])
                paid += 1
                clock += float(seconds[at - 1])
                over = not math.isfinite(last)
                if over:
                    last = bad
                else:
                    score.add(paid, clock, config, at, last)
                if not timed(tool.report, handle, at, last) or over or paid >= budget:
                    break
            done[key] = max(done.get(key, 0), at)
            timed(tool.tell, handle, last if math.isfinite(last) else bad, at)
        if empty >= _EMPTY_ASKS:
            error = "asked for nothing new"
    except Exception as failure:
        error = f"{type(failure).__name__}: {failure}"[:300]
    return {"trace": score.trace, "steps": paid, "seconds": clock, "cpu": spent, "error": error}


def maker(tool: str) -> Callable[[Task, int], Any]:
    """From a task and a seed to a tool's adapter.

    Raises:
        ImportError: If the tool is not installed here.
    """
    file, name, _ = PEERS[tool]
    if not file:
        from benchmarks.peers import mobster

        return lambda task, seed: mobster.Promoting(task, seed, name)
    home = str(tables.folder("peerbench"))
    if home not in sys.path:
        sys.path.insert(0, home)
    made, settings = importlib.import_module(f"adapters.{file}").MF_ADAPTERS[name]
    theirs = importlib.import_module("space").Space

    def make(task: Task, seed: int) -> Any:
        assert task.problem.fidelity is not None
        high, given = task.problem.fidelity.high, dict(settings)
        if tool == "optuna_tpe_hyperband":
            # The adapter's own setting is that of trainings with 81 steps.
            pruners = importlib.import_module("optuna.pruners")
            given["pruner"] = lambda: pruners.HyperbandPruner(1, high, 3)
        space = theirs.from_json(json.dumps(tables.write_space(task.problem.space)))
        return made(space, seed, high, **given)

    return make


def version(tool: str) -> str:
    """Package and version."""
    package = "tunewright" if tool.startswith(OURS) else PEERS[tool][2]
    try:
        return f"{package} {metadata.version(package)}"
    except metadata.PackageNotFoundError:
        return f"{package} (source tree)"


def studies(given: argparse.Namespace, before: list[dict[str, Any]]) -> Any:
    """Runs what is not among the rows of an earlier run; yields the rows so far after each."""
    names = curves.SUITES[given.suite][: given.tasks]
    known = {(row["task"], row["seed"]) for row in before}
    make = None if given.tool.startswith(OURS) else maker(given.tool)
    rows, began = list(before), time.process_time()
    # Seeds outside, tasks inside: what a time limit cuts off are whole repetitions.
    for seed in range(given.seeds):
        if time.process_time() - began > given.cap:
            break
        for name in names:
            if (name, seed) in known:
                continue
            task = curves.suite_task(given.suite, name)
            assert task.problem.fidelity is not None
            high = task.problem.fidelity.high
            budget = given.budget * high
            if make is None:
                row = run_ours(given.tool.removeprefix(OURS), task, seed, budget)
            else:
                made = functools.partial(make, task)
                row = run_peer(made, task, seed, budget, given.limit, worst(given.suite, name))
            rows.append({"task": name, "seed": seed, "high": high, **row, "cpu": round(row["cpu"], 4)})
            yield rows


def main(argv: list[str] | None = None) -> int:
    """Runs and writes."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.race")
    parser.add_argument("--tool", required=True)
    parser.add_argument("--suite", required=True, choices=list(curves.SUITES))
    parser.add_argument("--tasks", type=int, help="only the first so many tasks")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--budget", type=int, default=50, help="steps, in full trainings")
    parser.add_argument(
        "--cap", type=float, default=1e9, help="CPU seconds after which no repetition is begun"
    )
    parser.add_argument("--limit", type=float, default=1e9, help="CPU seconds of one study of another tool")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args(argv)
    warnings.simplefilter("ignore")
    record: dict[str, Any] = {"tool": given.tool, "suite": given.suite, "version": version(given.tool)}
    before = json.loads(given.out.read_text(encoding="utf-8"))["rows"] if given.out.exists() else []
    try:
        for rows in studies(given, before):
            given.out.parent.mkdir(parents=True, exist_ok=True)
            given.out.write_text(json.dumps(record | {"rows": rows}) + "\n", encoding="utf-8")
            if not any(row["steps"] for row in rows):
                print(f"{given.tool} refuses every task: {rows[0]['error']}")
                return 4
    except ImportError as missing:
        print(f"{given.tool} is not installed here: {missing}")
        return 3
    except TunewrightError as missing:
        print(str(missing).replace("\n", " "))
        return 5
    return 0


if __name__ == "__main__":
    sys.exit(main())
