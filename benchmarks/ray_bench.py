"""What a trial costs on Ray, beside Ray Tune on the same Ray: ``python -m benchmarks.ray_bench [--quick] [--save]``.

A local Ray with two cores is started once. Ours: a study in an SQLite file with the random sampler, whose function
returns at once; two workers; the first twenty trials, in which workers are started, are left out. Ray Tune: the same
function with as many trials at a time and with reused actors, its start divided among its trials as well; it
runs where its own dependencies (pandas, pyarrow, pydantic) are installed. Trials with reports show what a report and its verdict cost.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import importlib.metadata
import json
import logging
import os
import platform
import statistics
import tempfile
import time
from typing import Any

from benchmarks.overhead import RESULTS

GOAL = 0.05
WARM = 20
REPORTS = 20


def trivial(x: float) -> float:
    """The least that a trial can do."""
    return (x - 0.3) ** 2


def reporting(trial: Any) -> None:
    """A trial of many reports, each of which waits for its verdict."""
    for step in trial.steps(REPORTS):
        trial.report(step, loss=(trial["x"] - 0.3) ** 2 / step)


def ours(trials: int, shipped: bool, reports: bool) -> dict[str, float]:
    """Seconds per trial of wall time, from begin to end of one, and of the driver's CPU."""
    import tunewright as tw
    from tunewright.core.events import Ended, Started
    from tunewright.run.ray import Ray

    # Run as a script, the functions of this file are shipped; those of the module are imported by workers.
    module = importlib.import_module("benchmarks.ray_bench")
    function: Any = trivial if shipped else getattr(module, "reporting" if reports else "trivial")
    begun: dict[int, float] = {}
    took: list[float] = []
    ends: list[tuple[float, float]] = []

    def watch(event: object, session: object) -> None:
        if isinstance(event, Started):
            begun[event.trial] = time.perf_counter()
        elif isinstance(event, Ended):
            took.append(time.perf_counter() - begun[event.trial])
            ends.append((time.perf_counter(), time.process_time()))

    with tempfile.TemporaryDirectory() as folder:
        study = tw.Study.open(
            "ray",
            {"x": tw.Float(0, 1)},
            method="random",
            steps=REPORTS if reports else None,
            storage=f"{folder}/studies.db",
        )
        start = time.perf_counter()
        study.run(
            function,
            trials=WARM + trials,
            workers=2,
            progress="none",
            on=Ray(cpus=0.5),
            watch=watch,
        )
        assert study.counts == {"completed": WARM + trials}
        study.close()
    (first, cpu), (last, end) = ends[WARM - 1], ends[-1]
    return {
        "wall": (last - first) / trials,
        "one": statistics.median(took[WARM:]),
        "cpu": (end - cpu) / trials,
        "first": ends[0][0] - start,
    }


def tune(trials: int) -> dict[str, float] | str:
    """The same of Ray Tune, or why it cannot run."""
    try:
        from ray import tune as ray_tune
    except ImportError as error:
        return str(error).splitlines()[0][:200]
    os.environ["RAY_AIR_NEW_OUTPUT"] = "0"
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(None):
        start, cpu = time.perf_counter(), time.process_time()
        tuner = ray_tune.Tuner(
            ray_tune.with_resources(lambda config: {"loss": trivial(config["x"])}, {"cpu": 0.5}),
            param_space={"x": ray_tune.uniform(0, 1)},
            tune_config=ray_tune.TuneConfig(
                num_samples=trials, max_concurrent_trials=2, reuse_actors=True, metric="loss", mode="min"
            ),
            run_config=ray_tune.RunConfig(storage_path=folder, verbose=0),
        )
        results = tuner.fit()
        assert len(results) == trials
        assert not results.errors
        wall = time.perf_counter() - start
    return {"wall": wall / trials, "cpu": (time.process_time() - cpu) / trials}


def main() -> int:
    """Measures and prints the table; ``--save`` keeps it under ``benchmarks/results``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--save", action="store_true", help="keep the table under benchmarks/results")
    args = parser.parse_args()
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray

    ray.init(
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        object_store_memory=80 << 20,
        logging_level=logging.ERROR,
    )
    trials, peers = (60, 4) if args.quick else (400, 40)
    rows: dict[str, Any] = {}
    try:
        rows["tunewright"] = {"trials": trials, **ours(trials, shipped=False, reports=False)}
        rows["tunewright, shipped function"] = {"trials": trials, **ours(trials, shipped=True, reports=False)}
        rows[f"tunewright, {REPORTS} reports"] = {
            "trials": trials // 4,
            **ours(trials // 4, shipped=False, reports=True),
        }
        peer = tune(peers)
        rows["ray tune"] = {"trials": peers, **peer} if isinstance(peer, dict) else {"absent": peer}
    finally:
        ray.shutdown()
    show(rows)
    if args.save:
        RESULTS.mkdir(parents=True, exist_ok=True)
        body = {"ray": importlib.metadata.version("ray"), "python": platform.python_version(), "rows": rows}
        (RESULTS / "ray.json").write_text(json.dumps(body, indent=1) + "\n")
    return 0 if rows["tunewright"]["wall"] <= GOAL else 1


def show(rows: dict[str, Any]) -> None:
    """Prints the table."""
    print(f"Ray {importlib.metadata.version('ray')}, two workers, trials that return at once")
    head = ("system", "trials", "wall s each", "one trial s", "driver CPU s", "first result s")
    print(f"{head[0]:<32}" + "".join(f"{h:>15}" for h in head[1:]))
    for name, row in rows.items():
        if "absent" in row:
            print(f"{name:<32}  cannot run here: {row['absent']}")
            continue
        cells = [row.get(k) for k in ("wall", "one", "cpu", "first")]
        text = "".join(f"{'-':>15}" if c is None else f"{c:>15.4f}" for c in cells)
        print(f"{name:<32}{row['trials']:>15}{text}")
    peer = rows["ray tune"].get("wall")
    if peer is not None:
        print(f"ours is {peer / rows['tunewright']['wall']:.0f} times as fast (to reach: {GOAL} s)")


if __name__ == "__main__":
    raise SystemExit(main())
